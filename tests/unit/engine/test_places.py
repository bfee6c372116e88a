"""How many runs are executed at once, and that a run that merely waits keeps nobody out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, step, workflow
from tests.unit.engine.staging import memory, on_disk, quick, reaches, running

pytestmark = pytest.mark.time_limit(20)


@workflow
async def listen(run: Run) -> Any:
    return await run.wait_for("go")


@workflow
async def parent(run: Run) -> Any:
    return await (await run.spawn(listen)).result()


async def test_runs_that_merely_wait_give_their_place_to_what_is_due() -> None:
    async with running(memory(), listen, limits=quick(concurrency=2, linger_s=3600.0)) as runtime:
        handles = [await runtime.start(listen) for _ in range(40)]
        for handle in handles:
            await reaches(handle, "waiting")
        for number, handle in enumerate(handles):
            await handle.signal("go", number)
        assert [await handle.result() for handle in handles] == list(range(40))


async def test_a_parent_that_waits_for_its_child_gives_it_the_only_place(store_path: Path) -> None:
    limits = quick(concurrency=1, linger_s=3600.0)
    async with running(on_disk(store_path), parent, listen, limits=limits) as runtime:
        handle = await runtime.start(parent)
        with runtime.hub.watch(None) as grown:
            while (await runtime.store.count_runs()).get("waiting", 0) != 2:
                await grown.wait()
                grown.clear()
        (child,) = [row for row in await runtime.runs() if row.workflow == "listen"]
        await runtime.run(child.run_id).signal("go", 7)
        assert await handle.result() == 7


async def test_a_run_that_goes_on_in_a_moment_keeps_its_place() -> None:
    begun: list[int] = []

    @workflow
    async def nap(run: Run, number: int) -> int:
        begun.append(number)
        await run.sleep(0.05)
        return number

    async with running(memory(), nap, limits=quick(concurrency=1, linger_s=3600.0)) as runtime:
        handles = [await runtime.start(nap, number=number) for number in range(5)]
        assert [await handle.result() for handle in handles] == list(range(5))
    assert sorted(begun) == list(range(5))


async def test_what_is_executed_keeps_its_place_and_others_stay_pending() -> None:
    began, go = asyncio.Event(), asyncio.Event()
    at_once, most = 0, 0

    @step(kind="read")
    async def look() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        began.set()
        await go.wait()
        at_once -= 1

    @workflow
    async def work(run: Run) -> None:
        await run.step(look)

    async with running(memory(), work, listen, limits=quick(concurrency=2, linger_s=3600.0)) as runtime:
        handles = [await runtime.start(work) for _ in range(6)]
        await began.wait()
        late = await runtime.start(listen)
        assert await late.status() == "pending"
        assert (await runtime.store.count_runs())["pending"] >= 4
        go.set()
        for handle in handles:
            await handle.result()
        await reaches(late, "waiting")
    assert most == 2
