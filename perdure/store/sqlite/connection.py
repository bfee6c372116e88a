"""Opening connections to the file, and what SQLite's errors mean here.

Only `apsw` touches the file, never the standard library's SQLite: two copies of SQLite in one process break each
other's locks.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final
from urllib.parse import quote

import apsw
import orjson

from perdure.core.errors import (
    OutcomeUnknownError,
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreReadError,
    StoreReadOnlyError,
    StoreUrlError,
    StoreWriteError,
)
from perdure.store.port import Durability

# What a call into SQLite can end in besides a result. Text that is no UTF-8 or no JSON was damaged on the disk.
Failure = apsw.Error | OSError | UnicodeDecodeError | orjson.JSONDecodeError
FAILURES: Final = (apsw.Error, OSError, UnicodeDecodeError, orjson.JSONDecodeError)
# Values that no column can hold: text that is no Unicode, numbers over 64 bits.
BAD_VALUES: Final = (OverflowError, UnicodeEncodeError)
_DAMAGE: Final = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError, orjson.JSONDecodeError)

_BAD_PATH: Final = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)

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


def check_path(path: str) -> None:
    """Refuse a path that is a directory; raises `StoreUrlError`."""
    if os.path.isdir(path):
        raise StoreUrlError(f"{path} is a directory", hint=f"name a file: sqlite:///{quote(path)}/runs.db", path=path)


def opening_error(error: Failure, path: str) -> StoreError:
    """The typed error for a store that cannot be opened or made: its path is wrong, it may only be read, or the disk
    fails."""
    if isinstance(error, OSError) and error.errno in _BAD_PATH:
        return StoreUrlError(f"no store can be made at {path}: {error.strerror}", path=path)
    if isinstance(error, (apsw.CantOpenError, apsw.ReadOnlyError, OSError)) and _may_only_be_read(path):
        return StoreReadOnlyError(f"{path} may only be read", path=path)
    return write_error(error, f"opening {path}")


def _may_only_be_read(path: str) -> bool:
    """Whether the file, or the directory in which SQLite needs files beside it, cannot be written."""
    places = [os.path.dirname(path), *([path] if os.path.exists(path) else [])]
    return not all(os.access(place, os.W_OK) for place in places)


def write_error(error: Failure, doing: str) -> StoreError:
    """The typed error for a failed write that surely did not happen."""
    if isinstance(error, _DAMAGE):
        return StoreCorruptError(f"the store's file is damaged ({doing}: {error})")
    if isinstance(error, apsw.ReadOnlyError):
        return StoreReadOnlyError(f"the store's file may only be read ({doing}: {_describe(error)})")
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
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f" ({error.filename})" if error.filename is not None else "")
    code = getattr(error, "extendedresult", 0)
    name = apsw.mapping_extended_result_codes.get(code) or apsw.mapping_result_codes.get(code & 0xFF)
    return f"{error} ({name})" if name is not None else str(error)
