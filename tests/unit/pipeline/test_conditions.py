"""Conditions: `clause ('&&' clause)*`, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.core.pipeline_errors import ConditionSyntaxError
from perdure.pipeline.conditions import Clause, Condition, parse_condition, text_of

CONTEXT: dict[str, Any] = {
    "outcome": "success",
    "tests": "passed",
    "count": 3,
    "ratio": 0.5,
    "whole": 1.0,
    "yes": True,
    "no": False,
    "null": None,
    "blank": "",
    "list": [1, "a"],
    "object": {"b": 1, "a": [True, None]},
    "human": {"gate": {"label": "[A] Approve", "selected": "A"}},
    "empty_list": [],
    "empty_object": {},
    "zero": 0,
    "zero_point": 0.0,
    "text_false": "false",
    "text_zero": "0",
    "text_no": "no",
    "with-dash": "d",
}


def holds(text: str, context: dict[str, Any] | None = None, *, outcome: str = "success", label: str = "") -> bool:
    return parse_condition(text).holds(CONTEXT if context is None else context, outcome, label)


@pytest.mark.parametrize(
    "text",
    [
        "outcome=success",
        "outcome = success",
        "  outcome\t=\nsuccess  ",
        "outcome!=fail",
        "outcome != fail",
        "outcome=success && tests=passed",
        "outcome=success&&tests=passed",
        "outcome=success &&\n tests=passed && count=3",
        "context.tests=passed",
        "tests=passed",
        "human.gate.selected=A",
        "context.human.gate.selected=A",
        'human.gate.label="[A] Approve"',
        "with-dash=d",
        "missing=",
        'missing=""',
        "missing= && yes",
        "tests!=",
        "blank=",
        "null=",
        'null=""',
        "missing!=anything",
    ],
)
@pytest.mark.clause("conditions-grammar")
def test_a_condition_that_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "outcome=fail",
        "outcome!=success",
        "outcome=Success",
        "tests=Passed",
        'tests="passed "',
        "outcome=success && tests=failed",
        "tests=failed && outcome=success",
        "missing=x",
        "missing!=",
        "human.gate.label=A",
        "human.gate.label.deeper=A",
        "tests.deeper=passed",
        "Tests=passed",
    ],
)
@pytest.mark.clause("conditions-grammar")
def test_a_condition_that_does_not_hold(text: str) -> None:
    assert not holds(text)


@pytest.mark.parametrize(
    ("text", "label", "is_true"),
    [
        ("preferred_label=Fix", "Fix", True),
        ("preferred_label=fix", "Fix", False),
        ("preferred_label", "Fix", True),
        ("preferred_label", "", False),
        ("preferred_label=", "", True),
        ('preferred_label="[F] Fix it"', "[F] Fix it", True),
    ],
)
def test_the_preferred_label_is_a_key(text: str, label: str, is_true: bool) -> None:
    assert holds(text, label=label) is is_true


def test_the_outcome_is_that_of_the_stage_whatever_the_context_says() -> None:
    assert holds("outcome=fail", {"outcome": "success"}, outcome="fail")
    assert holds("context.outcome=success", {"outcome": "success"}, outcome="fail")


@pytest.mark.clause("conditions-keys")
def test_a_context_path_is_looked_up_with_its_prefix_first() -> None:
    context = {"context": {"path": "inner"}, "path": "outer", "other": "o"}
    assert holds("context.path=inner", context)
    assert holds("context.other=o", context)
    assert holds("path=outer", context)


def test_a_null_under_the_prefix_counts_as_missing() -> None:
    assert holds("context.path=outer", {"context": {"path": None}, "path": "outer"})


@pytest.mark.parametrize(
    "key", ["tests", "count", "ratio", "yes", "list", "object", "text_no", "with-dash", "human.gate"]
)
def test_a_bare_key_holds_for_a_value(key: str) -> None:
    assert holds(key)
    assert holds(f"context.{key}")


@pytest.mark.parametrize(
    "key",
    ["missing", "null", "blank", "no", "zero", "zero_point", "empty_list", "empty_object", "text_false", "text_zero"],
)
@pytest.mark.clause("conditions-compare")
def test_a_bare_key_does_not_hold_for_nothing(key: str) -> None:
    assert not holds(key)
    assert not holds(f"yes && {key}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, ""),
        (3, "3"),
        (-7, "-7"),
        (0.5, "0.5"),
        (1.0, "1"),
        (-0.0, "0"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        ("x", "x"),
        ("Ü", "Ü"),
        ([], "[]"),
        ([1, "a", None], '[1,"a",null]'),
        ({"b": 1.0, "a": [True]}, '{"a":[true],"b":1}'),
        (2**60, "1152921504606846976"),
        ([2**60], "[1152921504606846976]"),
    ],
)
@pytest.mark.clause("conditions-compare")
def test_values_compare_as_their_canonical_text(value: Any, text: str) -> None:
    assert text_of(value) == text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert holds(f'key="{quoted}"', {"key": value})


def test_a_number_and_its_text_are_equal() -> None:
    assert holds("count=3")
    assert holds('count="3"')
    assert not holds("count=3.0")


def test_escapes_of_a_quoted_literal() -> None:
    assert parse_condition(r'a="say \"hi\" \\ && b=c"').clauses == (Clause("a", "=", r'say "hi" \ && b=c'),)


@pytest.mark.parametrize(
    "literal", ["v1.2-rc_3:x", "/a/b", "50%", "a,b", "é", "-1.5", "2026-01-01", "a+b", "[x]", "#1"]
)
def test_a_bare_literal_is_text_without_blanks_and_operators(literal: str) -> None:
    assert parse_condition(f"key={literal}").clauses == (Clause("key", "=", literal),)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("   ", 4),
        ("&&", 1),
        ("a=b &&", 7),
        ("a=b && && c", 8),
        ("&& a", 1),
        ("a=b & c=d", 5),
        ("a=b || c=d", 5),
        ("a || b", 3),
        ("a=b or c=d", 5),
        ("a OR b", 3),
        ("a=b and c=d", 5),
        ("not a", 5),
        ("!a", 1),
        ("a==b", 3),
        ("a = = b", 5),
        ("a=b=c", 4),
        ("a!=!b", 4),
        ("a ! = b", 3),
        ("a<b", 2),
        ("a <= 3", 3),
        ("a>3", 2),
        ("a=<b", 3),
        ("len(a)=3", 4),
        ("a=len(b)", 6),
        ("(a=b)", 1),
        ("a=b)", 4),
        ("a=two words", 7),
        ("a='b'", 3),
        ("a=`b`", 3),
        ('"a"=b', 1),
        ('a="b', 3),
        ('a="b\\"', 3),
        (r'a="b\n"', 5),
        ('a="b"c', 6),
        ('a=b"c"', 4),
        ("=b", 1),
        ("1a=b", 1),
        ("-a", 1),
        (".a=b", 1),
        ("a.=b", 2),
        ("a..b=c", 2),
        ("context.", 8),
        ("context.=x", 8),
        ("a=b\u00a0", 4),
        ("ä=b", 1),
        ("a\0=b", 2),
        ("outcome in (a)", 9),
        ("a=b;c=d;", 6),
    ],
)
@pytest.mark.clause("conditions-grammar")
def test_nothing_else_is_a_condition_and_the_column_says_where(text: str, column: int) -> None:
    with pytest.raises(ConditionSyntaxError, match=f"column {column}$") as caught:
        parse_condition(text)
    assert caught.value.code == "condition_syntax"
    assert caught.value.ids == {"column": column}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a || b", "no OR"),
        ("a or b", "no OR"),
        ("!a", "no NOT"),
        ("a<b", "compared as text"),
        ("a==b", "as one ="),
        ("len(a)", "no functions"),
        ("a & b", "joined by &&"),
        ("a and b", "joined by &&"),
        ("a='b'", "quoted"),
        ("a=two words", "quoted"),
        ("", "write clauses"),
    ],
)
def test_the_hint_says_what_to_write_instead(text: str, hint: str) -> None:
    with pytest.raises(ConditionSyntaxError) as caught:
        parse_condition(text)
    assert hint in caught.value.hint


PIECES = st.sampled_from(
    [
        "a",
        "outcome",
        "context.",
        ".",
        "=",
        "!=",
        "!",
        "&&",
        "&",
        "|",
        '"',
        "\\",
        '\\"',
        " ",
        "\n",
        "b",
        "1",
        "-",
        "(",
        "<",
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)))
@example('a="' + "\\\\" * 5_000)
@example("a=" + "b" * 100_000)
@example("&& " * 10_000)
@example("a.b" * 10_000)
def test_any_text_is_a_condition_or_an_error_with_a_place_in_it(text: str) -> None:
    try:
        condition = parse_condition(text)
    except ConditionSyntaxError as error:
        column = error.ids["column"]
    else:
        assert condition.holds({}, "success", "") in (True, False)
        column = 1
    assert 1 <= column <= len(text) + 1


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,5}(\.[A-Za-z0-9_-]{1,4}){0,2}", fullmatch=True)
CLAUSES = st.one_of(
    st.builds(Clause, NAMES, st.sampled_from(["=", "!="]), st.text(max_size=8)),
    st.builds(Clause, NAMES, st.just("truthy"), st.just("")),
)


@given(st.lists(CLAUSES, min_size=1, max_size=4), st.sampled_from(["", " ", "\n\t "]))
@pytest.mark.clause("conditions-grammar")
def test_what_is_written_in_the_grammar_is_read_as_it_was_meant(clauses: list[Clause], blank: str) -> None:
    def text(clause: Clause) -> str:
        if clause.operator == "truthy":
            return clause.key
        literal = clause.literal.replace("\\", "\\\\").replace('"', '\\"')
        return f'{clause.key}{blank}{clause.operator}{blank}"{literal}"'

    assert parse_condition(f"{blank}&&{blank}".join(map(text, clauses))) == Condition(tuple(clauses))
