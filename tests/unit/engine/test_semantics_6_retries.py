"""Rules of section 6: a retry forgets the failure that ended the run, the joins above it, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Run, StepFailed, step, workflow
from perdure.core.errors import ChildFailed, RunCancelled, RunFailed
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import Ledger, die, events_of, memory, opened, reaches, seen

pytestmark = pytest.mark.time_limit(20)


def noting(ledger: Ledger, name: str, *, failures: int = 0, kind: Any = "idempotent") -> Any:
    """A step that notes that it was called, and fails so often first."""

    @step(kind=kind, name=name)
    async def act() -> str:
        ledger.note(name)
        if ledger.count(name) <= failures:
            raise ConnectionError(f"{name} {ledger.count(name)}")
        return name

    return act


# --- joins ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
async def test_6_a_retry_evaluates_every_join_above_the_failure_again_and_no_join_beside_it(dies: bool) -> None:
    """Failures that the code caught, in a join or in a branch, stay facts, and what they ended stays ended."""
    ledger = Ledger()
    caught = noting(ledger, "caught", failures=9)
    beside = noting(ledger, "beside")
    fatal = noting(ledger, "fatal", failures=1)
    before = noting(ledger, "before")

    @step(kind="read")
    async def ended() -> str:
        ledger.note("ended")
        await asyncio.get_running_loop().create_future()
        return "never"

    @workflow
    async def main(run: Run) -> list[Any]:
        async def fails_late() -> Any:
            await ledger.reaches("ended")
            return await run.step(caught)

        async def catches() -> Any:
            try:
                return await run.gather(run.step(ended), fails_late())
            except StepFailed as error:
                return error.message

        async def inner() -> Any:
            found = await run.step(before)
            return await run.gather(run.step(beside), run.step(fatal, key="fatal")) + [found]

        first = await catches()
        second = await run.gather(catches_in_branch(run), inner())
        return [first, second]

    async def catches_in_branch(run: Run) -> Any:
        try:
            return await run.step(caught)
        except StepFailed as error:
            return error.message

    store = memory()
    runtime = await opened(store, main)
    handle: Any = await runtime.start(main, id="r1")
    with pytest.raises(RunFailed, match="fatal 1"):
        await handle.result()
    if dies:
        await die(runtime)
        runtime = await opened(store, main)
        handle = runtime.run("r1")
    await handle.retry()
    assert await handle.result() == ["caught 1", ["caught 2", ["beside", "fatal", "before"]]]
    (reopened,) = await events_of(handle, "run.reopened")
    root = "0/main#1"
    forgotten = {tuple(record) for record in reopened.data["forgets"]["records"]}
    assert forgotten == {
        (f"{root}/gather#2[1]/gather[1]", "fatal"),
        (f"{root}/gather#2[1]", "gather"),
        (root, "gather#2"),
    }
    assert {name: ledger.count(name) for name in ("caught", "ended", "beside", "before", "fatal")} == {
        "caught": 2,
        "ended": 1,
        "beside": 1,
        "before": 1,
        "fatal": 2,
    }
    await runtime.close()


async def test_6_a_retry_goes_another_way_round_only_where_the_failure_was() -> None:
    """A run that failed twice, by different steps: each retry forgets its own failure."""
    ledger = Ledger()
    first, second = noting(ledger, "first", failures=1), noting(ledger, "second", failures=1)
    tried = noting(ledger, "tried", failures=1)

    @workflow
    async def main(run: Run) -> list[Any]:
        try:
            found = await run.step(tried)
        except StepFailed as error:
            found = error.message
        return [found, await run.step(first), await run.step(second)]

    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        for name in ("first 1", "second 1"):
            with pytest.raises(RunFailed, match=name):
                await handle.result()
            await handle.retry()
        assert await handle.result() == ["tried 1", "first", "second"]
        forgets = [event.data["forgets"]["records"] for event in await events_of(handle, "run.reopened")]
        assert forgets == [[["0/main#1", "first"]], [["0/main#1", "second"]]]
    assert (ledger.count("tried"), ledger.count("first"), ledger.count("second")) == (1, 2, 2)


# --- a cancelled parent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
async def test_6_a_retry_of_a_cancelled_parent_spawns_anew_the_children_that_were_cancelled_with_it(dies: bool) -> None:
    """Each exactly once; a child that had ended before, well or not, is what it was."""
    ledger = Ledger()
    paying = noting(ledger, "pay", kind="once")

    @workflow
    async def child(run: Run, name: str) -> str:
        ledger.note(f"child {name}")
        if name == "done":
            return await run.step(paying)
        return f"{name}: {await run.wait_for('go')}"

    @workflow
    async def main(run: Run) -> list[Any]:
        done = await run.spawn(child, "done")
        stopped = await run.spawn(child, "stopped", key="stopped")
        found = [await done.result()]
        try:
            await stopped.result()
        except ChildFailed:
            found.append("stopped")
        waited = [await run.spawn(child, name, key=name) for name in ("a", "b")]
        return found + [await one.result() for one in waited]

    store = memory()
    runtime = await opened(store, main, child)
    handle: Any = await runtime.start(main, id="r1")
    await ledger.reaches("child stopped")
    spawned = await seen(handle, "child.spawned", 2)
    await reaches(runtime.run(spawned.data["child"]), "waiting")
    await runtime.cancel(spawned.data["child"])
    await ledger.reaches("child a")
    await ledger.reaches("child b")
    await seen(handle, "wait.opened", 3)
    await handle.cancel()
    with pytest.raises(RunCancelled):
        await handle.result()
    if dies:
        await die(runtime)
        runtime = await opened(store, main, child)
        handle = runtime.run("r1")
    await handle.retry()
    await ledger.reaches("child a", 2)
    await ledger.reaches("child b", 2)
    rows = [row for row in await runtime.runs() if row.status not in ("cancelled", "completed") and row.run_id != "r1"]
    assert len(rows) == 2
    for row in rows:
        await runtime.signal("go", "now", run_id=row.run_id)
    assert await handle.result() == ["pay", "stopped", "a: now", "b: now"]
    assert await runtime.store.count_runs() == {"completed": 4, "cancelled": 3}
    counts = {name: ledger.count(name) for name in ("pay", "child done", "child stopped", "child a", "child b")}
    assert counts == {"pay": 1, "child done": 1, "child stopped": 1, "child a": 2, "child b": 2}
    await handle.verify()
    await runtime.close()


async def test_6_a_retry_of_a_cancelled_parent_may_come_before_its_children_have_ended() -> None:
    """A child is in a `once` step, which has its grace, when its parent is opened again: it is not waited for."""
    ledger = Ledger()
    go = asyncio.Event()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("pay")
        if ledger.count("pay") == 1:
            await go.wait()
        return f"receipt {ledger.count('pay')}"

    @workflow
    async def child(run: Run) -> str:
        return await run.step(pay)

    @workflow
    async def main(run: Run) -> str:
        spawned = await run.spawn(child)
        return str(await spawned.result())

    async with witnessed(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("pay")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        await handle.retry()
        assert await handle.result() == "receipt 2"
        go.set()
        (first,) = [row for row in await runtime.runs() if row.parent_id is not None and row.status != "completed"]
        with pytest.raises(RunCancelled):
            await runtime.run(first.run_id).result()
    assert ledger.count("pay") == 2
