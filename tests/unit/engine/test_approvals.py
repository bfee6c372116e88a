"""Questions that carry what is to be approved, answers that name what was seen, and answers that come too late."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import rfc8785

from perdure import Run, RunHandle, Runtime, Secret, current_step, step, workflow
from perdure.core.errors import (
    AnswerRefusedError,
    ArtifactNotFoundError,
    CommandConflictError,
    InputError,
    QuestionExpiredError,
    RunFailed,
    RunParkedError,
    StaleApprovalError,
    WaitClosedError,
)
from perdure.engine.watching import Question
from tests.unit.engine.evidence import HeldStore, check_journals, recovered, witnessed
from tests.unit.engine.staging import StageClock, die, events_of, journal, kinds, memory, on_disk, opened, reaches

pytestmark = pytest.mark.time_limit(20)

PAYMENT = {"to": "Ada", "amount": 12.5, "currency": "EUR", "lines": [1, 2.0, None, True]}
OTHER_HASH = sha256(b"something else").hexdigest()


def hash_of(value: Any) -> str:
    """By another implementation than the one under test."""
    return sha256(rfc8785.dumps(value)).hexdigest()


def approving(value: Any = PAYMENT, **options: Any) -> Any:
    """A workflow that asks to approve a value."""

    @workflow(name="main")
    async def main(run: Run) -> Any:
        return await run.ask("Approve?", approve=value, **({"choices": ["yes", "no"]} | options))

    return main


async def asked(runtime: Runtime, handle: RunHandle[Any]) -> Question:
    """The open question of a run."""
    await reaches(handle, "waiting")
    (question,) = await runtime.questions(handle.id)
    return question


# --- the value and its hash -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [PAYMENT, None, False, 0, "", [], "ü€", [1.0, 1e21, {"b": 1, "a": 2}]])
async def test_a_question_carries_the_value_and_the_hash_of_its_canonical_json(value: Any) -> None:
    main = approving(value)
    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        question = await asked(runtime, handle)
        assert question.approve == value
        assert question.hash == hash_of(value)
        await handle.answer("yes", saw=hash_of(value))
        assert await handle.result() == "yes"


async def test_a_large_value_goes_by_reference_under_its_hash() -> None:
    large = {"text": "long " * 40_000}
    main = approving(large)
    store = memory()
    async with witnessed(store, main) as runtime:
        handle = await runtime.start(main)
        question = await asked(runtime, handle)
        assert (question.approve, question.hash) == (large, hash_of(large))
        (event,) = await events_of(handle, "wait.opened")
        assert event.data["question"]["approve"] == {"$artifact": question.hash}
        assert len(event.payload) < 2000
        assert orjson.loads(await store.get_artifact(question.hash)) == large
        await handle.answer("no", saw=question.hash)
        assert await handle.result() == "no"


async def test_a_value_that_is_lost_hides_the_questions_of_no_other_run(caplog: pytest.LogCaptureFixture) -> None:
    main, store = approving({"text": "long " * 40_000}), memory()

    @workflow
    async def other(run: Run) -> str:
        answer: str = await run.ask("Well?")
        return answer

    async with Runtime(store, workflows=[main, other]) as runtime:
        damaged = await runtime.start(main)
        question = await asked(runtime, damaged)
        fine = await runtime.start(other)
        await reaches(fine, "waiting")
        del store._artifacts[question.hash or ""]
        assert [one.run_id for one in await runtime.questions()] == [fine.id]
        with pytest.raises(ArtifactNotFoundError):
            await runtime.questions(damaged.id)
    assert f"run {damaged.id}: its questions cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("options", "answer", "result"),
    [
        ({"choices": None}, "any text", "any text"),
        ({"choices": None, "kind": "confirm"}, False, False),
        ({"kind": "multiple"}, ["no", "yes"], ["no", "yes"]),
    ],
)
async def test_every_kind_of_question_may_ask_to_approve(options: dict[str, Any], answer: Any, result: Any) -> None:
    main = approving(**options)
    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        await asked(runtime, handle)
        with pytest.raises(AnswerRefusedError):
            await handle.answer(answer)
        await handle.answer(answer, saw=hash_of(PAYMENT))
        assert await handle.result() == result


async def test_what_is_approved_is_what_is_recorded_and_secrets_are_not() -> None:
    secret = "canary-0123456789"

    @step(kind="read")
    async def reveal(reference: Secret) -> int:
        return len(current_step().reveal(reference))

    @workflow
    async def main(run: Run) -> Any:
        await run.step(reveal, Secret("env:CANARY"))
        return await run.ask("Approve?", approve={"header": f"Bearer {secret}"})

    async with recovered(memory(), main, main, key="ask", options={"environ": {"CANARY": secret}}) as (runtime, handle):
        question = await asked(runtime, handle)
        assert question.approve == {"header": "Bearer [secret env:CANARY]"}
        assert question.hash == hash_of(question.approve)
        assert all(secret.encode() not in event.payload for event in await journal(handle))
        await handle.answer("so be it", saw=question.hash)
        assert await handle.result() == "so be it", "the value is redacted after a restart as well: no drift"


@pytest.mark.parametrize("given", [{"to": "canary-0123456789"}, {"to": "canary-0123456789", "text": "long " * 40_000}])
async def test_a_secret_that_becomes_known_after_the_question_makes_no_other_question_of_it(given: Any) -> None:
    """The value was given before anybody knew that it is one; the code that runs again gives it again."""

    @step(kind="idempotent")
    async def reveal(reference: Secret) -> int:
        return len(current_step().reveal(reference))

    @workflow
    async def main(run: Run, given: dict[str, str]) -> str:
        answer: str = await run.ask("Approve?", choices=["yes", "no"], approve=given)
        await run.step(reveal, Secret("env:CANARY"))
        await run.wait_for("go")
        return answer

    store, environ = memory(), {"CANARY": "canary-0123456789"}
    first = await opened(store, main, environ=environ)
    handle = await first.start(main, given)
    question = await asked(first, handle)
    assert question.hash == hash_of(given)
    await handle.answer("yes", saw=question.hash)
    async for event in handle.events():
        if event.kind == "wait.opened" and event.key == "wait_for.go":
            break
    await reaches(handle, "waiting")
    await die(first)
    async with witnessed(store, main, environ=environ) as runtime:
        await runtime.signal("go", run_id=handle.id)
        assert await runtime.run(handle.id).result() == "yes"


async def test_a_value_of_the_shape_of_a_secret_is_not_asked_about() -> None:
    main = approving({"key": "ghp_" + "a1B2" * 9})
    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed) as caught:
            await handle.result()
        assert caught.value.ids["error"]["code"] == "secret_shape"
        assert "wait.opened" not in await kinds(handle)


async def test_changed_code_that_asks_to_approve_something_else_is_drift() -> None:
    new = approving(PAYMENT | {"amount": 12_500})
    async with recovered(memory(), approving(), new, key="ask") as (runtime, handle):
        (question,) = await runtime.questions(handle.id)
        await handle.answer("yes", saw=question.hash)
        with pytest.raises(RunParkedError) as caught:
            await handle.result()
        assert caught.value.ids["reason"] == "drift"


# --- what an answer names ---------------------------------------------------------------------------------------------


async def test_an_answer_names_the_hash_that_was_seen_or_is_refused_without_a_trace() -> None:
    main = approving()
    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        question = await asked(runtime, handle)
        before = await kinds(handle)
        with pytest.raises(AnswerRefusedError, match="does not say what was seen") as refused:
            await handle.answer("yes")
        assert "--saw" in refused.value.hint
        for saw in (OTHER_HASH, "", question.hash[:12], question.hash.upper()):
            with pytest.raises(StaleApprovalError) as stale:
                await handle.answer("yes", saw=saw)
            assert (stale.value.code, stale.value.category) == ("approval_stale", "conflict")
            assert question.hash not in str(stale.value.to_dict()), "it is to be looked at, not copied from the refusal"
        assert await kinds(handle) == before
        await runtime.answer(handle.id, "yes", saw=question.hash, actor="person:ada", via="service:desk")
        with pytest.raises(WaitClosedError):
            await handle.answer("no", wait_id=question.wait_id, saw=question.hash)
        assert await handle.result() == "yes"
        (event,) = await events_of(handle, "wait.answered")
        assert (event.actor, event.data["saw"], event.data["via"]) == ("person:ada", question.hash, "service:desk")


async def test_a_hash_for_a_question_that_carries_nothing_is_refused() -> None:
    @workflow
    async def main(run: Run) -> Any:
        return await run.ask("Well?")

    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        question = await asked(runtime, handle)
        assert (question.approve, question.hash) == (None, None)
        with pytest.raises(AnswerRefusedError, match="nothing to approve"):
            await handle.answer("yes", saw=OTHER_HASH)
        await handle.answer("yes")
        assert await handle.result() == "yes"
        (event,) = await events_of(handle, "wait.answered")
        assert set(event.data) == {"wait_id", "answer"}


async def test_a_resend_is_harmless_and_its_id_with_another_hash_is_a_conflict() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> Any:
        answer = await run.ask("Approve?", approve=PAYMENT, timeout="1h")
        await run.wait_for("go")
        return answer

    async with witnessed(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.settle()
        (question,) = await runtime.questions(handle.id)
        await handle.answer("yes", saw=question.hash, command_id="c1")
        await clock.advance("2h")
        await handle.answer("yes", saw=question.hash, command_id="c1")
        for saw in (OTHER_HASH, None):
            with pytest.raises(CommandConflictError):
                await handle.answer("yes", saw=saw, command_id="c1")
        assert len(await events_of(handle, "wait.answered")) == 1
        await handle.signal("go")
        assert await clock.until(handle.result()) == "yes"


async def test_an_id_that_was_used_without_a_hash_is_in_conflict_with_one() -> None:
    @workflow
    async def main(run: Run) -> Any:
        return [await run.ask("Well?"), await run.wait_for("go")]

    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        await asked(runtime, handle)
        await handle.answer("yes", command_id="c1")
        with pytest.raises(CommandConflictError):
            await handle.answer("yes", saw=OTHER_HASH, command_id="c1")
        await handle.signal("go", 1)
        assert await handle.result() == ["yes", 1]


# --- declining --------------------------------------------------------------------------------------------------------


async def test_a_question_with_one_choice_can_be_declined_where_it_says_so() -> None:
    main = approving(choices=["go on"], declinable=True)
    plain = approving(choices=["go on"])
    for definition, declinable in ((main, True), (plain, False)):
        async with witnessed(memory(), definition) as runtime:
            handle = await runtime.start(definition)
            question = await asked(runtime, handle)
            assert question.declinable is declinable
            if declinable:
                with pytest.raises(AnswerRefusedError):
                    await handle.answer("false", saw=question.hash)
                await handle.answer(False, saw=question.hash)
                assert await handle.result() is False
            else:
                with pytest.raises(AnswerRefusedError):
                    await handle.answer(False, saw=question.hash)


@pytest.mark.parametrize("options", [{"choices": None}, {"choices": None, "kind": "confirm"}, {"kind": "multiple"}])
async def test_only_a_single_choice_can_be_declined(options: dict[str, Any]) -> None:
    main = approving(declinable=True, **options)
    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed) as caught:
            await handle.result()
        assert caught.value.ids["error"]["code"] == InputError.code


# --- too late ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", ["no", None])
async def test_an_answer_after_the_deadline_is_refused_though_no_worker_has_recorded_the_timeout(
    default: str | None,
) -> None:
    clock = StageClock()
    store = memory()
    main = approving(timeout="1h", **({} if default is None else {"default": default}))
    first = await opened(store, main, clock=clock)
    handle = await first.start(main, id="r1")
    await clock.settle()
    (question,) = await first.questions()
    await die(first)
    await clock.advance("1h")
    async with Runtime(store, execute=False, clock=clock) as clerk:
        before = await kinds(clerk.run("r1"))
        assert "wait.resolved" not in before
        for saw in (question.hash, None):
            with pytest.raises(QuestionExpiredError) as caught:
                await clerk.answer("r1", "yes", saw=saw)
        assert (caught.value.code, caught.value.category) == ("question_expired", "state")
        assert await kinds(clerk.run("r1")) == before
    async with Runtime(store, workflows=[main], clock=clock) as second:
        handle = second.run("r1")
        if default is None:
            with pytest.raises(RunFailed) as failed:
                await clock.until(handle.result(), at_most="1m")
            assert failed.value.ids["error"]["code"] == "wait_timeout"
        else:
            assert await clock.until(handle.result(), at_most="1m") == default
        (event,) = await events_of(handle, "wait.resolved")
        assert event.data["outcome"] == "timed_out"
    await check_journals(store)


async def test_an_answer_in_the_last_millisecond_counts_though_the_timer_is_due_before_anybody_takes_it() -> None:
    clock = StageClock()
    store = memory()
    main = approving(timeout="1h", default="no")
    first = await opened(store, main, clock=clock)
    await first.start(main, id="r1")
    await clock.settle()
    (question,) = await first.questions()
    await die(first)
    await clock.advance("3599.999s")
    async with Runtime(store, execute=False, clock=clock) as clerk:
        await clerk.answer("r1", "yes", saw=question.hash)
    await clock.advance("1h")
    async with Runtime(store, workflows=[main], clock=clock) as second:
        handle = second.run("r1")
        assert await clock.until(handle.result(), at_most="1m") == "yes"
        assert await events_of(handle, "wait.resolved") == []
    await check_journals(store)


async def test_the_timers_of_a_cancelled_run_have_stopped_and_its_question_may_be_answered() -> None:
    clock = StageClock()
    main = approving(timeout="1h", default="no")
    async with witnessed(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.settle()
        (question,) = await runtime.questions()
        await handle.cancel(reason="enough")
        await clock.settle()
        assert await handle.status() == "cancelled"
        await clock.advance("3h")
        await handle.answer("yes", wait_id=question.wait_id, saw=question.hash)
        (event,) = await events_of(handle, "wait.answered")
        assert event.data["answer"] == "yes"
        with pytest.raises(WaitClosedError):
            await handle.answer("no", wait_id=question.wait_id, saw=question.hash)


@pytest.mark.parametrize("first", ["answer", "timeout"])
async def test_an_answer_at_the_deadline_is_taken_or_refused_and_never_lost(first: str) -> None:
    """The one whose event is on its way when the other one comes."""
    clock = StageClock()
    inner = memory()
    held = HeldStore(inner)
    main = approving(timeout="5s", default="no")  # before the worker lets go of it
    runtime = await opened(held, main, clock=clock)
    handle = await runtime.start(main, id="r1")
    question = await asked(runtime, handle)
    held.hold()
    if first == "answer":
        sending = asyncio.ensure_future(handle.answer("yes", saw=question.hash))
        assert await held.held() == ["wait.answered"]
        (timer,) = [timer for timer in clock._timers if not timer.cancelled]
        assert timer.due_ms == question.deadline_ms
        clock._jump(timer)  # while the answer is on its way
        held.let_pass()
        await sending
    else:
        advancing = asyncio.ensure_future(clock.advance("5s"))
        assert "wait.resolved" in await held.held()
        with pytest.raises(QuestionExpiredError):
            await handle.answer("yes", saw=question.hash)
        held.let_pass()
        await advancing
    assert await clock.until(handle.result(), at_most="1m") == ("yes" if first == "answer" else "no")
    settled = await kinds(handle)
    assert settled.count("wait.answered") == (first == "answer")
    assert settled.count("wait.resolved") == (first == "timeout")
    await die(runtime)
    await check_journals(inner)


# --- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
async def test_a_worker_that_dies_between_the_answer_and_its_use_loses_nothing(tmp_path: Path, large: bool) -> None:
    value = {"text": "x" * (100_000 if large else 10)}
    main = approving(value)
    path = tmp_path / "runs.db"
    first = await opened(on_disk(path), main)
    handle = await first.start(main, id="r1")
    question = await asked(first, handle)
    await die(first)
    async with Runtime(on_disk(path), execute=False) as clerk:
        assert (await clerk.questions())[0] == question, "what is to be approved is the same after the death"
        await clerk.answer("r1", "yes", saw=question.hash)
    for _ in range(2):  # the second time it is ended already
        async with Runtime(on_disk(path), workflows=[main]) as second:
            assert await second.run("r1").result() == "yes"
            assert len(await events_of(second.run("r1"), "wait.opened", "wait.answered")) == 2


async def test_who_owns_the_loop_names_what_was_seen_as_well() -> None:
    main = approving()
    async with witnessed(memory(), main) as runtime:
        handle = await runtime.start(main, caller_owned=True)
        tick = await runtime.tick(handle.id, max_steps=5)
        (question,) = await runtime.questions(handle.id)
        assert tick.waits == (question.wait_id,)
        with pytest.raises(AnswerRefusedError):
            await runtime.resume(handle.id, question.wait_id, "yes")
        await runtime.resume(handle.id, question.wait_id, "yes", saw=question.hash)
        assert (await runtime.tick(handle.id, max_steps=5)).ended
        assert await handle.result() == "yes"
