"""Rules of section 6: what a retry puts back as it was, what it asks for anew, and where it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Done, Fail, Flow, Next, Run, step, workflow
from perdure.core.errors import NotReopenableError, RunFailed, WaitTimeout
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import Ledger, StageClock, events_of, memory, quick, seen

pytestmark = pytest.mark.time_limit(20)


async def test_6_a_failure_that_code_made_of_what_is_recorded_is_not_opened_again() -> None:
    flow = Flow("decides")

    @flow.node
    async def only(run: Run) -> Fail:
        return Fail("no more", code="enough")

    async with witnessed(memory(), flow) as runtime:
        handle: Any = await runtime.start(flow)
        with pytest.raises(RunFailed, match="no more"):
            await handle.result()
        with pytest.raises(NotReopenableError, match="enough") as refusal:
            await handle.retry()
        assert refusal.value.hint == "start a new run"
        assert not await events_of(handle, "run.reopened")


async def test_6_the_visit_before_the_one_that_failed_stands_again() -> None:
    """A flow that comes to a node a second time and fails there knows its first output after a retry."""
    ledger = Ledger()
    flow = Flow("rounds")

    @step(kind="idempotent")
    async def act(number: int) -> int:
        ledger.note("act")
        if ledger.count("act") == 2:
            raise ConnectionError("the second time")
        return number

    @flow.node
    async def around(run: Run) -> Next:
        before = run.outputs.get("around", [])
        run.state[f"visit{run.visit}"] = list(run.outputs)
        return Next("back", output=[*before, await run.step(act, run.visit)])

    @flow.node
    async def back(run: Run) -> Next | Done:
        made = run.outputs["around"]
        return Done([made, run.state["visit2"], list(run.outputs)]) if len(made) == 2 else Next("around")

    async with witnessed(memory(), flow) as runtime:
        handle: Any = await runtime.start(flow)
        with pytest.raises(RunFailed, match="the second time"):
            await handle.result()
        await handle.retry()
        assert await handle.result() == [[1, 2], ["around", "back"], ["back", "around"]]
        state = await handle.fold()
        assert (list(state.results), state.visits) == (["around", "back"], {"around": 2, "back": 2})


async def test_6_a_question_that_timed_out_is_asked_again_under_another_id() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> str:
        answer: str = await run.ask("Well?", timeout="1h")
        return answer

    async with witnessed(memory(), main, clock=clock, limits=quick()) as runtime:
        handle: Any = await runtime.start(main)
        first = await seen(handle, "wait.opened")
        with pytest.raises(RunFailed, match="timed out"):
            await clock.until(handle.result())
        await handle.retry()
        second = await seen(handle, "wait.opened", 2)
        assert second.data["wait_id"] != first.data["wait_id"]
        await handle.answer("yes", wait_id=second.data["wait_id"])
        assert await clock.until(handle.result()) == "yes"


async def test_6_a_child_that_was_waited_for_several_times_is_spawned_anew_as_a_whole() -> None:
    """Nothing of the first child is left that the code, which now has another, could not ask for."""
    clock, ledger = StageClock(), Ledger()

    @workflow
    async def child(run: Run) -> str:
        await run.sleep("25s")
        ledger.note(run.id)
        if len(ledger.lines) == 1:
            raise ValueError("the first one")
        return "well"

    @workflow
    async def main(run: Run) -> Any:
        started = await run.spawn(child)
        while True:
            seen_status = (await started.status()).status
            try:
                return [seen_status, await started.result(timeout="10s")]
            except WaitTimeout:
                run.emit("still.waiting")

    async with witnessed(memory(), main, child, clock=clock, limits=quick()) as runtime:
        handle: Any = await runtime.start(main)
        with pytest.raises(RunFailed, match="the first one"):
            await clock.until(handle.result())
        await handle.retry()
        assert (await clock.until(handle.result()))[1] == "well"
        spawned = [event.data["child"] for event in await events_of(handle, "child.spawned")]
    assert spawned == ledger.lines
