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
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeVar

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import StateError
from perdure.engine.activity import Activity
from perdure.engine.portal import BlockingRun
from perdure.engine.ports import Deadline, Timer
from perdure.engine.runtime import Runtime
from perdure.engine.threads import ThreadPool
from perdure.store.memory import MemoryStore
from perdure.store.port import Claimed, Lease, Store
from perdure.testing.clock import START
from perdure.testing.crash.points import CrashingStore, CrashPoint, Site
from perdure.testing.loop import SimulationLoop, current_host
from perdure.testing.randomness import SeededRandomness

T = TypeVar("T")
MakeStore = Callable[[Callable[[], int]], Store]

AFTERLIFE_S: Final = 3600.0


class ProcessDied(BaseException):
    """The simulated process is dead; raised by what it calls, and by `Process.run`."""


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
        loop.outside = self._is_writing
        loop.set_exception_handler(_report)

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

    def _is_writing(self) -> bool:
        """Whether a write of a living process is in the store's own thread."""
        return any(process.outside > 0 and not process.dead for process in self.processes)

    async def sleep(self, duration: Duration) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(parse_duration(duration, name="duration"))

    def end(self) -> None:
        """Kill all processes and close the loop; for whoever runs the loop from outside, as `simulate` does.

        The tasks of the dead are disposed of in an afterlife, where the store is gone and nothing counts any more.
        """
        loop = self.loop
        for process in self.processes:
            if not process.dead:
                process.crash()
        try:
            loop.set_exception_handler(lambda _loop, _context: None)
            loop.let_the_dead_go()
            loop.run_until_complete(asyncio.sleep(AFTERLIFE_S))  # what never ran yet may run into its store now
            _cancel_all(loop)
        finally:
            loop.close()


class Process:
    """A simulated process: a runtime, and every task that came of it.

    Attributes:
        dead: of its tasks nothing is executed any more.
        stopped: of its tasks nothing is executed for now.
        held: what is ready in a stopped process.
        outside: how many of its writes are in the store's own thread.
        store: the disk, as this process has it.
        runtime: the engine; it is opened by the first `run`.
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
        self._context.run(current_host.set, self)
        self._died: asyncio.Future[None] = simulation.loop.create_future()
        point = None if crash_at is None else CrashPoint.parse(crash_at)
        self.store = _ProcessStore(self, simulation.store, point)
        self._leases: list[Lease] = []
        self._lives: list[asyncio.Task[Any]] = []
        self.dead = False
        self.stopped = False
        self.held: list[asyncio.Handle] = []
        self.outside = 0
        self.runtime = Runtime(
            self.store if wrap is None else wrap(self.store),
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
        self._lives.append(task)  # what is dead must stay, lest Python end it as it ends what nobody needs any more
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
        self._simulation.loop.give_back(self.held)

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

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """See `Store.claim`. In the place of a heartbeat: a process that claims is alive, so its lease is renewed."""
        lease.renew()
        return await super().claim(lease, workflows, now_ms, limit=limit)


_CALLS: Final = frozenset(name for name in dir(CrashingStore) if not name.startswith("_"))


# --- running a story --------------------------------------------------------------------------------------------------


def simulate(
    story: Callable[[Simulation], Coroutine[Any, Any, T]],
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
    simulation = Simulation(loop, seed, store, start)
    try:
        return loop.run_until_complete(story(simulation))
    finally:
        simulation.end()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), ProcessDied):
        loop.default_exception_handler(context)


def _cancel_all(loop: SimulationLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=AFTERLIFE_S))
    for task in tasks:
        if not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        elif not task.cancelled():
            task.exception()
