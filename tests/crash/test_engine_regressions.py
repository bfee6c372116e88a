"""Faults of the engine that this room's tools have found, each with the smallest test that shows it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from perdure import Backoff, Run, Runtime, step, workflow
from perdure.core.errors import RunFailed
from perdure.testing import Simulation, VirtualClock, simulate


@workflow
async def asking_child(run: Run) -> str:
    answer: str = await run.ask("Which way?", choices=["left", "right"])
    return answer


@workflow
async def waiting_parent(run: Run) -> str:
    child = await run.spawn(asking_child)
    await run.wait_for("go")
    return await child.result()


async def test_an_answer_reaches_a_child_whose_parent_waits_for_it() -> None:
    """The parent's interest in the child took the place of the child's own."""
    clock = VirtualClock()
    async with Runtime("memory://", workflows=[waiting_parent, asking_child], clock=clock) as runtime:
        parent = await runtime.start(waiting_parent)
        await clock.settle()
        await parent.signal("go")
        await clock.settle()
        (question,) = await runtime.questions()
        await runtime.answer(question.run_id, "left")
        assert await clock.until(parent.result(), at_most="1s") == "left"


@workflow
async def nap(run: Run, seconds: int) -> int:
    await run.sleep(seconds)
    return seconds


def test_a_worker_in_memory_that_lived_longer_than_its_lease_still_hears_its_timers() -> None:
    """Nothing renews a lease in memory. When it had ended, the worker took its own runs for somebody else's, found that
    it could not claim them, and set no timer for what was due next."""

    async def story(simulation: Simulation) -> list[int]:
        async def life(runtime: Runtime) -> list[int]:
            handles = [await runtime.start(nap, seconds) for seconds in (12, 40, 100)]
            return [await asyncio.wait_for(handle.result(), 200) for handle in handles]

        return await simulation.process(workflows=[nap]).run(life)

    for seed in range(5):
        assert simulate(story, seed=seed) == [12, 40, 100]


@step(kind="idempotent", retries=1, backoff=Backoff(initial_s=3600, jitter=0, max_s=7200))
async def busy_at_first(run_id: str) -> str:
    TRIED[run_id] += 1
    if TRIED[run_id] == 1:
        raise ConnectionError("try again in an hour")
    return run_id


TRIED: Counter[str] = Counter()


@workflow
async def quick(run: Run) -> str:
    await run.step(hurry)
    return "done"


@step(kind="idempotent")
async def hurry() -> None:
    TRIED["hurry"] += 1
    if TRIED["hurry"] == 1:
        await asyncio.Event().wait()


@workflow
async def hourly(run: Run) -> str:
    return await run.step(busy_at_first, run.id)


def test_a_run_that_waits_for_its_next_attempt_keeps_no_other_from_being_resumed() -> None:
    """After a crash the runs that were in flight are resumed one at a time, each until it makes progress; one that only
    waited for its next attempt, an hour from now, made none."""
    TRIED.clear()

    async def story(simulation: Simulation) -> float:
        first = simulation.process(workflows=[hourly, quick])

        async def begin(runtime: Runtime) -> None:
            await runtime.start(hourly, id="hourly")
            await asyncio.sleep(1)
            await runtime.start(quick, id="quick")
            await asyncio.sleep(1)

        await first.run(begin)
        first.crash()

        async def resume(runtime: Runtime) -> float:
            await runtime.run("quick").result()
            return simulation.loop.time()

        return await simulation.process(workflows=[hourly, quick]).run(resume)

    assert simulate(story) < 60


@step(kind="once")
async def no_answer() -> str:
    raise ConnectionError("no answer")


@workflow
async def doubtful(run: Run) -> str:
    return await run.step(no_answer)


async def test_a_resolution_closes_the_question_that_is_open() -> None:
    """After a retry the questions about a step begin anew under their old ids; an old one was closed in its stead."""
    async with Runtime("memory://") as runtime:
        handle = await runtime.start(doubtful)
        for resolution in ("not_done", "fail"):
            await asked(runtime)
            await runtime.resolve(handle.id, resolution)
        with pytest.raises(RunFailed):
            await handle.result()
        await handle.retry()
        (first,) = await asked(runtime)
        await runtime.resolve(handle.id, "not_done")
        (second,) = await asked(runtime, besides=first)
        waits = [place.wait.wait_id for place in await runtime.store.open_waits(run_id=handle.id)]
        assert waits == [second] != [first]


async def asked(runtime: Runtime, besides: str | None = None) -> list[str]:
    """The ids of the open questions, as soon as there are any others."""
    while True:
        found = [question.wait_id for question in await runtime.questions()]
        if found and found != [besides]:
            return found
        await asyncio.sleep(0)
