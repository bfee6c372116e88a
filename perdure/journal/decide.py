"""Decide: `state, command → events`. What a command from outside may append, as pure functions.

A command is appended at the head by whoever brings it, conditional on the head that was folded, without an epoch. If
the head has moved in between, the command is decided again on the new state. Each command has an id: a command that
stands in the journal already decides to nothing (`[]`), so a resend is harmless.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from perdure.core import kinds
from perdure.core.canonical import canonical
from perdure.core.errors import (
    AnswerRefusedError,
    CommandConflictError,
    NotInDoubtError,
    NotReopenableError,
    RunEndedError,
    SignalBacklogError,
    StateError,
    StepNotFoundError,
    ValueRefusedError,
)
from perdure.core.events import NEVER, IndexChange
from perdure.journal.questions import check_answer, check_approval, check_in_time, find_question
from perdure.journal.reopening import forgotten
from perdure.journal.state import RunState

MOST_SIGNALS: Final = 10_000
"""How many unread signals a run may hold."""


class Decision(NamedTuple):
    """An event that a command decided on: kind, payload, index change, and where it belongs."""

    kind: str
    payload: dict[str, Any]
    change: IndexChange | None = None
    node: str | None = None
    scope: str | None = None
    key: str | None = None


def _repeated(state: RunState, command_id: str | None, kind: str, **said: Any) -> bool:
    """Whether a command was brought before.

    What was said is compared as far as the journal still tells it: not behind a `continue_as`, and not what became an
    artifact.

    Raises:
        CommandConflictError: its id was used for something else.
    """
    if command_id is None or command_id not in state.commands:
        return False
    found = state.commands[command_id]
    if found.kind != kind:
        raise _used(state, command_id, found.kind)
    recorded = found.data or {}
    whole = recorded.keys() >= set(kinds.KINDS[kind].fields)  # then what is not recorded was not said
    for name, value in said.items():
        told = recorded.get(name)
        if (whole or name in recorded) and not _is_mark(told) and not same_json(told, value):
            raise _used(state, command_id, f"{kind} with another {name}")
    return True


def _used(state: RunState, command_id: str, what: str) -> CommandConflictError:
    return CommandConflictError(
        f"command id {command_id!r} was used for {what}", run_id=state.run_id, command_id=command_id
    )


def _is_mark(value: Any) -> bool:
    return isinstance(value, dict) and "$artifact" in value


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON."""
    try:
        return canonical(one) == canonical(other)
    except ValueRefusedError:
        return False


def _refuse_ended(state: RunState, what: str) -> None:
    if state.terminal:
        raise RunEndedError(f"run {state.run_id} is {state.status}: {what} changes nothing", run_id=state.run_id)


# --- questions --------------------------------------------------------------------------------------------------------


def answer(
    state: RunState,
    wait_id: str | None,
    value: Any,
    command_id: str | None,
    *,
    now_ms: int,
    saw: str | None = None,
    via: str | None = None,
) -> list[Decision]:
    """Answer a question of a run.

    Args:
        value: as given.
        now_ms: the clock of who brings the answer; a question is closed from its deadline on, also where no worker
            has recorded yet what it comes to.
        saw: the hash of what was approved, for a question that asks to approve something.
        via: the service that brought a person's answer.

    Raises:
        RunEndedError, WaitNotFoundError, WaitClosedError, QuestionExpiredError: nothing may be answered.
        AnswerRefusedError, StaleApprovalError: it is no answer to this question, which stays open.
    """
    if _repeated(state, command_id, kinds.WAIT_ANSWERED, **_answered(state, command_id, value, saw)):
        return []
    if state.terminal and state.status != "cancelled":
        raise RunEndedError(f"run {state.run_id} is {state.status}: its questions are closed", run_id=state.run_id)
    wait = find_question(state, wait_id)
    if wait.data.get("subject") is not None:
        raise AnswerRefusedError(
            f"{wait.wait_id!r} asks about a step in doubt",
            hint="resolve it with 'perdure resolve' (done, not done, or fail)",
            run_id=state.run_id,
            wait_id=wait.wait_id,
        )
    check_in_time(state, wait, now_ms)
    check_approval(state, wait, saw)
    recorded = check_answer(wait.data["question"], value)
    payload = {"wait_id": wait.wait_id, "answer": recorded, "command_id": command_id}
    payload |= {name: told for name, told in (("saw", saw), ("via", via)) if told is not None}
    change = IndexChange(closed=(wait.wait_id,))
    if not state.terminal and state.paused is None:
        change = change._replace(status="running", due_ms=0)
    return [Decision(kinds.WAIT_ANSWERED, payload, change, wait.node, wait.scope, wait.key)]


def _answered(state: RunState, command_id: str | None, value: Any, saw: str | None) -> dict[str, Any]:
    """An answer that may be a resend, in the form in which the first one is recorded."""
    found = state.commands.get(command_id or "")
    wait = state.waits.get((found.data or {}).get("wait_id", "")) if found is not None else None
    question = wait.data.get("question") if wait is not None else None
    return {} if question is None else {"answer": check_answer(question, value), "saw": saw}


# --- signals ----------------------------------------------------------------------------------------------------------


def signal(
    state: RunState, name: str, match: str | None, payload: Any, sender_id: str | None, command_id: str | None
) -> list[Decision]:
    """Hand a signal to a run; one that was handed over before under the same sender's id is recognised."""
    if _repeated(state, command_id, kinds.SIGNAL_RECEIVED, name=name, match=match, payload=payload):
        return []
    if sender_id is not None and sender_id in state.senders:
        return []
    _refuse_ended(state, "a signal")
    if sum(map(len, state.signals.values())) >= MOST_SIGNALS:
        raise SignalBacklogError(f"run {state.run_id} holds {MOST_SIGNALS} unread signals", run_id=state.run_id)
    data = {"name": name, "payload": payload, "match": match, "sender_id": sender_id, "command_id": command_id}
    awaited = any(
        wait.kind == "signal" and wait.data.get("name") == name and wait.data.get("match") in (None, match)
        for wait in state.open_waits()
    )
    change = IndexChange(status="running", due_ms=0) if awaited and state.paused is None else None
    return [Decision(kinds.SIGNAL_RECEIVED, {k: v for k, v in data.items() if v is not None or k == "payload"}, change)]


# --- cancel, pause, resume, retry -------------------------------------------------------------------------------------


def cancel(state: RunState, reason: str, command_id: str | None) -> list[Decision]:
    """Ask a run to end. Cancelling a run that is cancelled, or about to be, decides to nothing."""
    if _repeated(state, command_id, kinds.RUN_CANCEL_REQUESTED) or state.status == "cancelled":
        return []
    _refuse_ended(state, "a cancel")
    if state.cancel_requested is not None:
        return []
    change = IndexChange(status="running" if state.visits else "pending", reason="", due_ms=0)
    return [Decision(kinds.RUN_CANCEL_REQUESTED, {"reason": reason, "command_id": command_id}, change)]


def pause(
    state: RunState,
    reason: str,
    command_id: str | None,
    *,
    detail: dict[str, Any] | None = None,
    message: str | None = None,
) -> list[Decision]:
    """Pause a run (`reason="paused"`), or park it with a named reason."""
    if _repeated(state, command_id, kinds.RUN_PAUSED) or (state.paused is not None and state.reason == reason):
        return []
    _refuse_ended(state, "a pause")
    payload = {"reason": reason, "command_id": command_id, "detail": detail, "message": message}
    change = IndexChange(status="paused", reason=reason, due_ms=NEVER)
    return [Decision(kinds.RUN_PAUSED, payload, change)]


def resume(state: RunState, command_id: str | None, *, accepted: str | None = None, reason: str = "") -> list[Decision]:
    """Undo a pause.

    Args:
        accepted: the fingerprint of the changed definition with which the run is to go on, if it was parked for that.
    """
    if _repeated(state, command_id, kinds.RUN_RESUMED):
        return []
    _refuse_ended(state, "a resume")
    if state.paused is None:
        raise StateError(
            f"run {state.run_id} is {state.status}, not paused",
            hint="a run that waits goes on by an answer or a signal",
            run_id=state.run_id,
        )
    payload = {"command_id": command_id, "accepted": accepted, "reason": reason}
    status = "running" if state.visits else "pending"
    due = NEVER if (state.manifest or {}).get("caller_owned") else 0
    return [Decision(kinds.RUN_RESUMED, payload, IndexChange(status=status, reason="", due_ms=due))]


def reopen(
    state: RunState,
    reason: str,
    command_id: str | None,
    *,
    parent_took: bool = False,
    cancelled_children: Collection[str] = (),
) -> list[Decision]:
    """Open a failed or cancelled run again; it forgets exactly the failure that ended it.

    Args:
        parent_took: its parent took the outcome.
        cancelled_children: children that ended when the cancel of this run went down the tree; they are spawned anew.

    Raises:
        NotReopenableError: the run has not ended, has completed, its parent took the outcome, or its code would decide
            the same again.
    """
    if _repeated(state, command_id, kinds.RUN_REOPENED):
        return []
    if state.status not in ("failed", "cancelled"):
        raise NotReopenableError(
            f"run {state.run_id} is {state.status}; only a failed or cancelled run is retried", run_id=state.run_id
        )
    if parent_took:
        raise NotReopenableError(
            f"run {state.run_id} is a child and its parent took the outcome",
            hint="retry the parent",
            run_id=state.run_id,
        )
    forgets = forgotten(state)
    forgets["records"] += _cancelled_with_it(state, cancelled_children)
    payload = {"reason": reason, "forgets": forgets, "command_id": command_id}
    due = NEVER if (state.manifest or {}).get("caller_owned") else 0
    change = IndexChange(status="running" if state.visits else "pending", reason="", due_ms=due)
    return [Decision(kinds.RUN_REOPENED, payload, change)]


def _cancelled_with_it(state: RunState, cancelled_children: Collection[str]) -> list[tuple[str, str]]:
    """The spawns, and the waits, of children that ended because this run was cancelled."""
    asked = state.cancel_requested.seq if state.cancel_requested is not None else 0
    gone = {
        child.child_id
        for child in state.children.values()
        if child.child_id in cancelled_children and (child.settled is None or child.settled.seq > asked)
    }
    spawns = [
        (child.spawned.scope or "", child.spawned.key or "")
        for child in state.children.values()
        if child.child_id in gone
    ]
    return spawns + [(wait.scope, wait.key) for wait in state.waits.values() if wait.data.get("child") in gone]


# --- doubt ------------------------------------------------------------------------------------------------------------


def resolve(
    state: RunState,
    step: str | None,
    resolution: str,
    value: Any,
    command_id: str | None,
    *,
    by: str = "person",
) -> list[Decision]:
    """Say what became of a step in doubt, also of a run that has ended.

    Args:
        step: its key, its scope and key joined by `/`, or its wait's id; may be omitted when one step is in doubt.
        resolution: `done` (with the value it returned), `not_done`, or `fail`.

    Raises:
        StepNotFoundError, NotInDoubtError: there is no such step, or it is not in doubt.
    """
    if _repeated(state, command_id, kinds.STEP_RESOLVED):
        return []
    scope, key, wait_id = _doubted(state, step)
    payload: dict[str, Any] = {"resolution": resolution, "command_id": command_id, "by": by}
    if resolution == "done":
        payload["value"] = value
    change = IndexChange(closed=(wait_id,) if wait_id else ())
    if not state.terminal and state.paused is None:
        change = change._replace(status="running", due_ms=0)
    node = scope.split("/")[1]
    return [Decision(kinds.STEP_RESOLVED, payload, change, node, scope, key)]


def _doubted(state: RunState, step: str | None) -> tuple[str, str, str | None]:
    doubts = [(scope, key) for scope, key, _ in state.in_doubt()]
    waits = {
        (wait.scope, wait.data["subject"]): wait.wait_id for wait in state.open_waits() if wait.data.get("subject")
    }
    named = [d for d in doubts if step is None or step in (d[1], "/".join(d), waits.get(d))]
    if len(named) == 1:
        return (*named[0], waits.get(named[0]))
    if len(named) > 1:
        raise StepNotFoundError(
            f"{len(named)} steps of run {state.run_id} are in doubt; name one",
            run_id=state.run_id,
            steps=["/".join(d) for d in named],
        )
    if step is None or any(step == key for records in state.scopes.values() for key in records):
        raise NotInDoubtError(
            f"run {state.run_id}: {step or 'no step'} is in doubt"
            if step is None
            else f"run {state.run_id}: step {step} is not in doubt",
            run_id=state.run_id,
            step=step,
        )
    raise StepNotFoundError(f"run {state.run_id} has no step {step!r}", run_id=state.run_id, step=step)
