"""An event loop of which a seed decides the order, and whose time passes only when nothing else can happen."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import Any, Final, Protocol, TypeVar

from perdure.core.errors import NotSettledError

T = TypeVar("T")

LONGEST_S: Final = 3650 * 86_400.0
"""How much virtual time may pass before a simulation counts as one that never ends."""
RESOLUTION_S: Final = 1e-6
"""What two instants must differ by to be two; years are counted in floating-point seconds."""
MOST_CALLBACKS: Final = 10_000_000


class Host(Protocol):
    """What a callback belongs to: something that can die, or stand still.

    Attributes:
        dead: nothing of it is executed any more.
        stopped: nothing of it is executed for now; what is ready is `held`.
    """

    dead: bool
    stopped: bool
    held: list[asyncio.Handle]


current_host: ContextVar[Host | None] = ContextVar("perdure_simulated_host", default=None)
"""The host of the tasks that are made in this context."""


class SimulationLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing is ready, and that runs what is ready in an
    order that a seed decides.

    Nothing real belongs into it: no socket, no subprocess, no thread. `run_in_executor` calls the function in place.
    While a store's own thread writes, time stands still; what it decides by its timing is not decided by the seed.

    Args:
        seed: decides the order.
    """

    def __init__(self, seed: object = 0) -> None:
        self._virtual_s = 0.0
        self.limit_s = LONGEST_S
        self._hold_at_s: float | None = None
        self.outside: Callable[[], bool] = lambda: False
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = RESOLUTION_S
        self._ready: _Bag = _Bag(random.Random(f"{seed}/order"), asyncio.Handle(print, (), self))

    def give_back(self, handles: list[asyncio.Handle]) -> None:
        """Make ready again what was held back."""
        for handle in handles:
            self._ready.append(handle)
        handles.clear()

    def let_the_dead_go(self) -> None:
        """From now on everything that is ready is executed in its order, also what belongs to the dead."""
        self._ready = _Afterlife(self._ready)
        self.limit_s = float("inf")

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_s

    def run_for(self, seconds: float = 0.0) -> None:
        """Run from outside of the loop: until nothing is ready and so much time has passed."""
        self._hold_at_s = self._virtual_s + seconds
        try:
            self.run_forever()
        finally:
            self._hold_at_s = None

    def rest(self, seconds: float | None) -> None:
        """Nothing is ready, and the next timer is due in so many seconds, if there is one."""
        hold_at_s = self._hold_at_s
        if hold_at_s is not None and (seconds is None or self._virtual_s + seconds > hold_at_s + RESOLUTION_S):
            self._virtual_s = max(self._virtual_s, hold_at_s)
            self.stop()
        elif seconds is None:
            raise NotSettledError(
                "nothing is ready and no timer is left: the simulation is stuck",
                hint="something is awaited that nobody brings: an answer, a signal, a thread, a socket",
            )
        else:
            self._jump(seconds)

    def _jump(self, seconds: float) -> None:
        self._virtual_s += max(seconds, RESOLUTION_S)
        if self._virtual_s > self.limit_s:
            raise NotSettledError("the simulation never ends")

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call a function in place, so that no thread's timing decides anything."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class _JumpingSelector(selectors.SelectSelector):
    """Instead of waiting, it lets virtual time pass."""

    def __init__(self, loop: SimulationLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors.BaseSelector.select`."""
        if timeout == 0:
            return []
        if self._loop.outside():
            return super().select(0.01)
        self._loop.rest(timeout)
        return []


class _Bag:
    """What is ready, without an order: the next is any of it. Stands where `asyncio` keeps a deque.

    In the place of a handle of a host that is dead or stopped it gives one that is cancelled: the loop passes over it.
    """

    def __init__(self, chance: random.Random, nothing: asyncio.Handle) -> None:
        self._chance = chance
        self._handles: list[asyncio.Handle] = []
        self._taken = 0
        self._nothing = nothing
        self._nothing.cancel()
        self.buried: list[asyncio.Handle] = []

    def append(self, handle: asyncio.Handle) -> None:
        self._handles.append(handle)

    def popleft(self) -> asyncio.Handle:
        self._taken += 1
        if self._taken > MOST_CALLBACKS:
            raise NotSettledError("the simulation never comes to rest")
        handles = self._handles
        place = self._chance.randrange(len(handles))
        handles[place], handles[-1] = handles[-1], handles[place]
        handle = handles.pop()
        context: Context = handle._context  # type: ignore[attr-defined]
        host = context.get(current_host)
        if host is None or not (host.dead or host.stopped):
            return handle
        (self.buried if host.dead else host.held).append(handle)
        return self._nothing

    def clear(self) -> None:
        self._handles.clear()

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[asyncio.Handle]:
        return iter(self._handles)


class _Afterlife(_Bag):
    """All that was ready, also of the dead, in order."""

    def __init__(self, bag: _Bag) -> None:
        super().__init__(random.Random(0), bag._nothing)
        self._handles = bag.buried + bag._handles

    def popleft(self) -> asyncio.Handle:
        return self._handles.pop(0)
