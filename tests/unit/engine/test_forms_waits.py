"""Waits through the engine: questions of all kinds, signals early and late, timers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, step, workflow
from perdure.core.errors import (
    AnswerRefusedError,
    InputError,
    InvalidIdError,
    RunEndedError,
    RunFailed,
    WaitClosedError,
    WaitNotFoundError,
    WaitTimeout,
)
from perdure.testing.clock import START
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
)

pytestmark = pytest.mark.time_limit(20)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def asking(**options: Any) -> Any:
    """A workflow that asks one question."""

    @workflow(name="main")
    async def main(run: Run) -> Any:
        return await run.ask("Well?", **options)

    return main


# --- questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "refused", "accepted", "result"),
    [
        ({}, [5, None, ["a"]], "free text", "free text"),
        ({"choices": ["yes", "no"]}, ["perhaps", "", 1, ["yes"], None], "no", "no"),
        ({"kind": "confirm"}, ["perhaps", 2, None], "No ", False),
        ({"kind": "confirm"}, [], True, True),
        ({"kind": "multiple", "choices": ["a", "b", "c"]}, [["d"], ["a", "a"], "d", [1]], ["c", "a"], ["c", "a"]),
        ({"kind": "multiple", "choices": ["a", "b"]}, [], [], []),
        ({"kind": "multiple", "choices": ["a", "b"]}, [], "b", ["b"]),
    ],
)
async def test_each_kind_of_question_takes_its_answers_and_refuses_others_without_a_trace(
    options: dict[str, Any], refused: list[Any], accepted: Any, result: Any
) -> None:
    main = asking(**options)
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        before = await kinds(handle)
        for answer in refused:
            with pytest.raises(AnswerRefusedError):
                await handle.answer(answer)
        assert await kinds(handle) == before
        await handle.answer(accepted)
        assert await handle.result() == result


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "choice"},
        {"kind": "text", "choices": ["a"]},
        {"choices": []},
        {"choices": ["a", "a"]},
        {"choices": ["a"], "default": "b"},
        {"kind": "confirm", "default": "perhaps"},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_before_it_is_asked(options: dict[str, Any]) -> None:
    main = asking(**options)
    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed):
            await handle.result()
        assert "wait.opened" not in await kinds(handle)


async def test_a_wrong_key_a_second_answer_and_a_closed_question_are_refused_and_nothing_changes() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        first = await run.ask("First?")
        return [first, await run.ask("Second?", choices=["a"])]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        (question,) = await runtime.questions()
        with pytest.raises(WaitNotFoundError):
            await handle.answer("x", wait_id="nonsense")
        await handle.answer("x", wait_id=question.wait_id, actor="ada", command_id="c1")
        await handle.answer("x", wait_id=question.wait_id, command_id="c1")  # a resend
        await reaches(handle, "waiting")
        before = await kinds(handle)
        with pytest.raises(WaitClosedError):
            await handle.answer("y", wait_id=question.wait_id)
        assert await kinds(handle) == before
        await handle.answer("a")
        assert await handle.result() == ["x", "a"]
        answers = await events_of(handle, "wait.answered")
        assert [event.actor for event in answers] == ["ada", "person"]


async def test_of_two_open_questions_an_answer_names_one() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        return await run.gather(run.ask("Left?"), run.ask("Right?"))

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        with pytest.raises(WaitNotFoundError, match="2 open questions"):
            await handle.answer("x")
        questions = await runtime.questions(handle.id)
        assert [question.text for question in questions] == ["Left?", "Right?"]
        await handle.answer("r", wait_id=questions[1].wait_id)
        await handle.answer("l")
        assert await handle.result() == ["l", "r"]


@pytest.mark.parametrize("default", ["no", None])
async def test_after_its_timeout_a_question_takes_its_default(default: str | None) -> None:
    clock = StageClock()
    options = {} if default is None else {"default": default}
    main = asking(choices=["yes", "no"], timeout="3d", **options)
    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("71h")
        (question,) = await runtime.questions()
        assert (question.default, question.has_default) == (default, default is not None)
        await clock.advance("2h")
        if default is None:
            with pytest.raises(RunFailed) as raised:
                await handle.result()
            assert raised.value.ids["error"]["code"] == "wait_timeout"
        else:
            assert await handle.result() == "no"
        with pytest.raises(RunEndedError):
            await handle.answer("yes", wait_id=question.wait_id)
        assert await runtime.questions() == []


async def test_a_timeout_can_be_caught(ledger: Ledger) -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.ask("Well?", timeout="1h")
        except WaitTimeout as error:
            return error.code
        return "answered"

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("2h")
        assert await handle.result() == "wait_timeout"


async def test_an_answer_before_the_timeout_wins_and_the_timer_does_nothing() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.ask("Well?", timeout="1h", default="none"), await run.wait_for("go")]

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("59m")
        await handle.answer("yes")
        await clock.advance("5h")
        await handle.signal("go", 1)
        assert await handle.result() == ["yes", 1]


async def test_a_question_is_answered_while_no_worker_is_there(store_path: Path) -> None:
    main = asking(choices=["yes", "no"])
    async with running(on_disk(store_path), main) as runtime:
        await reaches(await runtime.start(main, id="r1"), "waiting")
    async with running(on_disk(store_path), execute=False) as clerk:
        (question,) = await clerk.questions()
        await clerk.answer("r1", "yes", wait_id=question.wait_id)
    async with running(on_disk(store_path), main) as runtime:
        assert await runtime.run("r1").result() == "yes"


async def test_on_waiting_and_on_ended_are_told() -> None:
    main = asking()
    async with running(memory(), main) as runtime:
        waiting: asyncio.Queue[str] = asyncio.Queue()
        ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        runtime.on_waiting(waiting.put_nowait)
        runtime.on_ended(lambda run_id, status: ended.put_nowait((run_id, status)))
        handle = await runtime.start(main)
        assert await waiting.get() == handle.id
        await handle.answer("x")
        assert await ended.get() == (handle.id, "completed")


# --- signals ----------------------------------------------------------------------------------------------------------


async def test_signals_that_come_early_are_kept_in_order_and_each_is_delivered_once() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        await run.ask("Ready?", kind="confirm")
        return [await run.wait_for("price") for _ in range(3)] + [await run.wait_for("other")]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        for number in range(3):
            await handle.signal("price", number)
        await handle.signal("other", "x")
        await reaches(handle, "waiting")
        await handle.answer(True)
        assert await handle.result() == [0, 1, 2, "x"]
        assert len(await events_of(handle, "wait.resolved")) == 4


async def test_signals_sent_before_the_run_has_begun_are_kept() -> None:
    store = memory()

    @workflow
    async def main(run: Run) -> Any:
        return await run.wait_for("go")

    async with running(store, main, execute=False) as clerk:
        handle = await clerk.start(main, id="r1")
        await handle.signal("go", 1)
    async with running(store, main) as runtime:
        assert await runtime.run("r1").result() == 1


async def test_a_signal_is_matched_by_name_and_key() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        return [
            await run.wait_for("paid", match="order-2"),
            await run.wait_for("paid", match="order-1"),
            await run.wait_for("paid"),
        ]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await handle.signal("shipped", 0, match="order-2")
        await handle.signal("paid", 1, match="order-1")
        await handle.signal("paid", 3, match="order-3")
        await reaches(handle, "waiting")
        await handle.signal("paid", 2, match="order-2")
        assert await handle.result() == [2, 1, 3]
        (ended,) = await events_of(handle, "run.completed")
        assert [signal["name"] for signal in ended.data["unread_signals"]] == ["shipped"]


async def test_a_signal_with_a_senders_id_is_taken_once() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.wait_for("n"), await run.wait_for("n")]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        for payload in (1, 1, 1):
            await handle.signal("n", payload, sender_id="mail-7")
        await handle.signal("n", 2, sender_id="mail-8")
        await handle.signal("n", 3, command_id="c")
        assert await handle.result() == [1, 2]


async def test_a_signal_without_a_run_finds_the_one_that_waits() -> None:
    @workflow
    async def main(run: Run, order: str) -> Any:
        return await run.wait_for("paid", match=order)

    async with running(memory(), main) as runtime:
        first = await runtime.start(main, "order-1")
        second = await runtime.start(main, "order-2")
        for handle in (first, second):
            await reaches(handle, "waiting")
        with pytest.raises(WaitNotFoundError, match="more than one"):
            await runtime.signal("paid")
        with pytest.raises(WaitNotFoundError, match="no run"):
            await runtime.signal("paid", match="order-3")
        assert await runtime.signal("paid", 5, match="order-2") == second.id
        assert await second.result() == 5
        assert await first.status() == "waiting"


async def test_two_branches_that_wait_for_one_name_get_one_signal_each() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        return await run.gather(run.wait_for("n"), run.wait_for("n"))

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await handle.signal("n", 1)
        await handle.signal("n", 2)
        assert sorted(await handle.result()) == [1, 2]


async def test_a_signals_payload_is_validated_against_the_type_that_is_waited_for() -> None:
    @dataclass
    class Price:
        amount: int

    @workflow
    async def main(run: Run) -> int:
        price: Price = await run.wait_for("price", type=Price)
        return price.amount

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await handle.signal("price", {"amount": 4})
        assert await handle.result() == 4


async def test_a_wait_for_a_signal_times_out_with_or_without_a_default() -> None:
    clock, hours = StageClock(), timedelta(hours=2)

    @workflow
    async def main(run: Run) -> list[Any]:
        with suppress(WaitTimeout):
            await run.wait_for("a", timeout="1h")
        return [await run.wait_for("b", timeout=timedelta(hours=1), default={"n": 1}), run.now() == START + hours]

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("3h")
        assert await handle.result() == [{"n": 1}, True]


async def test_a_signal_taken_before_a_crash_is_not_delivered_again(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def hang() -> None:
        ledger.note("hang")
        if ledger.count("hang") == 1:
            await Ledger().reaches("never")

    @workflow
    async def main(run: Run) -> list[Any]:
        first = await run.wait_for("n")
        await run.step(hang)
        return [first, await run.wait_for("n")]

    first = await opened(store, main)
    handle = await first.start(main, id="r1")
    await handle.signal("n", 1)
    await ledger.reaches("hang")
    await handle.signal("n", 2)
    await die(first)
    async with running(store, main) as second:
        assert await second.run("r1").result() == [1, 2]


@pytest.mark.parametrize("name", ["", "a b", "x" * 300])
async def test_a_signals_name_outside_the_grammar_is_refused(name: str) -> None:
    @workflow
    async def main(run: Run) -> Any:
        return await run.wait_for("go")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        before = await kinds(handle)
        with pytest.raises((InvalidIdError, InputError)):
            await handle.signal(name)
        assert await kinds(handle) == before


# --- timers -----------------------------------------------------------------------------------------------------------


async def test_sleep_until_an_instant() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> str:
        await run.sleep_until(START + timedelta(days=2))
        return run.now().isoformat()

    async with running(memory(), main, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(main)
        await clock.advance("3d")
        assert await handle.result() == (START + timedelta(days=2)).isoformat()


async def test_an_instant_that_has_passed_is_not_waited_for() -> None:
    @workflow
    async def main(run: Run) -> str:
        await run.sleep_until(datetime(2000, 1, 1, tzinfo=UTC))
        await run.sleep(0)
        return "at once"

    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == "at once"


async def test_timers_in_branches_are_each_their_own() -> None:
    clock, ledger = StageClock(), Ledger()

    @workflow
    async def main(run: Run) -> list[int]:
        async def nap(hours: int) -> int:
            await run.sleep(f"{hours}h")
            ledger.note(str(hours))
            return hours

        return await run.map(nap, [3, 1, 2])

    async with running(memory(), main, clock=clock, limits=quick(linger_s=1e6)) as runtime:
        handle = await runtime.start(main)
        await clock.advance("1d")
        assert await handle.result() == [3, 1, 2]
    assert ledger.lines == ["1", "2", "3"]
