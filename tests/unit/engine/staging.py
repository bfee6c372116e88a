"""A stage for tests of the engine: a clock that moves when told, a ledger of what happened outside, deaths at will."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from perdure import Limits, RunHandle, Runtime
from perdure.core.errors import FencedError
from perdure.core.events import Event
from perdure.store.memory import MemoryStore
from perdure.store.port import Store
from perdure.store.sqlite import SQLiteStore
from perdure.testing.clock import START, VirtualClock

START_MS = round(START.timestamp() * 1000)


class StageClock(VirtualClock):
    """A virtual clock that is also a boot clock for stores, and soon takes a step that waits for ever for one that
    hangs."""

    def __init__(self) -> None:
        super().__init__(patience=0.02)

    @property
    def passed_ms(self) -> int:
        """How much time has passed."""
        return self.now_ms() - START_MS

    def boot_ms(self) -> int:
        """See `perdure.store.clock.BootClock`."""
        return 1_000_000 + self.passed_ms


class Ledger:
    """What happened in the world outside: it survives every death of a worker."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def note(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    def count(self, line: str) -> int:
        return Counter(self.lines)[line]

    async def reaches(self, line: str, times: int = 1) -> None:
        """Return once it happened so often."""
        while self.count(line) < times:
            self._changed.clear()
            await self._changed.wait()


# --- runtimes ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(store: Store, *workflows: Any, **options: Any) -> AsyncIterator[Runtime]:
    """A runtime over a store."""
    async with Runtime(store, workflows=workflows, **options) as runtime:
        yield runtime


async def opened(store: Store, *workflows: Any, **options: Any) -> Runtime:
    """A runtime that is going to `die` instead of being closed."""
    runtime = Runtime(store, workflows=workflows, **options)
    await runtime.open()
    return runtime


async def die(runtime: Runtime) -> None:
    """What the death of the worker's process does: nothing more is appended, nothing is given back.

    The store of the runtime stays open if it is in memory.
    """
    worker = runtime.worker
    lease: Any = worker.lease
    if worker._heartbeat is not None and runtime.store.shared:
        worker._heartbeat.stop()
    lease.abandon()
    worker._closing = True
    loops = [task for task in (worker._loop_task, worker._poll_task) if task is not None]
    for task in loops:
        task.cancel()
    tasks = [*loops, *worker._tasks.values(), *runtime._owned_tasks.values()]
    for execution in [*worker.executions.values(), *runtime._owned.values()]:
        execution.log.lost(FencedError("the process died", run_id=execution.run_id))
    for task in worker._tasks.values():
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    if isinstance(runtime.store, SQLiteStore):
        await runtime.store.close()


def quick(**limits: Any) -> Limits:
    """Limits under which nothing takes long on the real clock."""
    return Limits(**({"linger_s": 0.05, "cancel_grace_s": 0.05, "drain_grace_s": 0.05} | limits))


def memory() -> MemoryStore:
    return MemoryStore()


def on_disk(path: Path, **options: Any) -> SQLiteStore:
    """A store on a file, without waiting for the disk."""
    return SQLiteStore(path, durability="process", **options)


# --- what a journal says ----------------------------------------------------------------------------------------------


async def seen(handle: RunHandle[Any], kind: str, times: int = 1) -> Event:
    """Wait until the journal holds so many events of a kind; gives the last of them."""
    found = 0
    async for event in handle.events():
        found += event.kind == kind
        if found == times:
            return event
    raise AssertionError(f"{handle} ended with {found} of {times} {kind}")


async def journal(handle: RunHandle[Any]) -> list[Event]:
    """All events so far."""
    return [event async for event in handle.events(follow=False)]


async def events_of(handle: RunHandle[Any], *kinds: str) -> list[Event]:
    """The events of these kinds so far."""
    return [event for event in await journal(handle) if event.kind in kinds]


async def kinds(handle: RunHandle[Any]) -> list[str]:
    """The kinds of all events so far."""
    return [event.kind for event in await journal(handle)]


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something holds that no event announces."""
    for _ in range(30_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to hold")


async def reaches(handle: RunHandle[Any], status: str) -> None:
    """Wait until the run has a status."""
    runtime = handle._runtime
    with runtime.hub.watch(handle.id) as grown:
        while await handle.status() != status:
            grown.clear()
            if await handle.status() == status:
                return
            await grown.wait()
