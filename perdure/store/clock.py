"""The clock that leases are measured on: milliseconds since the machine started, suspension included."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

BootClock = Callable[[], int]


def boot_time_ms() -> int:
    """Milliseconds since the machine started; it goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@functools.cache
def boot_id() -> str:
    """Names the machine's present start; boot times of different starts cannot be compared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
