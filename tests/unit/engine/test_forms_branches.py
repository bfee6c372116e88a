"""Branches through the engine: gather, map and branch, and what they share of the state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Run, StepFailed, step, workflow
from perdure.core.errors import InputError, InputTypeError, MergeConflictError, RunFailed
from tests.unit.engine.staging import (
    Ledger,
    die,
    events_of,
    kinds,
    memory,
    opened,
    quick,
    reaches,
    running,
    until,
)

pytestmark = pytest.mark.time_limit(20)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def test_gather_gives_results_in_order_whatever_ends_first() -> None:
    turn = [asyncio.Event() for _ in range(3)]

    @step(kind="read")
    async def look(number: int) -> int:
        await turn[number].wait()
        if number > 0:
            turn[number - 1].set()
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        return await run.gather(*(run.step(look, number) for number in range(3)))

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        turn[2].set()
        assert await handle.result() == [0, 1, 2]
        facts = [event.data["result"] for event in await events_of(handle, "step.completed")]
        assert facts == [2, 1, 0]


@pytest.mark.parametrize("limit", [1, 2, 5, None])
async def test_map_keeps_its_limit(limit: int | None) -> None:
    active = most = 0

    @step(kind="read")
    async def look(number: int) -> int:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(10):
            await asyncio.sleep(0)
        active -= 1
        return number * number

    @workflow
    async def main(run: Run) -> list[int]:
        return await run.map(look, range(8), limit=limit)

    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == [number * number for number in range(8)]
    assert most == (limit or 8)


async def test_map_takes_functions_that_use_the_run_and_nests() -> None:
    @step(kind="read")
    async def look(number: int) -> int:
        return number

    @workflow
    async def main(run: Run) -> list[Any]:
        async def inner(number: int) -> list[int]:
            return [await run.step(look, number), *await run.map(look, [number * 10, number * 100])]

        return await run.map(inner, [1, 2])

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == [[1, 10, 100], [2, 20, 200]]
        scopes = {event.scope for event in await events_of(handle, "step.completed")}
        assert len(scopes) == 6


async def test_nothing_to_do_is_a_join_too() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.gather(), await run.map(str.upper, [])]  # type: ignore[arg-type]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == [[], []]
        assert len(await events_of(handle, "branches.joined")) == 2


async def test_what_cannot_be_joined_is_refused() -> None:
    @workflow
    async def main(run: Run) -> list[str]:
        refused = []
        try:
            await run.gather(5)  # type: ignore[arg-type]
        except InputTypeError as error:
            refused.append(error.code)
        try:
            await run.map(str.upper, [1], limit=0)  # type: ignore[arg-type]
        except InputError as error:
            refused.append(error.code)
        return refused

    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == ["input_type", "invalid_input"]


async def test_branches_see_the_state_as_it_was_and_their_writes_merge_at_the_join() -> None:
    both = asyncio.Event()

    @workflow
    async def main(run: Run) -> dict[str, Any]:
        run.state["base"] = 1

        async def work(name: str) -> list[str]:
            before = sorted(run.state)
            run.state[name] = name
            run.state["same"] = "agreed"
            if name == "right":
                both.set()
            await both.wait()
            return [*before, *sorted(run.state)]

        seen = await run.map(work, ["left", "right"])
        assert seen == [["base", "base", "left", "same"], ["base", "base", "right", "same"]]
        return dict(run.state)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == {"base": 1, "left": "left", "right": "right", "same": "agreed"}
        assert await handle.state() == await handle.result()


async def test_two_branches_that_write_one_key_differently_conflict() -> None:
    @workflow
    async def main(run: Run) -> str:
        async def work(number: int) -> None:
            run.state["winner"] = number

        try:
            await run.map(work, [1, 2])
        except MergeConflictError as error:
            return f"{error.ids['key']} {len(error.ids['branches'])}"
        return "merged"

    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == "winner 2"


async def test_the_first_branch_that_fails_is_raised_and_the_others_are_ended(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def work(number: int) -> int:
        ledger.note(f"begun {number}")
        if number == 1:
            await ledger.reaches("begun 0")
            raise ValueError("branch 1")
        try:
            await Ledger().reaches("never")
        finally:
            ledger.note(f"ended {number}")
        return number

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.map(work, [0, 1, 2], limit=2)
        except StepFailed as error:
            return error.message
        return "joined"

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "branch 1"
        (joined,) = await events_of(handle, "branches.joined")
        assert joined.data["failed"] == 1
    assert ledger.lines == ["begun 0", "begun 1", "ended 0"]


async def test_a_failed_join_is_a_fact_and_replays_as_it_was(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def work(number: int) -> int:
        ledger.note(f"work {number}")
        if number == 1:
            await ledger.reaches("work 0")
            raise ValueError("branch 1")
        await Ledger().reaches("never")
        return number

    @workflow
    async def main(run: Run) -> list[Any]:
        try:
            await run.map(work, [0, 1])
        except StepFailed as error:
            run.state["failed"] = error.message
        return [run.state["failed"], await run.wait_for("go")]

    first = await opened(store, main)
    await reaches(await first.start(main, id="r1"), "waiting")
    await die(first)
    async with running(store, main) as second:
        await second.run("r1").signal("go", 1)
        assert await second.run("r1").result() == ["branch 1", 1]
    assert ledger.lines == ["work 0", "work 1"]


async def test_after_a_crash_each_branch_goes_on_where_it_was(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def work(number: int, phase: str) -> str:
        ledger.note(f"{number}{phase}")
        if (number, phase) == (1, "b") and ledger.count("1b") == 1:
            await Ledger().reaches("never")
        return f"{number}{phase}"

    @workflow
    async def main(run: Run) -> list[list[str]]:
        async def both(number: int) -> list[str]:
            return [await run.step(work, number, phase) for phase in "ab"]

        return await run.map(both, range(3))

    first = await opened(store, main)
    handle = await first.start(main, id="r1")
    await ledger.reaches("1b")
    while len(await events_of(handle, "step.completed")) < 5:  # noqa: ASYNC110  (no event announces it)
        await asyncio.sleep(0)
    await die(first)
    async with running(store, main) as second:
        assert await second.run("r1").result() == [["0a", "0b"], ["1a", "1b"], ["2a", "2b"]]
    assert ledger.count("1b") == 2
    assert {ledger.count(line) for line in ("0a", "0b", "1a", "2a", "2b")} == {1}


async def test_branches_wait_side_by_side_and_the_run_is_let_go_of_meanwhile(ledger: Ledger) -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        async def wait(name: str) -> Any:
            ledger.note(name)
            return await run.wait_for(name)

        return await run.map(wait, ["a", "b", "c"])

    async with running(memory(), main, limits=quick(linger_s=0.02)) as runtime:
        handle = await runtime.start(main)
        for name in "cab":
            await reaches(handle, "waiting")
            await until(lambda: handle.id not in runtime.worker.executions)
            await handle.signal(name, name.upper())
        assert await handle.result() == ["A", "B", "C"]


async def test_a_branch_by_name_has_a_scope_of_its_own_and_merges_when_it_ends(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def send(text: str) -> str:
        ledger.note(text)
        return text

    @workflow
    async def main(run: Run) -> list[Any]:
        async with run.branch("left") as left:
            one = await left.step(send, "one")
            left.state["left"] = one
            before = "left" in run.state
        two = await run.step(send, "two")
        async with run.branch("left") as again:
            three = await again.step(send, "three")
        return [one, two, three, before, run.state["left"]]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert (await handle.result())[:3] == ["one", "two", "three"]
        assert (await handle.result())[4] == "one"
        assert len({event.scope for event in await events_of(handle, "step.completed")}) == 3
        assert len(await events_of(handle, "branches.joined")) == 2


async def test_a_branch_by_name_that_fails_writes_nothing_to_the_state() -> None:
    @workflow
    async def main(run: Run) -> bool:
        try:
            async with run.branch("left") as left:
                left.state["half"] = True
                raise ValueError("no")
        except ValueError:
            return "half" in run.state
        return True

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() is False
        assert await handle.state() == {}
        assert "branches.joined" not in await kinds(handle)


async def test_a_failure_in_a_branch_that_nobody_catches_fails_the_run() -> None:
    @workflow
    async def main(run: Run) -> None:
        async def falls(number: int) -> None:
            raise ValueError(f"branch {number}")

        await run.map(falls, [1])

    async with running(memory(), main) as runtime:
        with pytest.raises(RunFailed, match="branch 1"):
            await (await runtime.start(main)).result()
