"""The floor: what the disk gives to anyone who commits one row at a time.

The same SQLite that Perdure uses (apsw's), WAL, `synchronous=FULL`, one small row inserted per transaction, no more.
"""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from benchmarks.peers import Outcome

ROW_BYTES = 200


class Adapter:
    async def chain(self, directory: Path, steps: int, carried_bytes: int = 0) -> Outcome:
        connection = apsw.Connection(str(directory / "floor.db"))
        journal = connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        body = b"x" * ROW_BYTES
        marks: list[float] = []
        began = time.perf_counter()
        for number in range(steps):
            connection.execute("INSERT INTO row VALUES (?, ?)", (number, body))
        seconds = time.perf_counter() - began
        settings = {
            "SQLite": apsw.sqlite_lib_version(),
            "journal_mode": str(journal),
            "synchronous": str(connection.pragma("synchronous")),
        }
        connection.close()
        return Outcome(seconds, steps, marks, settings)
