"""Rules of section 4: when a `once` step is in doubt, and who resolves it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from perdure import Backoff, Done, NotDone, RetryAfter, Run, RunHandle, Runtime, StepFailed, Unknown, step, workflow
from perdure.core.errors import (
    AnswerRefusedError,
    InputError,
    InputTypeError,
    NotInDoubtError,
    RunCancelled,
    RunFailed,
    StepNotFoundError,
)
from perdure.workflow.steps import Step
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    journal,
    kinds,
    memory,
    opened,
    quick,
    reaches,
    running,
    seen,
    until,
)

pytestmark = pytest.mark.time_limit(20)
NO_DELAY = Backoff(initial_s=0.0)


def refused(status: int, headers: dict[str, str] | None = None) -> Exception:
    error = Exception(f"status {status}")
    error.response = SimpleNamespace(status_code=status, headers=headers or {})  # type: ignore[attr-defined]
    return error


def paying(ledger: Ledger, act: Callable[[int], Any], **options: Any) -> Step[..., Any]:
    """A `once` step: it notes that it was called, and does what `act` says for the call's number."""

    @step(kind="once", **options)
    async def pay() -> int:
        ledger.note("pay")
        outcome = act(ledger.count("pay"))
        if isinstance(outcome, BaseException):
            raise outcome
        return await outcome if asyncio.iscoroutine(outcome) else outcome

    return pay


def calling(made: Step[..., Any]) -> Any:
    """A workflow that calls one step and says how that ended."""

    @workflow(name="main")
    async def main(run: Run) -> Any:
        try:
            return await run.step(made)
        except StepFailed as error:
            return f"{error.error_code}: {error.message}"

    return main


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def doubt_of(runtime: Runtime, run_id: str) -> Any:
    """The question about a step in doubt."""
    await reaches(runtime.run(run_id), "waiting")
    (question,) = await runtime.questions(run_id)
    assert question.kind == "doubt"
    return question


# --- what is an answer ------------------------------------------------------------------------------------------------


async def test_a_returned_value_is_an_answer() -> None:
    ledger = Ledger()
    main = calling(paying(ledger, lambda _: 7))
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == 7
        assert "step.doubted" not in await kinds(handle)


async def test_an_error_listed_in_not_done_is_an_answer_and_retries_apply() -> None:
    ledger = Ledger()
    pay = paying(
        ledger,
        lambda n: ConnectionRefusedError("nobody there") if n < 3 else n,
        not_done=(ConnectionRefusedError,),
        retries=2,
        backoff=NO_DELAY,
    )
    main = calling(pay)
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == 3
        assert "step.doubted" not in await kinds(handle)


async def test_an_error_listed_in_not_done_is_raised_when_attempts_are_used_up() -> None:
    ledger = Ledger()
    main = calling(paying(ledger, lambda _: ConnectionRefusedError("nobody there"), not_done=ConnectionRefusedError))
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "exception: nobody there"
        assert "step.doubted" not in await kinds(handle)


@pytest.mark.parametrize("refusal", [RetryAfter(5.0), refused(429, {"retry-after": "5"})])
async def test_429_is_an_answer_for_once_and_is_waited_for(refusal: Exception) -> None:
    clock, ledger = StageClock(), Ledger()
    main = calling(paying(ledger, lambda n: refusal if n < 3 else n))
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance(10)
        assert await handle.result() == 3
        assert "step.doubted" not in await kinds(handle)


async def test_429_without_a_delay_is_an_answer_too() -> None:
    ledger = Ledger()
    main = calling(paying(ledger, lambda n: refused(429) if n < 2 else n, retries=1, backoff=NO_DELAY))
    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == 2


async def test_503_is_no_answer_for_once() -> None:
    ledger = Ledger()
    main = calling(paying(ledger, lambda _: refused(503, {"retry-after": "1"}), retries=5))
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await doubt_of(runtime, handle.id)
    assert ledger.count("pay") == 1


# --- what leaves it in doubt ------------------------------------------------------------------------------------------


async def test_any_other_exception_leaves_once_in_doubt_whatever_retries_says() -> None:
    ledger = Ledger()
    main = calling(paying(ledger, lambda _: ConnectionResetError("reset"), retries=9, not_done=ConnectionRefusedError))
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await doubt_of(runtime, handle.id)
        (doubted,) = await events_of(handle, "step.doubted")
        assert doubted.data["error"]["message"] == "reset"
    assert ledger.count("pay") == 1


async def test_a_timeout_leaves_once_in_doubt_whatever_retries_says() -> None:
    clock, ledger = StageClock(), Ledger()
    main = calling(paying(ledger, lambda _: for_ever(), retries=9, timeout="5s"))
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("pay")
        await clock.advance(60)
        await doubt_of(runtime, handle.id)
    assert ledger.count("pay") == 1


async def test_a_crash_leaves_once_in_doubt_whatever_retries_says() -> None:
    ledger, store = Ledger(), memory()
    main = calling(paying(ledger, lambda _: for_ever(), retries=9))
    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("pay")
    await die(first)
    async with running(store, main) as second:
        await doubt_of(second, "r1")
    assert ledger.count("pay") == 1


async def test_a_lost_thread_leaves_once_in_doubt_whatever_retries_says() -> None:
    clock, ledger, let_go = StageClock(), Ledger(), threading.Event()

    @step(kind="once", retries=9, timeout="5s")
    def pay() -> None:
        ledger.lines.append("pay")
        let_go.wait()

    main = calling(pay)
    async with running(memory(), main, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.intended")
        await clock.advance(60)
        await doubt_of(runtime, handle.id)
        assert [event.data["cause"] for event in await events_of(handle, "step.abandoned")] == ["timeout"]
        assert ledger.count("pay") == 1
        let_go.set()


async def test_a_cancellation_from_within_leaves_once_in_doubt() -> None:
    ledger = Ledger()
    main = calling(paying(ledger, lambda _: asyncio.CancelledError()))
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed):
            await handle.result()
        assert [event.data["cause"] for event in await events_of(handle, "step.doubted")] == ["the call was cancelled"]
    assert ledger.count("pay") == 1


# --- shields ----------------------------------------------------------------------------------------------------------


async def test_once_in_flight_is_shielded_from_a_siblings_failure() -> None:
    ledger, go_on = Ledger(), asyncio.Event()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("begun")
        await go_on.wait()
        ledger.note("paid")
        return "receipt"

    @step(kind="idempotent")
    async def slow() -> None:
        ledger.note("slow begun")
        try:
            await for_ever()
        finally:
            ledger.note("slow ended")

    @step(kind="read")
    async def fails() -> None:
        await ledger.reaches("begun")
        await ledger.reaches("slow begun")
        raise ValueError("sibling")

    @workflow
    async def main(run: Run) -> None:
        await run.gather(run.step(pay), run.step(fails), run.step(slow))

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.failed")
        await ledger.reaches("slow ended")  # what may be repeated is ended
        assert "paid" not in ledger.lines
        go_on.set()
        with pytest.raises(RunFailed, match="sibling"):
            await handle.result()
        assert [event.data["result"] for event in await events_of(handle, "step.completed")] == ["receipt"]
        assert "step.doubted" not in await kinds(handle)


async def test_once_in_flight_is_shielded_from_a_siblings_drift() -> None:
    ledger, go_on, store = Ledger(), asyncio.Event(), memory()
    asked = "old"

    @step(kind="once")
    async def pay() -> str:
        ledger.note("begun")
        await go_on.wait()
        return "receipt"

    @step(kind="idempotent")
    async def send(what: str) -> str:
        return what

    @workflow
    async def main(run: Run) -> None:
        async def left() -> None:
            await run.step(send, asked)
            await run.wait_for("go")
            await run.step(pay)

        async def right() -> None:
            await run.wait_for("never")

        await run.gather(left(), right())

    @workflow(name="main")
    async def changed(run: Run) -> None:
        async def left() -> None:
            await run.step(send, "old")
            await run.wait_for("go")
            await run.step(pay)

        async def right() -> None:
            await ledger.reaches("begun")
            await run.wait_for("another")

        await run.gather(left(), right())

    first = await opened(store, main)
    handle = await first.start(main, id="r1")
    await reaches(handle, "waiting")
    await die(first)
    async with running(store, changed) as second:
        handle = second.run("r1")
        await handle.signal("go")
        await seen(handle, "run.paused")
        go_on.set()
        await seen(handle, "step.completed", 2)
        assert await handle.status() == "paused"
        assert "step.doubted" not in await kinds(handle)


async def test_once_in_flight_is_shielded_from_drain() -> None:
    ledger, go_on = Ledger(), asyncio.Event()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("begun")
        await go_on.wait()
        return "receipt"

    main = calling(pay)
    store = memory()
    async with running(store, main) as runtime:
        await runtime.start(main, id="r1")
        await ledger.reaches("begun")
        draining = asyncio.ensure_future(runtime.drain())
        await until(lambda: runtime.worker._closing)
        go_on.set()
        await draining
    async with running(store, main) as second:
        assert await second.run("r1").result() == "receipt"
        assert "step.doubted" not in await kinds(second.run("r1"))
    assert ledger.count("begun") == 1


# --- cancel -----------------------------------------------------------------------------------------------------------


async def test_a_cancel_gives_once_a_grace_period_to_end() -> None:
    ledger, go_on = Ledger(), asyncio.Event()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("begun")
        await go_on.wait()
        return "receipt"

    main = calling(pay)
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("begun")
        await handle.cancel()
        await seen(handle, "run.cancel_requested")
        go_on.set()
        with pytest.raises(RunCancelled) as raised:
            await handle.result()
        assert "in_doubt" not in raised.value.ids
        assert [event.data["result"] for event in await events_of(handle, "step.completed")] == ["receipt"]


async def test_after_the_grace_period_the_run_ends_cancelled_and_lists_the_step_in_doubt() -> None:
    clock, ledger = StageClock(), Ledger()
    main = calling(paying(ledger, lambda _: for_ever()))
    async with running(memory(), main, clock=clock, limits=quick(cancel_grace_s=5.0)) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("pay")
        await handle.cancel(reason="enough")
        await clock.advance(4.9)
        assert await handle.status() != "cancelled"
        await clock.advance(0.2)
        with pytest.raises(RunCancelled) as raised:
            await handle.result()
        assert raised.value.ids["in_doubt"] == [{"scope": "0/main#1", "key": "pay"}]
        assert (await handle.fold()).in_doubt()[0][:2] == ("0/main#1", "pay")


async def test_a_cancelled_thread_of_once_is_listed_as_in_doubt_and_abandoned() -> None:
    clock, let_go, begun = StageClock(), threading.Event(), threading.Event()

    @step(kind="once")
    def pay() -> None:
        begun.set()
        let_go.wait()

    main = calling(pay)
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await asyncio.to_thread(begun.wait)
        await handle.cancel()
        await clock.advance(60)
        with pytest.raises(RunCancelled) as raised:
            await handle.result()
        assert raised.value.ids["in_doubt"] == [{"scope": "0/main#1", "key": "pay"}]
        assert [event.data["cause"] for event in await events_of(handle, "step.abandoned")] == ["cancelled"]
        let_go.set()


async def test_cancelling_a_run_whose_worker_is_gone_lists_what_was_in_flight_as_in_doubt() -> None:
    ledger, store = Ledger(), memory()
    main = calling(paying(ledger, lambda _: for_ever()))
    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("pay")
    await die(first)
    async with running(store) as second:  # it has not loaded the workflow
        await second.cancel("r1")
        with pytest.raises(RunCancelled) as raised:
            await second.run("r1").result()
        assert raised.value.ids["in_doubt"] == [{"scope": "0/main#1", "key": "pay"}]


async def test_a_step_of_a_cancelled_run_that_is_in_doubt_can_be_resolved() -> None:
    clock, ledger = StageClock(), Ledger()
    main = calling(paying(ledger, lambda _: for_ever()))
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("pay")
        await handle.cancel()
        await clock.advance(60)
        assert await handle.status() == "cancelled"
        await runtime.resolve(handle.id, "done", value=5, actor="ada")
        assert await handle.status() == "cancelled"
        last = (await journal(handle))[-1]
        assert (last.kind, last.data["value"], last.actor) == ("step.resolved", 5, "ada")
        with pytest.raises(NotInDoubtError):
            await runtime.resolve(handle.id, "fail")


# --- by policy and by probe -------------------------------------------------------------------------------------------


async def crashed_in_pay(pay: Step[..., Any], ledger: Ledger, **options: Any) -> tuple[Any, Any]:
    """A store with a run whose worker died inside `pay`."""
    store, main = memory(), calling(pay)
    first = await opened(store, main, **options)
    await first.start(main, id="r1")
    await ledger.reaches("pay")
    await die(first)
    return store, main


async def test_probe_done_gives_the_step_its_value() -> None:
    ledger = Ledger()

    async def probe() -> Done:
        ledger.note("probe")
        return Done(41)

    pay = paying(ledger, lambda _: for_ever(), probe=probe, timeout="1h")
    store, main = await crashed_in_pay(pay, ledger)
    async with running(store, main) as second:
        handle = second.run("r1")
        assert await handle.result() == 41
        (resolved,) = await events_of(handle, "step.resolved")
        assert (resolved.data["resolution"], resolved.data["by"]) == ("done", "probe")
    assert ledger.lines == ["pay", "probe"]


async def test_probe_not_done_tries_again() -> None:
    ledger = Ledger()

    def probe() -> Any:
        return NotDone

    pay = paying(ledger, lambda n: for_ever() if n == 1 else n, probe=probe, timeout="1h")
    store, main = await crashed_in_pay(pay, ledger)
    async with running(store, main) as second:
        assert await second.run("r1").result() == 2


@pytest.mark.parametrize("found", [Unknown, None, "nonsense", ValueError("the probe broke")])
async def test_probe_unknown_asks_a_person(found: Any) -> None:
    ledger = Ledger()

    async def probe() -> Any:
        ledger.note("probe")
        if isinstance(found, Exception):
            raise found
        return found

    pay = paying(ledger, lambda _: for_ever(), probe=probe, timeout="1h")
    store, main = await crashed_in_pay(pay, ledger)
    async with running(store, main) as second:
        await doubt_of(second, "r1")
        await second.resolve("r1", "done", value=3)
        assert await second.run("r1").result() == 3
    assert ledger.lines == ["pay", "probe"]


async def test_probe_is_given_the_recorded_input() -> None:
    ledger, store = Ledger(), memory()

    async def probe(amount: int, to: str) -> Done:
        return Done(f"{amount} to {to}")

    @step(kind="once", probe=probe, timeout="1h")
    async def pay(amount: int, to: str) -> str:
        ledger.note("pay")
        await for_ever()
        return ""

    @workflow
    async def main(run: Run) -> str:
        return await run.step(pay, 5, to="ada")

    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("pay")
    await die(first)
    async with running(store, main) as second:
        assert await second.run("r1").result() == "5 to ada"


async def test_a_probe_is_asked_after_a_timeout_too() -> None:
    clock, ledger = StageClock(), Ledger()

    async def probe() -> Done:
        return Done(1)

    main = calling(paying(ledger, lambda _: for_ever(), probe=probe, timeout="5s"))
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("pay")
        await clock.advance(10)
        assert await handle.result() == 1
    assert ledger.count("pay") == 1


async def test_in_doubt_fail_fails_the_step() -> None:
    ledger = Ledger()
    pay = paying(ledger, lambda _: ConnectionResetError("reset"), in_doubt="fail", retries=5)
    main = calling(pay)
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        assert str(await handle.result()).startswith("in_doubt: ")
        assert "step.doubted" in await kinds(handle)
    assert ledger.count("pay") == 1


async def test_in_doubt_retry_calls_it_again_under_the_same_idempotency_key() -> None:
    ledger = Ledger()
    pay = paying(ledger, lambda n: ConnectionResetError("reset") if n == 1 else n, in_doubt="retry", timeout="1h")
    main = calling(pay)
    clock = StageClock()
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance(10)
        assert await handle.result() == 2
        keys = {event.data["idempotency_key"] for event in await events_of(handle, "step.intended")}
        assert len(keys) == 1


async def test_in_doubt_retry_waits_between_attempts_and_then_asks_a_person() -> None:
    """A call that never gives an answer must not be repeated for ever, let alone without a pause."""
    clock, ledger = StageClock(), Ledger()
    backoff = Backoff(initial_s=10.0, factor=1.0, jitter=0.0)
    pay = paying(
        ledger, lambda _: ConnectionResetError("reset"), in_doubt="retry", timeout="1h", retries=3, backoff=backoff
    )
    main = calling(pay)
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.doubted")
        await clock.advance(9)
        assert ledger.count("pay") == 1
        await clock.advance(1)
        assert ledger.count("pay") == 2
        await clock.advance(1000)
        assert ledger.count("pay") == 4
        await doubt_of(runtime, handle.id)


async def test_a_probe_that_says_not_done_each_time_does_not_repeat_for_ever() -> None:
    clock, ledger = StageClock(), Ledger()

    async def probe() -> Any:
        return NotDone

    pay = paying(ledger, lambda _: ConnectionResetError("reset"), probe=probe, timeout="1h", retries=2)
    main = calling(pay)
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance(1000)
        assert await handle.result() == "exception: reset"
    assert ledger.count("pay") == 3


# --- by a person ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def waiting_in_doubt(runtime: Runtime, main: Any) -> RunHandle[Any]:
    handle = await runtime.start(main)
    await doubt_of(runtime, handle.id)
    return handle


async def test_a_person_says_done_with_the_value(ledger: Ledger) -> None:
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    async with running(memory(), main) as runtime:
        handle = await waiting_in_doubt(runtime, main)
        await runtime.resolve(handle.id, "done", value=12, actor="ada")
        assert await handle.result() == 12
        (resolved,) = await events_of(handle, "step.resolved")
        assert (resolved.actor, resolved.data["by"]) == ("ada", "person")
    assert ledger.count("pay") == 1


async def test_a_person_says_not_done_and_it_is_tried_again_with_all_its_attempts(ledger: Ledger) -> None:
    main = calling(
        paying(
            ledger,
            lambda n: [None, ValueError("lost"), KeyError("no"), 3][n],
            not_done=KeyError,
            retries=1,
            backoff=NO_DELAY,
        )
    )
    async with running(memory(), main) as runtime:
        handle = await waiting_in_doubt(runtime, main)
        await runtime.resolve(handle.id, "not_done")
        assert await handle.result() == 3
    assert ledger.count("pay") == 3


async def test_a_person_says_fail(ledger: Ledger) -> None:
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    async with running(memory(), main) as runtime:
        handle = await waiting_in_doubt(runtime, main)
        await runtime.resolve(handle.id, "fail")
        assert str(await handle.result()).startswith("in_doubt: ")
    assert ledger.count("pay") == 1


async def test_a_value_that_does_not_fit_the_return_type_is_refused_and_nothing_is_written(ledger: Ledger) -> None:
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    async with running(memory(), main) as runtime:
        handle = await waiting_in_doubt(runtime, main)
        before = await kinds(handle)
        with pytest.raises(InputTypeError):
            await runtime.resolve(handle.id, "done", value="twelve")
        with pytest.raises(InputError):
            await runtime.resolve(handle.id, "perhaps")
        with pytest.raises(StepNotFoundError):
            await runtime.resolve(handle.id, "done", step="other", value=12)
        wait_id = (await runtime.questions(handle.id))[0].wait_id
        with pytest.raises(AnswerRefusedError):
            await handle.answer("yes", wait_id=wait_id)
        assert await kinds(handle) == before
        await runtime.resolve(handle.id, "done", value=12)
        assert await handle.result() == 12


async def test_a_value_that_does_not_fit_is_asked_for_again_when_only_the_executor_can_tell(ledger: Ledger) -> None:
    store = memory()
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    first = await opened(store, main)
    await waiting_in_doubt(first, main)
    (question,) = await first.questions()
    await die(first)
    async with running(store, execute=False) as clerk:  # knows nothing of the step
        await clerk.resolve(question.run_id, "done", value="twelve")
    async with running(store, main) as second:
        handle = second.run(question.run_id)
        await seen(handle, "step.doubted", 2)
        await doubt_of(second, handle.id)
        await second.resolve(handle.id, "done", value=12)
        assert await handle.result() == 12
    assert ledger.count("pay") == 1


async def test_a_resolution_holds_over_restarts(ledger: Ledger) -> None:
    store = memory()
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    first = await opened(store, main)
    handle = await waiting_in_doubt(first, main)
    await die(first)
    async with running(store, execute=False) as clerk:
        await clerk.resolve(handle.id, "done", value=12)
    async with running(store, main) as second:
        assert await second.run(handle.id).result() == 12


async def test_a_second_resolution_is_refused_and_a_resend_is_recognised(ledger: Ledger) -> None:
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    async with running(memory(), main) as runtime:
        handle = await waiting_in_doubt(runtime, main)
        await runtime.pause(handle.id)
        await runtime.resolve(handle.id, "done", value=12, command_id="c1")
        before = await kinds(handle)
        await runtime.resolve(handle.id, "done", value=12, command_id="c1")
        with pytest.raises(NotInDoubtError):
            await runtime.resolve(handle.id, "fail", command_id="c2")
        assert await kinds(handle) == before
        await runtime.unpause(handle.id)
        assert await handle.result() == 12


async def test_a_doubt_survives_a_restart_as_the_same_question(ledger: Ledger) -> None:
    store = memory()
    main = calling(paying(ledger, lambda _: ValueError("lost")))
    first = await opened(store, main)
    handle = await waiting_in_doubt(first, main)
    (before,) = await first.questions()
    await die(first)
    async with running(store, main) as second:
        handle = second.run(handle.id)
        await reaches(handle, "waiting")
        assert await second.questions() == [before]
        await second.resolve(handle.id, "done", value=12)
        assert await handle.result() == 12
        assert len(await events_of(handle, "wait.opened")) == 1


async def test_several_doubts_of_one_run_are_separate_waits() -> None:
    @step(kind="once")
    async def pay(to: str) -> str:
        raise ConnectionResetError(to)

    @workflow
    async def main(run: Run) -> list[str]:
        return await run.map(pay, ["ada", "bob", "eve"])

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        questions = await runtime.questions(handle.id)
        assert len({question.wait_id for question in questions}) == 3
        with pytest.raises(StepNotFoundError, match="3 steps") as raised:
            await runtime.resolve(handle.id, "done", value="x")
        steps = raised.value.ids["steps"]
        await runtime.resolve(handle.id, "done", step=questions[1].wait_id, value="B")
        await runtime.resolve(handle.id, "done", step=steps[0], value="A")
        assert await handle.status() in ("waiting", "running")
        await runtime.resolve(handle.id, "done", value="C")  # only one is left
        assert await handle.result() == ["A", "B", "C"]


async def test_effects_beside_a_step_in_doubt_go_on() -> None:
    ledger = Ledger()

    @step(kind="once")
    async def pay() -> str:
        raise ConnectionResetError("lost")

    @step(kind="idempotent")
    async def send() -> str:
        ledger.note("send")
        return "sent"

    @workflow
    async def main(run: Run) -> list[Any]:
        return await run.gather(run.step(pay), run.step(send))

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("send")
        await doubt_of(runtime, handle.id)
        await runtime.resolve(handle.id, "done", value="paid")
        assert await handle.result() == ["paid", "sent"]


async def test_a_repeat_after_the_window_of_an_idempotent_step_counts_as_once() -> None:
    from perdure import idempotent

    clock, ledger, store = StageClock(), Ledger(), memory()

    @step(kind=idempotent(window="1h"))
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") == 1:
            await for_ever()
        return "sent"

    main = calling(send)
    first = await opened(store, main, clock=clock)
    await first.start(main, id="r1")
    await ledger.reaches("send")
    await die(first)
    await clock.advance("61m")
    async with running(store, main, clock=clock) as second:
        await doubt_of(second, "r1")
        assert ledger.count("send") == 1
        await second.resolve("r1", "not_done")
        await clock.settle()
        assert ledger.count("send") == 2
        assert await second.run("r1").result() == "sent"
