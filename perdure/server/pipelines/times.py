"""Instants as the `/pipelines` routes write them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(time_ms: int) -> str:
    """An instant in ISO 8601, in UTC, to the millisecond.

    Args:
        time_ms: milliseconds since 1970.
    """
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
