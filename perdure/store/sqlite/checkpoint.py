"""Moving the write-ahead log into the database, outside of every commit.

A thread with a connection of its own copies pages while others read and write (`PASSIVE`). The log starts anew when
all of it is copied and nobody reads from it, which never happens while one commit follows another without a pause.
When the log has grown over its bound for that reason, the thread takes the turn like any writer, copies the few pages
that came in since, and lets the log start anew (`RESTART`), once and with a short time limit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import apsw

from perdure.core.errors import StoreBusyError
from perdure.store.sqlite.gate import Gate

PASSIVE_PAGES: Final = 1024
RESTART_PAGES: Final = 16 * 1024
WAIT_FOR_READERS_MS: Final = 200
TURN_WAIT_S: Final = 1.0


class Checkpointer:
    """Copies the log when enough was written since the last time.

    Args:
        connect: opens a connection for it.
        gate: the turn to write, taken only when the log has grown over its bound.
    """

    def __init__(self, connect: Callable[[], apsw.Connection], gate: Gate) -> None:
        self._connect = connect
        self._gate = gate
        self._wanted = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._last = 0
        self._written = 0
        self.restarts = 0

    def committed(self, _connection: apsw.Connection, _database: str, log_pages: int) -> int:
        """The write connection's hook: the log holds so many pages now."""
        grown = log_pages - self._last
        self._last = log_pages
        # A smaller number says that the log has started anew.
        self._written += grown if grown > 0 else log_pages
        if self._written >= PASSIVE_PAGES:
            self._written = 0
            self._want()
        return 0

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _want(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._work, name="perdure-store-checkpoint", daemon=True)
            self._thread.start()
        self._wanted.set()

    def _work(self) -> None:
        connection: apsw.Connection | None = None
        bound = RESTART_PAGES
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closing:
                break
            try:
                connection = connection or self._connect()
                log_pages, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                if log_pages >= bound:
                    restarted = self._between_commits(connection, apsw.SQLITE_CHECKPOINT_RESTART)
                    self.restarts += restarted
                    bound = RESTART_PAGES if restarted else log_pages + RESTART_PAGES // 4
            except apsw.Error:
                # The log only grows; whoever commits hears of a broken disk by itself.
                if connection is not None:
                    connection.close(True)
                connection = None
        if connection is not None:
            connection.close(True)

    def empty(self) -> bool:
        """Copy all of the log and cut its file to nothing; whether readers and writers let it."""
        connection = self._connect()
        try:
            return self._between_commits(connection, apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close(True)

    def _between_commits(self, connection: apsw.Connection, mode: int) -> bool:
        connection.set_busy_timeout(WAIT_FOR_READERS_MS)
        try:
            with self._gate.turn(TURN_WAIT_S):
                connection.wal_checkpoint(mode=mode)
        except (apsw.BusyError, StoreBusyError):
            return False
        return True
