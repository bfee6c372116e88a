"""The write connection and its transactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final

import apsw

from perdure.core.events import Head
from perdure.store.sqlite.connection import FAILURES, Failure
from perdure.store.sqlite.queries import query

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"


class CommitFailedError(Exception):
    """The commit itself failed; what became of it must be found out. `first` is one of its events, if it had any."""

    def __init__(self, error: Failure, first: tuple[int, int, bytes] | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.first = first


class Session:
    """The write connection, with what it knows for certain of the heads of runs."""

    __slots__ = ("connection", "cursor", "execute", "executemany", "heads", "sync_s")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.execute: Callable[..., apsw.Cursor] = self.cursor.execute
        self.executemany: Callable[..., apsw.Cursor] = self.cursor.executemany
        self.heads: dict[str, tuple[int, Head]] = {}
        self.sync_s = 0.0

    def rows(self, name: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a named query."""
        found: list[tuple[Any, ...]] = self.execute(query(name), bindings).fetchall()
        return found

    def commit(self, first: tuple[int, int, bytes] | None = None) -> None:
        """End the transaction; raises `CommitFailedError` when it is not known to be durable."""
        started_s = perf_counter()
        try:
            self.execute(COMMIT)
        except apsw.FullError:
            raise  # a log without room for the last frame of a commit does not hold the commit
        except FAILURES as error:
            raise CommitFailedError(error, first) from error
        self.sync_s += (perf_counter() - started_s - self.sync_s) * 0.125

    def rollback(self) -> None:
        """Undo the open transaction, if there is one."""
        if self.connection.in_transaction:
            self.execute(ROLLBACK)
