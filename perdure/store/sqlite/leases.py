"""Leases of workers: a row, and a lock of the operating system that dies with the process."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import Any

import orjson

from perdure.core.errors import StoreClosedError, StoreWriteError
from perdure.store.clock import BootClock, boot_id
from perdure.store.port import WorkerRow
from perdure.store.sqlite.commits import Commits
from perdure.store.sqlite.queries import query
from perdure.store.sqlite.session import BEGIN, Session


class WorkerLocks:
    """The lock files of the workers on one database: `<path>.workers/<worker id>.lock`.

    A worker holds its own exclusively for as long as its process lives. Whoever wants to know whether it lives tries a
    shared lock: several can look at once without mistaking each other for the worker.
    """

    def __init__(self, path: str) -> None:
        self._directory = Path(f"{path}.workers")

    def hold(self, worker_id: str) -> int:
        """Take a worker's lock; returns the descriptor that holds it."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        file = self._file(worker_id)
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                if _same_file(descriptor, file):
                    return descriptor
            except BlockingIOError:
                if not self.is_free(worker_id):
                    os.close(descriptor)
                    raise
            os.close(descriptor)

    def is_free(self, worker_id: str) -> bool:
        """Whether the worker's process is certainly dead; false when there is no lock file to tell by, or none that may
        be read."""
        try:
            descriptor = os.open(self._file(worker_id), os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            return False
        try:
            flock(descriptor, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)

    def remove(self, worker_ids: Iterable[str]) -> None:
        """Remove the lock files of workers that are forgotten."""
        for worker_id in worker_ids:
            self._file(worker_id).unlink(missing_ok=True)

    def _file(self, worker_id: str) -> Path:
        return self._directory / f"{worker_id}.lock"


class SQLiteLease:
    """The lease of a worker on an SQLite file; see `Lease`.

    Args:
        row: as it was registered.
        length_ms: of the lease.
        lock: the descriptor that holds the worker's lock file.
        locks: where the lock files are.
        clock: boot time in milliseconds.
        commits: how the heartbeat's thread writes: its own connection, under the same gate.
        when_closed: told when it is given back or abandoned.
    """

    def __init__(
        self,
        row: WorkerRow,
        length_ms: int,
        lock: int,
        locks: WorkerLocks,
        clock: BootClock,
        commits: Commits,
        when_closed: Callable[[SQLiteLease], None],
    ) -> None:
        self.worker_id = row.worker_id
        self._row = row
        self._length_ms = length_ms
        self._lock: int | None = lock
        self._locks = locks
        self._clock = clock
        self._commits = commits
        self._when_closed = when_closed
        self._using = threading.RLock()

    def renew(self) -> None:
        """See `Lease.renew`."""
        # The end is taken before the write and believed in after it, so nobody reads an earlier end than we trust in.
        self._write(replace(self._row, lease_end_ms=self._clock() + self._length_ms))

    def drain(self) -> None:
        """See `Lease.drain`."""
        self._write(replace(self._row, draining=True))

    def valid(self) -> bool:
        """See `Lease.valid`."""
        return self._lock is not None and self._clock() < self._row.lease_end_ms

    def remaining_s(self) -> float:
        """See `Lease.remaining_s`."""
        return (self._row.lease_end_ms - self._clock()) / 1000 if self._lock is not None else -1.0

    def close(self) -> None:
        """See `Lease.close`."""
        with self._using:
            if self._lock is None:
                return
            try:
                self._commits.blocking(lambda session: _give_back(session, self.worker_id))
                self._locks.remove([self.worker_id])
            finally:
                self.abandon()

    def abandon(self) -> None:
        """Let go of the lock without giving anything back, as the death of the process does."""
        with self._using:
            lock, self._lock = self._lock, None
            if lock is not None:
                os.close(lock)
                self._commits.close()
                self._when_closed(self)

    def forked(self) -> None:
        """In a forked child: close the copy of the lock's descriptor, so that the lock dies with the parent."""
        self._commits.forked()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _write(self, row: WorkerRow) -> None:
        with self._using:
            if self._lock is None:
                raise StoreClosedError(f"the lease of worker {self.worker_id} is closed", worker_id=self.worker_id)
            self._commits.blocking(lambda session: write_worker(session, row))
            self._row = row


def new_worker_row(worker_id: str, workflows: Sequence[str], lease_end_ms: int) -> WorkerRow:
    """The row of a worker in this process."""
    return WorkerRow(
        worker_id,
        socket.gethostname(),
        os.getpid(),
        boot_id(),
        lease_end_ms,
        time.time_ns() // 1_000_000,
        workflows=tuple(workflows),
    )


def write_worker(session: Session, row: WorkerRow) -> None:
    """Write a worker's row, in a transaction of its own."""
    session.execute(BEGIN)
    session.execute(
        query("worker_register"),
        (
            row.worker_id,
            row.host,
            row.pid,
            row.boot_id,
            row.lease_end_ms,
            row.started_ms,
            int(row.draining),
            orjson.dumps(row.workflows).decode(),
        ),
    )
    session.commit()


def register(session: Session, row: WorkerRow) -> None:
    """Write the row of a new worker; raises `StoreWriteError` when its id was used before and still owns runs."""
    session.execute(BEGIN)
    if session.execute(query("worker_owns"), (row.worker_id,)).fetchone() is not None:
        session.rollback()
        raise StoreWriteError(
            f"an earlier worker of the name {row.worker_id} still owns runs",
            hint="give every worker process an id of its own; others take over what a dead one owned",
            worker_id=row.worker_id,
        )
    session.rollback()
    write_worker(session, row)


def worker_rows(rows: Iterable[tuple[Any, ...]]) -> list[WorkerRow]:
    """Rows of `worker_list`."""
    return [
        WorkerRow(worker_id, host, pid, boot, lease_end_ms, started_ms, bool(draining), tuple(orjson.loads(workflows)))
        for worker_id, host, pid, boot, lease_end_ms, started_ms, draining, workflows in rows
    ]


def _give_back(session: Session, worker_id: str) -> None:
    session.execute(BEGIN)
    session.execute(query("run_release_all"), (worker_id,))
    session.execute(query("worker_forget"), (worker_id,))
    session.commit()


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)


def hold_lock(locks: WorkerLocks, worker_id: str) -> int:
    """Take a new worker's lock; raises `StoreWriteError` when another worker has this id."""
    try:
        return locks.hold(worker_id)
    except BlockingIOError as error:
        raise StoreWriteError(f"worker {worker_id} is running already", worker_id=worker_id) from error
    except OSError as error:
        raise StoreWriteError(f"the lock file of worker {worker_id} cannot be made: {error}") from error
