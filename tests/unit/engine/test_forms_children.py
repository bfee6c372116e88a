"""Children through the engine: several levels, failures as typed errors, parents that wake when a child ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Done, Flow, Plan, Run, RunHandle, Runtime, step, workflow
from perdure.core.errors import ChildFailed, RunFailed, UnknownWorkflowError
from perdure.engine import worker
from perdure.store.port import RunFilter
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    kinds,
    memory,
    on_disk,
    opened,
    quick,
    reaches,
    running,
    seen,
    until,
)

pytestmark = pytest.mark.time_limit(20)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def children_of(runtime: Runtime, handle: RunHandle[Any]) -> list[RunHandle[Any]]:
    """The children of a run, oldest first."""
    rows = await runtime.runs(RunFilter(parent_id=handle.id))
    return [runtime.run(row.run_id) for row in reversed(rows)]


async def all_wait(runtime: Runtime, count: int) -> None:
    """Wait until so many runs wait."""
    with runtime.hub.watch(None) as grown:
        while (await runtime.store.count_runs()).get("waiting", 0) < count:
            grown.clear()
            await grown.wait()


async def test_children_of_several_levels_give_their_outcome_upwards(store_path: Path) -> None:
    @workflow
    async def level(run: Run, depth: int) -> int:
        if depth == 0:
            return 1
        children = [await run.spawn("level", depth - 1) for _ in range(2)]
        return sum([await child.result() for child in children])

    async with running(on_disk(store_path), level) as runtime:
        handle = await runtime.start(level, 4)
        assert await handle.result() == 16
        assert await runtime.store.count_runs() == {"completed": 31}
        parents = [
            (await events_of(one, "run.started"))[0].data["parent"] for one in await children_of(runtime, handle)
        ]
        assert {parent["key"] for parent in parents} == {"spawn.level", "spawn.level#2"}
        assert {(parent["run_id"], parent["scope"]) for parent in parents} == {(handle.id, "0/main#1")}
        await handle.verify()


async def test_a_child_may_be_of_any_form_and_its_output_is_of_its_own_type() -> None:
    flow = Flow("flow", input={"number": int})

    @flow.node
    async def node(run: Run) -> Done:
        return Done(run.input["number"] * 2)

    plan = Plan("plan", output="a.b.c")
    plan.state("a.b.c", step(kind="pure", name="c")(lambda number: number + 1))

    @workflow
    def blocking(run: Any, number: int) -> tuple[int, int]:
        return (number, number)

    @workflow
    async def main(run: Run) -> list[Any]:
        found: list[Any] = []
        for one in (flow, plan, blocking):
            found.append(await (await run.spawn(one, number=4)).result())
        assert isinstance(found[2], tuple)
        return [*found[:2], list(found[2])]

    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == [8, 5, [4, 4]]


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_a_childs_failure_reaches_its_parent_as_a_typed_error(ending: str) -> None:
    @step(kind="read")
    async def look() -> None:
        raise KeyError("nothing there")

    @workflow
    async def child(run: Run) -> None:
        if ending == "failed":
            await run.step(look)
        await run.wait_for("never")

    @workflow
    async def main(run: Run) -> dict[str, Any]:
        spawned = await run.spawn(child)
        if ending == "cancelled":
            await spawned.cancel("not needed")
        try:
            await spawned.result()
        except ChildFailed as error:
            return {
                "named": error.ids["child_id"] == spawned.id,
                "code": error.error_code,
                "type": error.error_type,
                "details": error.details,
            }
        return {}

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        result = await handle.result()
        assert result["details"]["status"] == ending
        if ending == "failed":
            assert (result["code"], result["type"]) == ("exception", "KeyError")
        (settled,) = await events_of(handle, "child.settled")
        assert settled.data["status"] == ending


async def test_an_uncaught_failure_of_a_child_fails_the_parent_and_names_the_child() -> None:
    @workflow
    async def child(run: Run) -> None:
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await (await run.spawn(child)).result()

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed) as raised:
            await handle.result()
        (spawned,) = await children_of(runtime, handle)
        assert spawned.id in str(raised.value)


async def test_a_parent_that_was_let_go_of_wakes_when_its_child_ends(store_path: Path) -> None:
    @workflow
    async def child(run: Run) -> Any:
        return await run.wait_for("go")

    @workflow
    async def main(run: Run) -> Any:
        return await (await run.spawn(child)).result()

    async with running(on_disk(store_path), main, child, limits=quick(linger_s=0.02)) as runtime:
        handle = await runtime.start(main)
        await all_wait(runtime, 2)
        await until(lambda: not runtime.worker.executions)
        (spawned,) = await children_of(runtime, handle)
        await spawned.signal("go", 5)
        assert await handle.result() == 5


async def test_a_parent_wakes_when_its_child_ends_in_another_process(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GIVE_WAY", 0)  # the parent keeps its place, so that the child goes elsewhere

    @workflow
    async def child(run: Run) -> Any:
        return await run.wait_for("go")

    @workflow
    async def main(run: Run) -> Any:
        return await (await run.spawn("child")).result()

    async with (
        running(on_disk(store_path), main, child, limits=quick(concurrency=1, linger_s=60.0)) as parents,
        running(on_disk(store_path), child, limits=quick(linger_s=60.0)) as children,
    ):
        handle = await parents.start(main)
        await all_wait_in(children, handle.id)
        (spawned,) = await children_of(children, handle)
        assert (await spawned.row()).owner == children.worker_id
        await spawned.signal("go", 5)
        assert await handle.result() == 5


async def all_wait_in(runtime: Runtime, parent_id: str) -> None:
    """Wait until the parent and its child wait."""
    with runtime.hub.watch(None) as grown:
        while (await runtime.store.count_runs()).get("waiting", 0) < 2:
            grown.clear()
            async with asyncio.timeout(0.5):
                await grown.wait()


async def test_a_child_that_ended_while_nobody_was_there_is_taken_at_the_next_start(ledger: Ledger) -> None:
    store = memory()

    @workflow
    async def child(run: Run) -> Any:
        return await run.wait_for("go")

    @workflow
    async def main(run: Run) -> Any:
        return await (await run.spawn(child)).result()

    first = await opened(store, main, child)
    handle = await first.start(main, id="r1")
    await all_wait(first, 2)
    (spawned,) = await children_of(first, handle)
    await die(first)
    async with running(store, child) as other:  # only the child's workflow is loaded here
        await other.run(spawned.id).signal("go", 3)
        assert await other.run(spawned.id).result() == 3
        assert await other.run("r1").status() == "waiting"
    async with running(store, main, child) as second:
        assert await second.run("r1").result() == 3


async def test_a_spawn_is_never_repeated_by_a_crash(ledger: Ledger) -> None:
    """The child's id derives from parent, scope and key."""
    store = memory()

    @workflow
    async def child(run: Run, number: int) -> int:
        ledger.note(f"child {number}")
        return number

    @step(kind="idempotent")
    async def hang() -> None:
        ledger.note("hang")
        if ledger.count("hang") == 1:
            await Ledger().reaches("never")

    @workflow
    async def main(run: Run) -> list[int]:
        spawned = [await run.spawn(child, number) for number in range(3)]
        await run.step(hang)
        return [await one.result() for one in spawned]

    first = await opened(store, main, child)
    await first.start(main, id="r1")
    await ledger.reaches("hang")
    await die(first)
    async with running(store, main, child) as second:
        assert await second.run("r1").result() == [0, 1, 2]
        assert len(await second.runs()) == 4
    assert [ledger.count(f"child {number}") for number in range(3)] == [1, 1, 1]


async def test_a_child_whose_start_a_crash_prevented_is_started_by_recovery(ledger: Ledger) -> None:
    """The spawn stands in the parent's journal, but the child was never made."""
    store = memory()

    @workflow
    async def child(run: Run) -> str:
        return "grown"

    @workflow
    async def main(run: Run) -> str:
        return str(await (await run.spawn(child)).result())

    first = await opened(store, main, child)

    async def killed(*_: Any) -> None:
        ledger.note("about to start the child")
        await asyncio.get_running_loop().create_future()

    first._services.start_child = killed
    await first.start(main, id="r1")
    await ledger.reaches("about to start the child")
    await die(first)
    async with running(store, main, child) as second:
        assert len(await second.runs()) == 1
        assert await second.run("r1").result() == "grown"
        assert len(await second.runs()) == 2


async def test_children_run_side_by_side_and_are_taken_in_any_order(ledger: Ledger) -> None:
    clock = StageClock()

    @workflow
    async def child(run: Run, number: int) -> int:
        await run.sleep(10 * number)
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        spawned = [await run.spawn(child, number) for number in (3, 1, 2)]
        return await run.gather(*(one.result() for one in spawned))

    async with running(memory(), main, child, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("10m")
        assert await handle.result() == [3, 1, 2]
        settled = [event.data["output"] for event in await events_of(handle, "child.settled")]
        assert settled == [1, 2, 3]


async def test_an_outcome_may_be_asked_for_twice_and_is_taken_once() -> None:
    @workflow
    async def child(run: Run) -> int:
        return 7

    @workflow
    async def main(run: Run) -> list[int]:
        spawned = await run.spawn(child)
        return [await spawned.result(), await spawned.result()]

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == [7, 7]


async def test_a_child_with_another_input_after_a_change_of_code_is_drift(ledger: Ledger) -> None:
    store = memory()

    @workflow
    async def child(run: Run, number: int) -> None:
        await run.wait_for("never")

    @workflow(name="main")
    async def main(run: Run) -> None:
        await (await run.spawn(child, 1)).result()

    @workflow(name="main")
    async def changed(run: Run) -> None:
        await (await run.spawn(child, 2)).result()

    first = await opened(store, main, child)
    handle = await first.start(main, id="r1")
    await all_wait(first, 2)
    await die(first)
    async with running(store, changed, child) as second:
        handle = second.run("r1")
        (spawned,) = await children_of(second, handle)
        await spawned.cancel()
        paused = await seen(handle, "run.paused")
        assert paused.data["reason"] == "drift"


async def test_spawning_what_is_not_loaded_is_refused() -> None:
    @workflow
    async def main(run: Run) -> str:
        try:
            await run.spawn("nobody")
        except UnknownWorkflowError as error:
            return error.code
        return ""

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "unknown_workflow"
        assert "child.spawned" not in await kinds(handle)


async def test_a_failed_run_leaves_its_children_running_and_names_them(ledger: Ledger) -> None:
    @workflow
    async def child(run: Run) -> None:
        await run.wait_for("never")

    @workflow
    async def main(run: Run) -> None:
        await run.spawn(child)
        raise ValueError("no")

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed):
            await handle.result()
        (spawned,) = await children_of(runtime, handle)
        (ended,) = await events_of(handle, "run.failed")
        assert ended.data["live_children"] == [spawned.id]
        await reaches(spawned, "waiting")
