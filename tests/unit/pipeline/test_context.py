"""The context is one JSON object, and a dotted key is a path in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.pipeline_errors import ContextKeyError
from perdure.pipeline.context import find, merged, nested, updated, written


@pytest.mark.clause("context-paths")
def test_a_dotted_key_is_a_path() -> None:
    assert written({}, "human.gate.label", "Yes") == {"human": {"gate": {"label": "Yes"}}}
    assert find({"human": {"gate": {"label": "Yes"}}}, "human.gate.label") == "Yes"
    assert find({"human": {"gate": {"label": "Yes"}}}, "human.gate") == {"label": "Yes"}


@pytest.mark.parametrize("key", ["a", "b.c", "b.c.d", "b.x", "x.y.z", "", "b."])
def test_what_is_not_there_is_none(key: str) -> None:
    assert find({"b": {"c": 1}}, key) is (1 if key == "b.c" else None)


def test_a_write_keeps_its_neighbours() -> None:
    assert written({"a": {"b": 1}, "c": 2}, "a.d", 3) == {"a": {"b": 1, "d": 3}, "c": 2}


def test_a_write_leaves_the_context_that_it_was_given_as_it_was() -> None:
    given: dict[str, Any] = {"a": {"b": {"c": 1}}}
    written(given, "a.b.c", 2)
    updated(given, {"a.b.d": 3, "a.b.e": 4})
    assert given == {"a": {"b": {"c": 1}}}


def test_a_write_replaces_what_stands_at_its_key() -> None:
    assert written({"a": {"b": 1}}, "a", {"c": 2}) == {"a": {"c": 2}}
    assert written({"a": {"b": 1}}, "a", None) == {"a": None}


@pytest.mark.parametrize("value", [1, "text", None, True, [], [{"b": 1}]])
@pytest.mark.clause("context-conflict")
def test_a_write_through_a_value_that_is_not_an_object_is_refused_with_the_key(value: Any) -> None:
    with pytest.raises(ContextKeyError, match=r"'a\.b\.c'") as caught:
        written({"a": {"b": value}}, "a.b.c", 1)
    assert caught.value.code == "context_key"
    assert caught.value.ids == {"key": "a.b.c", "place": "a.b"}


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b"])
def test_a_key_with_an_empty_part_is_refused(key: str) -> None:
    with pytest.raises(ContextKeyError, match="empty part"):
        written({}, key, 1)
    with pytest.raises(ContextKeyError, match="empty part"):
        nested({key: 1})


def test_updates_are_written_in_their_order() -> None:
    assert updated({"n": 0}, {"a": {"x": 1}, "a.b": 2, "n": 1}) == {"n": 1, "a": {"x": 1, "b": 2}}


@pytest.mark.clause("context-submitted")
def test_dotted_keys_of_a_submitted_context_are_nested() -> None:
    submitted: dict[str, Any] = {"a.b": 1, "a.c.d": 2, "e": {"f": 3}, "e.g": 4}
    assert nested(submitted) == {"a": {"b": 1, "c": {"d": 2}}, "e": {"f": 3, "g": 4}}


def test_objects_among_the_values_of_a_submitted_context_are_data() -> None:
    assert nested({"files": {"main.py": "…"}}) == {"files": {"main.py": "…"}}


@pytest.mark.parametrize(
    "submitted",
    [
        {"a": 1, "a.b": 2},
        {"a.b": 2, "a": 1},
        {"a.b": 1, "a": {"b": 2}},
        {"a": None, "a.b": 1},
    ],
)
def test_two_submitted_keys_that_want_different_things_of_one_place_are_refused(submitted: dict[str, Any]) -> None:
    with pytest.raises(ContextKeyError):
        nested(submitted)


def test_contexts_merge_at_every_depth() -> None:
    base: dict[str, Any] = {"a": {"b": {"c": 1, "d": 2}}, "e": {"f": 1}, "g": 1}
    over: dict[str, Any] = {"a": {"b": {"d": 3, "x": 4}}, "e": 5, "g": {"h": 1}}
    assert merged(base, over) == {"a": {"b": {"c": 1, "d": 3, "x": 4}}, "e": 5, "g": {"h": 1}}


KEYS = st.text("ab", min_size=1, max_size=2)
OBJECTS = st.recursive(
    st.dictionaries(KEYS, st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(inner, st.integers(0, 3), st.none()), max_size=3),
    max_leaves=6,
)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(".".join)


@given(OBJECTS, PATHS, st.one_of(OBJECTS, st.integers()))
def test_what_was_written_is_found_and_the_context_given_stays_as_it_was(
    context: dict[str, Any], key: str, value: Any
) -> None:
    before = copy.deepcopy(context)
    try:
        after = written(context, key, value)
    except ContextKeyError:
        assert find(context, key) is None
    else:
        assert find(after, key) == value
    assert context == before


@given(OBJECTS, OBJECTS)
def test_merging_changes_neither_context(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    result = merged(base, over)
    assert (base, over) == before
    assert merged(result, over) == result
    assert result.keys() == base.keys() | over.keys()
