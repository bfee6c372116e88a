"""What a retry forgets, decided and folded, of nodes that ended a run by a failure that they returned."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from perdure.core.errors import NotReopenableError
from perdure.core.events import Event
from perdure.journal import decide
from perdure.journal.fold import fold
from perdure.journal.state import RunState

MANIFEST = {"workflow": "w", "version": "1", "fingerprint": "f", "input": {}, "policy": {}}
STEP = {"fingerprint": "f", "step": "s", "step_kind": "idempotent"}
FAILURE = {"code": "stage_failed", "type": "Fail", "message": "m", "details": {"node": "b"}}


def state_of(*events: tuple[str, str, dict[str, Any]]) -> RunState:
    """A state folded from kinds, places (`node`, or `scope key` behind the generation) and payloads."""
    state = RunState("r1")
    add(state, ("run.started", "", MANIFEST), *events)
    return state


def add(state: RunState, *events: tuple[str, str, dict[str, Any]]) -> None:
    """Fold further events."""
    for kind, place, data in events:
        scope, _, key = place.partition(" ")
        node = scope.partition("/")[0] or None
        where = (f"0/{scope}", key) if key else (None, None)
        payload = orjson.dumps(data)
        fold(state, Event("r1", state.seq + 1, kind, 1_000, node, *where, "a", 1, b"", bytes(16), payload))


def entered(node: str) -> tuple[str, str, dict[str, Any]]:
    return ("node.entered", node, {"attempt": 1})


def written(place: str, **values: Any) -> tuple[str, str, dict[str, Any]]:
    return ("state.written", place, {"fingerprint": "f", "values": values})


def completed(node: str, to: str) -> tuple[str, str, dict[str, Any]]:
    return ("node.completed", node, {"next": [to], "output": {"node": node}})


def failed(node: str, **more: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """A node returns a failure, and the run ends by it."""
    error = FAILURE | more
    return [("node.completed", node, {"end": {"error": error}}), ("run.failed", "", {"error": error})]


def step(place: str, **told: Any) -> list[tuple[str, str, dict[str, Any]]]:
    intent = ("step.intended", place, STEP | {"attempt": 1, "idempotency_key": "i"} | told)
    return [intent, ("step.completed", place, STEP | {"result": 1})]


def reopen(state: RunState) -> dict[str, Any]:
    """Retry; gives what is forgotten."""
    (decision,) = decide.reopen(state, "", None)
    payload = orjson.loads(orjson.dumps({name: value for name, value in decision.payload.items() if value is not None}))
    add(state, (decision.kind, "", payload))
    forgets: dict[str, Any] = payload["forgets"]
    return forgets


BEFORE = [entered("a#1"), *step("a#1 s"), written("a#1 state.write", x=1, y=1), completed("a#1", "b")]


def test_the_origin_is_forgotten_and_what_was_noted_behind_it_and_no_other_step() -> None:
    state = state_of(
        *BEFORE,
        entered("b#1"),
        *step("b#1 first"),
        written("b#1 state.write", x=2, z=2),
        ("told", "b#1 emit.told", {}),
        *step("b#1 second"),
        ("told", "b#1 emit.told#2", {}),
        written("b#1 state.write#2", y=3, z=3, new=3),
        ("artifact.put", "b#1 put", {"fingerprint": "f", "artifact": "f", "size": 1, "media_type": "t"}),
        *step("b#1 third"),
        *failed("b#1", again=True, origin=["0/b#1", "second"]),
    )
    assert state.view() == {"x": 2, "y": 3, "z": 3, "new": 3}
    forgets = reopen(state)
    assert sorted(map(tuple, forgets["records"])) == [
        ("0/b#1", "emit.told#2"),
        ("0/b#1", "put"),
        ("0/b#1", "second"),
        ("0/b#1", "state.write#2"),
    ]
    assert (forgets["nodes"], forgets["last"], "visits" in forgets) == (["b"], "a", False)
    assert state.context == {"x": 1, "y": 1}
    assert set(state.scopes["0/b#1"]) == {"first", "state.write", "emit.told", "third"}
    assert state.writes["0/b#1"] == {"x": 2, "z": 2}
    assert (state.last.name if state.last else None, list(state.results), state.visits) == (
        "a",
        ["a"],
        {"a": 1, "b": 0},
    )
    assert [error["code"] for error in state.forgotten["b#1"]] == ["stage_failed"]
    add(state, entered("b#1"), *step("b#1 second"), completed("b#1", "c"))
    assert state.context == {"x": 2, "y": 1, "z": 2}
    assert (state.forgotten, state.scopes, state.status) == ({}, {}, "running")


def test_without_an_origin_only_what_was_noted_last_is_forgotten() -> None:
    state = state_of(
        *BEFORE,
        entered("b#1"),
        written("b#1 state.write", x=2),
        *step("b#1 s"),
        written("b#1 state.write#2", x=3),
        *failed("b#1", again=True),
    )
    assert reopen(state)["records"] == [["0/b#1", "state.write#2"]]
    assert (state.writes["0/b#1"], state.context) == ({"x": 2}, {"x": 1, "y": 1})


def test_a_visit_that_is_taken_back_leaves_the_visit_before_it() -> None:
    state = state_of(
        *BEFORE,
        entered("b#1"),
        completed("b#1", "a"),
        entered("a#2"),
        written("a#2 state.write", x=9),
        *failed("a#2", again=True),
    )
    assert list(state.results) == ["b", "a"]
    assert reopen(state)["last"] == "b"
    assert [(one.name, one.visit) for one in state.results.values()] == [("a", 1), ("b", 1)]
    assert (state.context, state.visits) == ({"x": 1, "y": 1}, {"a": 1, "b": 1})


def test_a_node_that_leads_to_itself_stands_by_its_visit_before() -> None:
    state = state_of(*BEFORE[:-1], completed("a#1", "a"), entered("a#2"), *failed("a#2", again=True))
    assert reopen(state)["last"] == "a"
    assert state.last is not None
    assert (state.last.visit, state.last.next) == (1, ("a",))


def test_all_that_is_recorded_of_a_child_goes_with_its_failure() -> None:
    spawn = {"child": "c1", "workflow": "w", "fingerprint": "f", "input": {}}
    wait = {"wait": "child", "child": "c1", "fingerprint": "f"}
    look = {"fingerprint": "f", "step": "look_at_child", "step_kind": "read", "result": 1, "input": {"child": "c1"}}
    own = {"step": "mine", "input": {"child": "c1"}}
    state = state_of(
        entered("b#1"),
        *step("b#1 before"),
        ("child.spawned", "b#1 spawn", spawn),
        written("b#1 state.write", x=1),
        ("wait.opened", "b#1 child", wait | {"wait_id": "w1"}),
        ("wait.resolved", "b#1 child", {"wait_id": "w1", "outcome": "timed_out"}),
        ("step.completed", "b#1 look", look),
        *step("b#1 mine", **own),
        ("child.spawned", "b#1 other", spawn | {"child": "c2"}),
        ("wait.opened", "b#1 child#2", wait | {"wait_id": "w2"}),
        ("child.settled", "b#1 child#2", {"child": "c1", "status": "failed", "child_seq": 3}),
        *failed("b#1", again=True, origin=["0/b#1", "child#2"]),
    )
    reopen(state)
    assert set(state.scopes["0/b#1"]) == {"before", "mine", "other"}


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_failure_that_the_code_decided_is_not_taken_back(cancelled: bool) -> None:
    """Behind a cancel that came first it stands too, and ends the run as it would have."""
    first, ending = failed("b#1")
    state = state_of(*BEFORE, entered("b#1"), first, ("run.cancelled", "", {}) if cancelled else ending)
    if cancelled:
        assert reopen(state)["nodes"] == []
        assert state.last is not None
        assert state.last.name == "b"
        return
    with pytest.raises(NotReopenableError, match="stage_failed") as refusal:
        decide.reopen(state, "", None)
    assert refusal.value.hint == "start a new run"
