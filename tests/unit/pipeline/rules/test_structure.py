"""Rules about the graph: its start and its exit, what can be reached, and where branches meet."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.rules.checking import ENDS, about, check, found

WORK = 'work [prompt="p"]; start -> work; work -> exit [condition="outcome=success"];'
WORK += 'work -> exit [condition="outcome!=success"];'


def test_a_plain_pipeline_has_no_diagnostics() -> None:
    assert check(ENDS + WORK) == []


def rules_of(text: str) -> list[tuple[str, str | None]]:
    return [(one.rule, one.node) for one in check(text) if one.severity == "error"]


@pytest.mark.clause("rule-start_node")
def test_a_pipeline_without_a_start_is_refused() -> None:
    assert rules_of("exit [shape=Msquare]; a -> exit") == [("start_node", None)]


@pytest.mark.clause("rule-start_node")
def test_a_second_start_is_refused_by_its_name() -> None:
    text = "start [shape=Mdiamond]; again [shape=Mdiamond]; exit [shape=Msquare]; start -> exit; again -> exit"
    assert rules_of(text) == [("start_node", "again")]


@pytest.mark.clause("rule-terminal_node")
def test_a_pipeline_without_an_exit_is_refused() -> None:
    assert rules_of("start [shape=Mdiamond]; start -> a") == [("terminal_node", None)]


@pytest.mark.clause("rule-terminal_node")
def test_a_second_exit_is_refused_by_its_name() -> None:
    assert rules_of("start -> exit; start -> end") == [("terminal_node", "end")]


@pytest.mark.parametrize("start", ["start", "Start"])
@pytest.mark.parametrize("end", ["exit", "end"])
def test_start_and_exit_may_be_told_by_their_ids(start: str, end: str) -> None:
    assert rules_of(f'a [prompt="p"]; {start} -> a -> {end}') == []


@pytest.mark.clause("rule-start_no_incoming")
def test_an_edge_into_the_start_is_refused() -> None:
    (one,) = found("start_no_incoming", "start -> a -> exit; a -> start")
    assert (one.severity, one.node, one.edge) == ("error", "start", ("a", "start"))
    assert one.message == "the edge a -> start enters the start node"


@pytest.mark.clause("rule-exit_no_outgoing")
def test_an_edge_out_of_the_exit_is_refused() -> None:
    (one,) = found("exit_no_outgoing", "start -> a -> exit -> a")
    assert (one.severity, one.node, one.edge) == ("error", "exit", ("exit", "a"))


@pytest.mark.clause("rule-reachability")
def test_an_unreachable_node_is_refused() -> None:
    (one,) = found("reachability", "start -> exit; island -> exit; island -> reef")[:1]
    assert (one.severity, one.node) == ("error", "island")
    assert "unreachable" in one.message
    assert about("reachability", "start -> exit; island -> exit; island -> reef") == ["island", "reef"]


def test_a_loop_that_nothing_leads_to_is_unreachable() -> None:
    assert about("reachability", "start -> exit; a -> b -> a") == ["a", "b"]


def test_an_exit_that_nothing_leads_to_is_unreachable() -> None:
    assert about("reachability", "start -> a -> a") == ["exit"]


@pytest.mark.parametrize("key", ["retry_target", "fallback_retry_target"])
def test_a_retry_target_is_reached_by_a_jump(key: str) -> None:
    assert about("reachability", f"start -> a -> exit; a [{key}=mend]; mend -> exit") == []
    assert about("reachability", f"graph [{key}=mend]; start -> a -> exit; mend -> exit") == []
    assert about("reachability", f"start -> exit; a [{key}=mend]; mend -> exit") == ["a", "mend"]


# --- parallel_join ----------------------------------------------------------------------------------------------------

SHAPES = {"fork": "component", "inner": "component", "join": "tripleoctagon", "meet": "tripleoctagon"}


def declared(edges: str) -> str:
    return "".join(f"{name} [shape={shape}];" for name, shape in SHAPES.items() if name in edges) + edges


@pytest.mark.parametrize(
    "edges",
    [
        "start -> fork; fork -> a -> join; fork -> b -> c -> join; join -> exit",
        "start -> fork; fork -> a -> join; fork -> join; join -> exit",
        "start -> fork -> a -> join -> exit",
        "start -> fork; fork -> a -> join; a -> a; fork -> b -> join; b -> fork; join -> exit; join -> fork",
        # A branch may have another way out, as long as it has one to the fan-in.
        "start -> fork; fork -> a -> join; fork -> b -> join; b -> exit; join -> exit",
        # A fan-out inside a branch closes at its own fan-in.
        "start -> fork; fork -> inner; inner -> a -> meet; inner -> b -> meet; meet -> c -> join; fork -> d -> join;"
        "join -> exit",
        "start -> fork -> a -> join -> inner -> b -> meet -> exit; fork -> c -> join; inner -> d -> meet",
    ],
)
def test_branches_with_a_common_fan_in(edges: str) -> None:
    assert about("parallel_join", declared(edges)) == []


@pytest.mark.parametrize(
    ("edges", "node"),
    [
        ("start -> fork -> a -> exit; fork -> b -> exit", "fork"),
        ("start -> fork -> a -> join -> exit; fork -> b -> exit", "fork"),
        ("start -> fork -> a -> join -> exit; fork -> b -> meet -> exit", "fork"),
        ("start -> fork; start -> exit", "fork"),
        # The inner fan-out takes the only fan-in.
        ("start -> fork -> inner -> a -> join -> exit; inner -> b -> join; fork -> c -> join", "fork"),
        # The inner one has none, so that the outer one cannot have one either.
        ("start -> fork -> inner -> a -> exit; fork -> c -> join -> exit", "inner"),
    ],
)
@pytest.mark.clause("parallel-joins")
def test_branches_without_a_common_fan_in_are_refused(edges: str, node: str) -> None:
    diagnostics = found("parallel_join", declared(edges))
    assert node in [one.node for one in diagnostics]
    assert {one.severity for one in diagnostics} == {"error"}
