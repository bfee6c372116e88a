"""A whole engine under one seed: virtual time, shuffled callbacks, seeded chance, processes that die at any instant.

    async def story(simulation: Simulation) -> str:
        async def life(runtime: Runtime) -> str:
            handle = await runtime.start(order, cents=100)
            return await handle.result()

        return await simulation.process(workflows=[order]).run(life)

    simulate(story, seed=7)      # the same seed gives the same journal, byte for byte

A race that a test would meet once in a month is met by some seed within seconds, and met again whenever that seed is
used again. The idea of running a whole distributed system deterministically in one thread comes from FoundationDB.

What dies dies like a process: of its tasks not one more line is executed, no `finally` and no `except`. What it had
handed to the store and the store had acknowledged is still there.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import NotSettledError, StateError
from perdure.engine.activity import Activity
from perdure.engine.portal import BlockingRun
from perdure.engine.ports import Deadline, Timer
from perdure.engine.runtime import Runtime
from perdure.engine.threads import ThreadPool
from perdure.store.memory import MemoryStore
from perdure.store.port import Lease, Store
from perdure.testing.clock import START
from perdure.testing.crash.points import CrashingStore, CrashPoint, Site
from perdure.testing.randomness import SeededRandomness

T = TypeVar("T")
MakeStore = Callable[[Callable[[], int]], Store]

LONGEST_S: Final = 3650 * 86_400.0
"""How much virtual time may pass before a simulation counts as one that never ends."""
RESOLUTION_S: Final = 1e-6
"""What two instants must differ by to be two; years are counted in floating-point seconds."""
MOST_CALLBACKS: Final = 10_000_000
AFTERLIFE_S: Final = 3600.0

_process: ContextVar[Process | None] = ContextVar("perdure_simulated_process", default=None)


class ProcessDied(BaseException):
    """The simulated process is dead; raised by what it calls, and by `Process.run`."""


# --- the event loop ---------------------------------------------------------------------------------------------------


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

    In the place of a handle of a process that has died it gives one that is cancelled, which the loop passes over.
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
        process = context.get(_process)
        if process is None or not (process.dead or process.stopped):
            return handle
        (self.buried if process.dead else process.held).append(handle)
        return self._nothing

    def clear(self) -> None:
        self._handles.clear()

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[asyncio.Handle]:
        return iter(self._handles)


class LoopClock:
    """For `Runtime(clock=…)`: what the running event loop calls time, counted from a date.

    Args:
        loop: usually a `SimulationLoop`.
        start: what the clock shows when the loop's time is 0.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = START) -> None:
        self._loop = loop
        self._start_ms = round(start.timestamp() * 1000)

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return self._start_ms + round(self._loop.time() * 1000)

    def now(self) -> datetime:
        """What the clock shows."""
        return datetime.fromtimestamp(self.now_ms() / 1000, UTC)

    def monotonic_s(self) -> float:
        """The loop's time in seconds."""
        return self._loop.time()

    def call_at(self, due_ms: int, callback: Callable[[], None]) -> Timer:
        """See `perdure.engine.ports.Clock.call_at`."""
        return self._loop.call_at((due_ms - self._start_ms) / 1000, callback)

    def timeout(self, delay_s: float) -> Deadline:
        """See `perdure.engine.ports.Clock.timeout`."""
        return asyncio.timeout(delay_s)

    def observe(self, under_way: Callable[[], list[Activity]]) -> None:
        """See `perdure.engine.ports.Clock.observe`; the loop itself knows when nothing is under way."""


class InlineThreads(ThreadPool):
    """For `Runtime(threads=…)`: synchronous steps are called in the event loop, at an instant that the loop decides."""

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """See `ThreadPool.run`."""
        if any(isinstance(value, BlockingRun) for value in args):
            raise StateError("a synchronous workflow needs a thread of its own, and a simulation has none")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()

        def call() -> None:
            if future.done():
                return
            try:
                future.set_result(context.run(fn, *args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        loop.call_soon(call, context=context.copy())
        return future


def memory(boot_clock: Callable[[], int]) -> Store:
    """A new store in memory."""
    return MemoryStore(boot_clock=boot_clock)


# --- processes --------------------------------------------------------------------------------------------------------


class Simulation:
    """What a simulated story has at hand.

    Attributes:
        seed: of everything.
        loop, clock: virtual time.
        chance: for decisions of the story itself.
        store: what outlives every process: the disk.
    """

    def __init__(self, loop: SimulationLoop, seed: object, store: MakeStore, start: datetime) -> None:
        self.seed = seed
        self.loop = loop
        self.clock = LoopClock(loop, start)
        self.chance = random.Random(f"{seed}/story")
        self.store = store(self.clock.now_ms)
        self.processes: list[Process] = []
        loop.outside = lambda: any(process.outside > 0 and not process.dead for process in self.processes)

    def process(
        self, *, crash_at: str | None = None, wrap: Callable[[Store], Store] | None = None, **options: Any
    ) -> Process:
        """A process with a runtime on the store; it begins to live when it is used.

        Args:
            crash_at: `commit:before:3`, for example: it dies there.
            wrap: puts something between runtime and store, such as a `FaultyStore`.
            options: for `Runtime`: `workflows`, `limits`, …
        """
        made = Process(self, len(self.processes), crash_at, wrap, options)
        self.processes.append(made)
        return made

    async def sleep(self, duration: Duration) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(parse_duration(duration, name="duration"))


class Process:
    """A simulated process: a runtime, and every task that came of it.

    Attributes:
        dead: of its tasks nothing is executed any more.
        stopped: of its tasks nothing is executed for now.
        held: what is ready in a stopped process.
        outside: how many of its writes are in the store's own thread.
    """

    def __init__(
        self,
        simulation: Simulation,
        number: int,
        crash_at: str | None,
        wrap: Callable[[Store], Store] | None,
        options: Mapping[str, Any],
    ) -> None:
        self._simulation = simulation
        self._context = copy_context()
        self._context.run(_process.set, self)
        self._died: asyncio.Future[None] = simulation.loop.create_future()
        point = None if crash_at is None else CrashPoint.parse(crash_at)
        store: Store = _ProcessStore(self, simulation.store, point)
        self._leases: list[Lease] = []
        self.dead = False
        self.stopped = False
        self.held: list[asyncio.Handle] = []
        self.outside = 0
        self.runtime = Runtime(
            store if wrap is None else wrap(store),
            clock=simulation.clock,
            random=SeededRandomness(f"{simulation.seed}/{number}"),
            threads=InlineThreads(),
            **options,
        )

    async def run(self, life: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
        """Do something within the process, whose runtime is open.

        Raises:
            ProcessDied: it died before that was done.
        """
        if self.dead:
            raise ProcessDied

        async def live() -> T:
            await self.runtime.open()
            return await life(self.runtime)

        task = self._simulation.loop.create_task(live(), context=self._context)
        waited: list[asyncio.Future[Any]] = [task, self._died]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if self.dead:
            raise ProcessDied
        return task.result()

    async def close(self) -> None:
        """End in good order."""
        if not self.dead:
            await self.run(lambda runtime: runtime.close())

    def stop(self) -> None:
        """Stand still, as under SIGSTOP, while time and others go on."""
        self.stopped = True

    def go_on(self) -> None:
        """Go on, as under SIGCONT, without having noticed anything."""
        self.stopped = False
        for handle in self.held:
            self._simulation.loop._ready.append(handle)
        self.held.clear()

    def crash(self) -> None:
        """Die, between two callbacks."""
        self.dead = True
        self.go_on()  # into its grave
        for lease in self._leases:
            lease.abandon()  # type: ignore[attr-defined]
        if not self._died.done():
            self._died.set_result(None)

    def die(self) -> NoReturn:
        """Die, in the middle of a callback."""
        self.crash()
        raise ProcessDied


class _ProcessStore(CrashingStore):
    """The store as one process has it: gone, for the dead."""

    def __init__(self, process: Process, inner: Store, point: CrashPoint | None) -> None:
        super().__init__(inner, point, die=process.die)
        self._process = process
        self.shared = False  # nobody else writes to it at this instant: no heartbeat, no polling

    def __getattribute__(self, name: str) -> Any:
        if name in _CALLS and object.__getattribute__(self, "_process").dead:
            raise ProcessDied
        return super().__getattribute__(name)

    async def close(self) -> None:
        """The disk stays, whatever process goes."""

    async def _then(self, site: Site, number: int, answer: Awaitable[T]) -> T:
        self._process.outside += 1
        try:
            return await super()._then(site, number, answer)
        finally:
            self._process.outside -= 1

    async def lease(self, worker_id: str, workflows: Any, *, length_s: float = 10.0) -> Lease:
        """See `Store.lease`."""
        lease = await super().lease(worker_id, workflows, length_s=length_s)
        self._process._leases.append(lease)
        return lease


_CALLS: Final = frozenset(name for name in dir(CrashingStore) if not name.startswith("_"))


# --- running a story --------------------------------------------------------------------------------------------------


def simulate(
    story: Callable[[Simulation], Awaitable[T]],
    *,
    seed: object = 0,
    store: MakeStore = memory,
    start: datetime = START,
) -> T:
    """Run a story in a simulation of its own.

    Args:
        story: an async function of the `Simulation`.
        seed: decides order and chance; the same seed gives the same story.
        store: makes the disk, given the clock that leases are measured on.
        start: what the clock shows at first.

    Returns:
        What the story returns.

    Raises:
        NotSettledError: it is stuck, or never ends.
    """
    loop = SimulationLoop(seed)
    loop.set_exception_handler(_report)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(_told(story, Simulation(loop, seed, store, start)))
    finally:
        try:
            _end(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _told(story: Callable[[Simulation], Awaitable[T]], simulation: Simulation) -> T:
    try:
        return await story(simulation)
    finally:
        for process in simulation.processes:
            if not process.dead:
                process.crash()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), ProcessDied):
        loop.default_exception_handler(context)


def _end(loop: SimulationLoop) -> None:
    """Dispose of the tasks of dead processes, in an afterlife where the store is gone and nothing counts any more."""
    loop.set_exception_handler(lambda _loop, _context: None)
    loop._ready = _Afterlife(loop._ready)
    loop.limit_s = float("inf")
    loop.run_until_complete(asyncio.sleep(AFTERLIFE_S))  # what was begun and never ran may run into its store now
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=AFTERLIFE_S))
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()


class _Afterlife(_Bag):
    """All that was ready, also of the dead, in order."""

    def __init__(self, bag: _Bag) -> None:
        super().__init__(random.Random(0), bag._nothing)
        self._handles = bag.buried + bag._handles

    def popleft(self) -> asyncio.Handle:
        return self._handles.pop(0)
