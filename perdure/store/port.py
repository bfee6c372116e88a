"""The store as a port: what the engine needs from whatever keeps the journals.

The port speaks of runs, not of tables. Everything on the hot path touches one run id, so that a schema can be sharded
by it. Three rules every store keeps (the contract suite in `perdure.testing.store_contract` checks them):

* An append is one transaction: events, index rows and artifacts together or not at all. The expected head and the
  epoch are checked in the statement that writes; seq and hashes are assigned inside the transaction.
* Several appends may share one transaction; refusal of one never fails its neighbours.
* When an append is acknowledged it survives what the store's durability names: `full` a power cut, `process` the end
  of the process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from perdure.core.errors import PerdureError
from perdure.core.events import NEVER, Draft, Event, Head, IndexChange, WaitRow

Durability = Literal["full", "process", "none"]
Status = Literal["pending", "running", "waiting", "paused", "completed", "failed", "cancelled"]


@dataclass(slots=True)
class NewRun:
    """The index row that an append with seq 1 creates.

    Args:
        workflow: its name.
        version: its version.
        created_ms: milliseconds since 1970.
        due_ms: from when a worker may claim it (0 at once, `NEVER` when its caller owns the loop).
        parent_id: the run that spawned it, if any.
        tags: as given.
        caller_owned: a worker never claims it.
        owner: the worker that claims it in the same transaction, with epoch 1, if any.
    """

    workflow: str
    version: str
    created_ms: int
    due_ms: int = 0
    parent_id: str | None = None
    tags: tuple[str, ...] = ()
    caller_owned: bool = False
    owner: str | None = None


class ArtifactRow(NamedTuple):
    """An artifact: immutable bytes named by their SHA-256 (hex)."""

    sha256: str
    data: bytes
    media_type: str = "application/json"


@dataclass(slots=True)
class Append:
    """One run's events that are committed together.

    Args:
        run_id: the run.
        drafts: at least one.
        expected: the head that the writer believes in; `Head(0, genesis)` for a new run.
        epoch: of the lease under which execution appends; `None` for a command from outside.
        owner: the worker that holds the lease; `None` for a command from outside.
        create: the index row of a new run.
        artifacts: bytes that the drafts name.
        change: an index change beyond those of the drafts (for example the release of the lease).
    """

    run_id: str
    drafts: list[Draft]
    expected: Head
    epoch: int | None = None
    owner: str | None = None
    create: NewRun | None = None
    artifacts: list[ArtifactRow] = field(default_factory=list)
    change: IndexChange | None = None


class Appended(NamedTuple):
    """An append is committed: the first seq it was given, and the head after it."""

    first_seq: int
    head: Head


# Refusals: HeadMovedError, FencedError, RunConflictError (the id exists already), RunNotFoundError.
Outcome = Appended | PerdureError


@dataclass(slots=True)
class RunRow:
    """A run as its index row shows it."""

    run_id: str
    workflow: str
    version: str
    status: Status
    reason: str
    created_ms: int
    updated_ms: int
    due_ms: int
    base_seq: int
    epoch: int
    owner: str | None
    parent_id: str | None
    caller_owned: bool
    tags: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON data; `due_ms` is null where nothing but an event from outside wakes the run."""
        return {
            "run_id": self.run_id,
            "workflow": self.workflow,
            "version": self.version,
            "status": self.status,
            "reason": self.reason or None,
            "created_ms": self.created_ms,
            "updated_ms": self.updated_ms,
            "due_ms": self.due_ms if 0 < self.due_ms < NEVER else None,
            "owner": self.owner,
            "parent_id": self.parent_id,
            "caller_owned": self.caller_owned,
            "tags": list(self.tags),
        }


@dataclass(slots=True)
class RunFilter:
    """Which runs to list; newest first (by creation, then id). All given conditions must hold.

    Args:
        statuses, workflow, tags, parent_id: exact matches; every tag must be there.
        created_after_ms, created_before_ms: half-open interval.
        id_prefix: for shell completion.
        before: `(created_ms, run_id)` of the last row seen: the next page starts behind it.
        limit: at most so many.
    """

    statuses: tuple[Status, ...] = ()
    workflow: str | None = None
    tags: tuple[str, ...] = ()
    parent_id: str | None = None
    created_after_ms: int | None = None
    created_before_ms: int | None = None
    id_prefix: str | None = None
    before: tuple[int, str] | None = None
    limit: int = 100


@dataclass(slots=True)
class WorkerRow:
    """A worker: one row, renewed by its heartbeat.

    Args:
        worker_id: unique.
        host, pid: where it runs.
        boot_id: of the machine's present boot.
        lease_end_ms: by the store's clock: on one machine boot time (counts suspension), else the database's clock.
        started_ms: wall clock.
        draining: SIGTERM was received; what dies after that counts against no run.
        workflows: names of the workflows that it has loaded.
        alive: as far as the store can tell now.
    """

    worker_id: str
    host: str
    pid: int
    boot_id: str
    lease_end_ms: int
    started_ms: int
    draining: bool = False
    workflows: tuple[str, ...] = ()
    alive: bool = True


@dataclass(slots=True)
class Claimed:
    """A run that this worker owns now.

    Args:
        row: with the new epoch and owner.
        orphaned: another worker owned it and is gone.
        drained: that worker had received SIGTERM (its death counts against nobody).
        prior_worker: the worker that owned it before.
        lease_lost_ms: remaining milliseconds until the prior owner's lease has certainly ended, measured at the claim;
            0 when its process is known to be dead or when there was none.
        prior_dead: the prior owner's process is known to be gone (not merely its lease lost).
    """

    row: RunRow
    orphaned: bool = False
    drained: bool = False
    prior_worker: str | None = None
    lease_lost_ms: int = 0
    prior_dead: bool = False


class FeedEntry(NamedTuple):
    """An event with its place in the order of all commits of the store."""

    position: int
    event: Event


class OpenWait(NamedTuple):
    """An open wait and the run that waits."""

    run_id: str
    workflow: str
    wait: WaitRow


class ArtifactInfo(NamedTuple):
    """What an artifact is, without its bytes."""

    sha256: str
    size: int
    media_type: str


class Lease(Protocol):
    """A worker's right to own runs. Its methods are called from the heartbeat's thread and block."""

    worker_id: str

    def renew(self) -> None:
        """Move the lease's end to now + its length; raises `StoreError` when the store cannot be written."""

    def valid(self) -> bool:
        """Whether the lease holds at this instant, by a clock that counts suspension of the machine or process."""

    def remaining_s(self) -> float:
        """Seconds until the lease ends; negative when it has."""

    def drain(self) -> None:
        """Record durably that SIGTERM was received."""

    def close(self) -> None:
        """Give the lease back: what it owns is free at once."""


class Store(Protocol):
    """What keeps the journals. Opened by its constructor's `open()`, used by one process and one event loop."""

    url: str
    durability: Durability
    shared: bool
    """Whether other processes may write to it (then changes must be polled)."""

    @property
    def sync_s(self) -> float:
        """How long, lately, a commit had to wait for the disk, in seconds (a moving average)."""

    async def open(self) -> None:
        """Open or create it; migrate its schema. Raises `NotAStoreError`, `StoreVersionError`, `StoreCorruptError`,
        `StoreWriteError`."""

    async def close(self) -> None:
        """Close it; a second call does nothing."""

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """Commit a batch in one transaction and say for each append what became of it.

        Args:
            batch: in order; appends for one run may follow one another.
            in_place: the caller's loop has nothing else to do, so the commit may block it; a store answers later
                (an awaitable) when it is asked not to block, or when it would have to wait for another process.

        Raises:
            StoreWriteError, StoreBusyError, OutcomeUnknownError: nothing, or not surely anything, of the batch was
                committed; whoever appended must recover from the store.
        """

    async def read(self, run_id: str, *, after: int = 0, until: int | None = None, limit: int = 100_000) -> list[Event]:
        """Committed events with `after < seq <= until`, in order; raises `CorruptRecordError` for unreadable rows."""

    async def read_feed(self, *, after: int = 0, limit: int = 1000) -> list[FeedEntry]:
        """Events of all runs in commit order with `position > after`."""

    async def feed_position(self) -> int:
        """The newest position, 0 when empty."""

    async def changed_runs(self, *, after: int) -> tuple[int, dict[str, int]]:
        """The newest position, and the runs that grew after `after` with their newest seq; cheap when nothing did."""

    async def head(self, run_id: str) -> Head | None:
        """The head of a journal; `None` if there is no such run."""

    async def get_run(self, run_id: str) -> RunRow | None:
        """The index row of a run."""

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """Index rows, newest first."""

    async def count_runs(self) -> dict[str, int]:
        """How many runs there are, by status."""

    async def open_waits(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> list[OpenWait]:
        """Open waits, oldest first. `key` matches waits with that key or with none."""

    async def get_artifact(self, sha256: str) -> bytes:
        """The bytes; raises `ArtifactNotFoundError`, or `CorruptRecordError` when they do not match their name."""

    async def artifact_info(self, sha256s: Iterable[str]) -> list[ArtifactInfo]:
        """Size and media type of those that exist."""

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """Register a worker and give it its lease."""

    async def workers(self) -> list[WorkerRow]:
        """The workers that are registered, with whether they live."""

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """Take ownership of due runs (`due_ms <= now_ms`) of these workflows whose owner is nobody or gone; oldest due
        first. The epoch of each grows by one. Runs whose caller owns the loop are left out."""

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """Take ownership of one run whatever its workflow, due time and caller; `None` while another live worker owns
        it (with `steal`, even then)."""

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """Let go of runs that this lease owns."""

    async def next_due_ms(self, workflows: Sequence[str]) -> int | None:
        """The earliest `due_ms` of an unowned (or orphaned) run of these workflows; `None` when there is none."""

    async def integrity(self) -> list[str]:
        """What is wrong with the store as such (page checks, missing indexes); empty when nothing is."""

    async def compact(self) -> None:
        """Bring the store's files into rest (for SQLite: checkpoint the WAL)."""


StoreFactory = Callable[[], Store]
