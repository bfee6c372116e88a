"""The embedded store: one SQLite file, its write-ahead log, and a few lock files beside it."""

from perdure.store.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
