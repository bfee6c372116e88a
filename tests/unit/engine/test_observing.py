"""What observers are told: what is recorded, of every run that this process executes or parks, and no secret."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Backoff, Run, RunFailed, Runtime, Secret, StepFailed, current_step, step, workflow
from perdure.engine.observing import ObservedRun, ObservedStep
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import HeldStore
from tests.unit.engine.staging import die, memory, quick, reaches

pytestmark = pytest.mark.time_limit(20)

CANARY = "canary-0123456789"


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[ObservedStep] = []
        self.runs: list[ObservedRun] = []

    def step_begun(self, step: ObservedStep) -> None:
        """Nothing of that."""

    def step_left(self, step: ObservedStep) -> None:
        """Nothing of that."""

    def step_ended(self, step: ObservedStep) -> None:
        """Keep it."""
        self.ended.append(step)

    def run_changed(self, run: ObservedRun) -> None:
        """Keep it."""
        self.runs.append(run)

    def statuses(self) -> list[tuple[str, str | None]]:
        return [(run.status, run.reason) for run in self.runs]


async def test_a_step_whose_caller_is_cancelled_behind_its_fact_is_told_as_it_is_recorded() -> None:
    notes, store = Notes(), HeldStore(memory())
    answered, failing = asyncio.Event(), asyncio.Event()

    @step(kind="read", commit="now")
    async def costly() -> str:
        answered.set()
        return "worth its price"

    @step(kind="pure")
    async def fail() -> None:
        await failing.wait()
        raise ValueError("no")

    @workflow
    async def both(run: Run) -> None:
        await run.gather(run.step(costly), run.step(fail))

    async with Runtime(store, observers=[notes], workflows=[both]) as runtime:
        store.hold()
        starting = asyncio.ensure_future(runtime.start(both))
        await store.held()
        store.let_pass(hold_next=True)
        handle = await starting
        await answered.wait()
        await store.until_held("step.completed")
        failing.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        store.let_pass()
        with pytest.raises(RunFailed):
            await handle.result()
    told = {step.key: (step.outcome, step.error, step.value) for step in notes.ended}
    assert told == {"costly": ("completed", None, "worth its price"), "fail": ("failed", "exception", None)}


async def test_no_code_of_an_authors_error_tells_a_secret_or_a_novel() -> None:
    notes = Notes()

    class Odd(Exception):
        def __init__(self, code: str) -> None:
            super().__init__("odd")
            self.code = code

    @step(kind="read", retries=1, backoff=Backoff(initial_s=0.001))
    async def careless() -> None:
        key = current_step().reveal(Secret("env:KEY"))
        raise Odd(f"refused {key} " + "x" * 1000)

    @workflow
    async def leaking(run: Run) -> None:
        try:
            await run.step(careless)
        except StepFailed as failed:
            raise Odd(f"again {CANARY} and sk-{'a1' * 20}") from failed

    async with Runtime("memory://", observers=[notes], environ={"KEY": CANARY}) as runtime:
        with pytest.raises(RunFailed):
            await (await runtime.start(leaking)).result()
    (told,) = notes.ended
    codes = [told.error, told.failed_attempts[0].code, notes.runs[-1].reason]
    for code in codes:
        assert code is not None
        assert "[secret env:KEY]" in code
        assert len(code) <= 128
    assert CANARY not in str(codes)
    assert "a1a1" not in str(codes)


async def test_a_run_that_is_parked_before_it_can_be_executed_is_told() -> None:
    store, notes = MemoryStore(), Notes()

    async def first(run: Run) -> str:
        return await run.wait_for("go", type=str)

    async def other(run: Run, more: int = 1) -> str:
        return await run.wait_for("go", type=str)

    async with Runtime(store, limits=quick(linger_s=0)) as runtime:
        handle = await runtime.start(workflow(name="main")(first), id="parked")
        await reaches(handle, "waiting")
    async with Runtime(store, observers=[notes], workflows=[workflow(name="main")(other)]) as runtime:
        await runtime.signal("go", "now", run_id="parked")
        await reaches(runtime.run("parked"), "paused")
    assert notes.statuses() == [("paused", "definition_changed")]
    assert (notes.runs[0].run_id, notes.runs[0].workflow) == ("parked", "main")


async def test_a_run_whose_crash_budget_is_spent_is_told() -> None:
    store, notes = MemoryStore(), Notes()
    hanging = asyncio.Event()

    @step(kind="idempotent")
    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    @workflow
    async def main(run: Run) -> None:
        await run.step(hang)

    runtime = Runtime(store, workflows=[main])
    await runtime.open()
    handle = await runtime.start(main)
    await hanging.wait()
    await die(runtime)
    async with Runtime(store, observers=[notes], workflows=[main], limits=quick(crash_budget=0)) as runtime:
        await reaches(runtime.run(handle.id), "paused")
    assert notes.statuses() == [("paused", "crash_budget_spent")]
