"""What the service tells is typed; what a newer service tells beside it harms nobody."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from perdure.client import FeedEvent, Health, PipelineQuestion, RunPage, RunRef, RunRow, RunView, View
from perdure.core.errors import ReplyInvalidError

ROW: dict[str, Any] = {
    "run_id": "r",
    "workflow": "w",
    "version": "1",
    "status": "running",
    "created_ms": 1,
    "updated_ms": 2,
    "tags": ["a", "b"],
}


def test_unknown_members_stand_in_raw() -> None:
    row = RunRow.read(ROW | {"mood": "good"})
    assert (row.run_id, row.tags, row.reason, row.ended) == ("r", ("a", "b"), None, False)
    assert row.raw["mood"] == "good"
    assert row.to_dict() == ROW | {"mood": "good"}
    assert row == RunRow.read(ROW), "what this version does not know is no difference"


def test_views_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunRow.read(ROW).status = "completed"  # type: ignore[misc]


def test_a_new_status_is_no_error() -> None:
    assert RunRow.read(ROW | {"status": "dreaming"}).status == "dreaming"


def test_views_lie_within_views() -> None:
    page = RunPage.read({"runs": [ROW, ROW | {"run_id": "s"}], "next_cursor": None})
    assert [row.run_id for row in page.runs] == ["r", "s"]
    view = RunView.read(ROW | {"why": [{"kind": "due", "text": "it is ready", "since_ms": 5}]})
    assert (view.why[0].kind, view.why[0].raw["since_ms"]) == ("due", 5)


@pytest.mark.parametrize(
    ("kind", "tree"),
    [
        (RunRow, None),
        (RunRow, []),
        (RunRow, {}),
        (RunRow, ROW | {"run_id": 5}),
        (RunRow, ROW | {"created_ms": True}),
        (RunRow, ROW | {"created_ms": "1"}),
        (RunRow, ROW | {"tags": "ab"}),
        (RunRow, ROW | {"tags": [1]}),
        (RunRow, ROW | {"caller_owned": 1}),
        (RunPage, {"runs": [ROW, 5]}),
        (RunPage, {"runs": {}}),
        (RunView, ROW | {"children": {"c": 5}}),
        (RunRef, {"run_id": "r"}),
    ],
)
def test_what_is_of_another_type_is_refused(kind: type[View], tree: Any) -> None:
    with pytest.raises(ReplyInvalidError):
        kind.read(tree)


def test_whole_seconds_are_a_number_of_seconds() -> None:
    question = {"id": "q", "text": "?", "type": "YES_NO"}
    assert PipelineQuestion.read(question | {"timeout_seconds": 30}).timeout_seconds == 30
    assert PipelineQuestion.read(question | {"timeout_seconds": 1.5}).timeout_seconds == 1.5
    with pytest.raises(ReplyInvalidError):
        PipelineQuestion.read(question | {"timeout_seconds": True})


def test_health_is_a_yes_or_a_no() -> None:
    assert [bool(Health(status)) for status in ("ok", "ready", "unavailable")] == [True, True, False]


def test_a_damaged_record_of_the_feed_is_told() -> None:
    event = FeedEvent.read({"position": 5, "kind": "damage", "run_id": "r", "damage": {"error": "torn"}})
    assert (event.position, event.kind, event.damage) == (5, "damage", {"error": "torn"})
