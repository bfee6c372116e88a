"""What a client sends as an answer names one option, or is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from perdure.core.errors import AnswerRefusedError
from perdure.core.events import Event
from perdure.pipeline import Pipeline
from perdure.server.pipelines.answers import engine_answer, recorded_answer
from perdure.server.pipelines.questions import GateQuestion, question_of


def question(
    *edges: tuple[str, str], kind: str = "choice", keys: str = "", attributes: str = "", texts: tuple[str, ...] = ()
) -> GateQuestion:
    """A question whose edges have these labels and targets."""
    drawn = "".join(f'ask -> {target} [label="{label}"]; ' for label, target in edges)
    exits = "".join(f"{target} -> done; " for _, target in edges if target != "done")
    dot = f"digraph P {{ start [shape=Mdiamond]; done [shape=Msquare]; ask [shape=hexagon{attributes}]; start -> ask; "
    blueprint = Pipeline.parse(f"{dot}{drawn}{exits}}}").blueprint
    asked = {"kind": kind, "text": "?", "choices": texts or [label for label, _ in edges], "keys": list(keys)}
    data = orjson.dumps({"wait_id": "q1", "wait": "question", "question": asked})
    event = Event("one", 9, "wait.opened", 1000, "ask#1", "0/ask#1", "ask", "", 1, b"", b"", data)
    return question_of(event, "ask", blueprint)


YES_NO = (("[Y] Yes", "go"), ("[N] No", "stop"))
THREE = (("Ship it", "ship"), ("Hold", "hold"), ("Drop", "drop"))


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (question(*YES_NO, keys="YN"), "YES_NO"),
        (question(("Approve", "a"), ("Reject", "b"), keys="AR"), "YES_NO"),
        (question(("Left", "a"), ("Right", "b"), keys="LR"), "MULTIPLE_CHOICE"),
        (question(("Yes", "a"), keys="Y"), "CONFIRMATION"),
        (question(*THREE, keys="SHD"), "MULTIPLE_CHOICE"),
        (question(*YES_NO, keys="YN", kind="multiple"), "MULTIPLE_CHOICE"),
        (question(("Next", "a"), kind="text", attributes=', human.input="text"'), "FREEFORM"),
    ],
)
def test_the_type_of_a_question_follows_from_its_options(made: GateQuestion, kind: str) -> None:
    assert (made.type, made.data["type"]) == (kind, kind)


@pytest.mark.parametrize(
    "given",
    [
        "S",
        "s",
        "Ship it",
        " ship it ",
        "ship",
        ["S"],
        {"answer": "S"},
        {"value": "ship"},
        {"selected": ["S"]},
        {"selection": {"key": "S"}},
        {"keys": ["S"]},
        {"answers": "Ship it"},
        {"values": ["Ship it"]},
    ],
)
def test_an_option_is_named_by_key_label_or_target_in_any_wrapping(given: Any) -> None:
    assert engine_answer(question(*THREE, keys="SHD"), given) == "Ship it"


@pytest.mark.parametrize(
    "given", ["", "nope", "Shi", True, False, None, 1.5, [], ["S", "H"], {}, {"other": "S"}, [[["S"], "H"]]]
)
def test_what_names_no_single_option_is_refused(given: Any) -> None:
    with pytest.raises(AnswerRefusedError, match="no matching choice"):
        engine_answer(question(*THREE, keys="SHD"), given)


@pytest.mark.parametrize(("given", "text"), [(True, "[Y] Yes"), (False, "[N] No"), ("yes", "[Y] Yes"), ("n", "[N] No")])
def test_yes_and_no_may_be_a_boolean(given: Any, text: str) -> None:
    assert engine_answer(question(*YES_NO, keys="YN"), given) == text


def test_a_confirmation_is_given_or_declined() -> None:
    made = question(("Go on", "go"), keys="G")
    assert engine_answer(made, True) == "Go on"
    for given in (False, {"answer": False}, [False], {"answer": {"value": [False]}}):
        assert engine_answer(made, given) is False
    assert recorded_answer(made, False) is False
    for given in ("false", "no", 0, None):
        with pytest.raises(AnswerRefusedError):
            engine_answer(made, given)


def test_several_options_may_be_named_where_several_are_asked_for() -> None:
    made = question(*THREE, keys="SHD", kind="multiple")
    assert engine_answer(made, ["S", "drop", "S"]) == ["Ship it", "Drop"]
    assert engine_answer(made, "H") == ["Hold"]
    assert recorded_answer(made, ["Ship it", "Drop"]) == ["S", "D"]
    for wrong in ([], ["S", "nope"], [True]):
        with pytest.raises(AnswerRefusedError):
            engine_answer(made, wrong)


def test_a_name_that_two_options_bear_is_refused() -> None:
    made = question(("Go", "a"), ("Go", "b"), keys="XZ", texts=("Go (a)", "Go (b)"))
    assert [option.to for option in made.options] == ["a", "b"]
    assert engine_answer(made, "b") == "Go (b)"
    with pytest.raises(AnswerRefusedError, match="more than one"):
        engine_answer(made, "Go")


def test_free_text_is_taken_as_it_is_and_nothing_else_is() -> None:
    made = question(("Next", "a"), kind="text", attributes=', human.input="text"')
    assert engine_answer(made, {"value": " as written "}) == " as written "
    for wrong in (True, 5, ["a", "b"]):
        with pytest.raises(AnswerRefusedError):
            engine_answer(made, wrong)
