"""Routing: what comes next, from what has happened."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.journal.state import NodeResult
from perdure.workflow.graph import Break, Enter, Finish, Hold, Progress, Route, Router
from perdure.workflow.topology import Dag, Mode, Walk, find_cycles, topological_order

WALK = Walk("a", {"a": ("b",), "b": ()})


def ended(
    name: str,
    status: str = "completed",
    output: Any = None,
    next: tuple[str, ...] = (),
    end: dict[str, Any] | None = None,
) -> NodeResult:
    return NodeResult(name, 1, status, output, next, end)


def after(*results: NodeResult, active: Sequence[str] = (), skip_tags: tuple[str, ...] = ()) -> Progress:
    completed = {result.name: result for result in results}
    return Progress(completed, frozenset(active), results[-1] if results else None, bool(results), skip_tags)


def dag(
    dependencies: Mapping[str, Sequence[str]],
    mode: Mode = "fan_out",
    limit: int = 4,
    tags: Mapping[str, Sequence[str]] | None = None,
    output: str | None = None,
) -> Dag:
    return Dag(
        dependencies,
        mode=mode,
        limit=limit,
        tags={name: (tags or {}).get(name, ()) for name in dependencies},
        kinds=dict.fromkeys(dependencies, ""),
        output=output,
    )


DIAMOND: dict[str, Sequence[str]] = {"top": (), "left": ("top",), "right": ("top",), "bottom": ("left", "right")}

# --- walks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "route"),
    [
        (Progress(), Enter(("a",))),
        (Progress(active=frozenset("a"), started=True), Hold()),
        (Progress(started=True), Enter(("a",))),
        (after(ended("a", next=("b",))), Enter(("b",))),
        (after(ended("a", next=("a",))), Enter(("a",))),
        (after(ended("a", next=("b",)), active=["b"]), Hold()),
        (after(ended("b", end={"output": 7})), Finish(7)),
        (after(ended("b", end={"output": None})), Finish(None)),
        (after(ended("b", end={"error": {"code": "x"}})), Break({"code": "x"})),
        (after(ended("b", "failed", end={"error": {"code": "x"}})), Break({"code": "x"})),
    ],
)
def test_a_walk_goes_where_the_last_node_says(progress: Progress, route: Route) -> None:
    assert WALK.router()(progress) == route


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (ended("a", next=("nowhere",)), "unknown_node"),
        (ended("a"), "no_next"),
        (ended("a", next=("a", "b")), "no_next"),
        (ended("a", "failed"), "node_failed"),
    ],
)
def test_a_walk_that_cannot_go_on_breaks_with_a_code(result: NodeResult, code: str) -> None:
    route = WALK.router()(after(result))
    assert isinstance(route, Break)
    assert route.error["code"] == code


# --- order and cycles -------------------------------------------------------------------------------------------------


def test_the_order_of_declaration_breaks_ties() -> None:
    dependencies: dict[str, Sequence[str]] = {"c": ("x",), "b": (), "x": (), "a": ()}
    assert topological_order(dependencies) == ["b", "x", "c", "a"]
    assert topological_order(DIAMOND) == ["top", "left", "right", "bottom"]


def test_nodes_on_a_cycle_are_left_out_of_the_order() -> None:
    assert topological_order({"a": ("b",), "b": ("a",), "after": ("a",), "free": ()}) == ["free"]


@pytest.mark.parametrize(
    ("dependencies", "cycles"),
    [
        (DIAMOND, []),
        ({"a": ("b",), "b": ("a",)}, [["a", "b"]]),
        ({"a": ("c",), "b": ("a",), "c": ("b",), "after": ("c",)}, [["a", "b", "c"]]),
        ({"before": (), "b": ("a", "before"), "a": ("b",)}, [["b", "a"]]),
        ({"a": ("b",), "b": ("a",), "c": ("d", "a"), "d": ("c",)}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_cycles_are_named_in_the_direction_of_execution(
    dependencies: dict[str, Sequence[str]], cycles: list[list[str]]
) -> None:
    assert find_cycles(dependencies) == cycles


@given(st.dictionaries(st.integers(0, 7), st.sets(st.integers(0, 7), max_size=3), max_size=8))
def test_a_graph_has_cycles_exactly_if_it_has_no_order(raw: dict[int, set[int]]) -> None:
    dependencies = {str(name): [str(of) for of in sorted(of & raw.keys())] for name, of in raw.items()}
    cycles = find_cycles(dependencies)
    assert bool(cycles) == (len(topological_order(dependencies)) < len(dependencies))
    for cycle in cycles:
        for earlier, later in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert earlier in dependencies[later]


# --- dags -------------------------------------------------------------------------------------------------------------


def test_fanned_out_all_that_is_ready_is_entered_up_to_the_limit() -> None:
    route = dag(DIAMOND).router()
    assert route(Progress()) == Enter(("top",))
    assert route(after(active=["top"])) == Hold()
    assert route(after(ended("top"))) == Enter(("left", "right"))
    assert route(after(ended("top"), ended("right"), active=["left"])) == Hold()
    assert route(after(ended("top"), ended("right"), ended("left"))) == Enter(("bottom",))

    wide = dag({name: () for name in "abcdef"}, limit=3).router()
    assert wide(Progress()) == Enter(("a", "b", "c"))
    assert wide(after(ended("b"), active=["a", "c"])) == Enter(("d",))


def test_in_sequence_one_state_at_a_time_is_entered_in_one_order() -> None:
    route = dag(DIAMOND, "sequential", limit=9).router()
    assert route(after(ended("top"))) == Enter(("left",))
    assert route(after(ended("top"), active=["left"])) == Hold()
    assert route(after(ended("top"), ended("left"))) == Enter(("right",))


def test_routing_again_without_progress_says_the_same() -> None:
    route = dag(DIAMOND).router()
    assert route(after(ended("top"))) == route(after(ended("top"))) == Enter(("left", "right"))


def test_an_interrupted_state_is_entered_again() -> None:
    route = dag(DIAMOND).router()
    assert route(after(ended("top"), active=["left", "right"])) == Hold()
    assert route(after(ended("top"), active=["right"])) == Enter(("left",))


def test_the_output_is_that_of_the_ends_or_of_one_state() -> None:
    results = [ended(name, output=name.upper()) for name in DIAMOND]
    assert dag(DIAMOND).router()(after(*results)) == Finish({"bottom": "BOTTOM"})
    assert dag(DIAMOND, output="top").router()(after(*results)) == Finish("TOP")
    loose = dag({"a": (), "b": ()})
    assert loose.router()(after(ended("b", output=2), ended("a", output=1))) == Finish({"a": 1, "b": 2})


def test_a_failed_state_breaks_the_run_though_others_are_active() -> None:
    route = dag(DIAMOND).router()
    failed = ended("left", "failed", end={"error": {"code": "boom"}})
    assert route(after(ended("top"), failed, active=["right"])) == Break({"code": "boom"})


def test_a_state_that_returned_fail_breaks_the_run() -> None:
    route = dag(DIAMOND).router()
    failed = ended("left", end={"error": {"code": "mine"}})
    assert route(after(ended("top"), failed, ended("right"))) == Break({"code": "mine"})
    assert route(after(ended("top"), ended("right"))) == Enter(("left",))


def test_the_first_failure_is_the_one_that_counts() -> None:
    first = ended("right", "failed", end={"error": {"code": "first"}})
    second = ended("left", "failed", end={"error": {"code": "second"}})
    assert dag(DIAMOND).router()(after(ended("top"), first, second)) == Break({"code": "first"})


@pytest.mark.parametrize("mode", ["sequential", "fan_out"])
def test_tagged_states_are_skipped_and_their_dependents_run(mode: Mode) -> None:
    route = dag(DIAMOND, mode, tags={"left": ("slow", "net"), "right": ("other",)}).router()
    assert route(after(ended("top"), skip_tags=("slow",))) == Enter((), ("left",))
    skipped = ended("left", "skipped")
    assert route(after(ended("top"), skipped, skip_tags=("slow",))) == Enter(("right",))
    assert route(after(ended("top"), skipped, ended("right"), skip_tags=("slow",))) == Enter(("bottom",))
    assert route(after(*(ended(name, "skipped") for name in DIAMOND))) == Finish({"bottom": None})


def test_in_sequence_what_a_skip_makes_ready_keeps_its_place() -> None:
    route = dag({"skipped": (), "second": ("skipped",), "third": ()}, "sequential", tags={"skipped": ("t",)}).router()
    assert route(after(skip_tags=("t",))) == Enter((), ("skipped",))
    assert route(after(ended("skipped", "skipped"), skip_tags=("t",))) == Enter(("second",))


def test_a_router_notices_that_a_failure_was_forgotten() -> None:
    route = dag(DIAMOND).router()
    failed = ended("left", "failed", end={"error": {}})
    assert isinstance(route(after(ended("top"), failed)), Break)
    assert route(after(ended("top"))) == Enter(("left", "right"))
    assert isinstance(route(after(ended("top"), failed)), Break)
    assert route(after(ended("top"), ended("left"))) == Enter(("right",))


def test_a_router_notices_that_it_is_shown_another_past() -> None:
    route = dag(DIAMOND).router()
    assert route(after(ended("top"), ended("right"))) == Enter(("left",))
    assert route(after(ended("top"))) == Enter(("left", "right"))
    assert route(after(ended("top"), ended("left"))) == Enter(("right",))
    assert route(Progress()) == Enter(("top",))


@given(st.integers(0, 2**32), st.sampled_from(["sequential", "fan_out"]))
def test_a_router_that_remembers_agrees_with_a_fresh_one(seed: int, mode: Mode) -> None:
    chance = random.Random(seed)
    names = [f"n{index}" for index in range(chance.randint(1, 12))]
    dependencies = {
        name: chance.sample(names[:place], min(place, chance.randint(0, 3))) for place, name in enumerate(names)
    }
    tags = {name: chance.sample(["t", "u"], chance.randint(0, 1)) for name in names}
    shape = dag(dependencies, mode, limit=chance.randint(1, 4), tags=tags)
    remembering = shape.router()
    completed: dict[str, NodeResult] = {}
    active: set[str] = set()
    for _ in range(100):
        progress = Progress(completed, frozenset(active), None, True, ("t",))
        route = remembering(progress)
        assert route == shape.router()(progress)
        if isinstance(route, Finish):
            break
        if isinstance(route, Enter):
            for name in (*route.nodes, *route.skip):
                assert set(dependencies[name]) <= completed.keys()
                assert name not in completed
            active |= set(route.nodes)
            completed |= {name: ended(name, "skipped") for name in route.skip}
            assert len(active) <= shape.limit
        if active and not (isinstance(route, Enter) and route.skip):
            name = chance.choice(sorted(active))
            active.remove(name)
            if chance.random() < 0.8:  # else it was interrupted
                completed[name] = ended(name)
    if mode == "sequential":
        assert list(completed) == list(shape.order)[: len(completed)] or any("t" in one for one in tags.values())


def execute(route: Router, limit: int) -> int:
    """Complete one state after the other; the number of routings."""
    completed: dict[str, NodeResult] = {}
    waiting: list[str] = []
    rounds = 0
    while True:
        rounds += 1
        step = route(Progress(completed, frozenset(waiting), None, True))
        if isinstance(step, Finish):
            return rounds
        if isinstance(step, Enter):
            waiting.extend(step.nodes)
        assert 0 < len(waiting) <= limit
        name = waiting.pop(0)
        completed[name] = ended(name)


@pytest.mark.parametrize("mode", ["sequential", "fan_out"])
def test_routing_a_long_plan_costs_the_same_at_its_end(mode: Mode) -> None:
    def seconds(count: int) -> float:
        chain: dict[str, Sequence[str]] = {str(place): (str(place - 1),) if place else () for place in range(count)}
        shape = dag(chain, mode)
        start = perf_counter()
        assert execute(shape.router(), shape.limit) == count + 1
        return perf_counter() - start

    short = min(seconds(500) for _ in range(3))
    long = min(seconds(5000) for _ in range(3))
    assert long < short * 40, "ten times as many states may cost ten times as much, not a hundred times"


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_side_by_side_a_state_sees_what_it_depends_on() -> None:
    shape = dag(DIAMOND)
    seen = {name: {other for other in DIAMOND if shape.precedes(other, name)} for name in DIAMOND}
    assert seen == {"top": set(), "left": {"top"}, "right": {"top"}, "bottom": {"top", "left", "right"}}


def test_in_sequence_a_state_sees_all_before_it() -> None:
    shape = dag({"a": (), "b": (), "c": ("a",)}, "sequential")
    assert shape.precedes("a", "b")
    assert shape.precedes("b", "c")
    assert not shape.precedes("c", "b")
    assert not shape.precedes("b", "b")
