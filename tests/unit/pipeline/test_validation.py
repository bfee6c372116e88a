"""Checking a pipeline by all rules, and showing what they found."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import DefinitionError
from perdure.core.pipeline_errors import PipelineInvalidError
from perdure.pipeline.diagnostics import Diagnostic, render
from perdure.pipeline.document import Document, Position
from perdure.pipeline.rules import Finding, PipelineView, Rules, rule
from perdure.pipeline.validation import require_valid, validate, validate_text
from tests.unit.pipeline.documents import Attributes, document, pipeline, through

ERRORS = {
    "parallel_join", "start_node", "terminal_node", "reachability", "start_no_incoming", "exit_no_outgoing",
    "condition_syntax", "stylesheet_syntax", "attribute_value",
}  # fmt: skip
WARNINGS = {
    "edge_target_exists", "type_known", "fidelity_valid", "retry_target_exists", "goal_gate_has_retry",
    "prompt_on_llm_nodes", "all_conditional_edges", "terminal_condition_edge", "inert_attribute",
}  # fmt: skip


@pytest.mark.clause("diagnostics")
def test_the_rules_of_the_dialect_and_their_severities() -> None:
    assert {one.name: one.severity for one in rule} == dict.fromkeys(ERRORS, "error") | dict.fromkeys(
        WARNINGS, "warning"
    )


@pytest.mark.clause("diagnostics")
def test_diagnostics_come_in_the_order_of_the_file() -> None:
    broken = document({"a": {"color": 1, "max_retries": "x"}, "b": {"shape": "Mdiamond"}}, [("b", "a"), ("a", "b")])
    found = validate(broken)
    places = [(one.line, one.column) for one in found]
    assert places == sorted(places)
    assert len(found) > 4


def test_at_one_place_errors_come_first() -> None:
    found = [one for one in validate(pipeline({"lost": {}}, through("start", "exit"))) if one.node == "lost"]
    assert [(one.rule, one.severity) for one in found] == [
        ("reachability", "error"),
        ("prompt_on_llm_nodes", "warning"),
    ]


@pytest.mark.clause("errors-refuse")
def test_a_valid_pipeline_gives_its_warnings() -> None:
    good = pipeline({"a": {"prompt": "p", "color": "red"}}, through("start", "a", "exit"))
    assert [one.rule for one in require_valid(good)] == ["inert_attribute", "terminal_condition_edge"]


@pytest.mark.clause("errors-refuse")
def test_errors_refuse_a_pipeline_and_all_diagnostics_are_told() -> None:
    bad = pipeline({"a": {"prompt": "p", "color": "red"}, "lost": {"prompt": "p"}}, through("start", "a", "exit"))
    with pytest.raises(PipelineInvalidError) as caught:
        require_valid(bad)
    error = caught.value
    assert (error.code, error.category) == ("pipeline_invalid", "definition")
    assert str(error) == "pipeline 'G': the node 'lost' is unreachable from the start"
    assert error.rules == ["reachability"]
    assert error.to_dict()["diagnostics"] == [one.to_dict() for one in validate(bad)]
    assert [one["rule"] for one in error.diagnostics] == ["inert_attribute", "reachability", "terminal_condition_edge"]


def test_the_error_tells_a_few_of_many_and_survives_a_pickle() -> None:
    with pytest.raises(PipelineInvalidError, match=r"^pipeline 'G': 52 errors: .*; …$") as caught:
        require_valid(document({f"s{number}": {"shape": "Mdiamond"} for number in range(52)}))
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.to_dict() == caught.value.to_dict()
    assert len(str(again)) < 400


def test_ten_thousand_stages_in_a_row_are_checked() -> None:
    gate: Attributes = {"prompt": "p", "goal_gate": True}
    stages = {f"n{number}": gate for number in range(10_000)}
    long = pipeline(stages, through("start", *stages, "exit"))
    found = validate(long)
    assert [one.rule for one in found] == ["goal_gate_has_retry"] * 10_000


@pytest.mark.clause("rule-parse_error")
def test_a_syntax_error_is_a_diagnostic() -> None:
    (one,) = validate_text("digraph G {\n  a -- b\n}")
    assert (one.rule, one.severity, one.line, one.column) == ("parse_error", "error", 2, 5)


def test_a_text_is_read_prepared_and_checked() -> None:
    text = 'digraph G { graph [model_stylesheet="* { llm_model: m }"]; start -> a -> exit; a [prompt=p] }'
    assert [one.rule for one in validate_text(text)] == ["terminal_condition_edge", "edge_target_exists"]

    def without_exit(changed: Document) -> Document:
        changed.edges.clear()
        del changed.nodes["exit"]
        return changed

    assert "terminal_node" in [one.rule for one in validate_text(text, transforms=[without_exit])]


@pytest.mark.clause("rules-added")
def test_a_rule_can_be_added() -> None:
    rules = Rules(rule)

    @rules("no_red", severity="error")
    def no_red(view: PipelineView) -> Iterator[Finding]:
        for node in view.document.nodes.values():
            if node.get("color") == "red":
                yield Finding.at_node(node, f"{node.id!r} is red", fix="paint it")

    painted = pipeline({"a": {"prompt": "p", "color": "red"}}, through("start", "a", "exit"))
    assert "no_red" not in [one.rule for one in validate(painted)]
    (one,) = [one for one in validate(painted, rules=rules) if one.rule == "no_red"]
    assert one.to_dict() == {
        "rule": "no_red",
        "severity": "error",
        "message": "'a' is red",
        "node": "a",
        "line": 5,
        "column": 1,
        "fix": "paint it",
    }
    with pytest.raises(PipelineInvalidError):
        require_valid(painted, rules=rules)
    rules.remove("no_red")
    assert validate(painted, rules=rules) == validate(painted)


def test_a_rule_cannot_take_the_name_of_another() -> None:
    rules = Rules(rule)
    with pytest.raises(DefinitionError, match="already a rule 'reachability'"):
        rules("reachability")(lambda view: [])


# --- diagnostics ------------------------------------------------------------------------------------------------------


def test_what_is_not_known_is_left_out() -> None:
    assert Diagnostic(rule="r", severity="warning", message="m").to_dict() == {
        "rule": "r",
        "severity": "warning",
        "message": "m",
    }


def test_an_edge_is_a_pair() -> None:
    one = Diagnostic(rule="r", severity="error", message="m", edge=("a", "b"), position=Position(2, 5))
    assert one.to_dict() == {
        "rule": "r",
        "severity": "error",
        "message": "m",
        "edge": ["a", "b"],
        "line": 2,
        "column": 5,
    }


def at(line: int, column: int, *, fix: str | None = None) -> Diagnostic:
    return Diagnostic(rule="r", severity="error", message="m", position=Position(line, column), fix=fix)


def test_a_diagnostic_is_shown_with_its_line_and_a_caret() -> None:
    assert render(at(2, 5, fix="do it"), "digraph {\n\ta -> b;\r\n}", "x.dot").split("\n") == [
        "x.dot:2:5: error: m [r]",
        "   a -> b;",
        "      ^",
        "  fix: do it",
    ]


def test_a_diagnostic_without_a_place_is_one_line() -> None:
    assert render(Diagnostic(rule="r", severity="warning", message="m"), "text") == "warning: m [r]"
    assert render(at(9, 1), "one line") == "9:1: error: m [r]"


def test_a_long_line_is_cut_around_the_caret() -> None:
    source = "x" * 1_000 + "!" + "y" * 1_000
    _, line, caret = render(at(1, 1_001), source).split("\n")
    assert len(line) < 110
    assert line[caret.index("^")] == "!"


def test_a_file_cannot_speak_to_the_terminal() -> None:
    shown = render(at(1, 1, fix="\x1b[2J"), "\x1b]0;title\x07 \u202e", "\x1b[31m.dot")
    assert all(one.isprintable() or one == "\n" for one in shown)


@given(st.text(max_size=300), st.integers(1, 5), st.integers(1, 400))
def test_any_place_can_be_shown(source: str, line: int, column: int) -> None:
    shown = render(at(line, column), source)
    assert shown.startswith(f"{line}:{column}: error: m [r]")
    assert len(shown.split("\n")) in (1, 3)
