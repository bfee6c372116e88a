"""The simulation: one seed, one story; other seeds, other stories; and processes that die or stand still in it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, Runtime, step, workflow
from perdure.core.errors import NotSettledError, PerdureError, StateError
from perdure.testing import ProcessDied, Simulation, SimulationLoop, simulate
from perdure.testing.clock import START

ROOT = Path(__file__).parents[3]
DONE: list[int] = []

# --- the loop ---------------------------------------------------------------------------------------------------------


def order_of(seed: object) -> list[int]:
    loop = SimulationLoop(seed)
    found: list[int] = []

    async def note(number: int) -> None:
        await asyncio.sleep(0)
        found.append(number)

    async def main() -> None:
        await asyncio.gather(*map(note, range(6)))

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return found


def test_the_seed_decides_the_order_of_what_is_ready() -> None:
    assert order_of(1) == order_of(1)
    orders = {tuple(order_of(seed)) for seed in range(50)}
    assert len(orders) > 40
    assert all(sorted(order) == [0, 1, 2, 3, 4, 5] for order in orders)


def test_time_jumps_to_the_next_timer() -> None:
    async def story(simulation: Simulation) -> tuple[float, int]:
        await asyncio.sleep(90)
        await simulation.sleep("30d")
        return simulation.loop.time(), simulation.clock.now_ms()

    seconds = 90 + 30 * 86_400
    time_s, now_ms = simulate(story)
    assert time_s == pytest.approx(seconds)
    assert now_ms == round(START.timestamp() * 1000) + seconds * 1000


def test_timers_keep_their_order() -> None:
    async def story(simulation: Simulation) -> list[int]:
        found: list[int] = []
        for delay in (3, 1, 2):
            simulation.loop.call_later(delay, found.append, delay)
        await asyncio.sleep(5)
        return found

    assert all(simulate(story, seed=seed) == [1, 2, 3] for seed in range(10))


def test_what_waits_for_nothing_is_told() -> None:
    async def story(_simulation: Simulation) -> None:
        await asyncio.Event().wait()

    with pytest.raises(NotSettledError, match="stuck"):
        simulate(story)


def test_what_never_ends_is_told() -> None:
    async def story(_simulation: Simulation) -> None:
        for _ in itertools.count():
            await asyncio.sleep(86_400)

    with pytest.raises(NotSettledError, match="never ends"):
        simulate(story)


# --- one seed, one story ----------------------------------------------------------------------------------------------


@step(kind="once")
async def post(number: int) -> int:
    DONE.append(number)
    await asyncio.sleep(0.5)
    return number


@step(kind="idempotent", retries=3)
def shaky(number: int) -> int:
    DONE.append(number)
    if DONE.count(number) < 3:
        raise ConnectionError("not yet")
    return number


@workflow
async def race(run: Run, number: int) -> list[Any]:
    """Branches that race with each other, and waits whose time is over when the answer comes."""
    found = await run.gather(
        run.ask("Well?", timeout="10s", default="too late"),
        run.wait_for("news", timeout="10s", default="no news"),
        run.step(post, number),
        run.step(shaky, number + 100),
    )
    run.state["token"] = str(run.uuid())
    return [*found, run.random()]


Found = tuple[str, list[Any], list[str]]


def racing(seed: int) -> Found:
    """The hash of all journals, how the runs ended, and what became of the commands that came at the last moment."""
    DONE.clear()

    async def story(simulation: Simulation) -> Found:
        async def life(runtime: Runtime) -> tuple[list[Any], list[str]]:
            handles = [await runtime.start(race, number, id=f"race-{number}") for number in range(3)]

            async def command(number: int) -> str:
                # An answer at the very deadline is too late; one in the millisecond before it may be on its way then.
                early_s = 0.0 if number % 3 else simulation.chance.choice((0.0, 0.001))
                await asyncio.sleep(10 - early_s)
                handle = handles[number // 3]
                send = (lambda: handle.answer("in time"), lambda: handle.signal("news", 5), lambda: handle.cancel())
                try:
                    await send[number % 3]()
                except PerdureError as error:
                    return error.code
                return "accepted"

            answers = await asyncio.gather(*map(command, (0, 1, 2, 3, 4, 6, 7)))  # only the first run is cancelled
            ends = []
            for handle in handles:
                try:
                    ends.append((await handle.result())[:2])
                except PerdureError as error:
                    ends.append(error.code)
            return ends, answers

        ends, answers = await simulation.process(workflows=[race]).run(life)
        digest = hashlib.sha256()
        for number in range(3):
            for event in await simulation.store.read(f"race-{number}"):
                digest.update(event.header + (event.payload or b""))
        return digest.hexdigest(), ends, answers

    return simulate(story, seed=seed)


def test_the_same_seed_gives_the_same_journals_byte_for_byte() -> None:
    for seed in range(10):
        assert racing(seed) == racing(seed)


def test_the_same_seed_gives_the_same_journals_in_every_process() -> None:
    """Whatever the order of sets and the hashes of texts are there."""
    program = "from tests.unit.testing.test_simulation import racing; print(*(racing(seed)[0] for seed in range(4)))"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": text, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for text in ("1", "2", "random")
    }
    assert hashes == {" ".join(racing(seed)[0] for seed in range(4)) + "\n"}


def test_other_seeds_explore_other_interleavings() -> None:
    stories = [racing(seed) for seed in range(60)]
    assert len({digest for digest, _, _ in stories}) == 60
    ends = Counter(str(end) for _, all_ends, _ in stories for end in all_ends)
    # The answer against its timeout, the signal against its timeout, the cancel against the end: each wins somewhere.
    assert ends["run_cancelled"] > 0
    assert any("in time" in end for end in ends)
    assert any("too late" in end for end in ends)
    assert any("'no news'" in end for end in ends)
    assert any(", 5]" in end for end in ends)
    assert {answer for _, _, answers in stories for answer in answers} >= {"accepted", "wait_closed", "run_ended"}


def test_a_synchronous_workflow_is_refused() -> None:
    @workflow
    def blocking(run: Any) -> None:
        raise AssertionError("it never begins")

    async def story(simulation: Simulation) -> str:
        async def life(runtime: Runtime) -> str:
            handle = await runtime.start(blocking)
            try:
                await handle.result()
            except PerdureError as error:
                return str(error)
            return "it ended"

        return await simulation.process(workflows=[blocking]).run(life)

    assert "a synchronous workflow needs a thread of its own" in simulate(story)


# --- processes that die -----------------------------------------------------------------------------------------------

LOST: list[str] = []


@step(kind="idempotent")
async def careful(number: int) -> int:
    try:
        await asyncio.sleep(10)
    except BaseException:
        LOST.append("except")
        raise
    finally:
        LOST.append("finally")
    return number


@workflow
async def long(run: Run) -> int:
    first = await run.step(careful, 1)
    await run.sleep("1h")
    return first + await run.step(careful, 2)


def test_nothing_of_a_dead_process_is_executed_any_more() -> None:
    LOST.clear()

    async def story(simulation: Simulation) -> list[str]:
        process = simulation.process(workflows=[long])

        async def life(runtime: Runtime) -> int:
            handle = await runtime.start(long)
            return await handle.result()

        living = asyncio.ensure_future(process.run(life))
        await asyncio.sleep(5)
        process.crash()
        with pytest.raises(ProcessDied):
            await living
        with pytest.raises(ProcessDied):
            await process.run(life)
        await asyncio.sleep(100)
        return list(LOST)

    assert simulate(story) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_dies_at_a_commit_and_another_goes_on(moment: str) -> None:
    async def story(simulation: Simulation) -> list[Any]:
        async def life(runtime: Runtime) -> int:
            handle = await runtime.start(long, id="long")
            return await handle.result()

        found: list[Any] = []
        for commit in (1, 2, 3, None):
            crash_at = None if commit is None else f"commit:{moment}:{commit}"
            try:
                found.append(await simulation.process(workflows=[long], crash_at=crash_at).run(life))
            except ProcessDied:
                found.append("died")
        return found

    assert simulate(story, seed=moment) == ["died", "died", "died", 3]


def test_a_process_that_stood_still_past_its_lease_is_refused() -> None:
    for seed in range(20):
        ends, kinds = standing_still(seed)
        assert ends == [3], f"seed {seed}"
        assert kinds["run.completed"] == 1, f"seed {seed}"
        assert kinds["step.completed"] == 2, f"seed {seed}"


def standing_still(seed: int, **options: Any) -> tuple[list[int], Counter[str]]:
    """One process stops in the middle and wakes when another has done everything; how many events of each kind."""

    async def story(simulation: Simulation) -> tuple[list[int], Counter[str]]:
        async def life(runtime: Runtime) -> int:
            handle = await runtime.start(long, id="long")
            return await handle.result()

        first, second = (simulation.process(workflows=[long]) for _ in range(2))
        stopped = asyncio.ensure_future(first.run(life))
        await asyncio.sleep(simulation.chance.choice([0, 5, 9.99, 20, 3605]))
        first.stop()
        await asyncio.sleep(60)
        result = await second.run(life)
        first.go_on()
        await asyncio.sleep(60)
        stopped.cancel()
        await simulation.process(workflows=[long]).run(verify)
        return [result], Counter(event.kind for event in await simulation.store.read("long"))

    async def verify(runtime: Runtime) -> None:
        await runtime.run("long").verify()

    return simulate(story, seed=seed, **options)


def test_a_workflow_in_a_simulation_is_told_that_threads_are_not_for_it() -> None:
    async def story(simulation: Simulation) -> None:
        async def life(runtime: Runtime) -> None:
            raise StateError("as any error of what a process does, it comes out of run")

        await simulation.process().run(life)

    with pytest.raises(StateError, match="comes out"):
        simulate(story)
