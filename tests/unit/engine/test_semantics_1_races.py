"""Rules of section 1: what comes in between an append that is under way and its commit, and what must not get lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, RunHandle, Runtime, step, workflow
from perdure.core.errors import CommandConflictError, RunCancelled, WaitNotFoundError, WaitTimeout
from perdure.engine.large import resolved
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import HeldStore, KeptOpen, check_journals, witnessed
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    kinds,
    on_disk,
    opened,
    quick,
    reaches,
    seen,
)

pytestmark = pytest.mark.time_limit(20)
LARGE = "x" * 100_000


@asynccontextmanager
async def two_faces(
    *workflows: Any, disk: Path | None = None, **options: Any
) -> AsyncIterator[tuple[Runtime, HeldStore, Runtime]]:
    """A runtime that executes, on a store whose commits can be held up, and one that only commands, on the same."""
    inner = MemoryStore() if disk is None else on_disk(disk / "runs.db")
    outer = KeptOpen(inner) if disk is None else on_disk(disk / "runs.db")
    held = HeldStore(inner)
    async with Runtime(outer, execute=False) as outside, Runtime(held, workflows=workflows, **options) as runtime:
        try:
            yield runtime, held, outside
        finally:
            held.let_pass()
    await inner.close()
    await check_journals(inner)


# --- artifacts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["answer", "signal"])
@pytest.mark.parametrize("on_file", [False, True], ids=["memory", "sqlite"])
async def test_1_an_artifact_is_committed_with_its_event_also_when_a_command_came_before_it(
    on_file: bool, command: str, tmp_path: Path
) -> None:
    """The append that was refused is sent again, and what its events name with it."""
    go = asyncio.Event()

    @step(kind="read")
    async def look() -> str:
        await go.wait()
        return LARGE

    @workflow
    async def main(run: Run) -> list[Any]:
        return await run.gather(run.ask("Well?"), run.step(look))

    async with two_faces(main, disk=tmp_path if on_file else None) as (runtime, held, outside):
        handle: RunHandle[Any] = await runtime.start(main)
        await seen(handle, "wait.opened")
        held.hold()
        go.set()
        await held.until_held("step.completed")
        if command == "answer":
            await outside.answer(handle.id, "yes")
        else:
            await outside.signal("noise", run_id=handle.id)
        held.let_pass()
        if command == "signal":
            await handle.answer("yes")
        assert await handle.result() == ["yes", LARGE]
        (fact,) = await events_of(handle, "step.completed")
        assert fact.seq > (await events_of(handle, "wait.answered", "signal.received"))[0].seq
        assert fact.data["result"] != LARGE, "it is kept by reference"
        assert await resolved(outside.store, fact.data["result"]) == LARGE


# --- suspension -------------------------------------------------------------------------------------------------------


async def test_1_a_run_is_not_suspended_while_a_task_of_its_authors_is_in_a_step() -> None:
    """One strand waits for a person; the other is at work, for longer than waiting runs are kept in memory."""
    ledger = Ledger()
    go = asyncio.Event()

    @step(kind="read")
    async def look() -> str:
        ledger.note("look")
        await go.wait()
        return "looked"

    @workflow
    async def main(run: Run) -> list[Any]:
        async def ask() -> Any:
            async with run.branch("ask") as branch:
                return await branch.ask("Well?")

        async def work() -> Any:
            async with run.branch("work") as branch:
                return await branch.step(look)

        return list(await asyncio.gather(work(), ask()))

    clock = StageClock()
    async with witnessed(MemoryStore(), main, clock=clock, limits=quick(linger_s=1.0)) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "wait.opened")
        await ledger.reaches("look")
        await clock.advance("1m")
        assert handle.id in runtime.worker.executions, "it is not let go of beside its work"
        assert await handle.status() == "running"
        assert "run.suspended" not in await kinds(handle)
        go.set()
        await handle.answer("yes")
        assert await handle.result() == ["looked", "yes"]
    assert ledger.count("look") == 1


async def test_1_a_run_is_not_suspended_while_a_strand_is_about_to_go_on() -> None:
    """One strand's signal has come, and before its turn does the other one begins to wait."""
    ledger = Ledger()
    go = asyncio.Event()
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @step(kind="read")
    async def look() -> str:
        ledger.note("look")
        await go.wait()
        return "looked"

    @workflow
    async def main(run: Run) -> list[Any]:
        async def signalled() -> str:
            await run.wait_for("go")
            return str(await run.step(look))

        async def asks() -> Any:
            await turn
            return await run.ask("Well?")

        return await run.gather(signalled(), asks())

    clock = StageClock()
    async with witnessed(MemoryStore(), main, clock=clock, limits=quick(linger_s=1.0)) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "wait.opened")
        execution = runtime.worker.executions[handle.id]
        settle = execution.settle

        def settle_after_the_others_turn(waiter: Any, event: Any) -> None:
            if not turn.done():
                turn.set_result(None)
            settle(waiter, event)

        execution.settle = settle_after_the_others_turn  # type: ignore[method-assign]
        await handle.signal("go")
        await ledger.reaches("look")
        await seen(handle, "wait.opened", 2)
        await clock.advance("1m")
        assert handle.id in runtime.worker.executions, "it is not let go of beside its work"
        assert await handle.status() == "running"
        assert "run.suspended" not in await kinds(handle)
        go.set()
        await handle.answer("yes")
        assert await handle.result() == ["looked", "yes"]
    assert ledger.count("look") == 1


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
async def test_1_a_cancel_that_comes_before_the_suspension_is_not_lost(dies: bool) -> None:
    """It stands before `run.suspended`, which is withdrawn: whoever reads the index finds a run that is to be ended."""

    @workflow
    async def main(run: Run) -> Any:
        return await run.ask("Well?")

    inner = MemoryStore()
    held = HeldStore(inner)
    runtime = await opened(held, main)
    held.hold()
    starting = asyncio.ensure_future(runtime.start(main, id="r1"))
    async with Runtime(KeptOpen(inner), execute=False) as outside:
        await held.until_held("run.suspended")
        await outside.cancel("r1", reason="enough")
        held.let_pass(hold_next=dies)
        if dies:
            await held.until_held("run.cancelled")
            await die(runtime)
            runtime = await opened(KeptOpen(inner), main)
        await starting
        handle = runtime.run("r1")
        with pytest.raises(RunCancelled):
            await handle.result()
        found = await kinds(handle)
        assert "run.suspended" not in found
        assert found[-1] == "run.cancelled"
        assert found.count("run.cancel_requested") == 1
    await runtime.close()
    await check_journals(inner)


# --- a timeout against a signal ---------------------------------------------------------------------------------------


@workflow
async def hesitates(run: Run) -> list[Any]:
    try:
        found = await run.wait_for("price", timeout="5s")
    except WaitTimeout:
        found = "timed out"
    return [found, await run.wait_for("go")]


@pytest.mark.parametrize("first", ["signal", "timeout"])
@pytest.mark.parametrize("sender", ["here", "outside"])
async def test_1_a_timeout_against_a_signal_the_lower_seq_wins_live_and_after_a_restart(
    first: str, sender: str
) -> None:
    clock = StageClock()
    inner = MemoryStore()
    held = HeldStore(inner)
    runtime = await opened(held, hesitates, clock=clock)
    handle: RunHandle[Any] = await runtime.start(hesitates, id="r1")
    await reaches(handle, "waiting")
    async with Runtime(KeptOpen(inner), execute=False, clock=clock) as outside:
        commander = outside if sender == "outside" else runtime
        held.hold()
        if first == "timeout":
            advancing = asyncio.ensure_future(clock.advance("2m"))
            assert "wait.resolved" in await held.held()
            if sender == "outside":  # it is committed, and not heard of yet
                held.let_pass()
                await seen(handle, "wait.resolved")
            sending = asyncio.ensure_future(commander.signal("price", 7, run_id="r1"))
            held.let_pass()
        elif sender == "outside":
            advancing = asyncio.ensure_future(clock.advance("2m"))
            assert "wait.resolved" in await held.held()
            sending = asyncio.ensure_future(commander.signal("price", 7, run_id="r1"))
            await sending
            held.let_pass()
        else:
            sending = asyncio.ensure_future(commander.signal("price", 7, run_id="r1"))
            assert "signal.received" in await held.held()
            (timer,) = [timer for timer in clock._timers if not timer.cancelled]
            clock._jump(timer)  # while the signal is on its way
            advancing = asyncio.ensure_future(clock.advance("0s"))
            held.let_pass()
        await sending
        await advancing
        await seen(handle, "wait.opened", 2)
        expected = 7 if first == "signal" else "timed out"
        (resolution,) = await events_of(handle, "wait.resolved")
        assert resolution.data["outcome"] == ("signal" if first == "signal" else "timed_out")
        await die(runtime)
    async with witnessed(inner, hesitates, clock=clock) as second:
        await second.signal("go", "on", run_id="r1")
        handle = second.run("r1")
        assert await handle.result() == [expected, "on"]
        (ended,) = await events_of(handle, "run.completed")
        unread = [signal["name"] for signal in ended.data.get("unread_signals", ())]
        assert unread == ([] if first == "signal" else ["price"])


# --- commands on a run that is executed here --------------------------------------------------------------------------


async def test_1_a_command_is_decided_on_what_is_committed_and_not_on_what_its_executor_is_about_to_append() -> None:
    """A question that is not durable has been asked of nobody."""

    @workflow
    async def main(run: Run) -> Any:
        await run.wait_for("go")
        return await run.ask("Well?")

    inner = MemoryStore()
    held = HeldStore(inner)
    async with Runtime(held, workflows=[main]) as runtime:
        handle: RunHandle[Any] = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.signal("go")
        execution = runtime.worker.executions[handle.id]
        held.hold()
        await held.until_held("wait.opened")
        assert [waiter.kind for waiter in execution.waiters.values()] == ["question"]
        with pytest.raises(WaitNotFoundError):
            await handle.answer("yes")
        held.let_pass()
        await seen(handle, "wait.opened", 2)
        await handle.answer("yes")
        assert await handle.result() == "yes"
    await check_journals(inner)


async def test_1_a_command_is_decided_on_what_others_have_committed_though_its_executor_has_not_heard_of_it() -> None:
    """The executor knows nothing of the pause; a resume that was decided on what it knows would be refused."""

    @workflow
    async def main(run: Run) -> Any:
        return await run.ask("Well?")

    async with two_faces(main) as (runtime, _, outside):
        handle: RunHandle[Any] = await runtime.start(main)
        await reaches(handle, "waiting")
        await outside.pause(handle.id)
        assert runtime.worker.executions[handle.id].log.state.paused is None
        await handle.resume()
        assert (await kinds(handle))[-2:] == ["run.paused", "run.resumed"]
        await handle.answer("yes")
        assert await handle.result() == "yes"


@pytest.mark.parametrize("on_file", [False, True], ids=["memory", "sqlite"])
async def test_1_commands_with_one_id_that_come_at_the_same_time_are_one(on_file: bool, tmp_path: Path) -> None:
    """From here and from another process: one is appended, and each sender hears that it was taken."""

    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.ask("Well?"), await run.wait_for("price")]

    async with two_faces(main, disk=tmp_path if on_file else None) as (runtime, _, outside):
        handle: RunHandle[Any] = await runtime.start(main)
        await reaches(handle, "waiting")
        both = (runtime, outside) * 5
        await asyncio.gather(*(face.answer(handle.id, "yes", command_id="c1") for face in both))
        sent = [face.signal("price", 7, run_id=handle.id, command_id="c2") for face in both]
        conflicting = [face.pause(handle.id, command_id="c1") for face in both]
        outcomes = await asyncio.gather(*sent, *conflicting, return_exceptions=True)
        assert outcomes[:10] == [handle.id] * 10
        assert {type(outcome) for outcome in outcomes[10:]} == {CommandConflictError}
        assert await handle.result() == ["yes", 7]
        commands = await events_of(handle, "wait.answered", "signal.received", "run.paused")
        assert [event.data["command_id"] for event in commands] == ["c1", "c2"]
