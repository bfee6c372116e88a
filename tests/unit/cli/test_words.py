"""The small words: exit codes, durations, commands, counts, and prompts."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from json import loads
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from perdure.cli.exits import FAILED, USAGE, code_of
from perdure.cli.output import Output, count, to_json
from perdure.cli.place import Place
from perdure.cli.prompts import Later, Prompter
from perdure.cli.signs import adapt
from perdure.cli.story import MARKS
from perdure.cli.times import span, until
from perdure.core import errors
from perdure.engine.watching import Question


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputTypeError, USAGE),
        (errors.RunNotFoundError, USAGE),
        (errors.RunConflictError, USAGE),
        (errors.WaitClosedError, USAGE),
        (errors.DefinitionLoadError, USAGE),
        (errors.StoreUrlError, USAGE),
        (errors.StoreNotFoundError, USAGE),
        (errors.NotAStoreError, USAGE),
        (errors.StoreVersionError, USAGE),
        (errors.StoreReadOnlyError, USAGE),
        (errors.StoreWriteError, FAILED),
        (errors.StoreCorruptError, FAILED),
        (errors.CorruptRecordError, FAILED),
        (errors.FencedError, FAILED),
    ],
)
def test_what_the_caller_can_put_right_is_wrong_use(error: type[errors.PerdureError], code: int) -> None:
    assert code_of(error("it")) == code


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (-5, "0ms"),
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1.0s"),
        (4249, "4.2s"),
        (12_400, "12s"),
        (60_000, "1m"),
        (330_000, "5m30s"),
        (7_200_000, "2h"),
        (93_780_000, "1d2h"),
        (86_400_000 + 60_000, "1d"),
    ],
)
def test_a_duration_in_its_two_largest_units(duration_ms: float, text: str) -> None:
    assert span(duration_ms) == text


def test_how_far_an_instant_is_away() -> None:
    assert until(5000, 1000) == "in 4.0s"
    assert until(1000, 5000) == "4.0s ago"


def test_a_command_names_the_store_only_when_it_was_named() -> None:
    assert Place("sqlite:///a.db", named=True).command("show", "r") == "perdure show --store sqlite:///a.db r"
    assert Place("sqlite:///a.db").command("answer", "r", "two words") == "perdure answer r 'two words'"


def test_the_store_comes_from_option_variable_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERDURE_STORE", raising=False)
    assert Place.of(None) == Place("sqlite:///.perdure/runs.db")
    monkeypatch.setenv("PERDURE_STORE", "sqlite:///b.db")
    assert Place.of(None) == Place("sqlite:///b.db")
    assert Place.of("sqlite:///c.db") == Place("sqlite:///c.db", named=True)


def test_things_are_counted() -> None:
    assert (count(0, "run"), count(1, "run"), count(2, "run")) == ("0 runs", "1 run", "2 runs")


def test_json_has_no_wishes() -> None:
    assert to_json({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'


# --- terminals without our signs ------------------------------------------------------------------------------------


def ascii_stream() -> io.TextIOWrapper:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    adapt(stream)
    return stream


def shown(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("ascii")


def test_every_mark_has_a_stand_in_that_is_as_wide() -> None:
    for mark, _ in MARKS.values():
        stream = ascii_stream()
        stream.write(mark)
        assert len(shown(stream)) == cell_len(mark), mark


def test_what_is_no_sign_of_ours_shows_its_number() -> None:
    stream = ascii_stream()
    stream.write("é ✓ ⠋")
    assert shown(stream) == "\\xe9 + \\"  # the last one is a piece of a spinner


@pytest.mark.parametrize("json", [True, False])
def test_json_stays_json_on_an_ascii_stream(monkeypatch: pytest.MonkeyPatch, json: bool) -> None:
    out, err = ascii_stream(), ascii_stream()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    output = Output(json=json)
    output.value({"é": "✓ 😀"})
    output.record({"é": "✓ 😀"})
    assert [loads(line) for line in shown(out).splitlines()] == [{"é": "✓ 😀"}] * 2
    output.failure(errors.InputError("no ✓"))
    assert shown(err).splitlines()[0] == "error: no +" if not json else loads(shown(err))["error"]["message"] == "no ✓"


# --- prompts ----------------------------------------------------------------------------------------------------------


def question(kind: str, *choices: str, default: Any = None, has_default: bool = False) -> Question:
    return Question("r", "q1", "w", "Which?", kind, choices, None, has_default, default, None)


def typing(*lines: str | None) -> tuple[Prompter, io.StringIO]:
    given: Iterator[str | None] = iter(lines)
    screen = io.StringIO()

    async def read() -> str | None:
        return next(given)

    return Prompter(Console(file=screen), read), screen


@pytest.mark.parametrize(
    ("asked", "typed", "answer"),
    [
        (question("choice", "yes", "no"), ["2"], "no"),
        (question("choice", "yes", "no"), ["", "maybe", "yes"], "yes"),
        (question("choice", "2", "1"), ["1"], "1"),
        (question("choice", "yes", "no", default="no", has_default=True), [""], "no"),
        (question("multiple", "red", "green", "blue"), ["1,3"], ["red", "blue"]),
        (question("multiple", "red", "green"), ["9", "green"], ["green"]),
        (question("confirm"), ["perhaps", "Y"], True),
        (question("confirm", default=False, has_default=True), [""], False),
        (question("text"), ["  Ada "], "Ada"),
        (question("text"), [""], ""),
    ],
)
async def test_a_prompt_asks_until_the_answer_fits(asked: Question, typed: list[str], answer: Any) -> None:
    prompter, screen = typing(*typed)
    assert await prompter.answer(asked) == answer
    assert "Which?" in screen.getvalue()
    for number, choice in enumerate(asked.choices, 1):
        assert f"{number}) {choice}" in screen.getvalue()


async def test_the_end_of_the_input_means_later() -> None:
    for asked in (question("choice", "a", "b"), question("text")):
        prompter, _ = typing(None)
        with pytest.raises(Later):
            await prompter.answer(asked)


@pytest.mark.parametrize(
    ("typed", "resolution"),
    [
        (["d", '{"a": 1}'], ("done", {"a": 1})),
        (["what", "done", "text"], ("done", "text")),
        (["n"], ("not_done", None)),
        (["f"], ("fail", None)),
    ],
)
async def test_a_doubt_is_resolved_by_a_letter(typed: list[str], resolution: tuple[str, Any]) -> None:
    prompter, _ = typing(*typed)
    assert await prompter.doubt(question("doubt")) == resolution


async def test_a_doubt_may_be_left() -> None:
    for typed in ("", None):
        prompter, _ = typing(typed)
        with pytest.raises(Later):
            await prompter.doubt(question("doubt"))
