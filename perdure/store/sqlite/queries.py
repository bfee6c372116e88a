"""The statements of the SQLite store by name: each is a file in `sql/`."""

from __future__ import annotations

import functools
from importlib.resources import files


@functools.cache
def query(name: str) -> str:
    """The text of `sql/<name>.sql` without comments; always the same object, so that its compiled form is found."""
    text = (files(__package__) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("--"))
