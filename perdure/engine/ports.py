"""Time and randomness as ports, so that the whole engine can run under a virtual clock and a seed."""

from __future__ import annotations

import asyncio
import os
import random as _random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

from perdure.core.events import SALT_BYTES
from perdure.engine.activity import Activity


class Timer(Protocol):
    """A call that is going to happen."""

    def cancel(self) -> None:
        """Not any more."""


class Deadline(Protocol):
    """`async with clock.timeout(…) as deadline:`, which ends its body with `TimeoutError` when the time is over."""

    async def __aenter__(self) -> Deadline: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...

    def expired(self) -> bool:
        """Whether it was this deadline that ended the body."""


class Clock(Protocol):
    """What the engine knows of time.

    `now_ms` is the wall clock (milliseconds since 1970 UTC): due instants of timers are named in it. `monotonic_s`
    never goes backwards and measures durations within one process.
    """

    def now_ms(self) -> int:
        """The wall clock in milliseconds since 1970."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes backwards."""

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Timer:
        """Call back once in the running event loop, not before the wall clock shows `due_ms` and not before that long
        has passed on the monotonic clock."""

    def timeout(self, delay_s: float) -> Deadline:
        """A deadline for what is awaited in its body, `delay_s` seconds after it was entered."""

    def observe(self, under_way: Callable[[], list[Activity]]) -> None:
        """A runtime that is opened with this clock says how to ask what it has under way."""


class Randomness(Protocol):
    """What the engine knows of chance."""

    def salt(self) -> bytes:
        """16 unpredictable bytes for a payload's digest."""

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes, for ids."""

    def uniform(self) -> float:
        """A number in [0, 1), for jitter and `run.random()`."""


class SystemClock:
    """The machine's clocks and the running asyncio loop's timers."""

    def now_ms(self) -> int:
        """The wall clock in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds on `time.monotonic`."""
        return time.monotonic()

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Timer:
        """See `Clock.call_at`."""
        return _WallTimer(self, due_ms, callback)

    def timeout(self, delay_s: float) -> Deadline:
        """See `Clock.timeout`."""
        return asyncio.timeout(delay_s)

    def observe(self, under_way: Callable[[], list[Activity]]) -> None:
        """See `Clock.observe`; the machine's time does not wait for anybody."""


class _WallTimer:
    """Sleeps in slices, so that a wall clock that is set back or forward moves the firing too.

    It fires when both the wall clock has reached the instant and the duration that was asked for at the start has
    passed on the monotonic clock.
    """

    LONGEST_SLICE_S: Final = 30.0

    def __init__(self, clock: SystemClock, due_ms: int, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._due_ms = due_ms
        self._callback = callback
        # The wall clock's milliseconds are cut off, so up to one of those that are left may have passed already.
        left_ms = due_ms - clock.now_ms()
        self._not_before_s = clock.monotonic_s() + ((left_ms + 1) / 1000 if left_ms > 0 else 0)
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._check)

    def _check(self) -> None:
        wall_left_s = (self._due_ms - self._clock.now_ms()) / 1000
        left_s = max(wall_left_s, self._not_before_s - self._clock.monotonic_s())
        if left_s <= 0:
            self._callback()
        else:
            self._handle = self._loop.call_later(min(left_s, self.LONGEST_SLICE_S), self._check)

    def cancel(self) -> None:
        """Not any more."""
        self._handle.cancel()


class SystemRandomness:
    """The operating system's randomness, drawn a block at a time because a system call for each salt costs more."""

    BLOCK: Final = 256

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def salt(self) -> bytes:
        """16 unpredictable bytes."""
        start = self._used
        if start >= len(self._pool):
            self._pool = os.urandom(SALT_BYTES * self.BLOCK)
            start = 0
        self._used = start + SALT_BYTES
        return self._pool[start : self._used]

    def token(self, size: int) -> bytes:
        """`size` unpredictable bytes."""
        return os.urandom(size)

    def uniform(self) -> float:
        """A number in [0, 1)."""
        return _random.SystemRandom().random()
