"""The manager loop: a child pipeline that is started, watched and steered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import Runtime
from perdure.core.errors import RunCancelled, RunFailed
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.handlers import Handlers, handler
from perdure.pipeline.stage import HandlerResult, Stage
from perdure.store.port import RunFilter
from tests.unit.engine.evidence import check_journals
from tests.unit.engine.staging import StageClock, die, journal, memory, opened, quick, seen
from tests.unit.pipeline.execution.stories import Ending, ending

pytestmark = pytest.mark.time_limit(20)

PARENT = """digraph Parent {{ stack.child_dotfile="child.dot"; start; exit;
  loop [shape=house, prompt="Go faster"{options}]; start -> loop; loop -> exit [condition="outcome=success"] }}"""
QUICK_CHILD = "digraph Child { start; exit; start -> exit }"
WAITING_CHILD = "digraph Child { start; exit; p [shape=hexagon]; start -> p -> exit }"
FAILING_CHILD = (
    """digraph Child { start; exit; a [type=refuse]; start -> a; a -> exit [condition="outcome=success"] }"""
)

own = Handlers(handler)


@own("refuse")
async def refuse(stage: Stage) -> HandlerResult:
    """A stage that fails."""
    return {"outcome": "fail", "failure_reason": "the child cannot"}


def parent(folder: Path, child: str, options: str = "") -> Pipeline:
    """A pipeline beside the file of its child."""
    (folder / "child.dot").write_text(child)
    (folder / "parent.dot").write_text(PARENT.format(options=f", {options}" if options else ""))
    return Pipeline.load(folder / "parent.dot", handlers=own)


async def child_of(runtime: Runtime) -> Any:
    """The handle of the child."""
    (row,) = [row for row in await runtime.runs(RunFilter()) if row.workflow == "Child"]
    return runtime.run(row.run_id)


async def ended(folder: Path, child: str, options: str = "") -> Ending:
    """Run a parent to its end, in virtual time."""
    made, store, clock = parent(folder, child, options), memory(), StageClock()
    async with Runtime(store, workflows=[made, *made.children], clock=clock, limits=quick()) as runtime:
        end = await ending(await runtime.start(made), clock)
    await check_journals(store)
    return end


@pytest.mark.clause("manager-child", "manager-observe")
async def test_the_child_is_a_run_and_its_outcome_is_that_of_the_stage(tmp_path: Path) -> None:
    end = await ended(tmp_path, QUICK_CHILD)
    assert "child.spawned" in [event.kind for event in end.events]
    told = end.context["stack"]["child"]
    assert told["status"] == "completed"
    assert told["outcome"] == "success"
    assert told["run_id"]


@pytest.mark.clause("manager-child")
async def test_a_child_that_fails_fails_the_stage_and_says_why(tmp_path: Path) -> None:
    end = await ended(tmp_path, FAILING_CHILD)
    assert end.code == "stage_failed"
    assert "the child cannot" in end.reason


@pytest.mark.clause("manager-child")
async def test_the_childs_end_is_seen_at_once_and_not_at_the_next_poll(tmp_path: Path) -> None:
    made, clock, store = parent(tmp_path, WAITING_CHILD, "manager.poll_interval=10d"), StageClock(), memory()
    async with Runtime(store, workflows=[made, *made.children], clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        child = await child_of(runtime)
        await seen(child, "wait.opened")
        await child.answer("exit")
        assert (await ending(handle)).output is not None
    assert clock.passed_ms == 0


@pytest.mark.clause("manager-observe", "manager-bounds")
async def test_cycles_are_bounded_and_what_was_seen_last_is_kept(tmp_path: Path) -> None:
    end = await ended(tmp_path, WAITING_CHILD, "manager.max_cycles=3, manager.poll_interval=1h")
    assert end.code == "stage_failed"
    assert "3 cycles" in end.reason
    looks = [
        event for event in end.events if event.data.get("step") == "look_at_child" or event.key == "look_at_child#3"
    ]
    assert looks


@pytest.mark.clause("manager-stop", "manager-observe")
async def test_the_loop_ends_when_its_condition_holds(tmp_path: Path) -> None:
    stop = 'manager.stop_condition="context.stack.child.current_node=p", manager.poll_interval=1h'
    end = await ended(tmp_path, WAITING_CHILD, stop)
    assert end.output is not None
    assert end.context["stack"]["child"]["current_node"] == "p"
    assert end.context["stack"]["child"]["status"] == "waiting"
    assert end.context["stack"]["child"]["outcome"] == "success"


@pytest.mark.clause("manager-steer")
async def test_steering_sends_the_prompt_to_the_child_in_each_cycle(tmp_path: Path) -> None:
    options = 'manager.actions="observe,wait,steer", manager.max_cycles=2, manager.poll_interval=1h'
    made, store, clock = parent(tmp_path, WAITING_CHILD, options), memory(), StageClock()
    async with Runtime(store, workflows=[made, *made.children], clock=clock, limits=quick()) as runtime:
        await ending(await runtime.start(made), clock)
        received = [event for event in await journal(await child_of(runtime)) if event.kind == "signal.received"]
    assert [(event.data["name"], event.data["payload"]) for event in received] == [("steer", "Go faster")] * 2


@pytest.mark.clause("manager-cancel")
async def test_a_cancel_goes_down_to_the_child(tmp_path: Path) -> None:
    made, store = parent(tmp_path, WAITING_CHILD), memory()
    async with Runtime(store, workflows=[made, *made.children], limits=quick()) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        child = await child_of(runtime)
        await seen(child, "wait.opened")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        with pytest.raises(RunCancelled):
            await child.result()


@pytest.mark.clause("manager-restart")
async def test_a_restart_starts_no_second_child(tmp_path: Path) -> None:
    store = memory()
    made = parent(tmp_path, WAITING_CHILD)
    first = await opened(store, made, *made.children, limits=quick())
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    child = await child_of(first)
    await seen(child, "wait.opened")
    await die(first)
    made = parent(tmp_path, WAITING_CHILD)
    async with Runtime(store, workflows=[made, *made.children], limits=quick()) as second:
        child = await child_of(second)
        await child.answer("exit")
        assert (await ending(second.run(handle.id))).output is not None
        await child_of(second)


@pytest.mark.clause("manager-child")
async def test_without_a_child_the_stage_fails() -> None:
    text = 'digraph G { start; exit; loop [shape=house]; start -> loop; loop -> exit [condition="outcome=success"] }'
    made = Pipeline.parse(text)
    async with Runtime(memory(), workflows=[made]) as runtime:
        handle = await runtime.start(made)
        with pytest.raises(RunFailed, match="no child pipeline"):
            await handle.result()
