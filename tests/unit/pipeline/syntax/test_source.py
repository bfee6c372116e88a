"""Which texts are read at all, and how an error shows its place."""

from __future__ import annotations

import pickle

import pytest

from perdure.core.errors import DefinitionError
from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.pipeline.document import Position
from perdure.pipeline.syntax import MAX_SOURCE_BYTES, decode, format_tree, parse, parse_tree


def refused(text: str, file: str | None = None) -> PipelineSyntaxError:
    with pytest.raises(PipelineSyntaxError) as caught:
        parse(text, file=file)
    return caught.value


def test_a_byte_order_mark_is_accepted_at_the_beginning_only() -> None:
    document = parse("\ufeffdigraph G { A }")
    assert document.position == Position(1, 9)
    assert format_tree(parse_tree("\ufeffdigraph G { A }")).startswith("digraph")
    assert (refused("\ufeff\ufeffdigraph G {}").line, refused(" \ufeffdigraph G {}").column) == (1, 2)


def test_line_ends_of_every_editor_mean_the_same() -> None:
    text = 'digraph G {\n  A [prompt="one\ntwo"]\n\n  B\n}\n'
    other = parse(text.replace("\n", "\r\n"))
    assert other == parse(text)
    assert other.nodes["A"].get("prompt") == "one\ntwo"
    assert other.nodes["B"].position == Position(5, 3)


@pytest.mark.parametrize(("bad", "name"), [("\0", "a NUL"), ("\ud800", "half of a surrogate pair"), ("\udfff", "half")])
@pytest.mark.parametrize("around", ['digraph G {{\n A [x="{}"] }}', "digraph G {{\n // a {}\n}}", "{}"])
def test_what_is_no_text_is_refused_wherever_it_stands(bad: str, name: str, around: str) -> None:
    error = refused(around.format(bad))
    before = around.format(bad).partition(bad)[0].split("\n")
    assert name in error.message
    assert (error.line, error.column) == (len(before), len(before[-1]) + 1)
    str(error).encode()


def test_characters_outside_the_basic_plane_are_text() -> None:
    assert parse('digraph G { A [x="😀"] }').nodes["A"].get("x") == "😀"


@pytest.mark.parametrize("filling", ["x", "é"])
def test_a_file_over_the_limit_is_refused(filling: str) -> None:
    frame = len('digraph G { A [x=""] }')
    size = len(filling.encode())
    fitting = (MAX_SOURCE_BYTES - frame) // size
    label = parse(f'digraph G {{ A [x="{filling * fitting}"] }}').nodes["A"].get("x")
    assert isinstance(label, str)
    assert len(label) == fitting
    error = refused(f'digraph G {{ A [x="{filling * (fitting + 1)}"] }}')
    assert str(MAX_SOURCE_BYTES) in error.message
    assert (error.line, error.column) == (1, 1)


def test_an_error_shows_the_line_and_a_caret() -> None:
    error = refused("digraph G {\n\tA ! B\n}", file="release.dot")
    assert str(error) == "release.dot:2:4: unexpected !\n A ! B\n   ^"
    assert isinstance(error, DefinitionError)
    assert error.to_dict() == {
        "code": "parse_error",
        "category": "definition",
        "retryable": False,
        "message": "unexpected !",
        "hint": "",
        "ids": {"file": "release.dot"},
        "line": 2,
        "column": 4,
        "excerpt": " A ! B\n   ^",
    }


def test_the_caret_of_a_long_line_is_seen_too() -> None:
    error = refused('digraph G { A [x="' + "y" * 1_000_000 + '"] ! ' + "z" * 1000 + "}")
    shown, caret = error.excerpt.split("\n")
    assert len(shown) <= 102
    assert shown[len(caret) - 1] == "!"
    assert (shown[0], shown[-1]) == ("…", "…")


def test_the_caret_stands_below_wide_characters() -> None:
    shown, caret = refused('digraph G { A [x="日本"] ! }').excerpt.split("\n")
    assert len(caret) - 1 == shown.index("!") + 2


def test_an_excerpt_cannot_command_a_terminal() -> None:
    error = refused('digraph G { A [x="\x1b[2J\r\x9b"] ! }')
    shown, caret = error.excerpt.split("\n")
    assert shown.isprintable()
    assert shown[len(caret) - 1] == "!"


def test_an_error_of_the_syntax_can_be_sent_to_another_process() -> None:
    error = refused("digraph G { ! }", file="a.dot")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.to_dict()) == (type(error), str(error), error.to_dict())


def test_bytes_that_are_not_utf_8_are_refused_with_their_place() -> None:
    assert parse(decode("\ufeffdigraph G { A }".encode())).id == "G"
    with pytest.raises(PipelineSyntaxError, match="not UTF-8") as caught:
        decode("digraph G {\n é".encode() + b"\xff }", file="a.dot")
    assert (caught.value.line, caught.value.column, caught.value.file) == (2, 3, "a.dot")
