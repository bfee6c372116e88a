"""The group-commit writer: all runs of a process share it, and it commits many runs' events in one transaction.

How it works. Whoever has something to append hands in a `Source` (a run's log) or, for a command, a finished `Append`.
Nothing is committed there and then: the writer schedules one flush behind everything that is ready in the event loop.
By the time the flush runs, every run that was ready has had its turn and handed in what it had, so one transaction, and
with full durability one disk sync, carries all of it. While the store is busy, sources queue; when it is done, the next
flush takes all that has gathered. When nobody awaits the commit, the flush lets the loop turn a few more times, so
that what follows at once (the next fact, the end of the run) shares it. That is all there is to group commit: no timer.

Where the commit runs. A hand-over to a thread and back costs about as much as a fast disk's sync, so a commit is done
in place, in the event loop, when syncs have lately been short; the loop has nothing else to do then anyway, because the
flush stands behind everything that was ready. When syncs are long the store's thread does them and the loop goes on.

Order. Sources are taken first in, first out. A source has at most one append under way. What a source hands in while
its append is under way waits for the next flush.

Failure. A refusal (fenced, head moved, …) concerns one append: its neighbours in the batch are committed. A failed
transaction concerns the whole batch: each source is told `lost`, and recovers from the store, for nobody knows what the
disk holds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from perdure.core.errors import OutcomeUnknownError, PerdureError, StoreClosedError, StoreWriteError
from perdure.store.port import Append, Appended, Outcome, Store


class Source(Protocol):
    """Something that has events to append: the log of a run under execution, or one command."""

    def take(self) -> Append | None:
        """What to append now; `None` when there is nothing any more."""

    def settled(self, outcome: Outcome) -> None:
        """The transaction is over: the append is committed or was refused."""

    def lost(self, error: PerdureError) -> None:
        """The transaction failed; whether the append is committed must be read from the store."""


class _Command:
    """A single append from outside, awaited by its sender."""

    __slots__ = ("_append", "future")

    def __init__(self, append: Append, future: asyncio.Future[Outcome]) -> None:
        self._append = append
        self.future = future

    def take(self) -> Append | None:
        return self._append

    def settled(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def lost(self, error: PerdureError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Writer:
    """Commits what sources hand in, many at a time.

    Args:
        store: where to.
        on_commit: called after each commit with the appends that were committed.
    """

    IN_PLACE_S: Final = 0.003
    PATIENCE: Final = 3
    MOST_SOURCES: Final = 1000

    def __init__(self, store: Store, on_commit: Callable[[list[Append]], None] | None = None) -> None:
        self._store = store
        self._queue: deque[Source] = deque()
        self._queued: set[int] = set()
        self._scheduled = False
        self._urgent = False
        self._patience = 0
        self._busy = False
        self._task: asyncio.Task[None] | None = None  # asyncio itself keeps only weak references to tasks
        self._closed = False
        self._on_commit = on_commit
        self._idle: asyncio.Event | None = None
        self.commits = 0
        self.appends = 0

    @property
    def busy(self) -> bool:
        """Whether anything is handed in that is not settled."""
        return self._busy or bool(self._queue)

    def submit(self, source: Source, *, urgent: bool = False) -> None:
        """Ask for a commit of what the source has; it is asked for it when its turn comes.

        Args:
            urgent: somebody awaits the commit.
        """
        if urgent:
            self._urgent = True
        identity = id(source)
        if identity in self._queued:
            return
        if self._closed:
            source.lost(StoreClosedError("the writer is closed"))
            return
        self._queued.add(identity)
        self._queue.append(source)
        if not self._scheduled and not self._busy:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def append(self, append: Append) -> Appended:
        """Append a command and wait until it is durable.

        Raises:
            HeadMovedError, RunConflictError, RunNotFoundError, FencedError: it was refused; nothing was written.
            OutcomeUnknownError: the commit was sent and not confirmed.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submit(_Command(append, future), urgent=True)
        try:
            outcome = await future
        except StoreWriteError as error:
            raise OutcomeUnknownError(f"the commit was not confirmed: {error.message}", run_id=append.run_id) from error
        if isinstance(outcome, PerdureError):
            raise outcome
        return outcome

    async def drained(self) -> None:
        """Return once everything that was handed in so far is settled."""
        while self._queue or self._busy:
            if self._idle is None:
                self._idle = asyncio.Event()
            await self._idle.wait()

    async def close(self) -> None:
        """Commit what was handed in, and refuse what comes after."""
        self._closed = True
        await self.drained()

    def _flush(self) -> None:
        if not self._urgent and self._patience < self.PATIENCE:
            self._patience += 1
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self._scheduled = self._urgent = False
        self._patience = 0
        sources: list[Source] = []
        batch: list[Append] = []
        queue = self._queue
        while queue and len(batch) < self.MOST_SOURCES:
            source = queue.popleft()
            self._queued.discard(id(source))
            append = source.take()
            if append is not None:
                sources.append(source)
                batch.append(append)
        if not batch:
            self._rest()
            return
        self._busy = True
        try:
            answer = self._store.append(batch, in_place=self._store.sync_s < self.IN_PLACE_S)
        except PerdureError as error:
            self._failed(sources, error)
            return
        if isinstance(answer, list):
            self._committed(sources, batch, answer)
        else:
            self._task = asyncio.ensure_future(self._later(sources, batch, answer))

    async def _later(self, sources: list[Source], batch: list[Append], answer: Awaitable[list[Outcome]]) -> None:
        try:
            outcomes = await answer
        except PerdureError as error:
            self._failed(sources, error)
        else:
            self._committed(sources, batch, outcomes)

    def _committed(self, sources: list[Source], batch: list[Append], outcomes: list[Outcome]) -> None:
        self.commits += 1
        self.appends += len(batch)
        self._busy = False
        for source, outcome in zip(sources, outcomes, strict=True):
            source.settled(outcome)
        if self._on_commit is not None:
            self._on_commit(
                [append for append, outcome in zip(batch, outcomes, strict=True) if isinstance(outcome, Appended)]
            )
        self._rest()

    def _failed(self, sources: list[Source], error: PerdureError) -> None:
        self._busy = False
        for source in sources:
            source.lost(error)
        self._rest()

    def _rest(self) -> None:
        if self._queue:
            if not self._scheduled and not self._busy:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._flush)
        elif self._idle is not None and not self._busy:
            self._idle.set()
            self._idle = None
