"""Values as they are typed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.cli import given
from perdure.core.errors import AnswerRefusedError, InputError, InputTypeError, ValueRefusedError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-0.5", -0.5),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ('{"a": [1]}', {"a": [1]}),
        ("9007199254740993", 9007199254740993),
        ("hello", "hello"),
        ("", ""),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("{broken", "{broken"),
        ("a=b", "a=b"),
        ("'quoted'", "'quoted'"),
        ("007", "007"),
    ],
)
def test_json_where_it_parses_else_text(text: str, value: Any) -> None:
    found = given.json_or_text(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "cause"), [('{"a": 1, "a": 2}', "stands twice"), ("1e400", "infinity")])
def test_json_that_cannot_be_meant_is_refused(text: str, cause: str) -> None:
    with pytest.raises(ValueRefusedError, match=cause):
        given.json_or_text(text)


def test_inputs_split_at_the_first_sign() -> None:
    assert given.inputs(["a=b=c", "n=1", "empty="], None) == {"a": "b=c", "n": 1, "empty": ""}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"]])
def test_inputs_that_are_no_pairs_are_refused(pairs: list[str]) -> None:
    with pytest.raises(InputError):
        given.inputs(pairs, None)


def test_a_file_holds_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "in.json"
    file.write_text('{"a": 1, "b": 2}')
    assert given.inputs(["b=3"], str(file)) == {"a": 1, "b": 3}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"c": 4}')))
    assert given.inputs([], "-") == {"c": 4}


@pytest.mark.parametrize("content", ["[1]", "{", '{"a":1,"a":1}', "\xff"])
def test_a_file_without_an_object_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "in.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="input-file"):
        given.inputs([], str(file))


def test_a_bare_number_for_a_text_is_explained() -> None:
    error = InputTypeError("$.topic: expected str, got int", path="$.topic")
    assert given.explain_text_input(error, ["topic=5"]).hint == """for text write --input 'topic="5"'"""
    other = InputTypeError("$.count: expected int, got str", path="$.count")
    assert given.explain_text_input(other, ["count=five"]).hint == InputTypeError.default_hint


CHOICE = {"kind": "choice", "choices": ["yes", "no", "1"]}
SEVERAL = {"kind": "multiple", "choices": ["red", "green", "a,b"]}


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        (CHOICE, "yes", "yes"),
        (CHOICE, "1", "1"),
        (SEVERAL, "red, green", ["red", "green"]),
        (SEVERAL, json.dumps(["a,b"]), ["a,b"]),
        ({"kind": "confirm"}, "Yes", True),
        ({"kind": "confirm"}, "n", False),
        ({"kind": "text"}, "5", "5"),
        ({"kind": "text"}, "", ""),
    ],
)
def test_answers_are_read_as_their_question_wants_them(question: dict[str, Any], text: str, answer: Any) -> None:
    assert given.answer(question, text) == answer


@pytest.mark.parametrize(
    ("question", "text"), [(CHOICE, "maybe"), (SEVERAL, "blue"), (SEVERAL, "[1"), ({"kind": "confirm"}, "perhaps")]
)
def test_answers_that_do_not_fit_are_refused(question: dict[str, Any], text: str) -> None:
    with pytest.raises(AnswerRefusedError):
        given.answer(question, text)


@pytest.mark.parametrize("text", ["1e400", "-1e400", "[1, 1e400]", '{"a": 1e400}'])
def test_a_number_that_json_has_not_is_named_by_its_input(text: str) -> None:
    with pytest.raises(ValueRefusedError, match=r"--input 'x': -?1e400 (in it )?is no JSON number that Perdure takes"):
        given.inputs([f"x={text}"], None)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "nan", "[NaN]"])
def test_text_that_looks_like_no_number_is_explained_where_a_number_is_wanted(text: str) -> None:
    error = InputTypeError("$.x: expected float, got str", path="$.x")
    explained = given.explain_text_input(error, [f"x={text}"])
    assert explained.message.startswith("--input 'x': ")
    assert explained.message.endswith("is no JSON number that Perdure takes")
    assert given.inputs([f"x={text}"], None) == {"x": text}  # where text is wanted, it is text


def test_a_whole_number_may_be_as_large_as_it_likes() -> None:
    error = InputTypeError("$.x: expected list, got int", path="$.x")
    assert given.explain_text_input(error, [f"x=1{'0' * 400}"]) is error


def test_json_that_is_ambiguous_names_its_input() -> None:
    with pytest.raises(ValueRefusedError, match=r"--input 'x': .*stands twice"):
        given.inputs(['x={"a":1,"a":2}'], None)
