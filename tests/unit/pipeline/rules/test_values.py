"""Rules about attributes: what their values may be, and whether anything reads them."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.rules.checking import about, found


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("max_retries=often", "'a': max_retries='often' is not a whole number from 0 up"),
        ("max_retries=-1", "'a': max_retries='-1' is not a whole number from 0 up"),
        ("max_visits=0", "'a': max_visits='0' is not a whole number from 1 up"),
        ("goal_gate=yes", "'a': goal_gate='yes' is not true or false"),
        ("timeout=soon", "'a': timeout='soon' is not a duration above zero, such as 900s or 15m"),
        ("timeout=0s", "'a': timeout='0s' is not a duration above zero, such as 900s or 15m"),
        ("shape=parallelogram, effect=twice", "'a': effect='twice' is not one of idempotent, read, once"),
        ("shape=parallelogram, in_doubt=hope", "'a': in_doubt='hope' is not one of ask, fail, retry"),
        ("shape=component, join_policy=any", "'a': join_policy='any' is not one of wait_all, first_success, k_of_n"),
        ("shape=component, max_parallel=0", "'a': max_parallel='0' is not a whole number from 1 up"),
        ("shape=component, join_policy=k_of_n", "'a': join_policy=k_of_n needs a quorum"),
        ("shape=component, join_policy=k_of_n, quorum=2", "'a': a quorum of 2 can never be reached by 1 branches"),
        ('shape=house, manager.actions="observe,fly"', "'a': manager.actions='observe,fly' is not a comma list of"),
        ('shape=parallelogram, tool_argv="a \'b"', "'a': tool_argv=\"a 'b\" is not a command's words, or a JSON list"),
    ],
)
@pytest.mark.clause("attributes-values")
def test_a_value_that_does_not_fit_is_refused(attributes: str, message: str) -> None:
    (one,) = found("attribute_value", f"a [{attributes}]; j [shape=tripleoctagon]; start -> a -> j -> exit")
    assert (one.severity, one.node) == ("error", "a")
    assert one.message.startswith(message)
    assert one.line == 1


@pytest.mark.parametrize(
    "attributes",
    [
        'max_retries="3"', "max_retries=3.0", 'goal_gate="false"', 'timeout="1h30m"', "timeout=90", 'timeout="90"',
        "timeout=900s", 'timeout=""', "label=5", "prompt=true", "llm_model=4",
        "shape=component, join_policy=k_of_n, quorum=1", 'shape=parallelogram, tool_argv="[\\"a\\", \\"b c\\"]"',
        'shape=house, manager.actions="observe, steer"',
    ],
)  # fmt: skip
def test_a_value_that_can_be_read_as_its_type_fits(attributes: str) -> None:
    assert about("attribute_value", f"a [{attributes}]; j [shape=tripleoctagon]; start -> a -> j -> exit") == []


def test_a_value_of_the_graph_or_of_an_edge_is_checked_too() -> None:
    (one,) = found("attribute_value", "graph [default_max_retry=many]; start -> exit")
    assert (one.node, one.message) == (None, "default_max_retries='many' is not a whole number from 0 up")
    (one,) = found("attribute_value", "start -> a -> exit [weight=heavy]")
    assert (one.edge, one.message) == (("start", "a"), "start -> a: weight='heavy' is not a number")


def test_a_default_that_does_not_fit_is_told_once() -> None:
    assert len(found("attribute_value", "node [max_retries=x]; start -> a -> b -> exit")) == 1


@pytest.mark.parametrize("fidelity", ["full", "truncate", "compact", "summary:low", "summary:medium", "summary:high"])
def test_a_fidelity_of_the_dialect_is_valid(fidelity: str) -> None:
    text = f"graph [default_fidelity={fidelity}]; a [fidelity={fidelity}]; start -> a -> exit [fidelity={fidelity}]"
    assert found("fidelity_valid", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "graph [default_fidelity=summary]; start -> exit",
        "a [fidelity=Full]; start -> a -> exit",
        "start -> a -> exit [fidelity=none]",
        "node [fidelity=short]; start -> a -> b -> exit",
    ],
)
@pytest.mark.clause("rule-fidelity_valid")
def test_an_unknown_fidelity_is_warned_of_and_no_error(text: str) -> None:
    (one,) = found("fidelity_valid", text)
    assert one.severity == "warning"
    assert found("attribute_value", text) == []


@pytest.mark.clause("rule-stylesheet_syntax")
def test_a_stylesheet_that_cannot_be_read_is_refused() -> None:
    (one,) = found("stylesheet_syntax", 'graph [model_stylesheet="* { colour: red }"]; start -> exit')
    assert one.severity == "error"
    assert one.message == ("model_stylesheet: the property 'colour' is unknown at line 1, column 5 of the stylesheet")
    assert one.fix == "there are llm_model, llm_provider, reasoning_effort"
    assert found("stylesheet_syntax", 'graph [model_stylesheet="* { llm_model: m }"]; start -> exit') == []


# --- inert_attribute --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("colour=red", "'a': nothing reads 'colour'"),
        ("tool_command=ls", "'a': a node of type codergen does not read 'tool_command'"),
        ("join_policy=wait_all", "'a': a node of type codergen does not read 'join_policy'"),
        ("human.timeout=3d", "'a': a node of type codergen does not read 'human.timeout'"),
        ("effect=once", "'a': a node of type codergen does not read 'effect'"),
        ("shape=parallelogram, prompt=p", "'a': a node of type tool does not read 'prompt'"),
        ("shape=parallelogram, llm_model=m", "'a': a node of type tool does not read 'llm_model'"),
        ("shape=hexagon, timeout=3d", "'a': a node of type wait.human does not read 'timeout'"),
        ("shape=diamond, max_retries=3", "'a': a node of type conditional does not read 'max_retries'"),
        ("shape=component, manager.max_cycles=3", "'a': a node of type parallel does not read 'manager.max_cycles'"),
        ("type=unheard_of, tool_command=ls", "'a': a node of type codergen does not read 'tool_command'"),
    ],
)
@pytest.mark.clause("attributes-inert")
def test_an_attribute_that_nothing_reads_is_warned_of(attributes: str, message: str) -> None:
    (one,) = found("inert_attribute", f"a [{attributes}]; start -> a -> exit")
    assert (one.severity, one.node, one.message) == ("warning", "a", message)


@pytest.mark.parametrize(
    "attributes",
    [
        "label=l, shape=box, prompt=p, max_retries=1, goal_gate=true, retry_target=a, fallback_retry_target=a",
        'fidelity=full, thread_id=t, class="x,y", timeout=9s, llm_model=m, llm_provider=p, reasoning_effort=low',
        "auto_status=true, allow_partial=true, max_visits=3",
        "shape=parallelogram, tool_command=ls, timeout=9s, effect=once, in_doubt=ask, tool_argv=ls, max_retries=1",
        "shape=component, join_policy=k_of_n, quorum=1, max_parallel=4",
        "shape=tripleoctagon, prompt=p, llm_model=m, fidelity=full",
        "shape=hexagon, prompt=p, human.timeout=3d, human.default_choice=x, human.input=text, human.multiple=true",
        "shape=house, prompt=p, manager.poll_interval=4s, manager.max_cycles=3, manager.stop_condition=x",
        'shape=house, manager.actions="observe", stack.child_autostart=false',
    ],
)
def test_the_attributes_of_the_dialect_are_read(attributes: str) -> None:
    assert found("inert_attribute", f"a [{attributes}]; start -> a -> exit") == []


def test_the_graphs_attributes_of_the_dialect_are_read() -> None:
    text = 'graph [goal=g, label=l, model_stylesheet="", default_max_retries=1, default_max_retry=1,'
    text += "retry_target=start,"
    text += "fallback_retry_target=start, default_fidelity=full, stack.child_dotfile=f, stack.child_workdir=w,"
    text += "max_steps=5, max_visits=5, goal_gate_limit=5]; rankdir=LR; start -> exit"
    assert found("inert_attribute", text) == []
    (one,) = found("inert_attribute", "graph [max_step=3]; start -> exit")
    assert (one.message, one.fix) == ("nothing reads 'max_step'", "did you mean 'max_steps'?")


def test_the_edges_attributes_of_the_dialect_are_read() -> None:
    all_of_them = 'label=l, condition="x", weight=2, fidelity=full, thread_id=t, loop_restart=true'
    assert found("inert_attribute", f"start -> a -> exit; a -> a [{all_of_them}]") == []
    (one,) = found("inert_attribute", "start -> exit [color=red]")
    assert (one.node, one.edge) == ("start", ("start", "exit"))


def test_the_branches_of_a_fan_out_have_no_conditions_and_weights() -> None:
    text = 'f [shape=component]; j [shape=tripleoctagon]; start -> f; f -> a [label=l, condition="x", weight=2]; a -> j'
    assert [one.message.partition(": ")[2] for one in found("inert_attribute", f"{text} -> exit")] == [
        "a node of type parallel does not read 'condition'",
        "a node of type parallel does not read 'weight'",
    ]


def test_fidelity_and_thread_of_an_edge_are_read_where_it_leads() -> None:
    text = "t [shape=parallelogram]; start -> a; a -> t [fidelity=full, thread_id=x]; t -> b [fidelity=full]; b -> exit"
    assert [one.edge for one in found("inert_attribute", text)] == [("a", "t"), ("a", "t")]


def test_a_handler_of_ones_own_may_read_anything() -> None:
    text = "a [type=mine, my.own=1, timeout=3s]; start -> a; a -> exit [whatever=1]"
    assert found("inert_attribute", text, registered={"mine"}) == []
    assert len(found("inert_attribute", text)) == 2


def test_a_default_is_inert_only_if_nothing_that_gets_it_reads_it() -> None:
    assert found("inert_attribute", "node [timeout=9s]; start -> a -> g -> exit; g [shape=hexagon]") == []
    (one,) = found("inert_attribute", "node [human.timeout=9s]; start -> a -> b -> exit")
    assert (one.node, one.message) == (
        None,
        "the default 'human.timeout' is inert: no node or edge that gets it reads it",
    )
    (one,) = found("inert_attribute", "edge [color=red]; start -> a -> b -> exit")
    assert one.message == "the default 'color' is inert: nothing reads it"
