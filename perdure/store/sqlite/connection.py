"""Opening connections to the file, and what SQLite's errors mean here.

Only `apsw` touches the file, never the standard library's SQLite: two copies of SQLite in one process break each
other's locks.
"""

from __future__ import annotations

import ctypes
from typing import Final

import apsw
import orjson

from perdure.core.errors import (
    OutcomeUnknownError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreReadError,
    StoreWriteError,
)
from perdure.store.port import Durability

# What a call into SQLite can end in besides a result. Text that is no UTF-8 or no JSON was damaged on the disk.
Failure = apsw.Error | OSError | UnicodeDecodeError | orjson.JSONDecodeError
FAILURES: Final = (apsw.Error, OSError, UnicodeDecodeError, orjson.JSONDecodeError)
# Values that no column can hold: text that is no Unicode, numbers over 64 bits.
BAD_VALUES: Final = (OverflowError, UnicodeEncodeError)
_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError, orjson.JSONDecodeError)

WRITE_CACHE_KIB: Final = 16 * 1024
READ_CACHE_KIB: Final = 32 * 1024

# `full`: every commit is synced. `process`: commits are handed to the operating system; with NORMAL a power cut takes
# the newest of them and leaves a sound file, with OFF (barely faster) it could leave a broken one.
_SYNCHRONOUS: Final[dict[Durability, str]] = {"full": "FULL", "process": "NORMAL"}


def connect(path: str, durability: Durability, vfs: str | None, *, cache_kib: int) -> apsw.Connection:
    """Open a connection that leaves checkpoints to others.

    Args:
        path: of the database file, which is made if it does not exist.
        durability: `full` or `process`.
        vfs: name of a registered SQLite VFS; the default one if `None`.
        cache_kib: size of the page cache in KiB.
    """
    connection = apsw.Connection(path, vfs=vfs)
    try:
        connection.pragma("busy_timeout", 5000)
        connection.pragma("wal_autocheckpoint", 0)
        connection.pragma("synchronous", _SYNCHRONOUS[durability])
        connection.pragma("cache_size", -cache_kib)
        connection.pragma("trusted_schema", False)
    except BaseException:
        connection.close()
        raise
    return connection


def leak(connection: apsw.Connection | None) -> None:
    """In a forked child: see to it that an inherited connection is never closed, not even when the process ends.

    Closing it would act on the parent's files with what the child remembers of them from before the fork.
    """
    if connection is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def write_error(error: Failure, doing: str) -> StoreError:
    """The typed error for a failed write that surely did not happen."""
    if isinstance(error, _DAMAGE):
        return StoreCorruptError(f"the store's file is damaged ({doing}: {error})")
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return StoreBusyError(f"another program holds the store's write lock ({doing})")
    return StoreWriteError(f"{doing} failed: {_describe(error)}")


def commit_error(error: Failure, doing: str) -> StoreError:
    """The typed error for a commit that failed half way and could not be settled."""
    return OutcomeUnknownError(f"{doing} was not confirmed: {_describe(error)}")


def read_error(error: Failure, doing: str) -> StoreError:
    """The typed error for a failed read."""
    if isinstance(error, _DAMAGE):
        return StoreCorruptError(f"the store's file is damaged ({doing}: {error})")
    return StoreReadError(f"{doing} failed: {_describe(error)}")


def _describe(error: Failure) -> str:
    code = getattr(error, "extendedresult", 0)
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code & 0xFF)
    return f"{error} ({name})" if name is not None else str(error)
