"""The embedded store on one SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import apsw

from perdure.core.errors import (
    ForkedProcessError,
    NotAStoreError,
    StoreClosedError,
    StoreError,
    StoreUrlError,
)
from perdure.core.events import Event, Head
from perdure.core.ids import check_run_id
from perdure.store.clock import BootClock, boot_time_ms
from perdure.store.port import (
    Append,
    ArtifactInfo,
    Claimed,
    Durability,
    FeedEntry,
    Lease,
    OpenWait,
    Outcome,
    RunFilter,
    RunRow,
    WorkerRow,
)
from perdure.store.sqlite.append import commit_batch
from perdure.store.sqlite.checkpoint import Checkpointer
from perdure.store.sqlite.claims import Ownership, release
from perdure.store.sqlite.commits import Commits, Job, NotNowError
from perdure.store.sqlite.connection import (
    FAILURES,
    READ_CACHE_KIB,
    WRITE_CACHE_KIB,
    check_path,
    connect,
    opening_error,
    write_error,
)
from perdure.store.sqlite.gate import Gate
from perdure.store.sqlite.leases import SQLiteLease, WorkerLocks, hold_lock, new_worker_row, register
from perdure.store.sqlite.reads import Reader
from perdure.store.sqlite.schema import is_current, known_migrations, migrate

T = TypeVar("T")

SMALL_CACHE_KIB: Final = 1024
DEFAULT_DIRECTORY: Final = ".perdure"
"""Where a store lies that nobody named."""


class SQLiteStore:
    """Runs in one SQLite file, shared by any number of processes of one machine.

    Args:
        path: of the file; it and its directory are made when they do not exist.
        durability: `full` (an acknowledged append survives a power cut) or `process` (it survives the end of the
            process; a power cut takes the newest commits and leaves a sound file).
        vfs: name of a registered SQLite VFS, for tests of faults.
        boot_clock: milliseconds on a clock that counts suspension; leases are measured on it.
        busy_s: how long a write waits for other processes before `StoreBusyError`, in seconds.
    """

    shared: bool = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        vfs: str | None = None,
        boot_clock: BootClock = boot_time_ms,
        busy_s: float = 30.0,
    ) -> None:
        if durability not in ("full", "process"):
            raise StoreUrlError(f"a SQLite store has durability 'full' or 'process', not {durability!r}")
        self.path: Final = os.path.abspath(path)
        self.url: str = f"sqlite:///{quote(self.path)}"
        self.durability: Durability = durability
        self._vfs = vfs
        self._clock = boot_clock
        self._busy_s = busy_s
        self._locks = WorkerLocks(self.path)
        self._ownership = Ownership(self._locks, boot_clock)
        self._leases: set[SQLiteLease] = set()
        self._unusable: type[StoreClosedError] | type[ForkedProcessError] | None = StoreClosedError
        self._gate: Gate
        self._commits: Commits
        self._reader: Reader
        self._checkpointer: Checkpointer

    @property
    def sync_s(self) -> float:
        """See `Store.sync_s`."""
        return self._commits.sync_s

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """See `Store.open`."""
        if self._unusable is None:
            return
        _check_not_inherited(self.path)
        try:
            await asyncio.to_thread(self._prepare)
        except apsw.NotADBError as error:
            raise NotAStoreError(f"{self.path} is no database", path=self.path) from error
        except FAILURES as error:
            raise opening_error(error, self.path) from error
        self._equip()
        try:
            self._reader.rows("feed_position")
        except StoreError:
            self._unequip()
            raise
        self._unusable = None
        _open_stores.add(self)

    def _equip(self) -> None:
        self._reader = Reader(self._connect_reader)
        self._checkpointer = Checkpointer(self._connect_small, self._gate)
        self._commits = Commits(self._connect_writer, self._gate, self._busy_s)

    def _unequip(self) -> None:
        self._gate.close()

    def _prepare(self) -> None:
        """Make or migrate the file; a file that is something else is not touched, nor is anything beside it."""
        migrations = known_migrations()
        directory = os.path.dirname(self.path)
        current = False
        check_path(self.path)
        if _has_content(self.path):
            with closing(self._connect_small()) as connection:
                current = is_current(connection, self.path, migrations)
        else:
            if directory in make_directories(directory) and os.path.basename(directory) == DEFAULT_DIRECTORY:
                keep_out_of_git(directory)
        self._gate = Gate(self.path)
        if current:
            return
        try:
            with self._gate.turn(self._busy_s):
                make_file(self.path)
                with closing(self._connect_small()) as connection:
                    connection.pragma("journal_mode", "wal")
                    migrate(connection, self.path, migrations)
            sync_directory(directory)
        except BaseException:
            self._gate.close()
            raise

    async def close(self) -> None:
        """See `Store.close`."""
        if self._unusable is not None:
            return
        self._unusable = StoreClosedError
        _open_stores.discard(self)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for lease in list(self._leases):
            lease.abandon()
        self._commits.close()
        self._checkpointer.close()
        self._reader.close()
        self._gate.close()

    def _connect_writer(self) -> apsw.Connection:
        connection = connect(self.path, self.durability, self._vfs, cache_kib=WRITE_CACHE_KIB)
        connection.set_busy_timeout(0)  # the gate is what waits; a foreign program's lock is asked for again
        connection.set_wal_hook(self._checkpointer.committed)
        return connection

    def _connect_reader(self) -> apsw.Connection:
        return connect(self.path, self.durability, self._vfs, cache_kib=READ_CACHE_KIB)

    def _connect_small(self) -> apsw.Connection:
        return connect(self.path, self.durability, self._vfs, cache_kib=SMALL_CACHE_KIB)

    def _check_usable(self) -> None:
        if self._unusable is ForkedProcessError:
            raise ForkedProcessError("the store was opened before this process was forked", path=self.path)
        if self._unusable is not None:
            raise StoreClosedError("the store is not open", path=self.path)

    @property
    def failure(self) -> StoreError | None:
        """The error of the newest write that failed, else of the newest read."""
        return self._commits.failure or self._reader.failure

    @property
    def failures(self) -> int:
        """How many writes and reads have failed since the store was opened."""
        return self._commits.failures + self._reader.failures

    def _mark_forked(self) -> None:
        self._unusable = ForkedProcessError

    def forked(self) -> None:
        """In a forked child: refuse every further use, and keep no lock of the parent alive."""
        self._mark_forked()
        self._gate.forked()
        self._commits.forked()
        self._reader.forked()
        for lease in self._leases:
            lease.forked()

    # --- writing ------------------------------------------------------------------------------------------------------

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`."""
        if self._unusable is not None:
            self._check_usable()
        commits = self._commits
        if in_place:
            try:
                return commits.now(lambda session: commit_batch(session, batch))
            except NotNowError:
                pass
        return commits.later(lambda session: commit_batch(session, batch))

    async def _write(self, job: Job[T]) -> T:
        self._check_usable()
        return await self._commits.run(job)

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> Reader:
        if self._unusable is not None:
            self._check_usable()
        return self._reader

    async def read(self, run_id: str, *, after: int = 0, until: int | None = None, limit: int = 100_000) -> list[Event]:
        """See `Store.read`."""
        return self._read().events(run_id, after, until, limit)

    async def read_feed(self, *, after: int = 0, limit: int = 1000) -> list[FeedEntry]:
        """See `Store.read_feed`."""
        return self._read().feed(after, limit)

    async def feed_position(self) -> int:
        """See `Store.feed_position`."""
        return self._read().position()

    async def changed_runs(self, *, after: int) -> tuple[int, dict[str, int]]:
        """See `Store.changed_runs`."""
        return self._read().changed_runs(after)

    async def head(self, run_id: str) -> Head | None:
        """See `Store.head`."""
        return self._read().head(run_id)

    async def get_run(self, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        return self._read().run(run_id)

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        return self._read().runs(where)

    async def count_runs(self) -> dict[str, int]:
        """See `Store.count_runs`."""
        return self._read().counts()

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
        return self._read().waits(kind, name, key, run_id, limit)

    async def get_artifact(self, sha256: str) -> bytes:
        """See `Store.get_artifact`."""
        return self._read().artifact(sha256)

    async def artifact_info(self, sha256s: Iterable[str]) -> list[ArtifactInfo]:
        """See `Store.artifact_info`."""
        return self._read().artifact_infos(sha256s)

    # --- ownership ----------------------------------------------------------------------------------------------------

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """See `Store.lease`."""
        self._check_usable()
        check_run_id(worker_id)
        length_ms = round(length_s * 1000)
        await self._write(self._ownership.forget_dead)
        lock = hold_lock(self._locks, worker_id)
        try:
            row = new_worker_row(worker_id, workflows, self._clock() + length_ms)
            await self._write(lambda session: register(session, row))
        except BaseException:
            os.close(lock)
            raise
        commits = Commits(self._connect_writer, self._gate, self._busy_s)
        lease = SQLiteLease(row, length_ms, lock, self._locks, self._clock, commits, self._leases.discard)
        self._leases.add(lease)
        return lease

    async def workers(self) -> list[WorkerRow]:
        """See `Store.workers`."""
        reader = self._read()
        return reader.guarded(lambda: self._ownership.workers(reader.rows))

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """See `Store.claim`."""
        owner = lease.worker_id
        return await self._write(lambda session: self._ownership.claim(session, owner, workflows, now_ms, limit))

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """See `Store.claim_run`."""
        owner = lease.worker_id
        return await self._write(lambda session: self._ownership.claim_run(session, owner, run_id, steal))

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """See `Store.release`."""
        await self._write(lambda session: release(session, lease.worker_id, run_ids))

    async def next_due_ms(self, workflows: Sequence[str]) -> int | None:
        """See `Store.next_due_ms`."""
        reader = self._read()
        return reader.guarded(lambda: self._ownership.next_due_ms(reader.rows, workflows))

    # --- care ---------------------------------------------------------------------------------------------------------

    async def integrity(self) -> list[str]:
        """See `Store.integrity`."""
        return self._read().integrity()

    async def compact(self) -> None:
        """See `Store.compact`."""
        self._check_usable()
        try:
            await asyncio.to_thread(self._checkpointer.empty)
        except FAILURES as error:
            raise write_error(error, "a checkpoint") from error


_open_stores: weakref.WeakSet[SQLiteStore] = weakref.WeakSet()
# Files that were open when this process was forked: SQLite believes to this day that it holds the parent's locks on
# them, so not even a new connection is safe.
_inherited: set[str] = set()


def _after_fork() -> None:
    for store in list(_open_stores):
        store.forked()
        _inherited.add(os.path.realpath(store.path))
    _open_stores.clear()


os.register_at_fork(after_in_child=_after_fork)


def _check_not_inherited(path: str) -> None:
    if os.path.realpath(path) in _inherited:
        raise ForkedProcessError(
            f"{path} was open when this process was forked",
            hint="start the process anew (spawn) instead of forking it",
            path=path,
        )


def make_directories(directory: str) -> list[str]:
    """Make a directory and those above it, and sync each new entry up to the first directory that was there.

    Returns:
        Those that were made.
    """
    missing = []
    path = Path(directory)
    while not path.exists():
        missing.append(path)
        path = path.parent
    for new in reversed(missing):
        new.mkdir(mode=0o755, exist_ok=True)
        sync_directory(str(new.parent))
    return [str(new) for new in missing]


def keep_out_of_git(directory: str) -> None:
    """Let git ignore a directory that was made just now: runs are not to be committed by accident."""
    with contextlib.suppress(FileExistsError), open(os.path.join(directory, ".gitignore"), "x") as file:
        file.write("# Made by Perdure with this directory: runs are not to be committed by accident.\n*\n")


def make_file(path: str) -> None:
    """Make an empty file that only its owner may read, unless something is there.

    An existing database must never be opened and closed beside SQLite: closing any descriptor of a file drops all
    locks that the process holds on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def sync_directory(directory: str) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except FileNotFoundError:
        return False
