"""The table of attributes: defaults, inheritance, and how values are read."""

from __future__ import annotations

import pytest

from perdure.core.pipeline_errors import AttributeValueError
from perdure.pipeline.document import DurationText, Value
from perdure.pipeline.fidelity import fidelity_of, thread_of
from perdure.pipeline.handler_types import BUILT_IN
from perdure.pipeline.settings import (
    EDGE_ATTRIBUTES,
    GRAPH_ATTRIBUTES,
    NODE_ATTRIBUTES,
    EdgeSettings,
    GraphSettings,
    NodeSettings,
    edge_settings,
    graph_settings,
    node_settings,
)
from tests.unit.pipeline.documents import Attributes, document


def node(given: Attributes, graph: Attributes | None = None) -> NodeSettings:
    holder = document({"n": given}, graph=graph)
    return node_settings(holder, holder.nodes["n"])


def graph(given: Attributes) -> GraphSettings:
    return graph_settings(document({}, graph=given))


def edge(given: Attributes) -> EdgeSettings:
    return edge_settings(document({}, [("a", "b", given)]).edges[0])


@pytest.mark.clause("attributes-graph")
def test_the_defaults_of_the_graph() -> None:
    settings = graph({})
    assert (settings.goal, settings.default_max_retries, settings.default_fidelity) == ("", 0, None)
    assert (settings.max_steps, settings.max_visits, settings.goal_gate_limit) == (500, 1000, 20)


@pytest.mark.clause("attributes-node")
def test_the_defaults_of_a_node() -> None:
    settings = node({})
    assert (settings.label, settings.shape, settings.max_retries, settings.max_visits) == ("n", "box", 0, 1000)
    assert (settings.goal_gate, settings.allow_partial, settings.auto_status) == (False, False, False)
    assert (settings.reasoning_effort, settings.timeout_s, settings.fidelity) == ("high", None, None)
    assert (settings.join_policy, settings.max_parallel, settings.quorum) == ("wait_all", 4, None)
    assert (settings.effect, settings.in_doubt, settings.tool_argv) == ("idempotent", "ask", ())
    assert (settings.human_timeout_s, settings.human_input, settings.human_multiple) == (None, "choice", False)
    assert (settings.poll_interval_s, settings.max_cycles) == (45.0, 1000)
    assert (settings.actions, settings.child_autostart) == (("observe", "wait"), True)


@pytest.mark.clause("attributes-edge")
def test_the_defaults_of_an_edge() -> None:
    assert edge({}) == EdgeSettings(label="", condition="", weight=0, fidelity=None, thread_id="", loop_restart=False)


@pytest.mark.parametrize(
    ("own", "of_graph", "retries"),
    [
        ({}, {}, 0),
        ({}, {"default_max_retries": 3}, 3),
        ({}, {"default_max_retry": 2}, 2),
        ({}, {"default_max_retry": 2, "default_max_retries": 5}, 5),
        ({}, {"default_max_retries": 5, "default_max_retry": 2}, 5),
        ({"max_retries": 1}, {"default_max_retries": 3}, 1),
        ({"max_retries": 0}, {"default_max_retries": 3}, 0),
        ({"max_retries": ""}, {"default_max_retries": 3}, 3),
    ],
)
@pytest.mark.clause("retry-count")
def test_retries_are_the_nodes_else_the_graphs_else_none(own: Attributes, of_graph: Attributes, retries: int) -> None:
    assert node(own, of_graph).max_retries == retries


@pytest.mark.clause("bounds-visits")
def test_visits_are_bounded_by_the_node_else_by_the_graph() -> None:
    assert node({}, {"max_visits": 7}).max_visits == 7
    assert node({"max_visits": 3}, {"max_visits": 7}).max_visits == 3


@pytest.mark.clause("codergen-prompt")
def test_the_prompt_falls_back_to_the_label_and_that_to_the_id() -> None:
    assert node({"prompt": "p", "label": "l"}).prompt_or_label == "p"
    assert node({"label": "l"}).prompt_or_label == "l"
    assert node({}).prompt_or_label == "n"
    assert node({"label": "Reach $goal"}, {"goal": "it"}).prompt_or_label == "Reach it"


@pytest.mark.parametrize(
    ("key", "value", "field", "typed"),
    [
        ("max_retries", "3", "max_retries", 3),
        ("max_retries", 2.0, "max_retries", 2),
        ("goal_gate", True, "goal_gate", True),
        ("goal_gate", "true", "goal_gate", True),
        ("goal_gate", "false", "goal_gate", False),
        ("timeout", DurationText("900s"), "timeout_s", 900.0),
        ("timeout", "1h30m", "timeout_s", 5400.0),
        ("timeout", 1.5, "timeout_s", 1.5),
        ("timeout", "90", "timeout_s", 90.0),
        ("prompt", 5, "prompt", "5"),
        ("prompt", True, "prompt", "true"),
        ("human.timeout", DurationText("3d"), "human_timeout_s", 259_200.0),
        ("manager.actions", "observe, steer", "actions", ("observe", "steer")),
        ("tool_argv", "ruff check 'a b'", "tool_argv", ("ruff", "check", "a b")),
        ("tool_argv", '["a", "b c"]', "tool_argv", ("a", "b c")),
        ("fidelity", "full", "fidelity", "full"),
        ("fidelity", "unheard of", "fidelity", None),
        ("class", "a,b", "classes", "a,b"),
    ],
)
def test_a_value_is_read_as_its_type(key: str, value: Value, field: str, typed: object) -> None:
    found = getattr(node({key: value}), field)
    assert found == typed
    assert type(found) is type(typed)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_retries", True), ("max_retries", 1.5), ("max_retries", "1.5"), ("max_retries", "x"), ("max_retries", -1),
        ("max_retries", 2**60), ("max_retries", float("inf")), ("max_retries", "9" * 5_000),
        ("goal_gate", 1), ("goal_gate", "True"), ("goal_gate", "yes"),
        ("timeout", -1), ("timeout", 0), ("timeout", True), ("timeout", "later"), ("timeout", float("nan")),
        ("effect", "Once"), ("manager.actions", "observe;wait"),
        ("tool_argv", "'"), ("tool_argv", "[1]"), ("tool_argv", "[]"), ("tool_argv", "["), ("tool_argv", " "),
        ("tool_argv", '["a\\u0000"]'), ("tool_argv", '[""]'), ("tool_argv", "[" * 100_000),
    ],
)  # fmt: skip
@pytest.mark.clause("attributes-values")
def test_a_value_that_does_not_fit_is_refused_by_its_key(key: str, value: Value) -> None:
    with pytest.raises(AttributeValueError) as caught:
        node({key: value})
    assert caught.value.code == "attribute_value"
    assert caught.value.ids["key"] == key
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(("given", "weight"), [(3, 3), ("3", 3), (1.5, 1.5), ("-2.5", -2.5), (-1, -1)])
def test_a_weight_is_any_number(given: Value, weight: float) -> None:
    assert edge({"weight": given}).weight == weight


def test_a_blank_condition_is_none() -> None:
    assert not edge({}).is_conditional
    assert not edge({"condition": "  "}).is_conditional
    assert edge({"condition": "x"}).is_conditional


def test_the_table_holds_every_attribute_of_the_dialect() -> None:
    assert set(GRAPH_ATTRIBUTES) == {
        "goal", "label", "model_stylesheet", "default_max_retries", "default_max_retry", "retry_target",
        "fallback_retry_target", "default_fidelity", "stack.child_dotfile", "stack.child_workdir", "max_steps",
        "max_visits", "goal_gate_limit", "thread_id", "rankdir",
    }  # fmt: skip
    assert set(NODE_ATTRIBUTES) == {
        "label", "shape", "type", "prompt", "max_retries", "goal_gate", "retry_target", "fallback_retry_target",
        "fidelity", "thread_id", "class", "timeout", "llm_model", "llm_provider", "reasoning_effort", "auto_status",
        "allow_partial", "tool_command", "join_policy", "quorum", "max_parallel", "human.timeout",
        "human.default_choice", "human.input", "human.multiple", "manager.poll_interval", "manager.max_cycles",
        "manager.stop_condition", "manager.actions", "stack.child_autostart", "max_visits", "effect", "in_doubt",
        "tool_argv",
    }  # fmt: skip
    assert set(EDGE_ATTRIBUTES) == {"label", "condition", "weight", "fidelity", "thread_id", "loop_restart"}


def test_every_attribute_is_read_by_handlers_that_there_are() -> None:
    for spec in (*NODE_ATTRIBUTES.values(), *EDGE_ATTRIBUTES.values()):
        assert spec.read_by is None or (spec.read_by and spec.read_by <= BUILT_IN)


# --- fidelity and threads ---------------------------------------------------------------------------------------------


@pytest.mark.clause("fidelity-order")
def test_fidelity_is_the_edges_then_the_nodes_then_the_graphs_then_compact() -> None:
    of_graph, of_node, of_edge = {"default_fidelity": "full"}, {"fidelity": "truncate"}, {"fidelity": "summary:low"}
    assert fidelity_of(graph(of_graph), node(of_node), edge(of_edge)) == "summary:low"
    assert fidelity_of(graph(of_graph), node(of_node), edge({})) == "truncate"
    assert fidelity_of(graph(of_graph), node({}), None) == "full"
    assert fidelity_of(graph({}), node({}), edge({})) == "compact"


@pytest.mark.clause("thread-order")
def test_the_thread_is_the_edges_then_the_nodes_then_the_graphs_then_the_subgraphs_then_the_previous_nodes() -> None:
    plain = document({"n": {}}).nodes["n"]
    inside = document({"n": {}}).nodes["n"]
    inside.subgraph_classes = ("outer", "inner")
    of_graph, of_node, of_edge = {"thread_id": "g"}, {"thread_id": "n"}, {"thread_id": "e"}
    assert thread_of(graph(of_graph), node(of_node), edge(of_edge), inside, "p") == "e"
    assert thread_of(graph(of_graph), node(of_node), edge({}), inside, "p") == "n"
    assert thread_of(graph(of_graph), node({}), None, inside, "p") == "g"
    assert thread_of(graph({}), node({}), None, inside, "p") == "inner"
    assert thread_of(graph({}), node({}), None, plain, "p") == "p"
    assert thread_of(graph({}), node({}), None, plain, None) == "n"
