"""The rule by which concurrent writes come together."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import MergeConflictError
from perdure.journal.state import DELETED
from perdure.workflow.merge import merge_writes, same_value


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
