"""The rule by which concurrent writes come together."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import MergeConflictError
from perdure.journal.state import DELETED
from perdure.workflow.merge import Merger, merge_writes, same_value
from perdure.workflow.topology import Dag, Mode


class Reference(str):
    """A value of another type that happens to be equal."""

    __slots__ = ()


def test_disjoint_writes_merge_into_the_base() -> None:
    base = {"kept": 0, "changed": 1}
    merged = merge_writes(base, {"a": {"changed": 2}, "b": {"new": [3]}}, ["a", "b"])
    assert merged == {"kept": 0, "changed": 2, "new": [3]}
    assert base == {"kept": 0, "changed": 1}


def test_two_branches_that_wrote_one_key_differently_conflict() -> None:
    with pytest.raises(MergeConflictError) as caught:
        merge_writes({}, {"a": {"x": 1, "y": 0}, "b": {"y": 0}, "c": {"x": 2}}, ["a", "b", "c"])
    assert caught.value.code == "merge_conflict"
    assert caught.value.ids == {"key": "x", "branches": ["a", "c"]}


def test_a_conflict_names_all_branches_that_are_part_of_it_and_no_other() -> None:
    with pytest.raises(MergeConflictError) as caught:
        merge_writes({}, {name: {"x": value} for name, value in zip("abcd", [1, 1, 2, 3], strict=True)}, list("abcd"))
    assert caught.value.ids["branches"] == ["a", "b", "c", "d"]


def test_branches_that_wrote_the_same_agree() -> None:
    value: dict[str, Any] = {"list": [1, {"deep": None}]}
    assert merge_writes({}, {"a": {"x": value}, "b": {"x": value | {}}}, ["a", "b"]) == {"x": value}


def test_a_removed_key_is_gone_and_conflicts_with_a_write() -> None:
    assert merge_writes({"x": 1, "y": 2}, {"a": {"x": DELETED}, "b": {"x": DELETED}}, ["a", "b"]) == {"y": 2}
    assert merge_writes({}, {"a": {"never": DELETED}}, ["a"]) == {}
    with pytest.raises(MergeConflictError):
        merge_writes({"x": 1}, {"a": {"x": DELETED}, "b": {"x": 1}}, ["a", "b"])


def test_a_later_write_wins_over_one_that_it_has_seen() -> None:
    before = {("a", "b"), ("b", "c"), ("a", "c")}
    writes = {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}
    assert merge_writes({}, writes, ["a", "b", "c"], lambda one, other: (one, other) in before) == {"x": 3}


def test_a_third_branch_conflicts_with_the_one_that_it_has_not_seen() -> None:
    writes = {"a": {"x": 1}, "b": {"x": 2}, "side": {"x": 2}}
    with pytest.raises(MergeConflictError) as caught:
        merge_writes({}, writes, ["a", "b", "side"], lambda one, other: (one, other) == ("a", "b"))
    assert caught.value.ids["branches"] == ["a", "side"]


def test_a_branch_missing_in_the_order_is_no_silent_loss() -> None:
    with pytest.raises(ValueError, match="missing in the order"):
        merge_writes({}, {"a": {"x": 1}}, [])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        ([1, True], [1, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        (None, DELETED, False),
        ("0a", Reference("0a"), False),
        (Reference("0a"), Reference("0a"), True),
    ],
)
def test_values_are_compared_as_json(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same
    assert same_value(other, one) is same


@given(
    st.dictionaries(
        st.sampled_from("abcd"), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2), max_size=3), max_size=4
    )
)
def test_the_result_does_not_depend_on_the_order_in_which_branches_finish(writes: dict[str, dict[str, int]]) -> None:
    outcomes = []
    for order in itertools.permutations(writes):
        try:
            outcomes.append(merge_writes({"base": 1}, {name: writes[name] for name in order}, order))
        except MergeConflictError:
            outcomes.append({"conflict": True})
    assert all(outcome == outcomes[0] for outcome in outcomes)
    written: dict[str, set[int]] = {}
    for mine in writes.values():
        for key, value in mine.items():
            written.setdefault(key, set()).add(value)
    assert ("conflict" in outcomes[0]) == any(len(values) > 1 for values in written.values())


# --- node by node -----------------------------------------------------------------------------------------------------


def outcome_of(merge: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any] | str:
    try:
        return dict(merge())
    except MergeConflictError as conflict:
        return f"conflict over {conflict.ids['key']}"


@given(st.integers(0, 2**32), st.booleans())
def test_merging_node_by_node_says_the_same_as_merging_at_once(seed: int, linear: bool) -> None:
    chance = random.Random(seed)
    names = [f"n{place}" for place in range(chance.randint(1, 7))]
    dependencies = {
        name: chance.sample(names[:place], min(place, chance.randint(0, 2))) for place, name in enumerate(names)
    }
    blank = dict.fromkeys(names, "")
    shape = Dag(dependencies, mode="sequential" if linear else "fan_out", limit=4, tags=blank, kinds=blank)
    written = {name: {"x": chance.choice([1, 1, 2, DELETED])} if chance.random() < 0.5 else {} for name in names}
    base = {"x": 0, "kept": True}
    merger = Merger(base, None if linear else shape.precedes)
    writes: dict[str, dict[str, Any]] = {}
    left = list(shape.order)
    while left:
        name = next(one for one in left if set(dependencies[one]) <= writes.keys())
        if not linear and chance.random() < 0.5:  # another one that may end as well
            name = chance.choice([one for one in left if set(dependencies[one]) <= writes.keys()])
        left.remove(name)
        before = {one: mine for one, mine in writes.items() if shape.precedes(one, name)}
        assert merger.view(name) == merge_writes(base, before, shape.sort(before), shape.precedes)
        writes[name] = written[name]

        def one_more(name: str = name) -> Mapping[str, Any]:
            merger.add(name, written[name])
            return merger.state

        at_once = outcome_of(lambda: merge_writes(base, writes, shape.sort(writes), shape.precedes))
        unchanged = dict(merger.state)
        assert outcome_of(one_more) == at_once
        if isinstance(at_once, str):
            assert merger.state == unchanged, "a conflict merges nothing"
            break
    assert base == {"x": 0, "kept": True}


def test_a_conflict_node_by_node_names_key_and_nodes() -> None:
    merger = Merger({}, lambda earlier, later: False)
    merger.add("a", {"y": 0, "x": 1})
    with pytest.raises(MergeConflictError) as caught:
        merger.add("b", {"y": 1, "x": 1})
    assert caught.value.ids == {"key": "y", "branches": ["a", "b"]}
    merger.add("c", {"x": 1, "y": 0})
    assert merger.state == {"x": 1, "y": 0}


def test_a_conflict_with_an_earlier_node_than_the_last_is_found() -> None:
    merger = Merger({}, lambda earlier, later: (earlier, later) == ("a", "c"))
    merger.add("a", {"x": 1})
    merger.add("b", {"x": 1})
    with pytest.raises(MergeConflictError) as caught:
        merger.add("c", {"x": 2})
    assert caught.value.ids["branches"] == ["b", "c"]


@pytest.mark.parametrize("mode", ["sequential", "fan_out"])
def test_merging_a_long_plan_costs_the_same_at_its_end(mode: Mode) -> None:
    def seconds(count: int) -> float:
        names = [str(place) for place in range(count)]
        after = {name: names[max(place - 1, 0) : place] for place, name in enumerate(names)}
        blank = dict.fromkeys(names, "")
        shape = Dag(after, mode=mode, limit=4, tags=blank, kinds=blank)
        merger = Merger({}, None if shape.linear else shape.precedes)
        start = perf_counter()
        for place, name in enumerate(names):
            merger.view(name)
            merger.add(name, {"same": place, "some": place % 7})
        return perf_counter() - start

    short = min(seconds(500) for _ in range(3))
    long = min(seconds(5000) for _ in range(3))
    assert long < short * 40, "ten times as many states may cost ten times as much, not a hundred times"
