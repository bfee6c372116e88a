"""What steps tell while they run: transient, bounded, redacted, and nothing that a run depends on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from perdure import Run, Runtime, Secret, StepFailed, current_step, step, workflow
from perdure.core.errors import InputTypeError
from perdure.core.redacted_stream import RedactedStream
from perdure.engine.live import MOST_PIECE, MOST_WAITING, Piece, Watch
from perdure.model import SimulatedBackend, ask, model_step

CANARY = "canary-0123456789"


@step(kind="read")
async def speak(words: list[str]) -> str:
    for word in words:
        current_step().tell(word)
        await asyncio.sleep(0)
    return "".join(words)


@workflow
async def speech(run: Run, words: list[str]) -> str:
    return await run.step(speak, words)


async def heard(wanted: Any, *given: Any, **options: Any) -> list[Piece]:
    """What a run told, watched from before its beginning."""
    async with Runtime("memory://", **options) as runtime:
        with runtime.live.watch("r") as watch:
            handle = await runtime.start(wanted, *given, id="r")
            await handle.result()
            return watch.take()


async def test_a_step_tells_pieces_that_say_where_they_belong() -> None:
    (piece,) = await heard(speech, ["One", " two", " three"])
    assert (piece.run_id, piece.step, piece.attempt, piece.offset) == ("r", "speak", 1, 0)
    assert piece.scope.endswith("main#1")
    assert piece.text == "One two three"


async def test_nothing_that_was_told_stands_in_the_journal() -> None:
    @step(kind="pure")
    def quiet() -> int:
        current_step().tell(CANARY)
        return 1

    @workflow
    async def silent(run: Run) -> int:
        return await run.step(quiet)

    async with Runtime("memory://") as runtime:
        with runtime.live.watch("r") as watch:
            await (await runtime.start(silent, id="r")).result()
            assert [piece.text for piece in watch.take()] == [CANARY]
        assert all(CANARY.encode() not in event.payload for event in await runtime.store.read("r"))


async def test_a_secret_is_redacted_also_in_two_pieces() -> None:
    @step(kind="read")
    async def careless() -> None:
        current_step().reveal(Secret("env:KEY"))
        current_step().tell("it is " + CANARY[:7])
        await asyncio.sleep(0)
        current_step().tell(CANARY[7:])

    @workflow
    async def leaking(run: Run) -> None:
        await run.step(careless)

    pieces = await heard(leaking, environ={"KEY": CANARY})
    assert "".join(piece.text for piece in pieces) == "it is [secret env:KEY]"


async def test_a_thread_and_a_later_attempt_tell_from_the_beginning() -> None:
    @step(kind="read", retries=1, isolation="thread")
    def stammer() -> str:
        attempt = current_step().attempt
        current_step().tell("from ")
        current_step().tell(threading.current_thread().name[:7])
        if attempt == 1:
            raise ConnectionError("again")
        return "done"

    @workflow
    async def stammering(run: Run) -> str:
        return await run.step(stammer)

    pieces = await heard(stammering)
    assert [(piece.attempt, piece.offset, piece.text) for piece in pieces] == [
        (1, 0, "from perdure"),
        (2, 0, "from perdure"),
    ]


async def test_a_thread_that_was_abandoned_tells_nothing_more() -> None:
    free, ended = threading.Event(), threading.Event()

    @step(kind="read", timeout="20ms", isolation="thread")
    def slow() -> None:
        mine = current_step()
        mine.tell("begun")
        free.wait(20)
        mine.tell("late")
        ended.set()

    @workflow
    async def hasty(run: Run) -> str:
        try:
            await run.step(slow)
        except StepFailed:
            free.set()
        return str(await asyncio.to_thread(ended.wait, 20))

    assert [piece.text for piece in await heard(hasty)] == ["begun"]


async def test_a_watch_keeps_the_newest_and_says_what_is_missing() -> None:
    watch = Watch()
    size = MOST_PIECE
    for number in range(20):
        watch.add(Piece("r", "s", "k", 1, number * size, chr(97 + number) * size))
    (piece,) = watch.take()
    assert len(piece.text) == MOST_WAITING
    assert piece.offset == 20 * size - MOST_WAITING
    assert piece.text.endswith("t" * size)
    assert watch.take() == []


async def test_a_long_text_is_cut_into_pieces_and_joined_again() -> None:
    (piece,) = await heard(speech, ["x" * (3 * MOST_PIECE + 1)])
    assert len(piece.text) == 3 * MOST_PIECE + 1


async def test_other_runs_hear_nothing_and_who_leaves_is_forgotten() -> None:
    async with Runtime("memory://") as runtime:
        with runtime.live.watch("other") as other, runtime.live.watch("r"):
            await (await runtime.start(speech, ["a"], id="r")).result()
            assert other.take() == []
        assert runtime.live._watches == {}


async def test_who_comes_in_the_middle_hears_the_rest() -> None:
    middle, free = asyncio.Event(), asyncio.Event()

    @step(kind="read")
    async def halting() -> None:
        current_step().tell("one ")
        middle.set()
        await free.wait()
        current_step().tell("two")

    @workflow
    async def pausing(run: Run) -> None:
        await run.step(halting)

    async with Runtime("memory://") as runtime:
        handle = await runtime.start(pausing, id="r")
        await middle.wait()
        await asyncio.sleep(0)
        with runtime.live.watch("r") as watch:
            free.set()
            await handle.result()
            assert [(piece.offset, piece.text) for piece in watch.take()] == [(4, "two")]


async def test_a_model_step_tells_the_answer_as_it_comes() -> None:
    asking = model_step(SimulatedBackend())

    @workflow
    async def chat(run: Run) -> str:
        return (await run.step(asking, ask("Hello"))).text

    (piece,) = await heard(chat)
    assert (piece.step, piece.text) == ("ask_model", "[Simulated] Response for stage: unnamed")


async def test_only_text_is_told() -> None:
    @step(kind="pure")
    def wrong() -> None:
        current_step().tell(5)  # type: ignore[arg-type]

    @workflow
    async def mistaken(run: Run) -> None:
        await run.step(wrong)

    async with Runtime("memory://") as runtime:
        handle = await runtime.start(mistaken)
        with pytest.raises(Exception, match="a step tells text, not int"):
            await handle.result()
    assert InputTypeError.code


def test_half_of_a_surrogate_pair_does_not_break_a_frame() -> None:
    assert Piece("r", "s", "k", 1, 0, "a\ud800").to_dict()["text"] == "a?"


async def test_what_breaks_while_text_is_told_changes_nothing_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(stream: RedactedStream) -> str:
        raise RuntimeError("a defect")

    monkeypatch.setattr(RedactedStream, "end", broken)

    @step(kind="once")
    async def pay() -> str:
        current_step().tell("paying")
        return "paid"

    @workflow
    async def paying(run: Run) -> str:
        return await run.step(pay)

    async with Runtime("memory://") as runtime:
        with runtime.live.watch("pay"):
            assert await (await runtime.start(paying, id="pay")).result() == "paid"
