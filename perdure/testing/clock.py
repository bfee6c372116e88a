"""Time that stands still until a test moves it: timers, sleeps, timeouts and backoffs of days pass in milliseconds.

    clock = VirtualClock()
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(reminder)      # it sleeps for 30 days
        await clock.advance("30d")
        assert await handle.status() == "completed"

How it knows that the engine has settled. Before each timer it lets the event loop run until two things hold: nothing is
ready in the loop, and no runtime that was opened with this clock has anything under way (a commit, a claim, a recovery,
a step, code of a workflow). The engine's own work always ends and is waited for. A step or a workflow may wait for
something that never comes, for example a step that is meant to time out: after `patience` of real time it is taken for
one that hangs, and time goes on.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, TypeVar

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import NotSettledError
from perdure.engine.activity import Activity

T = TypeVar("T")

START: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""When a virtual clock begins unless told otherwise: a Tuesday, and a time that no test mistakes for the present."""
LONGEST_OWN_S: Final = 30.0
"""How long the engine's own work may take, in real time, before the clock gives up."""
TURNS: Final = 100
"""How many turns stand for 'nothing is ready' in an event loop that does not say what is."""
BLINK_S: Final = 0.0005
LAST_CHANCE_S: Final = 1.0
"""How long what is awaited may take by itself, for example to read the store, when the engine has nothing to do."""

UnderWay = Callable[[], list[Activity]]


class VirtualTimer:
    """A call that happens when its clock arrives there."""

    __slots__ = ("callback", "cancelled", "due_ms", "number")

    def __init__(self, due_ms: int, number: int, callback: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.number = number
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Not any more."""
        self.cancelled = True

    def __lt__(self, other: VirtualTimer) -> bool:
        return (self.due_ms, self.number) < (other.due_ms, other.number)


class VirtualClock:
    """A clock for `Runtime(clock=…)` that only moves when it is told to.

    Args:
        start: what it shows at first; a datetime with a time zone.
        patience: how long, in real time, a step or a workflow may stay under way before it counts as hanging.
    """

    def __init__(self, start: datetime = START, *, patience: Duration = "1s") -> None:
        self._now_ms = round(start.timestamp() * 1000)
        self._start_ms = self._now_ms
        self._patience_s = parse_duration(patience, name="patience")
        self._timers: list[VirtualTimer] = []
        self._number = 0
        self._under_way: list[UnderWay] = []
        self._hanging: set[Activity] = set()

    # --- what the engine asks -----------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds since the clock was made."""
        return (self._now_ms - self._start_ms) / 1000

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> VirtualTimer:
        """See `perdure.engine.ports.Clock.call_at`."""
        self._number += 1
        timer = VirtualTimer(due_ms, self._number, callback)
        if due_ms <= self._now_ms:
            asyncio.get_running_loop().call_soon(_fire, timer)
        else:
            heapq.heappush(self._timers, timer)
        return timer

    def timeout(self, delay_s: float) -> VirtualDeadline:
        """See `perdure.engine.ports.Clock.timeout`."""
        return VirtualDeadline(self, delay_s)

    def observe(self, under_way: UnderWay) -> None:
        """See `perdure.engine.ports.Clock.observe`."""
        self._under_way.append(under_way)

    # --- what a test does ---------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """What the clock shows."""
        return datetime.fromtimestamp(self._now_ms / 1000, UTC)

    @property
    def next_timer(self) -> datetime | None:
        """When the next timer is due; `None` when there is none."""
        timer = self._next()
        return None if timer is None else datetime.fromtimestamp(timer.due_ms / 1000, UTC)

    async def advance(self, duration: Duration) -> int:
        """Let time pass: fire the timers that become due, in order, and let the engine settle before and after each.

        Args:
            duration: `"30d"`, a timedelta, or seconds.

        Returns:
            How many timers fired.

        Raises:
            NotSettledError: the engine does not come to rest.
        """
        target_ms = self._now_ms + round(parse_duration(duration, name="duration") * 1000)
        fired = 0
        await self.settle()
        while (timer := self._next()) is not None and timer.due_ms <= target_ms:
            self._jump(timer)
            fired += 1
            await self.settle()
        self._now_ms = max(self._now_ms, target_ms)
        return fired

    async def advance_to_next(self) -> bool:
        """Go on to the next timer and fire it; whether there was one."""
        await self.settle()
        timer = self._next()
        if timer is None:
            return False
        self._jump(timer)
        await self.settle()
        return True

    async def advance_to(self, when: datetime) -> int:
        """As `advance`, up to an instant; one that is past does nothing but let the engine settle.

        Args:
            when: with a time zone.
        """
        return await self.advance(max(timedelta(0), when - self.now()))

    async def until(self, awaitable: Awaitable[T], *, at_most: Duration = "3650d") -> T:
        """Await something, and whenever the engine has settled without it, go on to the next timer.

        Args:
            awaitable: for example `handle.result()`.
            at_most: how much time may pass.

        Returns:
            What the awaitable gives.

        Raises:
            NotSettledError: it is still not there and no timer is left, or more than `at_most` would have to pass.
        """
        end_ms = self._now_ms + round(parse_duration(at_most, name="at_most") * 1000)
        task = asyncio.ensure_future(awaitable)
        try:
            while True:
                await self.settle(task)
                if task.done():
                    return task.result()
                timer = self._next()
                if timer is None and (await asyncio.wait({task}, timeout=LAST_CHANCE_S))[0]:
                    continue
                if timer is None or timer.due_ms > end_ms:
                    raise NotSettledError(
                        "no timer is left, and it is still not there" if timer is None else "it takes longer than that",
                        hint="something else must happen first: an answer, a signal, or the end of a step that hangs",
                        hanging=sorted({activity.what for activity in self._hanging}) or None,
                    )
                self._jump(timer)
        finally:
            task.cancel()

    async def settle(self, unless: asyncio.Future[T] | None = None) -> None:
        """Return once nothing happens any more without an answer, a signal, or the clock.

        Args:
            unless: return as soon as this is done.

        Raises:
            NotSettledError: the engine's own work does not end, or the event loop never rests.
        """
        since_s = time.monotonic()
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(0)
            if unless is not None and unless.done():
                return
            if await _something_is_ready():
                quiet = 0
                if time.monotonic() - since_s > LONGEST_OWN_S:
                    raise NotSettledError("the event loop never comes to rest")
                continue
            activities = self._waited_for()
            if not activities:
                quiet += 1
                continue
            quiet = 0
            self._lose_patience(activities, time.monotonic() - since_s)
            await asyncio.sleep(BLINK_S)  # what is under way is in a thread, on the disk, or on the network

    # --- inside -------------------------------------------------------------------------------------------------------

    def _next(self) -> VirtualTimer | None:
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0] if self._timers else None

    def _jump(self, timer: VirtualTimer) -> None:
        heapq.heappop(self._timers)
        self._now_ms = max(self._now_ms, timer.due_ms)
        _fire(timer)

    def _waited_for(self) -> list[Activity]:
        """What is under way and not known to hang."""
        found = [activity for ask in self._under_way for activity in ask()]
        self._hanging &= set(found)
        return [activity for activity in found if activity.own or activity not in self._hanging]

    def _lose_patience(self, activities: list[Activity], waited_s: float) -> None:
        own = [activity for activity in activities if activity.own]
        if own and waited_s > LONGEST_OWN_S:
            raise NotSettledError(f"{own[0].what} does not end", run_id=own[0].run_id)
        if not own and waited_s > self._patience_s:
            self._hanging.update(activities)


class VirtualDeadline:
    """See `perdure.engine.ports.Deadline`."""

    def __init__(self, clock: VirtualClock, delay_s: float) -> None:
        self._clock = clock
        self._delay_ms = round(delay_s * 1000)
        self._timeout = asyncio.timeout(None)
        self._timer: VirtualTimer | None = None

    async def __aenter__(self) -> VirtualDeadline:
        await self._timeout.__aenter__()
        self._timer = self._clock.call_at(self._clock.now_ms() + self._delay_ms, self._over)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)
        return None

    def expired(self) -> bool:
        """Whether it was this deadline that ended the body."""
        return self._timeout.expired()

    def _over(self) -> None:
        self._timeout.reschedule(asyncio.get_running_loop().time())


def _fire(timer: VirtualTimer) -> None:
    if not timer.cancelled:
        timer.cancelled = True
        timer.callback()


async def _something_is_ready() -> bool:
    """Whether the event loop has anything to do but this."""
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    if ready is not None:
        return len(ready) > 0
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return False
