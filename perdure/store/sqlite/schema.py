"""The schema of the file: what it is known by, and how it is brought up to date.

Each file in `migrations/` is applied once, in order of its number, all of them in one transaction; its checksum is
kept, so that a changed one is noticed.
"""

from __future__ import annotations

import hashlib
import time
from importlib.resources import files
from typing import Final, NamedTuple

import apsw

from perdure.core.errors import NotAStoreError, StoreVersionError

APPLICATION_ID: Final = 0x50_45_52_44  # "PERD"

_LEDGER: Final = (
    "CREATE TABLE IF NOT EXISTS migrations ("
    "version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_ms INTEGER NOT NULL) STRICT"
)


class Migration(NamedTuple):
    """A numbered change of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of its text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """All that this version of Perdure has, in order."""
    found = []
    for file in (files(__package__) / "migrations").iterdir():
        number, _, rest = file.name.partition("_")
        if file.name.endswith(".sql"):
            found.append(Migration(int(number), rest.removesuffix(".sql"), file.read_text(encoding="utf-8")))
    return sorted(found)


def is_current(connection: apsw.Connection, path: str, migrations: list[Migration]) -> bool:
    """Look at the file without changing it.

    Returns:
        Whether its schema is up to date; false for an empty file.

    Raises:
        NotAStoreError: it is something else.
        StoreVersionError: it is newer than this version of Perdure, or was made by changed migrations.
    """
    application_id = connection.pragma("application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id == 0 and tables == (0,):
        return False
    if application_id != APPLICATION_ID:
        raise NotAStoreError(f"{path} is a database of something else", path=path)
    applied = connection.execute("SELECT version, name, checksum FROM migrations ORDER BY version").fetchall()
    for (version, name, checksum), migration in zip(applied, migrations, strict=False):
        if (version, checksum) != (migration.version, migration.checksum):
            raise StoreVersionError(
                f"{path} was made with another form of migration {version} ({name})", path=path, version=version
            )
    if len(applied) > len(migrations):
        raise StoreVersionError(
            f"{path} has schema version {applied[-1][0]}, this Perdure knows {migrations[-1].version}", path=path
        )
    return len(applied) == len(migrations)


def migrate(connection: apsw.Connection, path: str, migrations: list[Migration]) -> None:
    """Bring the schema up to date; the caller has the turn to write."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_current(connection, path, migrations):
            _apply_missing(connection, migrations)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _apply_missing(connection: apsw.Connection, migrations: list[Migration]) -> None:
    connection.pragma("application_id", APPLICATION_ID)
    connection.execute(_LEDGER)
    applied = {version for (version,) in connection.execute("SELECT version FROM migrations")}
    for migration in migrations:
        if migration.version not in applied:
            connection.execute(migration.sql)
            connection.execute(
                "INSERT INTO migrations (version, name, checksum, applied_ms) VALUES (?, ?, ?, ?)",
                (migration.version, migration.name, migration.checksum, time.time_ns() // 1_000_000),
            )
    connection.pragma("user_version", migrations[-1].version)
