"""What the tests of the rules look at: every journal they leave is checked, and commits can be held up or made to fail.

The journals are checked against what is promised of all of them: the chain holds, headers are canonical, payloads have
the fields that their kind lists, and the index rows say what the journal says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import orjson

from perdure import RunHandle, Runtime
from perdure.core.canonical import canonical
from perdure.core.errors import PerdureError
from perdure.core.events import Event
from perdure.core.kinds import KINDS, TERMINAL_KINDS
from perdure.journal.chain import check
from perdure.journal.fold import fold_all
from perdure.store.port import Append, Outcome, RunFilter, Store
from perdure.testing.delegate import DelegatingStore
from tests.unit.engine.staging import die, opened, reaches

AFTER_THE_END = {
    "run.reopened",
    "step.resolved",
    "wait.answered",
    "payload.erased",
    "bookmark.set",
    "head.signed",
}


# --- what every journal must be ---------------------------------------------------------------------------------------


def problems_of_payload(event: Event) -> list[str]:
    """Where a kernel event's payload is not what its kind lists."""
    spec = KINDS.get(event.kind)
    if spec is None:
        return []
    names = set(event.data)
    missing = set(spec.fields) - names
    unknown = names - set(spec.fields) - set(spec.optional)
    place = f"{event.seq} {event.kind}"
    return [*(f"{place} lacks {name!r}" for name in sorted(missing)), *(f"{place} has {name!r}" for name in unknown)]


def problems_of_header(event: Event) -> list[str]:
    """Where a header is not canonical, or names more than it may."""
    parsed = orjson.loads(event.header)
    problems = [] if canonical(parsed) == event.header else [f"the header of {event.seq} is not canonical"]
    digest = sha256(event.salt + (event.payload or b"")).hexdigest()
    if parsed["digest"] != digest or len(event.salt) != 16:
        problems.append(f"{event.seq}: the digest is not salted with 16 bytes")
    if event.payload is not None and sha256(event.payload).hexdigest().encode() in event.header:
        problems.append(f"{event.seq}: the header holds an unsalted digest of the payload")
    return problems


def problems_of_order(events: Sequence[Event]) -> list[str]:
    """What follows the end of a run that may not."""
    problems = []
    ended = False
    for event in events:
        if ended and event.kind not in AFTER_THE_END:
            problems.append(f"{event.seq} {event.kind} follows the end")
        ended = event.kind in TERMINAL_KINDS or (ended and event.kind != "run.reopened")
    return problems


async def problems_of_run(store: Store, run_id: str) -> list[str]:
    """All that is wrong with one run of a store."""
    events = await store.read(run_id)
    row = await store.get_run(run_id)
    assert row is not None
    check(run_id, events)
    state = fold_all(run_id, events)
    problems = problems_of_order(events)
    for event in events:
        problems += problems_of_payload(event) + problems_of_header(event)
    if row.status != state.status:
        problems.append(f"the index says {row.status}, the journal {state.status}")
    indexed = {place.wait.wait_id for place in await store.open_waits(run_id=run_id)}
    open_waits = {wait.wait_id for wait in state.open_waits() if not state.terminal or wait.kind == "question"}
    if indexed != open_waits:
        problems.append(f"the index has open waits {sorted(indexed)}, the journal {sorted(open_waits)}")
    return [f"run {run_id}: {problem}" for problem in problems]


async def check_journals(store: Store) -> None:
    """Fail unless every journal of a store is what is promised."""
    await store.open()
    try:
        problems = []
        for row in await store.list_runs(RunFilter(limit=10_000)):
            problems += await problems_of_run(store, row.run_id)
        assert not problems, "\n".join(problems)
    finally:
        await store.close()


# --- runtimes whose journals are checked ------------------------------------------------------------------------------


@asynccontextmanager
async def witnessed(store: Store, *workflows: Any, **options: Any) -> AsyncIterator[Runtime]:
    """A runtime; when it is closed, all journals of its store are checked."""
    async with Runtime(store, workflows=workflows, **options) as runtime:
        yield runtime
    await check_journals(store)


@asynccontextmanager
async def recovered(
    store: Store, old: Any, new: Any, *, key: str = "wait_for.go", options: Any = None, **given: Any
) -> AsyncIterator[tuple[Runtime, RunHandle[Any]]]:
    """A run that begins under the old code, waits under a key, loses its worker, and is opened under the new code.

    Nothing tells the second runtime to take a run that waits: a signal or an answer does.
    """
    first = await opened(store, old, **(options or {}))
    handle: RunHandle[Any] = await first.start(old, **given)
    async for event in handle.events():
        if event.kind == "wait.opened" and event.key == key:
            break
    await reaches(handle, "waiting")
    await die(first)
    async with witnessed(store, new, **(options or {})) as second:
        yield second, second.run(handle.id)


# --- stores that hold up, fail, and count -----------------------------------------------------------------------------


class KeptOpen(DelegatingStore):
    """One of several faces of one store: closing it does not close the others."""

    async def close(self) -> None:
        """Leaves the store open."""


class HeldStore(KeptOpen):
    """Commits wait until the test lets them pass; until `hold` is called they pass at once."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._gate: asyncio.Future[None] | None = None
        self._arrived = asyncio.Event()
        self._batch: Sequence[Append] = ()
        self.commits: list[Sequence[Append]] = []

    def hold(self) -> None:
        """Commits wait from now on."""
        self._gate = asyncio.get_running_loop().create_future()
        self._arrived.clear()

    def let_pass(self, *, hold_next: bool = False) -> None:
        """The commit that waits goes on; and the ones after it, unless they are held too."""
        gate, self._gate = self._gate, None
        if hold_next:
            self.hold()
        if gate is not None:
            gate.set_result(None)

    async def held(self) -> list[str]:
        """Wait until a commit is held; the kinds of its events."""
        await self._arrived.wait()
        return [draft.kind for append in self._batch for draft in append.drafts]

    async def until_held(self, kind: str) -> None:
        """Let commits pass until one is held that holds an event of this kind; `hold` was called before."""
        while kind not in await self.held():
            self.let_pass(hold_next=True)

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`."""
        if self._gate is None:
            self.commits.append(batch)
            return super().append(batch, in_place=in_place)
        return self._later(self._gate, batch)

    async def _later(self, gate: asyncio.Future[None], batch: Sequence[Append]) -> list[Outcome]:
        self._batch = batch
        self._arrived.set()
        await gate
        self.commits.append(batch)
        outcomes = super().append(batch, in_place=True)
        return outcomes if isinstance(outcomes, list) else await outcomes


class FailingStore(KeptOpen):
    """Appends fail as the test says.

    Attributes:
        fail: asked before each commit with the kinds of its events; an error that it gives is raised instead.
        lose: the same, but the commit happens all the same, and the error is told after it.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.fail: Callable[[list[str]], PerdureError | None] = lambda kinds: None
        self.lose: Callable[[list[str]], PerdureError | None] = lambda kinds: None

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`."""
        kinds = [draft.kind for append in batch for draft in append.drafts]
        error = self.fail(kinds)
        if error is not None:
            raise error
        lost = self.lose(kinds)
        outcomes = super().append(batch, in_place=in_place)
        if lost is not None:
            raise lost
        return outcomes


def once_at(kind: str, error: PerdureError) -> Callable[[list[str]], PerdureError | None]:
    """An error for the first commit that holds an event of this kind."""
    left = [error]
    return lambda kinds: left.pop() if left and kind in kinds else None
