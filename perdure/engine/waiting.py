"""Waits: questions, signals, timers and children. A wait is opened durably, and settled by one event.

Answers and signals come from outside as commands; the firing of a timer, a time-out, the taking of a signal and the
settling of a child are appended by the executor as decisions, so that what stands first in the journal wins.
"""

from __future__ import annotations

import asyncio
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.core import kinds
from perdure.core.canonical import canonical
from perdure.core.errors import RunAbandoned, WaitTimeout
from perdure.core.events import Draft, Event, IndexChange, WaitRow
from perdure.engine.doubt import wait_id_of
from perdure.engine.failures import with_origin
from perdure.engine.large import by_reference
from perdure.journal.questions import approval_hash
from perdure.journal.state import RunState

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.scopes import Scope
    from perdure.engine.step_call import StepCall

MISSING: Final = object()
"""Stands for a default that was not given."""


class Waiter:
    """A wait that is open here, and the task that waits."""

    __slots__ = ("child", "deadline_ms", "future", "key", "kind", "match", "name", "resolving", "scope", "wait_id")

    def __init__(self, data: dict[str, Any], scope: str, key: str, future: asyncio.Future[Event]) -> None:
        self.wait_id: str = data["wait_id"]
        self.kind: str = data["wait"]
        self.name: str | None = data.get("name")
        self.match: str | None = data.get("match")
        self.child: str | None = data.get("child")
        self.deadline_ms: int | None = data.get("deadline_ms")
        self.scope = scope
        self.key = key
        self.future = future
        self.resolving = False


async def wait(
    execution: Execution,
    scope: Scope,
    name: str,
    key: str | None,
    asked: dict[str, Any],
    data: dict[str, Any],
    *,
    known: Event | None = None,
) -> Event:
    """Wait once: open the wait, or go on with the recorded one, until it is settled.

    Args:
        name: the first part of the key where none is given.
        asked: what is fingerprinted: asking something else under a recorded key is drift.
        data: the payload of `wait.opened`, without its id and fingerprint.
        known: what the journal says already of what is waited for: then nothing is opened.

    Returns:
        The event that settled it.
    """
    key = scope.key_for(name, key)
    scope.call(key)
    question = canonical(asked)
    fingerprint = sha256(question).hexdigest()
    record = scope.recall(key)
    if record is not None:
        if record.what != "wait" or record.fingerprint != fingerprint:
            await execution.drifted_input(scope, key, record, "wait", question)
        if record.fact is not None:
            return record.fact
        assert record.intent is not None
        asked_before = record.intent.data
        opened = execution.log.state.waits.get(asked_before["wait_id"])
        # It was closed without being settled when its branch was cancelled, or when a run ended that is open again.
        closed = opened is not None and opened.closed is not None
        again = _opened(execution, scope, key, asked_before) if closed else None
        return await block(execution, scope, key, asked_before, again)
    if known is not None:
        return known
    await execution.check_start(scope, key)
    if execution.permits is not None:
        await execution.permit()
    wait_id = _new_id(execution.log.state, data["wait"][0], scope.path, key)
    data = {"wait_id": wait_id, "fingerprint": fingerprint, "asked": asked, **data}
    return await block(execution, scope, key, data, _opened(execution, scope, key, data))


def _new_id(state: RunState, prefix: str, scope: str, key: str) -> str:
    """The id of a wait that opens; another one where a retry of the run has forgotten the wait that was here: an answer
    to that is none to this."""
    wait_id = wait_id_of(prefix, scope, key)
    return wait_id if wait_id not in state.waits else wait_id_of(prefix, scope, key, state.reopened)


def _opened(execution: Execution, scope: Scope, key: str, data: dict[str, Any]) -> Draft:
    row = WaitRow(
        data["wait_id"],
        data["wait"],
        data.get("child") or data.get("name") or ("doubt" if data.get("subject") else data["wait"]),
        data.get("match"),
        data.get("deadline_ms"),
    )
    told = {name: value for name, value in data.items() if value is not None}
    if "approve" in told.get("question", ()):
        told["question"] = _with_approval(execution, told["question"])
    payload = execution.redact(orjson.dumps(told))
    return execution.services.draft(
        kinds.WAIT_OPENED, payload, node=scope.node, scope=scope.path, key=key, change=IndexChange(opened=(row,))
    )


def _with_approval(execution: Execution, question: dict[str, Any]) -> dict[str, Any]:
    """A question as it is recorded with the value to approve: redacted, with the hash of just that, and an artifact of
    that name if it is large."""
    if "hash" in question:  # it was recorded before, and is opened again
        return question
    data = execution.redact(canonical(question["approve"]))
    approve = orjson.Fragment(by_reference(data, execution.log.keep))
    return question | {"approve": approve, "hash": approval_hash(data)}


async def block(execution: Execution, scope: Scope, key: str, data: dict[str, Any], opened: Draft | None) -> Event:
    """Wait until the wait is settled."""
    future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
    waiter = Waiter(data, scope.path, key, future)
    if opened is not None:
        execution.log.add(opened)
    if waiter.kind == "signal":
        take_signal(execution, waiter)
        if future.done():
            return future.result()
    execution.waiters[waiter.wait_id] = waiter
    timer = None
    if waiter.deadline_ms is not None:
        timer = execution.services.clock.call_at(waiter.deadline_ms, lambda: _deadline(execution, waiter, data))
    try:
        if waiter.child is not None:
            # A child that ends from now on makes this run due, whatever it appends; one that ended before it was
            # claimed does not, so nothing may say that the run waits before this was looked at.
            await execution.expect_child(waiter.child)
            if future.done():
                return future.result()
        execution.blocked(waiter)
        try:
            await execution.barrier()
            return await future
        finally:
            execution.unblocked(waiter)
    except asyncio.CancelledError:
        if execution.stopping is None and execution.log.error is None and "subject" not in data:
            _close(execution, waiter)
        raise
    finally:
        execution.waiters.pop(waiter.wait_id, None)
        if timer is not None:
            timer.cancel()


def _close(execution: Execution, waiter: Waiter) -> None:
    """The branch that waits was cancelled because another one failed: nobody is asked what nobody waits for."""
    draft = execution.services.draft(
        kinds.WAIT_CANCELLED,
        orjson.dumps({"wait_id": waiter.wait_id, "reason": "its branch was cancelled"}),
        scope=waiter.scope,
        key=waiter.key,
        change=IndexChange(closed=(waiter.wait_id,)),
    )
    execution.log.decide_later(draft, partial(_unless_closed, waiter.wait_id, draft))


def _unless_closed(wait_id: str, draft: Draft, state: RunState) -> Draft | None:
    wait = state.waits.get(wait_id)
    # A wait that is not there yet stands before this draft in the same append.
    return None if wait is not None and wait.closed is not None else draft


# --- what settles a wait ----------------------------------------------------------------------------------------------


def _takes(execution: Execution, waiter: Waiter, signal: Event) -> bool:
    """Whether a signal that is not spoken for is what a wait waits for."""
    wanted = waiter.kind == "signal" and waiter.match in (None, signal.data.get("match"))
    return wanted and signal.seq not in execution.taken


def take_signal(execution: Execution, waiter: Waiter) -> None:
    """Take the first unread signal that a wait waits for, if there is one."""
    if waiter.resolving:
        return  # its time-out is on the way to the journal; whichever stands first there wins
    state = execution.log.state
    for signal in state.signals.get(waiter.name or "", ()):
        if not _takes(execution, waiter, signal):
            continue
        execution.taken.add(signal.seq)
        fields: dict[str, Any] = {"wait_id": waiter.wait_id, "outcome": "signal", "signal_seq": signal.seq}
        fields["value"] = signal.data.get("payload")
        draft = _resolution(execution, waiter, fields)
        execution.log.add(draft)
        execution.settle(waiter, execution.own_event(draft))
        return


def _resolution(execution: Execution, waiter: Waiter, fields: dict[str, Any]) -> Draft:
    change = IndexChange(status="running", due_ms=0, closed=(waiter.wait_id,))
    return execution.services.draft(
        kinds.WAIT_RESOLVED, orjson.dumps(fields), scope=waiter.scope, key=waiter.key, change=change
    )


def _deadline(execution: Execution, waiter: Waiter, data: dict[str, Any]) -> None:
    """The wait's time has come: the timer fires, or the wait times out."""
    if waiter.future.done() or execution.stopping is not None:
        return
    fields: dict[str, Any] = {"wait_id": waiter.wait_id, "outcome": "fired" if waiter.kind == "timer" else "timed_out"}
    if data.get("has_default"):
        fields["value"] = data.get("default")
    waiter.resolving = True
    execution.background(_resolve(execution, waiter, _resolution(execution, waiter, fields)))


async def _resolve(execution: Execution, waiter: Waiter, draft: Draft) -> None:
    def again(state: RunState) -> Draft | None:
        if any(_takes(execution, waiter, signal) for signal in state.signals.get(waiter.name or "", ())):
            return None  # it came first
        return _unless_closed(waiter.wait_id, draft, state)

    try:
        if await execution.log.decide(draft, again):
            execution.settle(waiter, execution.own_event(draft))
            return
        waiter.resolving = False
        execution.look_at_children()
        if waiter.kind == "signal" and not waiter.future.done():
            take_signal(execution, waiter)
    except Exception as error:
        execution.fail_waiter(waiter, RunAbandoned(str(error)))


def settle_by_tail(execution: Execution, events: list[Event]) -> None:
    """Others appended: settle what their events settle."""
    for event in events:
        if event.kind == kinds.WAIT_ANSWERED:
            waiter = execution.waiters.get(event.data["wait_id"])
            if waiter is not None:
                execution.settle(waiter, event)
        elif event.kind == kinds.STEP_RESOLVED:
            for waiter in list(execution.waiters.values()):
                if waiter.scope == event.scope and waiter.kind == "question" and waiter.key == event.key:
                    execution.settle(waiter, event)
        elif event.kind == kinds.SIGNAL_RECEIVED:
            for waiter in list(execution.waiters.values()):
                if waiter.kind == "signal" and not waiter.future.done():
                    take_signal(execution, waiter)


# --- results ----------------------------------------------------------------------------------------------------------


async def result_of(execution: Execution, event: Event, scope: Scope, what: str) -> Any:
    """The JSON tree that a settled wait gives its caller.

    Raises:
        WaitTimeout: it timed out without a default.
    """
    data = event.data
    if event.kind == kinds.WAIT_ANSWERED:
        return data["answer"]
    if data["outcome"] == "timed_out" and "value" not in data:
        error = WaitTimeout(f"{what} timed out", run_id=execution.run_id, wait_id=data["wait_id"])
        raise with_origin(error, scope.path, event.key or "")
    return await execution.value_of(data, "value")


async def ask_about_doubt(execution: Execution, made: StepCall) -> Event:
    """Ask a person what became of a step; returns the `step.resolved` event."""
    state_record = execution.log.state.scopes.get(made.scope.path, {}).get(made.key)
    if state_record is not None and state_record.resolution is not None:
        return state_record.resolution
    wait_id = wait_id_of("d", made.scope.path, made.key, made.attempt)
    data = {
        "wait_id": wait_id,
        "wait": "question",
        "fingerprint": made.fingerprint,
        "subject": made.key,
        "name": "doubt",
        "question": {
            "kind": "doubt",
            "text": f"Did step {made.key} of {made.scope.node} happen? Its answer was lost.",
        },
    }
    known = execution.log.state.waits.get(wait_id)
    opened = None if known is not None and known.closed is None else _opened(execution, made.scope, made.key, data)
    execution.doubts[wait_id] = made
    try:
        return await block(execution, made.scope, made.key, data, opened)
    finally:
        execution.doubts.pop(wait_id, None)
