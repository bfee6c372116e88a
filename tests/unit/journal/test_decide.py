"""Decide: what a command may append, as pure functions of a folded state."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from perdure.core.errors import (
    AnswerRefusedError,
    CommandConflictError,
    NotInDoubtError,
    NotReopenableError,
    QuestionExpiredError,
    RunEndedError,
    SignalBacklogError,
    StaleApprovalError,
    StateError,
    StepNotFoundError,
    WaitClosedError,
    WaitNotFoundError,
)
from perdure.core.events import NEVER, Event
from perdure.core.kinds import KINDS
from perdure.journal import decide
from perdure.journal.decide import Decision
from perdure.journal.fold import fold
from perdure.journal.questions import check_answer
from perdure.journal.state import RunState

NOW_MS = 1_000
MANIFEST = {
    "workflow": "w",
    "version": "1",
    "fingerprint": "f",
    "input": {},
    "policy": {},
    "profile": "normal",
    "provenance": {},
}


def state_of(*events: tuple[str, dict[str, Any]], scope: str = "0/main#1", key: str = "k") -> RunState:
    """A state folded from kinds and payloads."""
    state = RunState("r1")
    for kind, data in (("run.started", MANIFEST), ("node.entered", {"attempt": 1}), *events):
        place = (data.pop("_scope", scope), data.pop("_key", key))
        payload = orjson.dumps(data)
        fold(state, Event("r1", state.seq + 1, kind, 1_000, "main#1", *place, "a", 1, b"", bytes(16), payload))
    return state


def append(state: RunState, decisions: list[Decision]) -> RunState:
    """The state after what was decided; each payload has the fields of its kind."""
    for decision in decisions:
        payload = {name: value for name, value in decision.payload.items() if value is not None}
        spec = KINDS[decision.kind]
        assert set(payload) <= {*spec.fields, *spec.optional}
        event = Event(
            "r1",
            state.seq + 1,
            decision.kind,
            1_000,
            decision.node,
            decision.scope,
            decision.key,
            "a",
            0,
            b"",
            bytes(16),
            orjson.dumps(payload),
        )
        fold(state, event)
    return state


def question(wait_id: str = "q1", **options: Any) -> tuple[str, dict[str, Any]]:
    asked = {"kind": "choice", "text": "?", "choices": ["a", "b"]} | options
    data = {
        "wait_id": wait_id,
        "wait": "question",
        "fingerprint": "f",
        "asked": asked,
        "question": asked,
        "_key": wait_id,
    }
    return ("wait.opened", data)


ENDED: list[tuple[str, dict[str, Any]]] = [
    ("run.completed", {"output": 1}),
    ("run.failed", {"error": {"code": "c", "type": "T", "message": "m"}}),
    ("run.cancelled", {"reason": ""}),
]


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "choices", "answer", "recorded"),
    [
        ("choice", ["a", "b"], "a", "a"),
        ("text", [], "free", "free"),
        ("text", [], "", ""),
        ("confirm", [], True, True),
        ("confirm", [], " Yes ", True),
        ("confirm", [], "n", False),
        ("multiple", ["a", "b", "c"], ["c", "a"], ["c", "a"]),
        ("multiple", ["a", "b"], "a", ["a"]),
        ("multiple", ["a", "b"], [], []),
    ],
)
def test_an_answer_that_fits_is_recorded(kind: str, choices: list[str], answer: Any, recorded: Any) -> None:
    assert check_answer({"kind": kind, "choices": choices}, answer) == recorded


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("choice", "c"),
        ("choice", ["a"]),
        ("choice", None),
        ("choice", "A"),
        ("text", 5),
        ("text", None),
        ("confirm", "maybe"),
        ("confirm", 1),
        ("multiple", ["a", "c"]),
        ("multiple", ["a", "a"]),
        ("multiple", [1]),
        ("multiple", None),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(kind: str, answer: Any) -> None:
    with pytest.raises(AnswerRefusedError):
        check_answer({"kind": kind, "choices": ["a", "b"]}, answer)


def test_an_answer_closes_its_question_and_makes_the_run_due() -> None:
    state = state_of(question(), ("run.suspended", {"due_ms": None}))
    (decision,) = decide.answer(state, None, "a", "c1", now_ms=NOW_MS)
    assert decision.kind == "wait.answered"
    assert decision.payload == {"wait_id": "q1", "answer": "a", "command_id": "c1"}
    assert (decision.scope, decision.key, decision.node) == ("0/main#1", "q1", "main#1")
    assert decision.change is not None
    assert (decision.change.closed, decision.change.status, decision.change.due_ms) == (("q1",), "running", 0)
    append(state, [decision])
    assert list(state.open_waits()) == []
    assert state.status == "running"
    assert decide.answer(state, None, "a", "c1", now_ms=NOW_MS) == [], "a resend"
    with pytest.raises(WaitClosedError):
        decide.answer(state, "q1", "b", "c2", now_ms=NOW_MS)


def test_an_answer_to_a_paused_run_is_kept_and_does_not_wake_it() -> None:
    state = state_of(question(), ("run.paused", {"reason": "paused"}))
    (decision,) = decide.answer(state, "q1", "a", None, now_ms=NOW_MS)
    assert decision.change is not None
    assert (decision.change.status, decision.change.due_ms) == (None, None)
    assert append(state, [decision]).status == "paused"


def test_an_answer_must_say_which_question_it_is_for() -> None:
    state = state_of(question("q1"), question("q2"))
    with pytest.raises(WaitNotFoundError) as caught:
        decide.answer(state, None, "a", None, now_ms=NOW_MS)
    assert caught.value.ids["wait_ids"] == ["q1", "q2"]
    with pytest.raises(WaitNotFoundError):
        decide.answer(state, "q3", "a", None, now_ms=NOW_MS)
    assert len(decide.answer(state, "q2", "a", None, now_ms=NOW_MS)) == 1


@pytest.mark.parametrize("ended", ENDED, ids=lambda ended: ended[0])
def test_an_ended_run_takes_no_answer_unless_it_was_cancelled(ended: tuple[str, dict[str, Any]]) -> None:
    state = state_of(question(), ended)
    if ended[0] == "run.cancelled":
        (decision,) = decide.answer(state, "q1", "a", None, now_ms=NOW_MS)
        assert decision.change is not None
        assert decision.change.status is None
        assert append(state, [decision]).status == "cancelled"
    else:
        with pytest.raises(RunEndedError):
            decide.answer(state, "q1", "a", None, now_ms=NOW_MS)


def at(deadline_ms: int | None, **asked: Any) -> tuple[str, dict[str, Any]]:
    """A question with a deadline."""
    kind, data = question(**asked)
    return kind, data | ({} if deadline_ms is None else {"deadline_ms": deadline_ms})


@pytest.mark.parametrize(("now_ms", "in_time"), [(0, True), (4_999, True), (5_000, False), (9_000, False)])
def test_a_question_is_closed_from_its_deadline_on(now_ms: int, in_time: bool) -> None:
    state = state_of(at(5_000))
    if in_time:
        assert len(decide.answer(state, None, "a", None, now_ms=now_ms)) == 1
        return
    with pytest.raises(QuestionExpiredError) as caught:
        decide.answer(state, None, "a", None, now_ms=now_ms)
    assert caught.value.ids == {"run_id": "r1", "wait_id": "q1", "deadline_ms": 5_000}


@pytest.mark.parametrize(
    "stopped", [("run.cancel_requested", {"reason": ""}), ("run.cancelled", {"reason": ""})], ids=lambda one: one[0]
)
def test_the_timers_of_a_run_that_is_cancelled_have_stopped(stopped: tuple[str, dict[str, Any]]) -> None:
    state = state_of(at(5_000), stopped)
    assert len(decide.answer(state, "q1", "a", None, now_ms=9_000)) == 1


def test_a_paused_run_has_its_deadlines() -> None:
    state = state_of(at(5_000), ("run.paused", {"reason": "paused"}))
    with pytest.raises(QuestionExpiredError):
        decide.answer(state, "q1", "a", None, now_ms=9_000)


def test_what_is_recorded_of_a_decision() -> None:
    state = state_of(question(hash="h", approve={"a": 1}))
    for saw, error in ((None, AnswerRefusedError), ("", StaleApprovalError), ("H", StaleApprovalError)):
        with pytest.raises(error):
            decide.answer(state, None, "a", "c1", now_ms=NOW_MS, saw=saw)
    (decision,) = decide.answer(state, None, "a", "c1", now_ms=NOW_MS, saw="h", via="service:desk")
    assert decision.payload == {
        "wait_id": "q1",
        "answer": "a",
        "command_id": "c1",
        "saw": "h",
        "via": "service:desk",
    }
    append(state, [decision])
    assert decide.answer(state, None, "a", "c1", now_ms=NOW_MS, saw="h") == [], "a resend"
    for saw in (None, "H"):
        with pytest.raises(CommandConflictError):
            decide.answer(state, None, "a", "c1", now_ms=NOW_MS, saw=saw)


def test_a_signal_with_a_key_is_no_resend_of_one_without() -> None:
    state = append(RunState("r1"), decide.signal(RunState("r1"), "go", None, 1, None, "c1"))
    with pytest.raises(CommandConflictError):
        decide.signal(state, "go", "key", 1, None, "c1")


def test_what_can_be_declined_takes_false_and_nothing_like_it() -> None:
    asked = {"kind": "choice", "choices": ["go"], "declinable": True}
    assert check_answer(asked, False) is False
    assert check_answer(asked, "go") == "go"
    for answer in (0, None, "false", "", True, []):
        with pytest.raises(AnswerRefusedError):
            check_answer(asked, answer)
    with pytest.raises(AnswerRefusedError):
        check_answer(asked | {"declinable": False}, False)


def test_a_question_about_a_doubt_is_not_answered_but_resolved() -> None:
    state = state_of(*doubt())
    with pytest.raises(AnswerRefusedError):
        decide.answer(state, "d1", "yes", None, now_ms=NOW_MS)
    with pytest.raises(WaitNotFoundError):
        decide.answer(state, None, "yes", None, now_ms=NOW_MS)


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_signal_is_recognised_by_its_sender_or_its_command() -> None:
    state = append(RunState("r1"), decide.signal(RunState("r1"), "go", None, 1, "s1", "c1"))
    assert decide.signal(state, "go", None, 1, "s1", "c2") == []
    assert decide.signal(state, "go", None, 1, None, "c1") == []
    assert len(decide.signal(state, "go", None, 1, "s2", "c2")) == 1
    with pytest.raises(CommandConflictError):
        decide.cancel(state, "", "c1")


def test_a_signal_makes_a_run_due_only_where_it_is_waited_for() -> None:
    wait = {"wait_id": "s1", "wait": "signal", "fingerprint": "f", "name": "go", "match": "m"}
    state = state_of(("wait.opened", wait), ("run.suspended", {"due_ms": None}))
    for name, match, woken in (("go", "m", True), ("go", None, False), ("go", "other", False), ("other", "m", False)):
        (decision,) = decide.signal(state, name, match, None, None, None)
        assert (decision.change is not None) is woken
    state.paused = state.started
    (decision,) = decide.signal(state, "go", "m", None, None, None)
    assert decision.change is None


def test_unread_signals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MOST_SIGNALS", 3)
    state = state_of()
    for number in range(3):
        append(state, decide.signal(state, f"n{number}", None, number, None, None))
    with pytest.raises(SignalBacklogError):
        decide.signal(state, "go", None, None, None, None)


@pytest.mark.parametrize("ended", ENDED, ids=lambda ended: ended[0])
def test_an_ended_run_takes_no_signal_pause_or_resume(ended: tuple[str, dict[str, Any]]) -> None:
    state = state_of(ended)
    with pytest.raises(RunEndedError):
        decide.signal(state, "go", None, None, None, None)
    with pytest.raises(RunEndedError):
        decide.pause(state, "paused", None)
    with pytest.raises(StateError):
        decide.resume(state, None)


# --- cancel, pause, resume, reopen ------------------------------------------------------------------------------------


def test_a_cancel_is_asked_once() -> None:
    state = state_of()
    (decision,) = decide.cancel(state, "enough", "c1")
    assert decision.payload == {"reason": "enough", "command_id": "c1"}
    append(state, [decision])
    assert decide.cancel(state, "again", "c2") == []
    append(state, [Decision("run.cancelled", {"reason": "enough"})])
    assert decide.cancel(state, "again", "c3") == []


@pytest.mark.parametrize("ended", ENDED[:2], ids=lambda ended: ended[0])
def test_what_has_ended_otherwise_cannot_be_cancelled(ended: tuple[str, dict[str, Any]]) -> None:
    with pytest.raises(RunEndedError):
        decide.cancel(state_of(ended), "", None)


def test_a_pause_and_its_undoing() -> None:
    state = state_of()
    (decision,) = decide.pause(state, "paused", "c1")
    assert decision.change is not None
    assert (decision.change.status, decision.change.due_ms) == ("paused", NEVER)
    append(state, [decision])
    assert decide.pause(state, "paused", "c2") == [], "it is paused already"
    (decision,) = decide.resume(state, "c3")
    assert decision.change is not None
    assert (decision.change.status, decision.change.due_ms, decision.change.reason) == ("running", 0, "")
    append(state, [decision])
    assert (state.status, state.paused) == ("running", None)
    with pytest.raises(StateError):
        decide.resume(state, "c4")


@pytest.mark.parametrize("ended", ENDED, ids=lambda ended: ended[0])
def test_only_a_failed_or_cancelled_run_is_opened_again(ended: tuple[str, dict[str, Any]]) -> None:
    state = state_of(ended)
    if ended[0] == "run.completed":
        with pytest.raises(NotReopenableError):
            decide.reopen(state, "", None)
        return
    with pytest.raises(NotReopenableError):
        decide.reopen(state, "", None, parent_took=True)
    (decision,) = decide.reopen(state, "once more", "c1")
    append(state, [decision])
    assert (state.status, state.ended, state.reopened) == ("running", None, 1)
    with pytest.raises(NotReopenableError):
        decide.reopen(state, "", None)


def test_a_running_run_is_not_opened_again() -> None:
    with pytest.raises(NotReopenableError):
        decide.reopen(state_of(), "", None)


# --- doubt ------------------------------------------------------------------------------------------------------------


def doubt(key: str = "pay", wait_id: str = "d1") -> list[tuple[str, dict[str, Any]]]:
    intent = {"attempt": 1, "idempotency_key": "i", "fingerprint": "f", "step_kind": "once", "_key": key}
    asked = {"kind": "doubt", "text": "?"}
    wait = {"wait_id": wait_id, "wait": "question", "fingerprint": "f", "subject": key, "question": asked, "_key": key}
    return [
        ("step.intended", intent),
        ("step.doubted", {"attempt": 1, "cause": "lost", "_key": key}),
        ("wait.opened", wait),
    ]


@pytest.mark.parametrize("named", [None, "pay", "0/main#1/pay", "d1"])
def test_a_step_in_doubt_is_named_by_key_place_or_wait(named: str | None) -> None:
    state = state_of(*doubt())
    (decision,) = decide.resolve(state, named, "done", 7, "c1")
    assert decision.payload == {"resolution": "done", "command_id": "c1", "by": "person", "value": 7}
    assert (decision.scope, decision.key, decision.node) == ("0/main#1", "pay", "main#1")
    assert decision.change is not None
    assert decision.change.closed == ("d1",)
    append(state, [decision])
    assert decide.resolve(state, named, "done", 7, "c1") == []
    with pytest.raises(NotInDoubtError):
        decide.resolve(state, "pay", "fail", None, "c2")


def test_several_doubts_are_resolved_one_by_one() -> None:
    state = state_of(*doubt("pay", "d1"), *doubt("send", "d2"))
    with pytest.raises(StepNotFoundError) as caught:
        decide.resolve(state, None, "fail", None, None)
    assert caught.value.ids["steps"] == ["0/main#1/pay", "0/main#1/send"]
    append(state, decide.resolve(state, "send", "fail", None, None))
    (decision,) = decide.resolve(state, None, "not_done", None, None)
    assert decision.key == "pay"
    assert "value" not in decision.payload


def test_what_is_not_in_doubt_is_not_resolved() -> None:
    state = state_of(("step.completed", {"fingerprint": "f", "result": 1, "_key": "look"}))
    with pytest.raises(NotInDoubtError):
        decide.resolve(state, None, "done", 1, None)
    with pytest.raises(NotInDoubtError):
        decide.resolve(state, "look", "done", 1, None)
    with pytest.raises(StepNotFoundError):
        decide.resolve(state, "nowhere", "done", 1, None)


@pytest.mark.parametrize("ended", ENDED, ids=lambda ended: ended[0])
def test_a_doubt_of_an_ended_run_may_still_be_resolved(ended: tuple[str, dict[str, Any]]) -> None:
    """It changes what is known, and not how the run ended."""
    state = state_of(*doubt(), ended)
    status = state.status
    (decision,) = decide.resolve(state, "pay", "done", 1, None)
    assert decision.change is not None
    assert (decision.change.status, decision.change.due_ms) == (None, None)
    assert append(state, [decision]).status == status
