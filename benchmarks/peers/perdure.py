"""Perdure on its SQLite store, with its defaults.

The step's kind is an option, because the kind decides the cost: "idempotent", "once", "pure", "read", or "inline" for a
`pure` step that is a plain function.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import apsw  # Perdure loads it when a store is opened; recovery is measured with everything imported

from benchmarks.peers import Outcome
from perdure import Run, Runtime, step, workflow

LOADED_RUN = "finished"
marks: list[float] = []


class Hold:
    """Where the runs of a crash wait to be killed, in the middle of their second step."""

    def __init__(self) -> None:
        self.wanted = 0
        self.reached = 0
        self.all_reached = asyncio.Event()

    async def wait(self) -> None:
        self.reached += 1
        if self.reached == self.wanted:
            self.all_reached.set()
        await asyncio.Event().wait()


hold = Hold()


@step(kind="idempotent")
async def idempotent_work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@step(kind="once")
async def once_work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@step(kind="pure")
async def pure_work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@step(kind="read")
async def read_work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@step(kind="pure")
def inline_work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@step(kind="idempotent")
async def held_work(number: int) -> dict[str, int]:
    if hold.wanted:
        await hold.wait()
    return {"number": number}


@workflow
async def count_idempotent(run: Run, steps: int, carried: str = "") -> int:
    if carried:
        run.state["carried"] = carried
    for number in range(steps):
        await run.step(idempotent_work, number)
    return steps


@workflow
async def count_once(run: Run, steps: int, carried: str = "") -> int:
    if carried:
        run.state["carried"] = carried
    for number in range(steps):
        await run.step(once_work, number)
    return steps


@workflow
async def count_pure(run: Run, steps: int, carried: str = "") -> int:
    for number in range(steps):
        await run.step(pure_work, number)
    return steps


@workflow
async def count_read(run: Run, steps: int, carried: str = "") -> int:
    for number in range(steps):
        await run.step(read_work, number)
    return steps


@workflow
async def count_inline(run: Run, steps: int, carried: str = "") -> int:
    for number in range(steps):
        await run.step(inline_work, number)
    return steps


@workflow
async def held_up(run: Run, number: int) -> int:
    await run.step(idempotent_work, number)
    await run.step(held_work, number)
    return number


WORKFLOWS = {
    "idempotent": count_idempotent,
    "once": count_once,
    "pure": count_pure,
    "read": count_read,
    "inline": count_inline,
}


def opened(directory: Path) -> Runtime:
    return Runtime(f"sqlite:///{directory / 'perdure.db'}", workflows=[held_up])


SETTINGS = {"SQLite": apsw.sqlite_lib_version()}


class Adapter:
    def __init__(self, kind: str = "idempotent") -> None:
        self.workflow = WORKFLOWS[kind]

    async def chain(self, directory: Path, steps: int, carried_bytes: int = 0) -> Outcome:
        async with opened(directory) as runtime:
            await (await runtime.start(self.workflow, steps=3)).result()
            marks.clear()
            began = time.perf_counter()
            handle = await runtime.start(self.workflow, steps=steps, carried="x" * carried_bytes)
            await handle.result()
            return Outcome(time.perf_counter() - began, steps, list(marks), SETTINGS)

    async def fan(self, directory: Path, runs: int, steps: int) -> Outcome:
        async with opened(directory) as runtime:
            await (await runtime.start(self.workflow, steps=3)).result()
            began = time.perf_counter()
            handles = await asyncio.gather(*(runtime.start(self.workflow, steps=steps) for _ in range(runs)))
            await asyncio.gather(*(handle.result() for handle in handles))
            return Outcome(time.perf_counter() - began, runs * steps, settings=SETTINGS)

    async def start_latency(self, directory: Path, runs: int) -> Outcome:
        async with opened(directory) as runtime:
            await (await runtime.start(self.workflow, steps=3)).result()
            latencies: list[float] = []
            for _ in range(runs):
                marks.clear()
                began = time.perf_counter()
                handle = await runtime.start(self.workflow, steps=1)
                await handle.result()
                latencies.append(marks[0] - began)
            return Outcome(sum(latencies), runs, latencies, SETTINGS)

    async def prepare_recovery(self, directory: Path, runs: int, die: Callable[[], NoReturn]) -> None:
        hold.wanted = runs
        async with opened(directory) as runtime:
            await asyncio.gather(*(runtime.start(held_up, number=n, id=f"run-{n}") for n in range(runs)))
            await hold.all_reached.wait()
            die()

    async def prepare_pending(self, directory: Path, runs: int) -> None:
        async with Runtime(f"sqlite:///{directory / 'perdure.db'}", execute=False) as runtime:
            await asyncio.gather(*(runtime.start(held_up, number=n, id=f"run-{n}") for n in range(runs)))

    async def recover(self, directory: Path, runs: int) -> Outcome:
        began = time.perf_counter()
        async with opened(directory) as runtime:
            handles = [runtime.run(f"run-{number}") for number in range(runs)]
            await asyncio.gather(*(handle.result() for handle in handles))
            return Outcome(time.perf_counter() - began, runs, settings=SETTINGS)

    async def prepare_load(self, directory: Path, steps: int) -> None:
        async with opened(directory) as runtime:
            await (await runtime.start(self.workflow, steps=steps, id=LOADED_RUN)).result()

    async def load(self, directory: Path) -> Outcome:
        async with opened(directory) as runtime:
            began = time.perf_counter()
            state = await runtime.run(LOADED_RUN).state()
            return Outcome(time.perf_counter() - began, len(state), settings=SETTINGS)
