"""Rules of section 3: a merge conflict that the author catches is a fact like any other failure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Run, step, workflow
from perdure.core.errors import MergeConflictError
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import Ledger, die, events_of, kinds, opened, seen

pytestmark = pytest.mark.time_limit(20)


async def in_gather(run: Run, write: Any) -> None:
    await run.gather(write(run, 1), write(run, 2))


async def in_map(run: Run, write: Any) -> None:
    await run.map(lambda number: write(run, number), [1, 2])


async def in_branches(run: Run, write: Any) -> None:
    begun = [asyncio.Event(), asyncio.Event()]

    async def one(number: int) -> None:
        async with run.branch(f"b{number}") as branch:
            begun[number - 1].set()
            await begun[2 - number].wait()
            await write(branch, number)

    await asyncio.gather(one(1), one(2))


async def in_depth(run: Run, write: Any) -> None:
    """The conflict is inside a branch of another join, whose writes are kept."""

    async def outer() -> None:
        run.state["outer"] = True
        await in_gather(run, write)

    await run.gather(outer())


JOINS = {"gather": in_gather, "map": in_map, "branches": in_branches, "depth": in_depth}


@pytest.mark.parametrize("crashes", [0, 1, 2])
@pytest.mark.parametrize("join", JOINS)
async def test_3_a_merge_conflict_that_is_caught_is_the_same_after_a_crash(join: str, crashes: int) -> None:
    """The code goes the other way each time, and what it did there is not done again."""
    ledger = Ledger()
    caught: list[Any] = []

    @step(kind="once")
    async def pay(number: int) -> int:
        ledger.note(f"pay {number}")
        return number

    @step(kind="idempotent")
    async def mend(key: str) -> str:
        ledger.note("mend")
        if ledger.count("mend") <= crashes:
            await asyncio.get_running_loop().create_future()
        return f"mended {key}"

    async def write(run: Run, number: int) -> None:
        run.state[f"own{number}"] = number
        run.state["shared"] = await run.step(pay, number)

    @workflow
    async def main(run: Run) -> list[Any]:
        run.state["shared"] = 0
        try:
            await JOINS[join](run, write)
        except MergeConflictError as error:
            caught.append(error.ids)
            run.state["mended"] = await run.step(mend, error.ids["key"])
            return [dict(run.state), error.ids["branches"]]
        return ["no conflict"]

    store = MemoryStore()
    for number in range(crashes):
        runtime = await opened(store, main)
        if number == 0:
            await runtime.start(main, id="r1")
        await ledger.reaches("mend", number + 1)
        await die(runtime)
    async with witnessed(store, main) as runtime:
        handle = runtime.run("r1") if crashes else await runtime.start(main, id="r1")
        state, branches = await handle.result()
        assert "run.paused" not in await kinds(handle)
        assert state == await handle.state(), "outside it is seen as inside"
        assert state["mended"] == "mended shared"
        assert len(branches) == 2
        conflicts = [event for event in await events_of(handle, "branches.joined") if event.data.get("conflict")]
        assert [event.data["conflict"] for event in conflicts] == [{"key": "shared", "branches": branches}]
    assert len(caught) == crashes + 1
    assert all(ids == caught[0] for ids in caught)
    assert (ledger.count("pay 1"), ledger.count("pay 2")) == (1, 1)
    if join != "branches":
        assert (state["shared"], "own1" in state, "own2" in state) == (0, False, False), "nothing of them is kept"


async def test_3_a_conflict_of_branches_is_a_fact_though_a_replay_does_not_interleave_them_again() -> None:
    """Live the second branch began while the first was in a step; replayed, the first ends before the second begins."""
    ledger = Ledger()
    caught: list[Any] = []

    @step(kind="read")
    async def look() -> None:
        await ledger.reaches("first is slow")

    @step(kind="read")
    async def slow() -> None:
        ledger.note("first is slow")
        await ledger.reaches("second has begun")

    @workflow
    async def main(run: Run) -> Any:
        async def first() -> None:
            async with run.branch("first") as branch:
                branch.state["shared"] = 1
                await branch.step(slow)

        async def second() -> None:
            async with run.branch("second") as branch:
                await branch.step(look)
                ledger.note("second has begun")
                branch.state["shared"] = 2
                await ended.wait()

        async def in_order() -> None:
            task = asyncio.ensure_future(first())
            if ledger.count("died"):
                await task  # its step is a fact now: it is done before the second begins
            beside = asyncio.ensure_future(second())
            await task
            ended.set()
            await beside

        ended = asyncio.Event()
        try:
            await in_order()
        except MergeConflictError as error:
            caught.append(error.ids)
        await run.wait_for("go")
        return run.state["shared"]

    store = MemoryStore()
    runtime = await opened(store, main)
    await seen(await runtime.start(main, id="r1"), "wait.opened")
    await die(runtime)
    ledger.note("died")
    async with witnessed(store, main) as runtime:
        await runtime.signal("go", run_id="r1")
        assert await runtime.run("r1").result() == 1
    assert len(caught) == 2
    assert caught[0] == caught[1]
