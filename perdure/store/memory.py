"""A store in plain dictionaries: for tests, for the simulation, and for runs that need not outlive the process.

It keeps every rule of the port that does not speak of disks. Closing it forgets nothing, so a test can let a worker
"die" and open the same store again.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from perdure.core.errors import (
    ArtifactNotFoundError,
    CorruptRecordError,
    FencedError,
    HeadMovedError,
    PerdureError,
    RunConflictError,
    RunNotFoundError,
    StoreClosedError,
    StoreError,
    StoreWriteError,
)
from perdure.core.events import NEVER, Event, Head, IndexChange, WaitRow
from perdure.core.ids import check_run_id
from perdure.journal.chain import read_record, seal
from perdure.store.clock import BootClock, boot_id, boot_time_ms
from perdure.store.index import TERMINAL, merge
from perdure.store.port import (
    Append,
    Appended,
    ArtifactInfo,
    ArtifactRow,
    Claimed,
    Durability,
    FeedEntry,
    Lease,
    NewRun,
    OpenWait,
    Outcome,
    RunFilter,
    RunRow,
    WorkerRow,
)


@dataclass(slots=True)
class _Run:
    row: RunRow
    head: Head
    events: list[Event] = field(default_factory=list)
    waits: dict[str, int] = field(default_factory=dict)
    woken: bool = False


class MemoryLease:
    """The lease of a worker on a `MemoryStore`."""

    def __init__(self, store: MemoryStore, worker_id: str, length_ms: int) -> None:
        self.worker_id = worker_id
        self._store = store
        self._length_ms = length_ms

    def renew(self) -> None:
        """See `Lease.renew`."""
        self._row().lease_end_ms = self._store._boot_clock() + self._length_ms

    def valid(self) -> bool:
        """See `Lease.valid`."""
        return self.remaining_s() > 0

    def remaining_s(self) -> float:
        """See `Lease.remaining_s`."""
        worker = self._store._workers.get(self.worker_id)
        if worker is None or not worker.alive:
            return -1.0
        return (worker.lease_end_ms - self._store._boot_clock()) / 1000

    def drain(self) -> None:
        """See `Lease.drain`."""
        self._row().draining = True

    def close(self) -> None:
        """See `Lease.close`."""
        if self._store._workers.pop(self.worker_id, None) is None:
            return
        for run in self._store._runs.values():
            if run.row.owner == self.worker_id:
                self._store._release(run)

    def abandon(self) -> None:
        """For tests: what the death of the worker's process does; nothing is given back."""
        worker = self._store._workers.get(self.worker_id)
        if worker is not None:
            worker.alive = False

    def _row(self) -> WorkerRow:
        worker = self._store._workers.get(self.worker_id)
        if worker is None or not worker.alive:
            raise StoreClosedError(f"the lease of worker {self.worker_id} is closed", worker_id=self.worker_id)
        return worker


class MemoryStore:
    """Runs in the memory of this process.

    Args:
        boot_clock: milliseconds on a clock that counts suspension; leases are measured on it.
    """

    url: str = "memory://"
    durability: Durability = "none"
    shared: bool = False
    sync_s: float = 0.0

    def __init__(self, *, boot_clock: BootClock = boot_time_ms) -> None:
        self._boot_clock = boot_clock
        self._runs: dict[str, _Run] = {}
        self._feed: list[Event] = []
        self._waits: dict[int, tuple[str, WaitRow]] = {}
        self._next_wait = 0
        self._artifacts: dict[str, ArtifactRow] = {}
        self._workers: dict[str, WorkerRow] = {}
        self._is_open = False

    async def open(self) -> None:
        """See `Store.open`; what was in the store before it was closed is still there."""
        self._is_open = True

    async def close(self) -> None:
        """See `Store.close`."""
        self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreClosedError("the store is not open")

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome]:
        """See `Store.append`; memory never blocks, so the answer is always at hand."""
        self._check_open()
        return [self._append(append) for append in batch]

    def _append(self, append: Append) -> Outcome:
        refusal = self._refusal(append)
        if refusal is not None:
            return refusal
        try:
            events, head = _sealed(append)
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            return StoreError(f"an append to {append.run_id} cannot be recorded: {error}", run_id=append.run_id)
        if append.create is not None:
            self._runs[append.run_id] = _Run(_new_row(append.run_id, append.create), append.expected)
        for artifact in append.artifacts:
            self._artifacts.setdefault(artifact.sha256, artifact)
        run = self._runs[append.run_id]
        run.events.extend(events)
        run.head = head
        self._feed.extend(events)
        change = merge(append)
        if change is not None:
            self._apply(run, change, append.drafts[-1].time_ms)
        return Appended(append.expected.seq + 1, head)

    def _refusal(self, append: Append) -> PerdureError | None:
        run = self._runs.get(append.run_id)
        run_id = append.run_id
        if append.create is not None:
            return None if run is None else RunConflictError(f"run {run_id} exists already", run_id=run_id)
        if run is None:
            return RunNotFoundError(f"no run has the id {run_id}", run_id=run_id)
        if append.epoch is not None and (run.row.owner, run.row.epoch) != (append.owner, append.epoch):
            return FencedError(
                f"run {run_id} is owned by {run.row.owner or 'nobody'} now",
                run_id=run_id,
                worker_id=append.owner,
                epoch=append.epoch,
                owner=run.row.owner,
                current_epoch=run.row.epoch,
            )
        if run.head != append.expected:
            return HeadMovedError(
                f"the journal of run {run_id} is at seq {run.head.seq}, not at {append.expected.seq} as expected",
                run_id=run_id,
                expected_seq=append.expected.seq,
                seq=run.head.seq,
            )
        return None

    def _apply(self, run: _Run, change: IndexChange, time_ms: int) -> None:
        row = run.row
        row.updated_ms = time_ms
        if change.status is not None:
            row.status = change.status  # type: ignore[assignment]
        if change.reason is not None:
            row.reason = change.reason
        if change.base_seq is not None:
            row.base_seq = change.base_seq
        if run.woken and _can_wake(row):
            row.due_ms = 0
        elif change.due_ms is not None:
            row.due_ms = change.due_ms
        if change.release:
            self._release(run)
        if change.closed:
            for wait_id in list(run.waits) if "*" in change.closed else change.closed:
                self._close_wait(run, wait_id)
        for wait in change.opened:
            self._close_wait(run, wait.wait_id)
            self._next_wait += 1
            run.waits[wait.wait_id] = self._next_wait
            self._waits[self._next_wait] = (row.run_id, wait)
        if change.wake is not None:
            self._wake(change.wake)

    def _close_wait(self, run: _Run, wait_id: str) -> None:
        number = run.waits.pop(wait_id, None)
        if number is not None:
            del self._waits[number]

    def _wake(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is not None and _can_wake(run.row):
            run.row.due_ms = 0
            run.woken = run.row.owner is not None

    def _release(self, run: _Run) -> None:
        run.row.owner = None
        run.woken = False

    # --- reading ------------------------------------------------------------------------------------------------------

    async def read(self, run_id: str, *, after: int = 0, until: int | None = None, limit: int = 100_000) -> list[Event]:
        """See `Store.read`."""
        self._check_open()
        run = self._runs.get(run_id)
        if run is None:
            return []
        end = len(run.events) if until is None else min(until, len(run.events))
        return run.events[after : min(end, after + limit)]

    async def read_feed(self, *, after: int = 0, limit: int = 1000) -> list[FeedEntry]:
        """See `Store.read_feed`."""
        self._check_open()
        found = self._feed[after : after + limit]
        return [FeedEntry(position, event) for position, event in enumerate(found, after + 1)]

    async def feed_position(self) -> int:
        """See `Store.feed_position`."""
        self._check_open()
        return len(self._feed)

    async def changed_runs(self, *, after: int) -> tuple[int, dict[str, int]]:
        """See `Store.changed_runs`."""
        self._check_open()
        return len(self._feed), {event.run_id: event.seq for event in self._feed[after:]}

    async def head(self, run_id: str) -> Head | None:
        """See `Store.head`."""
        self._check_open()
        run = self._runs.get(run_id)
        return None if run is None else run.head

    async def get_run(self, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        self._check_open()
        run = self._runs.get(run_id)
        return None if run is None else replace(run.row)

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        self._check_open()
        found = [run.row for run in self._runs.values() if _matches(run.row, where)]
        found.sort(key=_age, reverse=True)
        return [replace(row) for row in found[: where.limit]]

    async def count_runs(self) -> dict[str, int]:
        """See `Store.count_runs`."""
        self._check_open()
        counts: dict[str, int] = {}
        for run in self._runs.values():
            counts[run.row.status] = counts.get(run.row.status, 0) + 1
        return counts

    async def open_waits(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> list[OpenWait]:
        """See `Store.open_waits`."""
        self._check_open()
        found = (
            OpenWait(owner, self._runs[owner].row.workflow, wait)
            for owner, wait in self._waits.values()
            if (kind is None or wait.kind == kind)
            and (name is None or wait.name == name)
            and (key is None or wait.key is None or wait.key == key)
            and (run_id is None or owner == run_id)
        )
        return [wait for wait, _ in zip(found, range(limit), strict=False)]

    async def get_artifact(self, sha256: str) -> bytes:
        """See `Store.get_artifact`."""
        self._check_open()
        artifact = self._artifacts.get(sha256)
        if artifact is None:
            raise ArtifactNotFoundError(f"no artifact has the SHA-256 {sha256}", artifact=sha256)
        if hashlib.sha256(artifact.data).hexdigest() != sha256:
            raise CorruptRecordError(f"artifact {sha256} is not what was written", artifact=sha256)
        return artifact.data

    async def artifact_info(self, sha256s: Iterable[str]) -> list[ArtifactInfo]:
        """See `Store.artifact_info`."""
        self._check_open()
        found = (self._artifacts.get(sha256) for sha256 in dict.fromkeys(sha256s))
        return [ArtifactInfo(row.sha256, len(row.data), row.media_type) for row in found if row is not None]

    # --- ownership ----------------------------------------------------------------------------------------------------

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """See `Store.lease`."""
        self._check_open()
        check_run_id(worker_id)
        self._forget_dead_workers()
        if worker_id in self._workers:
            raise StoreWriteError(f"worker {worker_id} is running already", worker_id=worker_id)
        length_ms = round(length_s * 1000)
        self._workers[worker_id] = WorkerRow(
            worker_id,
            socket.gethostname(),
            os.getpid(),
            boot_id(),
            self._boot_clock() + length_ms,
            time.time_ns() // 1_000_000,
            workflows=tuple(workflows),
        )
        return MemoryLease(self, worker_id, length_ms)

    async def workers(self) -> list[WorkerRow]:
        """See `Store.workers`."""
        self._check_open()
        return [replace(worker, alive=self._is_alive(worker.worker_id)) for worker in self._workers.values()]

    def _keep_alive(self, lease: Lease) -> None:
        """Who claims lives. A worker in memory has no heartbeat: nobody could outlive it."""
        worker = self._workers.get(lease.worker_id)
        if worker is not None and worker.alive:
            lease.renew()

    def _is_alive(self, worker_id: str) -> bool:
        worker = self._workers.get(worker_id)
        return worker is not None and worker.alive and worker.lease_end_ms > self._boot_clock()

    def _forget_dead_workers(self) -> None:
        owners = {run.row.owner for run in self._runs.values()}
        for worker_id in [w.worker_id for w in self._workers.values() if not w.alive and w.worker_id not in owners]:
            del self._workers[worker_id]

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """See `Store.claim`."""
        self._check_open()
        self._keep_alive(lease)
        due = [
            run for run in self._claimable(workflows) if run.row.due_ms <= now_ms and run.row.owner != lease.worker_id
        ]
        due.sort(key=lambda run: run.row.due_ms)
        return [self._claim(lease, run) for run in due[:limit]]

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """See `Store.claim_run`."""
        self._check_open()
        run = self._runs.get(run_id)
        if run is None:
            raise RunNotFoundError(f"no run has the id {run_id}", run_id=run_id)
        owner = run.row.owner
        if owner is not None and owner != lease.worker_id and not steal and self._is_alive(owner):
            return None
        return self._claim(lease, run)

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """See `Store.release`."""
        self._check_open()
        for run_id in run_ids:
            run = self._runs.get(run_id)
            if run is not None and run.row.owner == lease.worker_id:
                self._release(run)

    async def next_due_ms(self, workflows: Sequence[str]) -> int | None:
        """See `Store.next_due_ms`."""
        self._check_open()
        return min((run.row.due_ms for run in self._claimable(workflows) if run.row.due_ms < NEVER), default=None)

    def _claimable(self, workflows: Sequence[str]) -> Iterator[_Run]:
        names = set(workflows)
        for run in self._runs.values():
            owner = run.row.owner
            if run.row.workflow in names and not run.row.caller_owned and not (owner and self._is_alive(owner)):
                yield run

    def _claim(self, lease: Lease, run: _Run) -> Claimed:
        prior = run.row.owner if run.row.owner != lease.worker_id else None
        worker = self._workers.get(prior) if prior is not None else None
        orphaned = prior is not None and not self._is_alive(prior)
        run.row.owner = lease.worker_id
        run.row.epoch += 1
        run.woken = False
        left_ms = max(0, worker.lease_end_ms - self._boot_clock()) if worker is not None and worker.alive else 0
        return Claimed(
            replace(run.row),
            orphaned=orphaned,
            drained=worker is not None and worker.draining,
            prior_worker=prior,
            lease_lost_ms=left_ms,
            prior_dead=prior is not None and (worker is None or not worker.alive),
        )

    # --- care ---------------------------------------------------------------------------------------------------------

    async def integrity(self) -> list[str]:
        """See `Store.integrity`; memory has no pages to be damaged."""
        self._check_open()
        return []

    async def compact(self) -> None:
        """See `Store.compact`."""
        self._check_open()


def _sealed(append: Append) -> tuple[list[Event], Head]:
    if not append.drafts:
        raise ValueError("it holds no events")
    seq, previous = append.expected
    events = []
    for draft in append.drafts:
        seq += 1
        header, previous = seal(append.run_id, draft, seq, previous, append.epoch or 0)
        events.append(read_record(header, draft.salt, draft.payload))
    return events, Head(seq, previous)


def _new_row(run_id: str, new: NewRun) -> RunRow:
    return RunRow(
        run_id=run_id,
        workflow=new.workflow,
        version=new.version,
        status="pending",
        reason="",
        created_ms=new.created_ms,
        updated_ms=new.created_ms,
        due_ms=new.due_ms,
        base_seq=1,
        epoch=0 if new.owner is None else 1,
        owner=new.owner,
        parent_id=new.parent_id,
        caller_owned=new.caller_owned,
        tags=tuple(new.tags),
    )


def _can_wake(row: RunRow) -> bool:
    return row.status not in TERMINAL and row.status != "paused"


def _age(row: RunRow) -> tuple[int, str]:
    return (row.created_ms, row.run_id)


def _matches(row: RunRow, where: RunFilter) -> bool:
    return (
        (not where.statuses or row.status in where.statuses)
        and (where.workflow is None or row.workflow == where.workflow)
        and (where.parent_id is None or row.parent_id == where.parent_id)
        and all(tag in row.tags for tag in where.tags)
        and (where.created_after_ms is None or row.created_ms >= where.created_after_ms)
        and (where.created_before_ms is None or row.created_ms < where.created_before_ms)
        and (where.id_prefix is None or row.run_id.startswith(where.id_prefix))
        and (where.before is None or _age(row) < where.before)
    )
