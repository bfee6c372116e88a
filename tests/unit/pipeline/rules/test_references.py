"""Rules about what a pipeline names: nodes, handler types, models' prompts."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.rules.checking import about, found


@pytest.mark.clause("rule-edge_target_exists")
def test_an_undeclared_target_is_warned_of_and_is_the_node() -> None:
    (one,) = found("edge_target_exists", "review; start -> reviw; reviw -> review -> exit")
    assert (one.severity, one.node, one.edge) == ("warning", "reviw", ("start", "reviw"))
    assert one.message == "the edge start -> reviw enters 'reviw', which is not declared: it becomes a box"
    assert one.fix == "did you mean 'review'?"
    assert (one.line, one.column) == (1, 76)


def test_an_undeclared_target_of_many_edges_is_told_once() -> None:
    assert about("edge_target_exists", "a; start -> b; a -> b -> b -> exit") == ["b"]


def test_a_declared_target_is_not_warned_of_wherever_it_is_declared() -> None:
    assert about("edge_target_exists", "start -> a -> exit; a [prompt=p]") == []


def test_an_undeclared_source_is_no_target() -> None:
    assert about("edge_target_exists", "a -> exit; start -> exit") == []


@pytest.mark.parametrize("key", ["retry_target", "fallback_retry_target"])
@pytest.mark.clause("rule-retry_target_exists")
def test_a_retry_target_that_is_no_node_is_warned_of(key: str) -> None:
    (one,) = found("retry_target_exists", f"build [{key}=biuld]; start -> build -> exit")
    assert (one.severity, one.node, one.fix) == ("warning", "build", "did you mean 'build'?")
    (one,) = found("retry_target_exists", f"graph [{key}=nothing]; start -> exit")
    assert (one.node, one.fix) == (None, "name a node")
    assert one.line is not None
    assert found("retry_target_exists", f"graph [{key}=a]; a [{key}=start]; start -> a -> exit") == []


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("a [goal_gate=true]", ["a"]),
        ('a [goal_gate="true"]', ["a"]),
        ("a [goal_gate=false]", []),
        ("a [goal_gate=true, retry_target=start]", []),
        ("a [goal_gate=true, fallback_retry_target=start]", []),
        ("graph [retry_target=start]; a [goal_gate=true]", []),
        ("graph [fallback_retry_target=start]; a [goal_gate=true]", []),
        ('a [goal_gate=true, retry_target=""]', ["a"]),
    ],
)
@pytest.mark.clause("rule-goal_gate_has_retry")
def test_a_goal_gate_without_any_retry_target_is_warned_of(text: str, nodes: list[str]) -> None:
    assert about("goal_gate_has_retry", f"{text}; start -> a -> exit") == nodes


@pytest.mark.clause("rule-type_known")
def test_an_unknown_type_is_warned_of() -> None:
    (one,) = found("type_known", 'a [type="wait.humen"]; start -> a -> exit')
    assert (one.severity, one.node) == ("warning", "a")
    assert one.message == "the type 'wait.humen' of 'a' is unknown: it runs as codergen"
    assert one.fix == "did you mean 'wait.human'?"


def test_a_type_of_the_dialect_and_a_registered_one_are_known() -> None:
    text = "a [type=wait.human]; b [type=mine]; start -> a -> b -> exit"
    assert about("type_known", text) == ["b"]
    assert about("type_known", text, registered={"mine"}) == []


@pytest.mark.parametrize(
    ("attributes", "is_told"),
    [
        ("shape=box", True),
        ('prompt=" "', True),
        ('prompt="p"', False),
        ('label="Write it"', False),
        ("type=unheard_of", True),
        ("shape=parallelogram", False),
        ("shape=hexagon", False),
        ("shape=diamond", False),
        ("type=mine", False),
    ],
)
@pytest.mark.clause("rule-prompt_on_llm_nodes")
def test_a_model_task_without_prompt_and_label_is_warned_of(attributes: str, is_told: bool) -> None:
    found_at = about("prompt_on_llm_nodes", f"a [{attributes}]; start -> a -> exit", registered={"mine"})
    assert found_at == (["a"] if is_told else [])
