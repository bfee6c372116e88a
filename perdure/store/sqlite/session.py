"""The write connection and its transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw

from perdure.core.events import Head

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"


class CommitFailedError(Exception):
    """The commit itself failed; what became of it must be found out. `first` is one of its events, if it had any."""

    def __init__(self, error: apsw.Error, first: tuple[int, int, bytes] | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.first = first


class Session:
    """The write connection, with what it knows for certain of the heads of runs."""

    __slots__ = ("connection", "cursor", "execute", "executemany", "heads")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.execute: Callable[..., apsw.Cursor] = self.cursor.execute
        self.executemany: Callable[..., apsw.Cursor] = self.cursor.executemany
        self.heads: dict[str, tuple[int, Head]] = {}

    def commit(self, first: tuple[int, int, bytes] | None = None) -> None:
        """End the transaction; raises `CommitFailedError` when it is not known to be durable."""
        try:
            self.execute(COMMIT)
        except apsw.Error as error:
            raise CommitFailedError(error, first) from error

    def rollback(self) -> None:
        """Undo the open transaction, if there is one."""
        if self.connection.in_transaction:
            self.execute(ROLLBACK)
