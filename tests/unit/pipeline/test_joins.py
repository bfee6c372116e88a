"""Where the branches of each fan-out meet again."""

from __future__ import annotations

import re

import pytest

from perdure.pipeline.joins import MAX_GROWTH, joins_of, parallel_joins
from perdure.pipeline.syntax import parse

DECLARED = "node [shape=component]; p; q; r; node [shape=tripleoctagon]; f; g; h; node [shape=box];"


def joins(edges: str) -> dict[str, str | None]:
    found = parallel_joins(parse(f"digraph G {{ start [shape=Mdiamond]; {DECLARED} {edges} }}"))
    return {name: join for name, join in found.items() if name in re.findall(r"\w+", edges)}


@pytest.mark.clause("parallel-joins")
def test_a_fan_out_is_joined_where_all_branches_can_end() -> None:
    assert joins("start -> p; p -> a -> f; p -> b -> f") == {"p": "f"}


@pytest.mark.clause("parallel-joins")
def test_nested_fan_outs_are_joined_inside_out() -> None:
    assert joins("start -> p -> q; q -> a -> f; q -> b -> f; f -> g; p -> c -> g") == {"p": "g", "q": "f"}
    twice = "start -> p -> q -> r; r -> a -> f; r -> b -> f; f -> g; q -> c -> g; g -> h; p -> d -> h"
    assert joins(twice) == {"p": "h", "q": "g", "r": "f"}


def test_both_branches_may_hold_a_fan_out() -> None:
    text = "start -> p; p -> q; p -> r; q -> a -> f; q -> b -> f; r -> c -> g; r -> d -> g; f -> h; g -> h"
    assert joins(text) == {"p": "h", "q": "f", "r": "g"}


def test_of_two_common_fan_ins_the_one_nearer_to_the_start_is_taken() -> None:
    assert joins("start -> p; p -> a; p -> b; a -> x -> g; b -> x; a -> f; b -> f; f -> g") == {"p": "f"}


def test_a_loop_around_a_fan_out_changes_nothing() -> None:
    assert joins("start -> p; p -> a -> f; p -> b -> f; f -> check -> p; check -> exit") == {"p": "f"}


def test_a_loop_that_is_entered_at_either_end_leads_out_of_both() -> None:
    assert joins("start -> p; p -> a; p -> b; a -> b -> a; b -> f") == {"p": "f"}


def test_there_is_none_where_a_branch_cannot_end() -> None:
    assert joins("start -> p; p -> a -> f; p -> b -> exit") == {"p": None}
    assert joins("start -> p") == {"p": None}
    assert joins("start -> p -> q; q -> a -> exit; p -> f") == {"p": None, "q": None}


class Counted(dict[str, list[str]]):
    looks = 0

    def __getitem__(self, name: str) -> list[str]:
        self.looks += 1
        return super().__getitem__(name)


def looks_for(depth: int) -> int:
    """How often the successors of a node are asked for in fan-outs that are nested this deep."""
    types = {"start": "start"}
    leaving = Counted({"start": ["p0"]})
    for level in range(depth):
        types |= {f"p{level}": "parallel", f"a{level}": "codergen", f"f{level}": "parallel.fan_in"}
        leaving[f"p{level}"] = [f"p{level + 1}" if level + 1 < depth else f"f{level}", f"a{level}"]
        leaving[f"a{level}"] = [f"f{level}"]
        leaving[f"f{level}"] = [f"f{level - 1}"] if level else []
    assert joins_of(types, leaving) == {f"p{level}": f"f{level}" for level in range(depth)}
    return leaving.looks


def test_the_work_grows_with_the_graph_and_not_with_its_depth() -> None:
    assert looks_for(2_000) < 2.2 * looks_for(1_000)


def looks_in_a_row(count: int) -> int:
    """The same, of fan-outs one after the other."""
    types = {"start": "start", "exit": "exit"}
    leaving = Counted({"start": ["p0"], "exit": []})
    for place in range(count):
        types |= {f"p{place}": "parallel", f"a{place}": "codergen", f"f{place}": "parallel.fan_in"}
        leaving[f"p{place}"] = [f"a{place}", f"f{place}"]
        leaving[f"a{place}"] = [f"f{place}"]
        leaving[f"f{place}"] = [f"p{place + 1}" if place + 1 < count else "exit"]
    assert joins_of(types, leaving) == {f"p{place}": f"f{place}" for place in range(count)}
    return leaving.looks


def test_the_work_grows_with_the_graph_and_not_with_its_length() -> None:
    assert looks_in_a_row(2_000) < 2.2 * looks_in_a_row(1_000)


def looks_on_a_way_there_and_back(count: int) -> int:
    """The same, of a way that leads back at each step, and to a fan-in."""
    types = {"start": "start", "p": "parallel"}
    leaving = Counted({"start": ["p"], "p": ["a0", "a1"]})
    for place in range(count):
        types |= {f"a{place}": "codergen", f"f{place}": "parallel.fan_in"}
        neighbours = [other for other in (place - 1, place + 1) if 0 <= other < count]
        leaving[f"a{place}"] = [f"f{place}", *(f"a{other}" for other in neighbours)]
        leaving[f"f{place}"] = []
    assert joins_of(types, leaving) == {"p": "f0"}
    return leaving.looks


def test_the_work_grows_with_the_graph_and_not_with_its_loops() -> None:
    assert looks_on_a_way_there_and_back(1_000) < 10_000


def test_a_tangle_takes_bounded_work() -> None:
    """A way through the nodes in an order that helps no sweep: each step goes to the far side of the graph."""
    count = 600
    zigzag = [
        place for pair in zip(range(count // 2), reversed(range(count // 2, count)), strict=True) for place in pair
    ]
    types = {"start": "start", "p": "parallel"}
    leaving = Counted({"start": ["p"], "p": [f"a{place}" for place in range(count)]})
    for place in range(count):
        types |= {f"a{place}": "codergen", f"f{place}": "parallel.fan_in"}
        leaving[f"f{place}"] = []
    for here, there in zip(zigzag, zigzag[1:] + zigzag[:1], strict=True):
        leaving[f"a{here}"] = [f"f{here}", f"a{there}"]
    joins_of(types, leaving)
    assert leaving.looks < 3 * MAX_GROWTH * count
