"""The canonical text: the same document, comments in their place, and nothing left to change."""

from __future__ import annotations

import re
import textwrap

import pytest
from hypothesis import example, given

from perdure.pipeline.syntax import format_tree, parse, parse_tree
from perdure.pipeline.syntax.formatting import LINE_LENGTH
from tests.unit.pipeline.syntax.generated import plain, texts

HOISTING = "digraph G { /*a*/ A // b\n ; /* c */ B [ x // d\n = /* e */ 1 /* f */ , /* g */ y=2 // h\n ] // i\n }"


def formatted(text: str) -> str:
    return format_tree(parse_tree(text))


@given(texts())
@example(HOISTING)
def test_a_formatted_pipeline_is_the_same_document(text: str) -> None:
    assert plain(parse(formatted(text))) == plain(parse(text))


@given(texts())
@example(HOISTING)
@example("digraph /*1*/ G // 2\n /*3*/ { } /*4*/ // 5\n")
@example("digraph G{A/*\n*/// x\n\n\n\n// y\n\n}")
def test_to_format_twice_is_to_format_once(text: str) -> None:
    once = formatted(text)
    assert formatted(once) == once


@given(texts())
@example(HOISTING)
def test_no_comment_is_lost_and_none_is_added(text: str) -> None:
    assert sorted(comments_of(formatted(text))) == sorted(comments_of(text))


def comments_of(text: str) -> list[str]:
    """Found without the parser: what is no string and looks like a comment."""
    found = re.findall(r'"(?:[^"\\]|\\.)*"|(//[^\n]*|/\*.*?\*/)', text, re.DOTALL)
    return [one.replace("\r\n", "\n").rstrip() for one in found if one]


def test_a_pipeline_is_formatted_like_this() -> None:
    text = """
        // What it is for.

        digraph   Release{graph[goal="ship it"];rankdir = LR


        // the stages
        node [ shape = box ,timeout=900s ];  start->plan -> build[label="go"] // all the way
        subgraph cluster_a { label="Loop A" ; build; /* last */ }


        }
        // end
    """
    assert formatted(text) == textwrap.dedent("""\
        // What it is for.

        digraph Release {
            graph [goal="ship it"]
            rankdir=LR

            // the stages
            node [shape=box, timeout=900s]
            start -> plan -> build [label="go"]  // all the way
            subgraph cluster_a {
                label="Loop A"
                build  /* last */
            }
        }
        // end
        """)


def test_comments_among_attributes_stay_with_their_attribute() -> None:
    text = """digraph G { a [ // what it does
        // the text
        prompt="p", // short
        max_retries=2 // few
        // nothing more
        ] // done
    }"""
    assert formatted(text) == textwrap.dedent("""\
        digraph G {
            a [  // what it does
                // the text
                prompt="p",  // short
                max_retries=2  // few
                // nothing more
            ]  // done
        }
        """)


def test_a_comment_inside_a_statement_moves_before_it() -> None:
    text = "digraph G {\n\n x\n\n a // first\n -> /* second */ b }"
    assert formatted(text) == "digraph G {\n    x\n\n    // first\n    /* second */\n    a -> b\n}\n"


def test_a_comment_inside_an_attribute_moves_before_it() -> None:
    text = "digraph G { a [x=1, y /* c */ = // d\n 2] }"
    assert formatted(text) == textwrap.dedent("""\
        digraph G {
            a [
                x=1,
                /* c */
                // d
                y=2
            ]
        }
        """)


def test_a_comment_never_ends_up_inside_a_line_comment() -> None:
    assert formatted("digraph G { a // x\n ; /* y */ b }") == "digraph G {\n    a  // x\n    /* y */\n    b\n}\n"


@pytest.mark.parametrize("extra", [0, 1])
def test_attributes_stand_on_one_line_while_they_fit(extra: int) -> None:
    filling = "x" * (LINE_LENGTH - len('    a [k="", j=1]') + extra)
    lines = formatted(f'digraph G {{ a [k="{filling}", j=1] }}').splitlines()
    assert len(lines) == (6 if extra else 3)
    assert len(lines[1]) == (LINE_LENGTH if not extra else len("    a ["))


def test_values_stay_as_they_were_written() -> None:
    source = 'digraph G {\n    a [x=007, y="\\t\\"", z=-0.50, t=900s, u="900s"]\n}\n'
    assert formatted(source) == source


def test_a_string_of_several_lines_is_not_indented_anew() -> None:
    source = 'digraph G {\n    a [\n        prompt="one\n  two\n\n three"\n    ]\n}\n'
    assert formatted(source) == source


def test_line_ends_become_line_feeds() -> None:
    assert formatted('digraph G {\r\n// x \r\n/* y\r\nz */\r\na [p="q\r\nr"]\r\n}\r\n').count("\r") == 0
