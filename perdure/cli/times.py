"""Times and durations in few characters."""

from __future__ import annotations

import time
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def span(duration_ms: float) -> str:
    """A duration in its two largest units: `350ms`, `4.2s`, `12s`, `5m30s`, `3d2h`."""
    if duration_ms < 1000:
        return f"{max(0, round(duration_ms))}ms"
    if duration_ms < 10_000:
        return f"{duration_ms / 1000:.1f}s"
    left_s = round(duration_ms / 1000)
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left_s = divmod(left_s, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2])


def instant(time_ms: int) -> str:
    """An instant in local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))


def until(time_ms: int, at_ms: int) -> str:
    """How far an instant is away: `in 5m` or `5m ago`."""
    distance_ms = time_ms - at_ms
    return f"in {span(distance_ms)}" if distance_ms > 0 else f"{span(-distance_ms)} ago"
