"""One write at a time on the store's write connection: on the caller's thread when that is free, else on a thread.

Order is kept: while a write is under way or queued on the thread, later ones queue behind it.

A commit that fails half way leaves frames in the write-ahead log that count only if the index of the log is made
anew. So the connection is opened again and one small commit is made over them: then it is certain that the failed one
never happened (`StoreWriteError`). Only when that fails too is the outcome unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from perdure.core.errors import (
    InputError,
    OutcomeUnknownError,
    PerdureError,
    StoreBusyError,
    StoreClosedError,
    StoreError,
)
from perdure.store.sqlite.connection import BAD_VALUES, FAILURES, commit_error, leak, write_error
from perdure.store.sqlite.gate import Gate
from perdure.store.sqlite.queries import query
from perdure.store.sqlite.session import BEGIN, COMMIT, CommitFailedError, Session

T = TypeVar("T")
Job = Callable[[Session], T]

RETRY_S: Final = 0.005


class NotNowError(Exception):
    """The write would have to wait; nothing happened."""


class Commits:
    """Runs jobs that write; each does its own `BEGIN IMMEDIATE` and `COMMIT`.

    Args:
        connect: opens the write connection.
        gate: the turn between threads and processes.
        busy_s: how long a write on the thread waits for others.

    Attributes:
        failures: how many writes could not be done.
        failure: the error of the newest one of them.
    """

    def __init__(self, connect: Callable[[], apsw.Connection], gate: Gate, busy_s: float) -> None:
        self._connect = connect
        self._gate = gate
        self._busy_s = busy_s
        self._session: Session | None = None
        self._unsettled = False
        self._thread: threading.Thread | None = None
        self._wake = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._closing = False
        self.failures = 0
        self.failure: StoreError | None = None

    @property
    def sync_s(self) -> float:
        """How long, lately, a commit had to wait for the disk, in seconds."""
        return self._session.sync_s if self._session is not None else 0.0

    def now(self, job: Job[T]) -> T:
        """Run a job on this thread; raises `NotNowError` when it would have to wait for somebody."""
        gate = self._gate
        if self._queue or not gate.try_take():
            raise NotNowError
        try:
            return self._run(job)
        except apsw.BusyError:
            raise NotNowError from None
        finally:
            gate.give_back()

    def later(self, job: Job[T]) -> asyncio.Future[T]:
        """Run a job on the store's thread, behind those that wait there already."""
        if self._closing:
            raise StoreClosedError("the store is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._wake:
            self._queue.append(_Queued(job, loop, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="perdure-store-writer", daemon=True)
                self._thread.start()
            self._wake.notify()
        return future

    async def run(self, job: Job[T]) -> T:
        """Run a job here if that is possible at once, else on the thread."""
        try:
            return self.now(job)
        except NotNowError:
            return await self.later(job)

    def blocking(self, job: Job[T]) -> T:
        """Run a job on this thread and wait for the turn as long as it takes (bounded); not for a running loop."""
        deadline_s = time.monotonic() + self._busy_s
        while True:
            with self._gate.turn(deadline_s - time.monotonic()):
                try:
                    return self._run(job)
                except apsw.BusyError as error:
                    # Another program than Perdure holds SQLite's lock: all that can be done is to ask again.
                    if time.monotonic() + RETRY_S > deadline_s:
                        raise StoreBusyError(f"another program held the write lock for {self._busy_s:g} s") from error
            time.sleep(RETRY_S)

    def close(self) -> None:
        """End the thread when its queue is empty, and close the connection."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._drop()

    def forked(self) -> None:
        """In a forked child: leave the parent's connection alone."""
        session, self._session = self._session, None
        if session is not None:
            leak(session.connection)

    # --- under the turn -----------------------------------------------------------------------------------------------

    def _run(self, job: Job[T]) -> T:
        try:
            session = self._session or self._reopen()
            try:
                return job(session)
            except CommitFailedError as failed:
                self._unsettled = True
                raise self._settled(failed) from failed.error
            except (apsw.BusyError, PerdureError):
                session.rollback()
                raise
            except BAD_VALUES as error:
                session.rollback()
                raise InputError(f"the store cannot be told this: {error}") from error
            except FAILURES as error:
                self._drop()
                raise write_error(error, "a write to the store") from error
            except BaseException:
                self._drop()
                raise
        except StoreError as error:
            self.failures += 1
            self.failure = error
            raise

    def _reopen(self) -> Session:
        try:
            session = Session(self._connect())
            try:
                self._settle(session)
            except BaseException:
                session.connection.close(True)
                raise
        except apsw.BusyError:
            raise
        except FAILURES as error:
            raise write_error(error, "opening the store again") from error
        self._session = session
        return session

    def _settle(self, session: Session) -> None:
        if self._unsettled:
            session.execute(BEGIN)
            session.execute(query("settle"))
            session.execute(COMMIT)
            self._unsettled = False

    def _settled(self, failed: CommitFailedError) -> StoreError:
        """The error to raise for a commit that failed, after the attempt to make its outcome certain."""
        self._drop()
        try:
            session = self._reopen()
            if failed.first is None:
                return write_error(failed.error, "a commit")
            number, seq, header = failed.first
            found = session.execute(query("event_header"), (number, seq)).fetchone()
        except (*FAILURES, StoreError):
            return commit_error(failed.error, "a commit")
        if found is not None and found[0] == header:
            return OutcomeUnknownError("a commit was reported as failed but is in the store")
        return write_error(failed.error, "a commit")

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(*FAILURES):
                session.connection.close(True)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
            # It stays at the front until it is done: the queue is what tells `now` to stand behind it.
            queued = self._queue[0]
            try:
                result = self.blocking(queued.job)
            except BaseException as error:
                self._queue.popleft()
                queued.fail(error)
            else:
                self._queue.popleft()
                queued.succeed(result)


class _Queued:
    __slots__ = ("_future", "_loop", "job")

    def __init__(self, job: Job[T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
        self.job: Job[object] = job
        self._loop = loop
        self._future: asyncio.Future[object] = future  # type: ignore[assignment]

    def succeed(self, result: object) -> None:
        self._tell(lambda: None if self._future.done() else self._future.set_result(result))

    def fail(self, error: BaseException) -> None:
        self._tell(lambda: None if self._future.done() else self._future.set_exception(error))

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop that asked is closed; nobody waits any more
            self._loop.call_soon_threadsafe(callback)
