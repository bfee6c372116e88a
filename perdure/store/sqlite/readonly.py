"""A store that may only be read: on a read-only medium, in a directory or file that others own.

SQLite's write-ahead log wants a shared index beside the file even of those who only read, so there are three ways in.
*As usual*, where that index is there or can be made. *Immutable*, where there is no log: nobody has the store open, or
it was closed in order. *Alone*, with the index of the log in memory, where there is a log and no index can be made:
without locks, so for a medium on which nobody can write.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Final, NoReturn, TypeVar
from urllib.parse import quote

import apsw

from perdure.core.errors import StoreError, StoreReadOnlyError, StoreVersionError
from perdure.store.port import Append, Outcome
from perdure.store.sqlite.commits import Job
from perdure.store.sqlite.connection import FAILURES, READ_CACHE_KIB, read_error
from perdure.store.sqlite.reads import Reader, problems_of
from perdure.store.sqlite.schema import is_current, known_migrations
from perdure.store.sqlite.store import SQLiteStore

T = TypeVar("T")

NO_LOCKS: Final = "unix-none"
"""A VFS of SQLite that takes no locks."""
NO_WAY_IN: Final = (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.IOError)


class ReadOnlySQLiteStore(SQLiteStore):
    """Runs in an SQLite file, to look at them: nothing is made or changed, and every write is refused.

    `open()` raises `StoreVersionError` for a store of an older version of Perdure: only a writer brings it up to date.
    """

    @property
    def sync_s(self) -> float:
        """See `Store.sync_s`; nothing is ever committed."""
        return 0.0

    @property
    def failure(self) -> StoreError | None:
        """The error of the newest read that failed."""
        return self._reader.failure

    @property
    def failures(self) -> int:
        """How many reads have failed since the store was opened."""
        return self._reader.failures

    def forked(self) -> None:
        """See the base class."""
        self._mark_forked()
        self._reader.forked()

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`; always refused."""
        self._refuse()

    async def compact(self) -> None:
        """See `Store.compact`; always refused."""
        self._refuse()

    async def _write(self, job: Job[T]) -> T:
        self._refuse()

    def _refuse(self) -> NoReturn:
        self._check_usable()
        raise StoreReadOnlyError(f"the store {self.path} was opened only to be read", path=self.path)

    def _prepare(self) -> None:
        connection = self._connect_reader()
        try:
            if not is_current(connection, self.path, known_migrations()):
                raise StoreVersionError(
                    f"{self.path} was made by an older version of Perdure and cannot be brought up to date",
                    hint="copy it to a place where it can be written",
                    path=self.path,
                )
        finally:
            connection.close()

    def _equip(self) -> None:
        self._reader = Reader(self._connect_reader)

    def _unequip(self) -> None:
        self._reader.close()

    def _close(self) -> None:
        self._reader.close()

    def _connect_reader(self) -> apsw.Connection:
        ways: list[Callable[[str], apsw.Connection]] = [_as_usual, _alone if _has_log(self.path) else _immutable]
        failure: Exception | None = None
        for way in ways:
            try:
                return way(self.path)
            except NO_WAY_IN as error:
                failure = failure or error
        assert failure is not None
        raise failure


def integrity_of(path: str) -> list[str]:
    """What is wrong with a file that cannot be opened as a store, as far as that can be read."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    except FAILURES as error:
        return [read_error(error, f"opening {path}").message]
    with closing(connection):
        return problems_of(connection)


def _as_usual(path: str) -> apsw.Connection:
    return _probed(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY))


def _immutable(path: str) -> apsw.Connection:
    url = f"file:{quote(path)}?immutable=1"
    return _probed(apsw.Connection(url, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI))


def _alone(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=NO_LOCKS)
    connection.pragma("locking_mode", "exclusive")
    return _probed(connection)


def _probed(connection: apsw.Connection) -> apsw.Connection:
    """A connection on which a read succeeded; one that fails is closed."""
    try:
        connection.pragma("busy_timeout", 5000)
        connection.pragma("cache_size", -READ_CACHE_KIB)
        connection.pragma("trusted_schema", False)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except BaseException:
        connection.close(True)
        raise
    return connection


def _has_log(path: str) -> bool:
    try:
        return os.stat(f"{path}-wal").st_size > 0
    except FileNotFoundError:
        return False
