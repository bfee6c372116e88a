"""Which SQLite is in use: the one that `apsw` carries, not the standard library's."""

from __future__ import annotations

import apsw


def sqlite_version() -> str:
    """Its version, for example `3.51.3`."""
    return apsw.sqlite_lib_version()
