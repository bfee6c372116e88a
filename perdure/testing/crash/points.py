"""Crash points: the instants at which a process of a crash matrix is killed, and the store that kills it at some."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, NamedTuple, NoReturn, TypeVar, cast

from perdure.core.errors import CrashMatrixError
from perdure.store.port import Append, Claimed, Lease, Outcome, Store
from perdure.testing.delegate import DelegatingStore

T = TypeVar("T")

Site = Literal["commit", "lease", "claim", "release", "step", "effect"]
Moment = Literal["before", "middle", "after"]

SITES: Final = ("commit", "lease", "claim", "release", "step", "effect")
ENVIRONMENT: Final = "PERDURE_CRASH_AT"
"""Names the crash point of a process, for whoever looks into one."""


class CrashPoint(NamedTuple):
    """An instant in the life of a process.

    Args:
        site: a `commit` of the journal, another write of the store (`lease`, `claim`, `release`), a `step`'s call, or
            an `effect` that the step recorded.
        moment: `before` or `after` it; inside a step also in the `middle` of its body.
        subject: which one: the number of the write in its process, from 1; or `run/scope/key@attempt` of the call.
        label: what it is, for people.
    """

    site: Site
    moment: Moment
    subject: str
    label: str = ""

    def __str__(self) -> str:
        return f"{self.site}:{self.moment}:{self.subject}"

    @classmethod
    def parse(cls, text: str) -> CrashPoint:
        """A point from its text, such as `commit:before:17` or `step:middle:r1/0/main#1/publish@1`.

        Raises:
            CrashMatrixError: it is no such text.
        """
        site, _, rest = text.partition(":")
        moment, _, subject = rest.partition(":")
        if site not in SITES or moment not in ("before", "middle", "after") or not subject:
            raise CrashMatrixError(f"{text!r} is no crash point", hint="write commit:before:17, for example")
        return cls(cast(Site, site), cast(Moment, moment), subject)


def die() -> NoReturn:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(1)


class CrashingStore(DelegatingStore):
    """A store whose process dies before or after one of its writes.

    Args:
        inner: the store.
        point: where to die, if at one of the store's writes.
        written: told of each write before it is made: its site, its number, and what it holds.
        die: ends the process, and does not return.
    """

    def __init__(
        self,
        inner: Store,
        point: CrashPoint | None,
        written: Callable[[Site, int, str], None] | None = None,
        die: Callable[[], NoReturn] = die,
    ) -> None:
        super().__init__(inner)
        self._point = point
        self._written = written
        self._die = die
        self._counts: dict[Site, int] = {}

    def arm(self, site: Site, moment: Moment) -> None:
        """From now on: die before or after the next write of this kind."""
        self._point = CrashPoint(site, moment, str(self._counts.get(site, 0) + 1))

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`."""
        number = self._before("commit", lambda: _described(batch))
        answer = self.inner.append(batch, in_place=in_place)
        if isinstance(answer, list):
            self._after("commit", number)
            return answer
        return self._then("commit", number, answer)

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """See `Store.lease`."""
        number = self._before("lease", lambda: "a worker's lease")
        return await self._then("lease", number, self.inner.lease(worker_id, workflows, length_s=length_s))

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """See `Store.claim`."""
        number = self._before("claim", lambda: "a claim of what is due")
        return await self._then("claim", number, self.inner.claim(lease, workflows, now_ms, limit=limit))

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """See `Store.claim_run`."""
        number = self._before("claim", lambda: f"a claim of {run_id}")
        return await self._then("claim", number, self.inner.claim_run(lease, run_id, steal=steal))

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """See `Store.release`."""
        number = self._before("release", lambda: f"the release of {', '.join(run_ids)}")
        await self._then("release", number, self.inner.release(lease, run_ids))

    def _before(self, site: Site, describe: Callable[[], str]) -> int:
        number = self._counts[site] = self._counts.get(site, 0) + 1
        if self._written is not None:
            self._written(site, number, describe())
        self._perhaps_die(site, "before", number)
        return number

    def _after(self, site: Site, number: int) -> None:
        self._perhaps_die(site, "after", number)

    async def _then(self, site: Site, number: int, answer: Awaitable[T]) -> T:
        found = await answer
        self._after(site, number)
        return found

    def _perhaps_die(self, site: Site, moment: Moment, number: int) -> None:
        point = self._point
        if point is not None and (point.site, point.moment, point.subject) == (site, moment, str(number)):
            self._die()


def _described(batch: Sequence[Append]) -> str:
    return ", ".join(
        f"{draft.kind} {draft.key}" if draft.key is not None else draft.kind
        for append in batch
        for draft in append.drafts
    )
