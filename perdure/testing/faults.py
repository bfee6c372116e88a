"""A store that fails when it is told to: full disks, lost answers, torn commits, other programs' locks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, TypeVar, get_args

from perdure.core.errors import InputError, OutcomeUnknownError, StoreBusyError, StoreWriteError
from perdure.store.port import Append, Claimed, Lease, Outcome, Store
from perdure.testing.delegate import DelegatingStore

T = TypeVar("T")

Fault = Literal["before", "lost", "torn", "busy", "full"]
"""What goes wrong with a write.

* `before`: it fails before anything is written (`StoreWriteError`).
* `lost`: it is written, and the answer is lost (`OutcomeUnknownError`).
* `torn`: it breaks off in the middle, so nothing of it is there; nobody can tell (`OutcomeUnknownError`).
* `busy`: another program holds the lock (`StoreBusyError`).
* `full`: the disk is full (`StoreWriteError`), for this write and the following ones, until there is room again.
"""
Write = Literal["append", "claim", "release", "lease"]
Plan = Mapping[int, Fault] | Callable[[int], Fault | None]

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
FULL_FOR: Final = 3


def random_faults(seed: object, *, rate: float = 0.1, kinds: Iterable[Fault] = FAULTS) -> Callable[[int], Fault | None]:
    """A plan by which so many writes fail.

    Args:
        seed: decides which, and how.
        rate: the share of writes that fail, from 0 to 1.
        kinds: how they may fail.
    """
    chance = random.Random(f"{seed}/faults")
    names = tuple(kinds)

    def plan(_number: int) -> Fault | None:
        return chance.choice(names) if chance.random() < rate else None

    return plan


class FaultyStore(DelegatingStore):
    """Fails by plan, and otherwise does what the store within it does.

    Args:
        inner: any store.
        plan: which write fails and how: by its number, from 1, or by a function of the number.
        writes: what counts as a write: `append`, and if wanted `claim`, `release`, `lease`.
        later: answer appends later (by an awaitable), as a store does that waits for another process.

    Attributes:
        injected: what went wrong so far: number and fault.
    """

    def __init__(self, inner: Store, plan: Plan, *, writes: Iterable[Write] = ("append",), later: bool = False) -> None:
        super().__init__(inner)
        if isinstance(plan, Mapping):
            unknown = set(plan.values()) - set(FAULTS)
            if unknown:
                raise InputError(
                    f"there is no fault {', '.join(sorted(unknown))}", hint=f"choose of {', '.join(FAULTS)}"
                )
        self._plan: Callable[[int], Fault | None] = plan.get if isinstance(plan, Mapping) else plan
        self._writes = frozenset(writes)
        self._later = later
        self._number = 0
        self._full = 0
        self.injected: list[tuple[int, Fault]] = []

    def fill(self, writes: int = FULL_FOR) -> None:
        """The disk is full for so many writes to come."""
        self._full = writes

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`."""
        if self._later:
            return asyncio.ensure_future(self._append_later(batch))  # under way at once, whenever it is awaited
        fault = self._next("append")
        answer = [] if fault is not None and fault != "lost" else self.inner.append(batch, in_place=in_place)
        if isinstance(answer, list):
            _fail(fault)
            return answer
        return _then_fail(answer, fault)

    async def _append_later(self, batch: Sequence[Append]) -> list[Outcome]:
        await asyncio.sleep(0)
        return await self._write("append", lambda: _answered(self.inner.append(batch, in_place=False)))

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """See `Store.claim`."""
        return await self._write("claim", lambda: self.inner.claim(lease, workflows, now_ms, limit=limit))

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """See `Store.claim_run`."""
        return await self._write("claim", lambda: self.inner.claim_run(lease, run_id, steal=steal))

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """See `Store.release`."""
        await self._write("release", lambda: self.inner.release(lease, run_ids))

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """See `Store.lease`."""
        return await self._write("lease", lambda: self.inner.lease(worker_id, workflows, length_s=length_s))

    async def _write(self, what: Write, write: Callable[[], Awaitable[T]]) -> T:
        fault = self._next(what)
        if fault is not None and fault != "lost":
            _fail(fault)
        return await _then_fail(write(), fault)

    def _next(self, what: Write) -> Fault | None:
        if what not in self._writes:
            return None
        self._number += 1
        fault = self._plan(self._number)
        if self._full > 0:
            self._full -= 1
            fault = "full"
        elif fault == "full":
            self._full = FULL_FOR - 1
        if fault is not None:
            self.injected.append((self._number, fault))
        return fault


async def _answered(answer: list[Outcome] | Awaitable[list[Outcome]]) -> list[Outcome]:
    return answer if isinstance(answer, list) else await answer


async def _then_fail(answer: Awaitable[T], fault: Fault | None) -> T:
    found = await answer
    _fail(fault)
    return found


def _fail(fault: Fault | None) -> None:
    if fault == "before":
        raise StoreWriteError("an injected fault: the write failed")
    if fault == "full":
        raise StoreWriteError("an injected fault: the disk is full", errno="ENOSPC")
    if fault == "busy":
        raise StoreBusyError("an injected fault: another program holds the lock")
    if fault in ("lost", "torn"):
        raise OutcomeUnknownError("an injected fault: the answer to a write was lost")
