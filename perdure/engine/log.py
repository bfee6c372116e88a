"""The log of a run under execution: what its executor wants appended, and what is committed.

The executor adds drafts and goes on. The writer takes them in order and commits them. `barrier` waits until everything
added so far is durable. A draft that is a *decision* (a start, the resolution of a wait, an ending) is decided again if
somebody else's command came before it in the journal; a draft that is a fact is chained behind it as it is.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from perdure.core import kinds
from perdure.core.errors import HeadMovedError, PerdureError
from perdure.core.events import Draft, Event, Head, IndexChange
from perdure.journal.chain import hash_of
from perdure.journal.fold import fold
from perdure.journal.state import RunState
from perdure.store.port import Append, Appended, ArtifactRow, NewRun, Outcome

if TYPE_CHECKING:
    from perdure.store.port import Store
    from perdure.store.writer import Writer

Redecide = Callable[[RunState], Draft | None]

# Facts of a run's own execution need not be folded while it is executed: its code has them already.
_NOT_FOLDED: Final = frozenset(
    (
        kinds.STEP_INTENDED,
        kinds.STEP_COMPLETED,
        kinds.STEP_FAILED,
        kinds.STEP_RETRIED,
        kinds.STATE_WRITTEN,
        kinds.ARTIFACT_PUT,
        kinds.PATCH_DECIDED,
        kinds.BRANCHES_JOINED,
    )
)
_PROGRESS: Final = (
    kinds.FACT_KINDS
    | kinds.TERMINAL_KINDS
    | {kinds.WAIT_OPENED, kinds.WAIT_RESOLVED, kinds.RUN_SUSPENDED, kinds.NODE_COMPLETED, kinds.RUN_CONTINUED}
)


class Listener(Protocol):
    """The executor, as its log knows it."""

    def tail(self, events: list[Event]) -> None:
        """Somebody else has appended these events; they are folded."""

    def lost(self, error: PerdureError) -> None:
        """This execution can append nothing any more."""


class _Entry:
    __slots__ = ("draft", "future", "redecide")

    def __init__(self, draft: Draft, future: asyncio.Future[bool] | None, redecide: Redecide | None) -> None:
        self.draft = draft
        self.future = future
        self.redecide = redecide


class RunLog:
    """The log of one run under one lease.

    Args:
        run_id: the run.
        epoch, owner: the lease under which it appends.
        state: folded up to `head`.
        head: the end of the journal.
    """

    def __init__(
        self, store: Store, writer: Writer, run_id: str, epoch: int, owner: str, state: RunState, head: Head
    ) -> None:
        self._store = store
        self._writer = writer
        self.run_id = run_id
        self.epoch = epoch
        self.owner = owner
        self.state = state
        self.head = head
        self.listener: Listener | None = None
        self.progressed = asyncio.Event()
        self.create: NewRun | None = None
        self.error: PerdureError | None = None
        self._pending: list[_Entry] = []
        self._inflight: list[_Entry] | None = None
        self._artifacts: list[ArtifactRow] = []
        self._artifacts_inflight: list[ArtifactRow] = []
        self._added = 0
        self._committed = 0
        self._barriers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._notices: deque[tuple[int, Callable[[], None]]] = deque()
        self._expected = head
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references to tasks
        self._syncing = False
        self._resync = False

    # --- what the executor calls --------------------------------------------------------------------------------------

    def add(self, draft: Draft) -> None:
        """Append in the background."""
        self._added += 1
        self._pending.append(_Entry(draft, None, None))
        if self._inflight is None:
            self._writer.submit(self)

    def keep(self, artifact: ArtifactRow) -> None:
        """Commit an artifact with, or before, the next draft that is added."""
        self._artifacts.append(artifact)

    async def decide(self, draft: Draft, redecide: Redecide | None = None) -> bool:
        """Append a decision and wait until it is durable.

        Returns:
            False if `redecide`, asked with the state that others' commands led to, withdrew it.
        """
        if self.error is not None:
            raise self.error
        self._added += 1
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._pending.append(_Entry(draft, future, redecide))
        if self._inflight is None:
            self._writer.submit(self, urgent=True)
        return await future

    def decide_later(self, draft: Draft, redecide: Redecide) -> None:
        """Append a decision in the background; it may be withdrawn."""
        self._added += 1
        self._pending.append(_Entry(draft, None, redecide))
        if self._inflight is None:
            self._writer.submit(self)

    async def barrier(self) -> None:
        """Return once everything added so far is durable; raises the error that lost this log."""
        if self.error is not None:
            raise self.error
        if self._committed >= self._added:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._barriers.append((self._added, future))
        if self._inflight is None:
            self._writer.submit(self, urgent=True)
        await future

    def when_durable(self, notice: Callable[[], None]) -> None:
        """Call this as soon as everything added so far is durable, before anything else hears of it; never, if this log
        is lost before that. It hurries nothing.

        Args:
            notice: does not raise.
        """
        if self._committed >= self._added:
            notice()
        else:
            self._notices.append((self._added, notice))

    @property
    def backlog(self) -> int:
        """How many drafts are not durable yet."""
        return self._added - self._committed

    def sync(self) -> None:
        """Somebody may have appended: read the tail and fold it."""
        if self._syncing or self._inflight is not None:
            self._resync = True
        elif self.error is None:
            self._syncing = True
            self._begin(self._sync())

    async def caught_up(self) -> None:
        """Return once what others have appended so far is folded."""
        self.sync()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def committed(self) -> tuple[RunState, Head] | None:
        """The folded state and the head that it stands for; `None` when nobody should decide on it."""
        return None if self.error is not None or self._syncing else (self.state, self.head)

    # --- what the writer calls ----------------------------------------------------------------------------------------

    def take(self) -> Append | None:
        """See `Source.take`."""
        if self._inflight is not None or not self._pending or self.error is not None:
            return None
        entries = self._inflight = self._pending
        self._pending = []
        self._expected = self.head
        if self.state.status == "paused":
            _stay_paused(entries)
        else:
            _leave_waiting(entries, waiting=self.state.status == "waiting")
        append = Append(
            self.run_id, [entry.draft for entry in entries], self.head, self.epoch, self.owner, create=self.create
        )
        append.artifacts = self._artifacts_inflight = self._artifacts
        self._artifacts = []
        return append

    def settled(self, outcome: Outcome) -> None:
        """See `Source.settled`."""
        if isinstance(outcome, Appended):
            self._committed_now(outcome)
        elif isinstance(outcome, HeadMovedError):
            self._begin(self._catch_up(outcome))
        else:
            self.lost(outcome)

    def lost(self, error: PerdureError) -> None:
        """See `Source.lost`: nothing can be appended any more."""
        if self.error is not None:
            return
        self.error = error
        entries = [*(self._inflight or ()), *self._pending]
        self._inflight, self._pending = None, []
        futures: list[asyncio.Future[bool] | asyncio.Future[None]] = [
            entry.future for entry in entries if entry.future is not None
        ]
        futures += [future for _, future in self._barriers]
        self._barriers.clear()
        self._notices.clear()
        if self.listener is not None:
            self.listener.lost(error)
        for future in futures:
            if not future.done():
                future.set_exception(error)
                future.exception()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _committed_now(self, outcome: Appended) -> None:
        entries = self._inflight or []
        self._inflight = None
        self.create = None
        self.head = outcome.head
        self._committed += len(entries)
        state = self.state
        seq = outcome.first_seq
        for entry in entries:
            draft = entry.draft
            if draft.kind in _NOT_FOLDED:
                state.seq = seq
                if state.status == "waiting":
                    state.status = "running"
            else:
                fold(state, self._event(draft, seq))
            if draft.kind in _PROGRESS and not self.progressed.is_set():
                self.progressed.set()
            seq += 1
            if entry.future is not None and not entry.future.done():
                entry.future.set_result(True)
        while self._notices and self._notices[0][0] <= self._committed:
            self._notices.popleft()[1]()
        barriers = self._barriers
        while barriers and barriers[0][0] <= self._committed:
            future = barriers.popleft()[1]
            if not future.done():
                future.set_result(None)
        if self._pending:
            self._writer.submit(self, urgent=bool(barriers) or any(entry.future is not None for entry in self._pending))
        if self._resync:
            self._resync = False
            self.sync()

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _event(self, draft: Draft, seq: int) -> Event:
        return Event(
            self.run_id,
            seq,
            draft.kind,
            draft.time_ms,
            draft.node,
            draft.scope,
            draft.key,
            draft.actor,
            self.epoch,
            b"",
            draft.salt,
            draft.payload,
        )

    async def _catch_up(self, refusal: HeadMovedError) -> None:
        """Others' commands came first: fold them, decide the decisions again, chain the facts behind them."""
        entries = self._inflight or []
        try:
            await self._read_tail()
            if self.head == self._expected:
                self.lost(refusal)
                return
        except PerdureError as error:
            self.lost(error)
            return
        kept: list[_Entry] = []
        withdrawn: list[int] = []
        for ordinal, entry in enumerate(entries, self._committed + 1):
            if entry.redecide is not None:
                draft = entry.redecide(self.state)
                if draft is None:
                    withdrawn.append(ordinal)
                    if entry.future is not None and not entry.future.done():
                        entry.future.set_result(False)
                    continue
                entry.draft = draft
            kept.append(entry)
        self._added -= len(withdrawn)
        if withdrawn:  # what stands before them must be durable all the same before anybody goes on
            self._barriers = deque((place - bisect_right(withdrawn, place), one) for place, one in self._barriers)
            self._notices = deque((place - bisect_right(withdrawn, place), one) for place, one in self._notices)
        self._pending = kept + self._pending
        self._artifacts = self._artifacts_inflight + self._artifacts  # nothing of the refused append was kept
        self._inflight = None
        self._settle_barriers()
        if self._pending:
            self._writer.submit(self, urgent=True)

    def _settle_barriers(self) -> None:
        while self._notices and self._notices[0][0] <= self._committed:
            self._notices.popleft()[1]()
        while self._barriers and self._barriers[0][0] <= self._committed:
            future = self._barriers.popleft()[1]
            if not future.done():
                future.set_result(None)

    async def _read_tail(self) -> None:
        """Fold what others appended."""
        before = self.head
        events = await self._store.read(self.run_id, after=before.seq)
        if self.head != before or not events:
            return
        for event in events:
            fold(self.state, event)
        self.head = Head(events[-1].seq, hash_of(events[-1]))
        if self.listener is not None:
            self.listener.tail(events)

    async def _sync(self) -> None:
        try:
            await self._read_tail()
            while self._resync and self._inflight is None and self.error is None:
                self._resync = False
                await self._read_tail()
        except PerdureError as error:
            self.lost(error)
        finally:
            self._syncing = False


def _leave_waiting(entries: list[_Entry], *, waiting: bool) -> None:
    """With the first event that only an executing run appends, a run that waited goes on, and its index row says so."""
    for entry in entries:
        draft = entry.draft
        change = draft.change
        if change is not None and change.status is not None:
            waiting = change.status == "waiting"
        elif waiting and draft.kind in kinds.EXECUTING_KINDS:
            draft.change = (change or IndexChange())._replace(status="running", due_ms=0)
            waiting = False


def _stay_paused(entries: list[_Entry]) -> None:
    """What was under way when the run was paused is appended behind that, and does not undo it in the index."""
    for entry in entries:
        draft = entry.draft
        if draft.change is not None and draft.kind != kinds.RUN_PAUSED:
            draft.change = draft.change._replace(status=None, due_ms=None)
