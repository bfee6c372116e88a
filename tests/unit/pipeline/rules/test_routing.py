"""Rules about conditions: whether they can be read, and whether some outcome falls through them."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.rules.checking import about, found


@pytest.mark.clause("rule-condition_syntax")
def test_a_condition_that_cannot_be_read_is_refused() -> None:
    (one,) = found("condition_syntax", 'start -> a -> exit; a -> start [condition="outcome=fail || x"]')
    assert (one.severity, one.node, one.edge) == ("error", "a", ("a", "start"))
    assert one.message == "condition of a -> start: expected '&&' or the end, found '|| x' at column 14"
    assert one.fix == "there is no OR: draw one edge for each alternative"
    assert (one.line, one.column) == (1, 91)


def test_a_condition_of_a_chain_is_told_once() -> None:
    assert len(found("condition_syntax", 'start -> a -> b -> exit [condition="!"]')) == 1


def test_a_stop_condition_that_cannot_be_read_is_refused() -> None:
    (one,) = found("condition_syntax", 'a [shape=house, manager.stop_condition="a > 3"]; start -> a -> exit')
    assert (one.severity, one.node) == ("error", "a")


def test_a_blank_condition_is_none() -> None:
    text = 'a [prompt=p]; start -> a -> exit [condition=" "]'
    assert found("condition_syntax", text) == []
    assert about("all_conditional_edges", text) == []


def edges(*conditions: str) -> str:
    return "a [prompt=p]; start -> a;" + "".join(f'a -> b{i} [condition="{one}"];' for i, one in enumerate(conditions))


@pytest.mark.parametrize(
    "conditions",
    [
        ["outcome=success", "outcome!=success"],
        ["context.outcome=success", "outcome!=success"],
        ["outcome!=fail", "outcome=fail"],
        ["outcome=success", "outcome=partial_success", "outcome=fail", "outcome=skipped"],
        ["outcome", "outcome=fail"],
        ["x=1", "x!=1"],
        ["context.x=1", "x!=1"],
        ["outcome=fail", "outcome!=fail && x=1", "outcome!=fail && x!=1"],
        ["x=1", "x=2", "x!=1 && x!=2"],
        ["outcome=success && x", "outcome=success && x=", "outcome!=success", "outcome=success && x=0", "x!="],
        [""],
    ],
)
def test_conditions_that_cover_the_outcomes(conditions: list[str]) -> None:
    assert about("all_conditional_edges", edges(*conditions)) == []


@pytest.mark.parametrize(
    ("conditions", "missed"),
    [
        (["outcome=success"], "outcome is partial_success"),
        (["outcome=success", "outcome=fail"], "outcome is partial_success"),
        (["outcome=success", "outcome=fail", "outcome=partial_success"], "outcome is skipped"),
        (["outcome!=success"], "outcome is success"),
        (["x=1"], "outcome is success and x is empty"),
        (["x"], "outcome is success and x is empty"),
        (["x=1", "x=2", "x="], "outcome is success and x is something else"),
        (["outcome=success && x=1", "outcome!=success"], "outcome is success and x is empty"),
        (["x=1", "x!=1 && outcome=fail"], "outcome is success and x is empty"),
        (["preferred_label=Yes", "preferred_label=No"], "outcome is success and preferred_label is empty"),
        ([f"x{i}=1" for i in range(9)], "another combination of values comes up"),
    ],
)
@pytest.mark.clause("rule-all_conditional_edges")
def test_conditions_that_leave_an_outcome_out_are_warned_of(conditions: list[str], missed: str) -> None:
    (one,) = found("all_conditional_edges", edges(*conditions))
    assert (one.severity, one.node) == ("warning", "a")
    assert one.message == f"every edge of 'a' has a condition, and none holds when {missed}"


def test_one_edge_without_a_condition_is_enough() -> None:
    assert about("all_conditional_edges", edges("outcome=success") + "a -> exit") == []


def test_a_condition_that_cannot_be_read_is_not_told_twice() -> None:
    assert about("all_conditional_edges", edges("outcome=success", "!")) == []


def test_the_branches_of_a_fan_out_need_no_conditions() -> None:
    text = 'a [shape=component]; f [shape=tripleoctagon]; start -> a -> b -> f [condition="x"]; f -> exit'
    assert about("all_conditional_edges", text) == ["start", "b"]


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("start -> a -> exit", ["a"]),
        ("start -> a -> b; b -> exit", ["b"]),
        ("start -> exit", []),
        ('start -> a -> exit [condition="outcome=success"]', []),
        ('start -> a; a -> exit [condition="outcome=fail"]', []),
        ('start -> a; a -> exit [condition="context.outcome!=success"]', []),
        ('start -> a; a -> exit [condition="tests=passed"]', ["a"]),
        ('start -> a; a -> exit [condition="tests=passed && outcome=success"]', []),
        # Failures are chosen away before the unconditional edge.
        ('start -> a -> exit; a -> mend [condition="outcome=fail"]', []),
        ('start -> a -> exit; a -> mend [condition="outcome!=success"]', []),
        ('start -> a -> exit; a -> mend [condition="outcome=fail && x"]', ["a"]),
        ('start -> a -> exit; a -> mend [condition="outcome=partial_success"]', ["a"]),
        ("a [shape=parallelogram]; start -> a -> exit", ["a"]),
        ("a [shape=diamond]; start -> a -> exit", ["a"]),
        ("a [shape=hexagon]; start -> a -> exit", []),
        ("a [shape=house]; start -> a -> exit", ["a"]),
        ("a [goal_gate=true]; start -> a -> exit", []),
        ("f [shape=component]; j [shape=tripleoctagon]; start -> f -> a -> j -> exit", ["j"]),
    ],
)
@pytest.mark.clause("rule-terminal_condition_edge")
def test_a_failure_that_can_reach_the_exit_unseen_is_warned_of(text: str, nodes: list[str]) -> None:
    diagnostics = found("terminal_condition_edge", text)
    assert [one.node for one in diagnostics] == nodes
    assert {one.severity for one in diagnostics} <= {"warning"}
    assert [one.edge for one in diagnostics] == [(name, "exit") for name in nodes]
