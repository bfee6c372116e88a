"""Rules of section 6: what may follow a terminal event, what a retry forgets, and how pause and cancel end a turn."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from perdure import Backoff, Run, RunHandle, Runtime, StepFailed, step, workflow
from perdure.core.errors import (
    ChildFailed,
    NotInDoubtError,
    NotReopenableError,
    RunCancelled,
    RunConflictError,
    RunEndedError,
    RunFailed,
    RunParkedError,
    StateError,
    WaitClosedError,
    WaitNotFoundError,
)
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    journal,
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


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def turns(count: int = 300) -> None:
    """Let everything that is ready have its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def refused_everything(runtime: Runtime, handle: RunHandle[Any]) -> None:
    """Every command that a run which has ended must refuse, or take as said already; nothing is written."""
    before = await kinds(handle)
    with pytest.raises(RunEndedError):
        await handle.signal("go")
    with pytest.raises(RunEndedError):
        await handle.pause()
    with pytest.raises(RunEndedError):
        await handle.resume()
    if await handle.status() == "cancelled":
        await handle.cancel()
    else:
        with pytest.raises(RunEndedError):
            await handle.cancel()
    with pytest.raises((RunEndedError, WaitNotFoundError)):
        await handle.answer("yes")
    with pytest.raises((RunEndedError, NotInDoubtError)):
        await runtime.resolve(handle.id, "fail")
    await turns()
    assert await kinds(handle) == before


# --- a terminal event closes the run ----------------------------------------------------------------------------------


async def test_completed_is_final() -> None:
    @workflow
    async def main(run: Run) -> int:
        return 7

    store = memory()
    async with running(store, main) as runtime:
        handle = await runtime.start(main, id="r1")
        assert await handle.result() == 7
        await refused_everything(runtime, handle)
        with pytest.raises(NotReopenableError):
            await handle.retry()
    async with running(store, main) as second:
        assert await second.run("r1").result() == 7
        assert (await kinds(second.run("r1")))[-1] == "run.completed"


async def test_failed_refuses_all_but_a_retry() -> None:
    @workflow
    async def main(run: Run) -> None:
        raise ValueError("no")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed, match="no") as raised:
            await handle.result()
        assert raised.value.ids["error"]["type"] == "ValueError"
        await refused_everything(runtime, handle)


async def test_cancelled_refuses_all_but_a_retry() -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("never")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.cancel(reason="enough")
        with pytest.raises(RunCancelled) as raised:
            await handle.result()
        assert raised.value.ids["reason"] == "enough"
        await refused_everything(runtime, handle)


async def test_nothing_follows_the_end_when_work_that_cannot_be_stopped_comes_back_late() -> None:
    """A thread ends after its run did."""
    begun, let_go = threading.Event(), threading.Event()

    @step(kind="idempotent")
    def send() -> str:
        begun.set()
        let_go.wait()
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    async with running(memory(), main, limits=quick()) as runtime:
        handle = await runtime.start(main)
        await asyncio.to_thread(begun.wait)
        await handle.cancel()
        await seen(handle, "run.cancelled")
        let_go.set()
        await asyncio.to_thread(begun.wait)
        await turns()
        assert (await kinds(handle))[-1] == "run.cancelled"


async def test_what_was_never_read_and_who_still_runs_is_listed_at_the_end() -> None:
    @workflow
    async def child(run: Run) -> None:
        await run.wait_for("never")

    @workflow
    async def main(run: Run) -> str:
        spawned = await run.spawn(child)
        await run.wait_for("go")
        return spawned.id

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.signal("other", 1)
        await handle.signal("go")
        child_id = await handle.result()
        (ended,) = await events_of(handle, "run.completed")
        assert [signal["name"] for signal in ended.data["unread_signals"]] == ["other"]
        assert ended.data["live_children"] == [child_id]
        assert await runtime.run(child_id).status() == "waiting"  # it goes on by itself


# --- answers and resolutions after the end ----------------------------------------------------------------------------


async def test_a_cancelled_runs_open_question_can_be_answered_and_its_timer_has_stopped() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> str:
        return str(await run.ask("Publish?", choices=["yes", "no"], timeout="1h", default="no"))

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        (question,) = await runtime.questions(handle.id)
        await handle.cancel()
        await seen(handle, "run.cancelled")
        await clock.advance("2h")
        assert (await kinds(handle))[-1] == "run.cancelled"
        assert await runtime.questions(handle.id) == [question]
        await handle.answer("yes", wait_id=question.wait_id)
        assert (await kinds(handle))[-1] == "wait.answered"
        assert await handle.status() == "cancelled"
        with pytest.raises(WaitClosedError):
            await handle.answer("no", wait_id=question.wait_id)
        await handle.retry()
        assert await handle.result() == "yes"  # the answer is a fact


async def test_questions_of_a_completed_or_failed_run_are_closed() -> None:
    @step(kind="read")
    async def fails() -> None:
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        async def late() -> None:
            await run.wait_for("go")
            await run.step(fails)

        await run.gather(run.ask("Publish?"), late())

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        (question,) = await runtime.questions(handle.id)
        await handle.signal("go")
        await seen(handle, "run.failed")
        assert await runtime.questions(handle.id) == []
        with pytest.raises(RunEndedError):
            await handle.answer("yes", wait_id=question.wait_id)


async def test_waits_of_a_cancelled_run_other_than_questions_are_closed() -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.gather(run.ask("Publish?"), run.wait_for("go"), run.sleep("1h"))

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.cancel()
        await seen(handle, "run.cancelled")
        places = await runtime.store.open_waits(run_id=handle.id)
        assert [place.wait.kind for place in places] == ["question"]
        assert [wait["kind"] for wait in (await handle.fold()).to_dict()["waits"]] == ["question"]
        with pytest.raises(WaitNotFoundError):
            await runtime.signal("go")


async def test_a_step_in_doubt_can_be_resolved_after_the_run_failed(ledger: Ledger) -> None:
    @step(kind="once")
    async def pay() -> int:
        ledger.note("pay")
        raise ConnectionResetError("lost")

    @step(kind="read")
    async def fails() -> None:
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> list[Any]:
        async def late() -> None:
            await run.wait_for("go")
            await run.step(fails)

        return await run.gather(run.step(pay), late())

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.signal("go")
        await seen(handle, "run.failed")
        await runtime.resolve(handle.id, "done", value=3)
        assert await handle.status() == "failed"
        assert (await kinds(handle))[-1] == "step.resolved"
    assert ledger.count("pay") == 1


# --- retry ------------------------------------------------------------------------------------------------------------


async def test_a_retry_forgets_exactly_the_failure_that_ended_the_run(ledger: Ledger) -> None:
    @step(kind="once")
    async def pay() -> str:
        ledger.note("pay")
        return "receipt"

    @step(kind="read")
    async def caught() -> None:
        ledger.note("caught")
        raise KeyError("caught")

    @step(kind="idempotent", retries=1, backoff=Backoff(initial_s=0.0))
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") <= 2:
            raise ConnectionError("down")
        return "sent"

    @workflow
    async def main(run: Run) -> list[Any]:
        receipt = await run.step(pay)
        try:
            await run.step(caught)
        except StepFailed as error:
            run.state["caught"] = error.error_type
        return [receipt, run.state["caught"], await run.step(send)]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed, match="down"):
            await handle.result()
        await runtime.retry(handle.id, reason="it is up again", actor="ada")
        assert await handle.result() == ["receipt", "KeyError", "sent"]
        (reopened,) = await events_of(handle, "run.reopened")
        assert (reopened.actor, reopened.data["reason"]) == ("ada", "it is up again")
        assert reopened.data["forgets"]["records"] == [["0/main#1", "send"]]
        assert [kind for kind in await kinds(handle) if kind in ("run.failed", "run.completed")] == [
            "run.failed",
            "run.completed",
        ]
        with pytest.raises(NotReopenableError):
            await handle.retry()
    assert (ledger.count("pay"), ledger.count("caught"), ledger.count("send")) == (1, 1, 3)


async def test_a_retried_step_keeps_its_idempotency_key_and_has_its_attempts_again(ledger: Ledger) -> None:
    @step(kind="idempotent", retries=1, backoff=Backoff(initial_s=0.0))
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") <= 3:
            raise ConnectionError("down")
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed):
            await handle.result()
        await handle.retry()
        assert await handle.result() == "sent"
        intents = await events_of(handle, "step.intended")
        assert [event.data["attempt"] for event in intents] == [1, 2, 1, 2]
        assert len({event.data["idempotency_key"] for event in intents}) == 1


async def test_each_retry_allows_one_more_terminal_event(ledger: Ledger) -> None:
    @step(kind="read")
    async def look() -> int:
        ledger.note("look")
        if ledger.count("look") < 4:
            raise ValueError(f"no {ledger.count('look')}")
        return ledger.count("look")

    @workflow
    async def main(run: Run) -> int:
        return await run.step(look)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        for number in (1, 2, 3):
            with pytest.raises(RunFailed, match=f"no {number}"):
                await handle.result()
            await handle.retry(command_id=f"c{number}")
            await handle.retry(command_id=f"c{number}")  # a resend is recognised
        assert await handle.result() == 4
        assert len(await events_of(handle, "run.reopened")) == 3
        await handle.verify()


async def test_a_failure_of_the_workflows_own_code_is_forgotten_too(ledger: Ledger) -> None:
    @step(kind="once")
    async def pay() -> str:
        ledger.note("pay")
        return "receipt"

    @workflow
    async def main(run: Run) -> str:
        receipt: str = await run.step(pay)
        ledger.note("code")
        if ledger.count("code") == 1:
            raise RuntimeError("a bug that was mended since")
        return receipt

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed, match="mended"):
            await handle.result()
        await handle.retry()
        assert await handle.result() == "receipt"
    assert ledger.count("pay") == 1


async def test_a_retry_forgets_the_failure_in_a_branch_and_its_join_and_keeps_its_siblings(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        if number == 2 and ledger.count("send 2") == 1:
            await ledger.reaches("send 0")
            await ledger.reaches("send 1")
            raise ConnectionError("down")
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        return await run.map(send, range(4), limit=3)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed):
            await handle.result()
        await handle.retry()
        assert await handle.result() == [0, 1, 2, 3]
    assert ledger.count("send 2") == 2
    assert {ledger.count("send 0"), ledger.count("send 1")} == {1}


async def test_a_question_beside_the_failure_is_open_again_after_a_retry(ledger: Ledger) -> None:
    @step(kind="read")
    async def fails() -> str:
        ledger.note("fails")
        if ledger.count("fails") == 1:
            raise ValueError("no")
        return "looked"

    @workflow
    async def main(run: Run) -> list[Any]:
        async def late() -> str:
            await run.wait_for("go")
            return await run.step(fails)

        return await run.gather(run.ask("Publish?"), late(), run.wait_for("price"))

    store = memory()
    async with running(store, main) as runtime:
        handle = await runtime.start(main, id="r1")
        await reaches(handle, "waiting")
        (before,) = await runtime.questions()
        await handle.signal("go")
        await seen(handle, "run.failed")
        assert await runtime.questions() == []
        await handle.retry()
        await reaches(handle, "waiting")
        assert await runtime.questions() == [before]
        await runtime.signal("price", 3)  # found by its name alone
        await handle.answer("yes")
        assert await handle.result() == ["yes", "looked", 3]


async def test_a_retry_of_a_cancelled_run_goes_on_where_it_was(ledger: Ledger) -> None:
    clock = StageClock()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("pay")
        return "receipt"

    @workflow
    async def main(run: Run) -> list[Any]:
        receipt = await run.step(pay)
        await run.sleep("1h")
        return [receipt, await run.wait_for("go")]

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("10m")
        await handle.cancel()
        await seen(handle, "run.cancelled")
        await clock.advance("3h")
        await handle.retry()
        await clock.settle()
        await runtime.signal("go", 1)
        assert await handle.result() == ["receipt", 1]
        assert (await kinds(handle)).count("run.cancelled") == 1
    assert ledger.count("pay") == 1


async def test_a_retry_of_a_cancelled_run_asks_about_the_step_in_doubt(ledger: Ledger) -> None:
    clock = StageClock()

    @step(kind="once")
    async def pay() -> int:
        ledger.note("pay")
        await for_ever()
        return 0

    @workflow
    async def main(run: Run) -> int:
        return await run.step(pay)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("pay")
        await handle.cancel()
        await clock.advance(60)
        await seen(handle, "run.cancelled")
        await handle.retry()
        await reaches(handle, "waiting")
        await runtime.resolve(handle.id, "done", value=9)
        assert await handle.result() == 9
    assert ledger.count("pay") == 1


async def test_a_run_that_has_not_ended_is_not_retried() -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        with pytest.raises(NotReopenableError):
            await handle.retry()
        await handle.pause()
        with pytest.raises(NotReopenableError):
            await handle.retry()


async def test_a_retry_is_refused_once_the_parent_took_the_outcome(ledger: Ledger) -> None:
    @workflow
    async def child(run: Run) -> str:
        ledger.note("child")
        if ledger.count("child") < 3:
            raise ValueError("no")
        return "grown"

    @workflow
    async def main(run: Run) -> str:
        spawned = await run.spawn(child)
        run.state["child"] = spawned.id
        await run.wait_for("go")
        try:
            return str(await spawned.result())
        except ChildFailed as error:
            await run.wait_for("end")
            return error.message

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        child_handle = runtime.run((await handle.state())["child"])
        await seen(child_handle, "run.failed")
        await child_handle.retry()  # nobody took the outcome yet
        await seen(child_handle, "run.failed", 2)
        await handle.signal("go")
        await seen(handle, "child.settled")
        before = await kinds(child_handle)
        with pytest.raises(NotReopenableError, match="parent took"):
            await child_handle.retry()
        assert await kinds(child_handle) == before
        await handle.signal("end")
        assert "no" in await handle.result()


async def test_a_retried_child_gives_its_parent_the_new_outcome(ledger: Ledger) -> None:
    @workflow
    async def child(run: Run) -> str:
        ledger.note("child")
        if ledger.count("child") == 1:
            raise ValueError("no")
        return "grown"

    @workflow
    async def main(run: Run) -> str:
        spawned = await run.spawn(child)
        run.state["child"] = spawned.id
        await run.wait_for("go")
        return str(await spawned.result())

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        child_handle = runtime.run((await handle.state())["child"])
        await seen(child_handle, "run.failed")
        await child_handle.retry()
        assert await child_handle.result() == "grown"
        await handle.signal("go")
        assert await handle.result() == "grown"


async def test_a_parent_that_failed_because_of_its_child_spawns_another_when_it_is_retried(ledger: Ledger) -> None:
    @workflow
    async def child(run: Run) -> str:
        ledger.note("child")
        if ledger.count("child") == 1:
            raise ValueError("no")
        return "grown"

    @workflow
    async def main(run: Run) -> str:
        spawned = await run.spawn(child)
        return str(await spawned.result())

    async with running(memory(), main, child) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed, match="no"):
            await handle.result()
        await handle.retry()
        assert await handle.result() == "grown"


async def test_a_retry_survives_a_crash(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") == 1:
            raise ConnectionError("down")
        if ledger.count("send") == 2:
            await for_ever()
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    first = await opened(store, main)
    handle = await first.start(main, id="r1")
    await seen(handle, "run.failed")
    await handle.retry()
    await ledger.reaches("send", 2)
    await die(first)
    async with running(store, main) as second:
        assert await second.run("r1").result() == "sent"
    assert ledger.count("send") == 3


# --- any other resume of an ended run ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
async def test_any_other_resume_of_an_ended_run_returns_its_outcome_and_writes_nothing(
    ending: str, ledger: Ledger
) -> None:
    store = memory()

    @workflow
    async def main(run: Run, topic: str = "x") -> str:
        ledger.note("code")
        if ending == "failed":
            raise ValueError("no")
        if ending == "cancelled":
            await run.wait_for("never")
        return "done"

    async def outcome(handle: RunHandle[str]) -> str:
        try:
            return await handle.result()
        except (RunFailed, RunCancelled) as error:
            return error.code

    async with running(store, main) as runtime:
        handle = await runtime.start(main, "a", id="r1")
        if ending == "cancelled":
            await reaches(handle, "waiting")
            await handle.cancel()
        first = await outcome(handle)
    for _ in range(2):
        async with running(store, main) as runtime:
            again = await runtime.start(main, "a", id="r1")
            assert await outcome(again) == first
            with pytest.raises(RunConflictError):
                await runtime.start(main, "b", id="r1")
            with pytest.raises(RunEndedError):
                await again.resume()
    async with running(store, main) as runtime:
        assert (
            sum(kind.startswith("run.") for kind in await kinds(runtime.run("r1")))
            == {
                "completed": 2,
                "failed": 2,
                "cancelled": 4,
            }[ending]
        )
    assert ledger.count("code") == 1


# --- cancel -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", [True, False])
async def test_a_cancel_before_the_start_ends_the_run_without_running_any_of_its_code(
    loaded: bool, ledger: Ledger
) -> None:
    store = memory()

    @workflow
    async def main(run: Run) -> None:
        ledger.note("code")

    async with running(store, *([main] if loaded else []), execute=False) as clerk:
        handle = await clerk.start(main, id="r1")
        await handle.cancel(reason="never mind")
        with pytest.raises(RunCancelled):
            await handle.result()
        assert await kinds(handle) == ["run.started", "run.cancel_requested", "run.cancelled"]
    async with running(store, main):
        await turns()
    assert ledger.lines == []


async def test_a_cancel_in_a_step_ends_it_at_once_unless_it_is_once(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("begun")
        try:
            await for_ever()
        finally:
            ledger.note("ended")

    @workflow
    async def main(run: Run) -> None:
        try:
            await run.step(send)
        finally:
            ledger.note("code unwound")

    async with running(memory(), main, limits=quick(cancel_grace_s=60.0)) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("begun")
        await handle.cancel()
        with pytest.raises(RunCancelled) as raised:
            await handle.result()
        assert "in_doubt" not in raised.value.ids
    assert ledger.lines == ["begun", "ended", "code unwound"]


async def test_code_that_catches_everything_cannot_go_on_after_a_cancel(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("begun")
        await for_ever()

    @step(kind="once")
    async def pay() -> None:
        ledger.note("paid")

    @workflow
    async def main(run: Run) -> None:
        for _ in range(3):
            try:
                await run.step(send)
            except BaseException:
                ledger.note("caught")
        await run.step(pay)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("begun")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
    assert ledger.lines == ["begun", "caught", "caught", "caught"]


async def test_a_cancel_in_backoff_ends_it_at_once(ledger: Ledger) -> None:
    clock = StageClock()

    @step(kind="idempotent", retries=5, backoff=Backoff(initial_s=3600.0, max_s=3600.0))
    async def send() -> None:
        ledger.note("send")
        raise ConnectionError("down")

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        await clock.advance("5h")
    assert ledger.count("send") == 1


@pytest.mark.parametrize("kind", ["question", "signal", "timer", "child"])
@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_cancel_in_a_wait_ends_the_run(kind: str, in_memory: bool, ledger: Ledger) -> None:
    @workflow
    async def child(run: Run) -> None:
        await run.wait_for("never")

    @workflow
    async def main(run: Run) -> None:
        if kind == "question":
            await run.ask("Publish?")
        elif kind == "signal":
            await run.wait_for("go")
        elif kind == "timer":
            await run.sleep("30d")
        else:
            await (await run.spawn(child)).result()

    async with running(memory(), main, child, limits=quick(linger_s=60.0 if in_memory else 0.02)) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        if not in_memory:
            await until(lambda: handle.id not in runtime.worker.executions)
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()
        await turns()
        assert (await kinds(handle))[-1] == "run.cancelled"


async def test_a_cancel_of_a_paused_or_parked_run_ends_it(ledger: Ledger) -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.pause()
        await reaches(handle, "paused")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()


async def test_a_cancel_does_not_wait_for_a_step_that_a_pause_lets_end(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("begun")
        await for_ever()

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    async with running(memory(), main, limits=quick()) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("begun")
        await handle.pause()
        await seen(handle, "run.paused")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()


async def test_a_cancel_goes_down_the_tree(ledger: Ledger) -> None:
    @workflow
    async def leaf(run: Run, name: str) -> None:
        run.state["at"] = name
        await run.wait_for("never")

    @workflow
    async def branch(run: Run, name: str) -> None:
        spawned = [await run.spawn(leaf, f"{name}{number}") for number in range(2)]
        for one in spawned:
            await one.result()

    @workflow
    async def main(run: Run) -> None:
        spawned = [await run.spawn(branch, name) for name in "ab"]
        for one in spawned:
            await one.result()

    store = memory()
    async with running(store, main, branch, leaf) as runtime:
        handle = await runtime.start(main)
        await settled_tree(runtime, 7)
        await handle.cancel(reason="enough")
        with pytest.raises(RunCancelled):
            await handle.result()
        rows = await runtime.runs()
        for row in rows:
            with pytest.raises(RunCancelled):
                await runtime.run(row.run_id).result()
        assert len(rows) == 7
        leaf_row = next(row for row in rows if row.workflow == "leaf")
        (requested,) = await events_of(runtime.run(leaf_row.run_id), "run.cancel_requested")
        assert requested.data["reason"] == "parent cancelled: parent cancelled: enough"


async def settled_tree(runtime: Runtime, count: int) -> None:
    """Wait until so many runs wait."""
    with runtime.hub.watch(None) as grown:
        while (await runtime.store.count_runs()).get("waiting", 0) < count:
            grown.clear()
            await grown.wait()


async def test_a_cancel_goes_down_the_tree_when_nobody_executes_it() -> None:
    store = memory()

    @workflow
    async def leaf(run: Run) -> None:
        await run.wait_for("never")

    @workflow
    async def main(run: Run) -> None:
        await (await run.spawn(leaf)).result()

    first = await opened(store, main, leaf)
    handle = await first.start(main, id="r1")
    await settled_tree(first, 2)
    await die(first)
    async with running(store) as clerk:  # it has loaded neither
        await clerk.cancel("r1")
        handle = clerk.run("r1")
        with pytest.raises(RunCancelled):
            await handle.result()
        assert await clerk.store.count_runs() == {"cancelled": 2}


async def test_a_cancelled_sync_workflow_unwinds_and_its_once_step_has_its_grace(ledger: Ledger) -> None:
    go_on = asyncio.Event()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("begun")
        await go_on.wait()
        return "receipt"

    @workflow
    def main(run: Any) -> None:
        try:
            run.step(pay)
        finally:
            ledger.lines.append("code unwound")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("begun")
        await handle.cancel()
        await turns()
        assert await handle.status() != "cancelled"
        go_on.set()
        with pytest.raises(RunCancelled) as raised:
            await handle.result()
        assert "in_doubt" not in raised.value.ids
        assert "step.completed" in await kinds(handle)
        await until(lambda: "code unwound" in ledger.lines)


# --- pause ------------------------------------------------------------------------------------------------------------


async def test_a_pause_lets_steps_in_flight_end_and_begins_nothing_new(ledger: Ledger) -> None:
    go_on, store = asyncio.Event(), memory()

    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        await go_on.wait()
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        return [await run.step(send, number) for number in range(3)]

    async with running(store, main) as runtime:
        handle = await runtime.start(main, id="r1")
        await ledger.reaches("send 0")
        await handle.pause()
        await handle.pause()  # said already
        await seen(handle, "run.paused")
        go_on.set()
        await seen(handle, "step.completed")
        await turns()
        assert ledger.lines == ["send 0"]
        assert await handle.status() == "paused"
        with pytest.raises(RunParkedError):
            await handle.result()
        assert len(await events_of(handle, "run.paused")) == 1
    async with running(store, main) as second:
        await turns()
        assert ledger.lines == ["send 0"]  # nobody claims a paused run
        await second.unpause("r1")
        assert await second.run("r1").result() == [0, 1, 2]
        with pytest.raises(RunEndedError):
            await second.unpause("r1")
    assert ledger.lines == ["send 0", "send 1", "send 2"]


async def test_only_a_paused_run_is_resumed() -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        with pytest.raises(StateError, match="not paused"):
            await handle.resume()


async def test_while_a_run_is_paused_answers_and_signals_are_kept_and_timers_wait() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> list[Any]:
        return await run.gather(run.ask("Publish?"), run.wait_for("price"), run.sleep("1h"))

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.pause()
        await clock.settle()
        await handle.answer("yes")
        await handle.signal("price", 7)
        await clock.advance("3h")
        assert await handle.status() == "paused"
        assert "wait.resolved" not in await kinds(handle)
        await handle.resume()
        assert await handle.result() == ["yes", 7, None]


async def test_a_pause_in_backoff_keeps_the_due_time(ledger: Ledger) -> None:
    clock = StageClock()

    @step(kind="read", retries=1, backoff=Backoff(initial_s=100.0, max_s=100.0, jitter=0.0))
    async def look() -> str:
        ledger.note(str(clock.passed_ms))
        if len(ledger.lines) == 1:
            raise ConnectionError("down")
        return "seen"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await handle.pause()
        await clock.advance(50)
        await handle.resume()
        await clock.advance(40)
        assert ledger.lines == ["0"]
        await clock.advance(10)
        assert await handle.result() == "seen"
    assert ledger.lines == ["0", "100000"]


async def test_a_pause_before_the_start_holds_the_run(ledger: Ledger) -> None:
    store = memory()

    @workflow
    async def main(run: Run) -> str:
        ledger.note("code")
        return "done"

    async with running(store, main, execute=False) as clerk:
        await clerk.start(main, id="r1")
        await clerk.pause("r1")
    async with running(store, main) as runtime:
        await turns()
        assert ledger.lines == []
        await runtime.unpause("r1")
        assert await runtime.run("r1").result() == "done"


async def test_a_pause_reaches_a_run_in_another_process(store_path: Any, ledger: Ledger) -> None:
    go_on = asyncio.Event()

    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        await go_on.wait()
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        return [await run.step(send, number) for number in range(2)]

    async with running(on_disk(store_path), main) as worker, running(on_disk(store_path), execute=False) as clerk:
        await worker.start(main, id="r1")
        await ledger.reaches("send 0")
        await clerk.pause("r1")
        go_on.set()
        await seen(worker.run("r1"), "step.completed")
        await until(lambda: "r1" not in worker.worker.executions)
        assert ledger.lines == ["send 0"]
        await clerk.unpause("r1")
        assert await clerk.run("r1").result() == [0, 1]
        await journal(clerk.run("r1"))
