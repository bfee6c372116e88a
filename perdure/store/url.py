"""Store URLs."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from perdure.core.errors import StoreUrlError
from perdure.store.port import Durability, Store

DEFAULT_URL: Final = "sqlite:///.perdure/runs.db"


def open_store(url: str = DEFAULT_URL, *, durability: Durability = "full", read_only: bool = False) -> Store:
    """The store that a URL names, ready for `await store.open()`.

    Args:
        url: `memory://`, `sqlite:///relative.db` or `sqlite:////absolute/path.db`; percent escapes are understood.
        durability: what an acknowledged append survives: `full` a power cut, `process` the end of the process.
            `memory://` has none whatever is asked.
        read_only: the store is only looked at, also where it cannot be written; every write is refused.

    Raises:
        StoreUrlError: the URL is something else.
    """
    told = without_credentials(url)
    if "://" not in url:
        raise StoreUrlError(f"{told!r} is no store URL", hint=f"write sqlite:///{told or 'path/to/file.db'}", url=told)
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise StoreUrlError(f"store URL {told!r} has a query or fragment; write '?' and '#' as %3F and %23", url=told)
    if parts.scheme == "memory":
        return _memory_store(url, parts.netloc + parts.path)
    if parts.scheme == "sqlite":
        return _sqlite_store(url, parts.netloc, unquote(parts.path), durability, read_only)
    raise StoreUrlError(f"there is no store for the scheme {parts.scheme!r}", url=told)


def without_credentials(url: str) -> str:
    """A URL as it may be shown: without what stands before the host."""
    scheme, mark, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def _memory_store(url: str, rest: str) -> Store:
    from perdure.store.memory import MemoryStore

    if rest not in ("", "/"):
        raise StoreUrlError(f"memory:// takes no path, got {without_credentials(url)!r}", url=without_credentials(url))
    return MemoryStore()


def _sqlite_store(url: str, host: str, path: str, durability: Durability, read_only: bool) -> Store:
    if host:
        told = without_credentials(url)
        hint = f"write three slashes: sqlite:///{host.rpartition('@')[2]}{path}"
        raise StoreUrlError(f"{told!r} names a host, not a file", hint=hint, url=told)
    if path.rpartition("/")[2] in ("", ".", "..") or "\0" in path:
        raise StoreUrlError(f"{url!r} names no file", url=url)
    if read_only:
        from perdure.store.sqlite.readonly import ReadOnlySQLiteStore

        return ReadOnlySQLiteStore(path[1:], durability=durability)
    from perdure.store.sqlite import SQLiteStore

    return SQLiteStore(path[1:], durability=durability)
