"""The outcome that a command writes down."""

from __future__ import annotations

import json

import pytest

from perdure.pipeline.commands import CommandStatusError, status_json
from perdure.pipeline.outcome import STATUSES


def read(value: object) -> object:
    return status_json({"status.json": json.dumps(value).encode(), "other": b"{"})


def test_without_the_file_there_is_no_outcome() -> None:
    assert status_json({"sub/status.json": b"{}"}) is None


@pytest.mark.parametrize("status", sorted(STATUSES))
@pytest.mark.parametrize("name", ["outcome", "status"])
def test_the_status_goes_by_both_names(name: str, status: str) -> None:
    assert read({name: status}) == {"status": status}
    assert read({"outcome": status, "status": status}) == {"status": status}


def test_all_fields_are_read_and_others_left() -> None:
    fields = {
        "preferred_label": "ship",
        "suggested_next_ids": ["a", "b"],
        "context_updates": {"tests.failed": 0, "deep": {"x": [1, None]}},
        "notes": "fine",
        "failure_reason": "none",
    }
    assert read({"outcome": "success", **fields, "tool_version": 3}) == {"status": "success", **fields}


def test_a_field_that_is_null_is_not_given() -> None:
    assert read({"outcome": None, "status": "fail", "notes": None}) == {"status": "fail"}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "not an object"),
        ({}, "neither"),
        ({"outcome": "ok"}, "none of"),
        ({"outcome": True}, "none of"),
        ({"outcome": ["success"]}, "none of"),
        ({"outcome": "success", "status": "fail"}, "different"),
        ({"outcome": "success", "preferred_label": 1}, "'preferred_label' must be text"),
        ({"outcome": "success", "notes": ["x"]}, "'notes' must be text"),
        ({"outcome": "success", "failure_reason": {}}, "'failure_reason' must be text"),
        ({"outcome": "success", "suggested_next_ids": "a"}, "'suggested_next_ids' must be a list"),
        ({"outcome": "success", "suggested_next_ids": ["a", 1]}, "'suggested_next_ids' must be a list"),
        ({"outcome": "success", "context_updates": []}, "'context_updates' must be an object"),
        ({"outcome": "success", "notes": "a\0b"}, "NUL"),
        ({"outcome": "success", "context_updates": {"a": [{"b\0": 1}]}}, "NUL"),
    ],
)
def test_wrong_values_are_told(value: object, problem: str) -> None:
    with pytest.raises(CommandStatusError, match=problem):
        read(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"outcome": "success",}',
        b"\xff",
        b'{"outcome": "success", "outcome": "fail"}',
        b'{"outcome": "success", "notes": "\\ud800"}',
        b'{"outcome": "success", "context_updates": {"x": NaN}}',
        b'{"outcome": "success", "context_updates": ' + b'{"x":' * 5000 + b"1" + b"}" * 5001,
        b'{"outcome": "success", "notes": "' + b"x" * 2_000_000 + b'"}',
    ],
    ids=["empty", "cut", "comma", "no text", "twice", "surrogate", "nan", "deep", "huge"],
)
def test_what_is_no_json_is_told(data: bytes) -> None:
    with pytest.raises(CommandStatusError, match=r"status\.json: "):
        status_json({"status.json": data})
