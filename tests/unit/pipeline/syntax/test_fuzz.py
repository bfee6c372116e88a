"""Whatever the text, the answer is a document or one typed error with a place inside the text."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.pipeline.syntax import format_tree, parse, parse_tree
from tests.unit.pipeline.syntax.generated import plain, texts, token_lists

SIGNS = ["{", "}", "[", "]", "=", ",", ";", "->", "--", "-", ":", ".", "<", ">", "+", "#", "'", '"', '\\"', "\\", "\\l"]
WORDS = ["digraph", "G", "subgraph", "graph", "node", "edge", "strict", "a", "a.b", "1", "-1", "1.5", "5s", "é"]
BLANKS = ["//", "/*", "*/", "\n", "\r", "\r\n", " ", "\t", "\0", "\ufeff", "\ud800", "\u2028", "\x0b"]
PIECES = st.sampled_from(SIGNS + WORDS + BLANKS)
MESSES = st.lists(PIECES, max_size=40).map("".join)


def fault_of(text: str) -> PipelineSyntaxError | None:
    """The error of a text, if it is none of a pipeline; any other exception is a failure."""
    try:
        parse(text)
    except PipelineSyntaxError as error:
        return error
    return None


def check(text: str) -> None:
    error = fault_of(text)
    if error is None:
        assert plain(parse(format_tree(parse_tree(text)))) == plain(parse(text))
        return
    lines = re.split("\r?\n", text.removeprefix("\ufeff"))
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    assert error.source_line == lines[error.line - 1]
    assert "\n" not in error.message
    shown, caret = error.excerpt.split("\n")
    assert len(caret) <= 2 * len(shown) + 1


@given(st.text())
@example("")
@example("\r")
@example("\ufeff")
@example("\n\n\n")
@example("digraph G { a\r!")
def test_any_text_is_a_document_or_an_error_with_a_place(text: str) -> None:
    check(text)


@given(MESSES)
def test_any_pieces_of_pipelines_are_a_document_or_an_error_with_a_place(text: str) -> None:
    check(text)
    check("digraph G {" + text)
    check("digraph G { A [x=" + text + "}")


@given(texts(), st.data())
def test_a_pipeline_with_a_fault_is_a_document_or_an_error_with_a_place(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(len(text), begin + 5)))
    check(text[:begin] + data.draw(PIECES | st.just("")) + text[end:])


@given(token_lists(), st.data())
def test_a_pipeline_that_is_cut_off_is_refused(tokens: list[str], data: st.DataObject) -> None:
    text = " ".join(tokens)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    check(cut)
    assert fault_of(cut) is not None
