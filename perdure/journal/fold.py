"""Fold: `state, event → state`, the only reading of a journal.

Everything that Perdure knows about a run (its status, what it waits for, which steps are done, what a crash left open)
comes out of this one function, whether it is asked by the executor that recovers the run, by `perdure show`, or by the
checkpoint at an old seq. There is one small handler for each kind of event, found by name.

Three things are worth knowing before changing anything here.

*A fold never fails on what was committed.* It is not the place for checks: whether an event may be appended is decided
in `decide.py` and by the executor, before the append. Here the event is a fact of history. Kinds that this version does
not know, and the author's own events, only move `seq`.

*The fold updates the state that it is given and returns it.* A copy for each event would make the ten-thousandth step
cost more than the tenth. Who needs an old state folds again up to its seq.

*Records of a node live as long as the node.* While a visit of a node is active its steps are looked up by scope and
key; once it has completed it will never be executed again, so its records are dropped and only its writes and its
output stay. That keeps the memory of a flow with a cycle flat. A node that ended the run by a failure keeps them, and
with them what it changed, as that was before: `retry` puts that back, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from perdure.core import kinds
from perdure.core.events import Event
from perdure.journal.reopening import forget
from perdure.journal.state import DELETED, Before, Child, NodeResult, Record, RunState, Wait, error_of
from perdure.journal.writes import apply_writes, written_by

_SECRET: Final = b'{"$secret":'


def fold(state: RunState, event: Event) -> RunState:
    """Apply one event to a state, in place, and return it."""
    if state.suspended and event.kind in _BY_AN_EXECUTOR:
        state.suspended = False
        if state.status == "waiting" and event.kind in kinds.EXECUTING_KINDS:
            state.status = "running"
    handler = _HANDLERS.get(event.kind)
    if handler is not None:
        handler(state, event)
    elif event.key is not None and event.kind not in kinds.KINDS:
        _record(state, event, "emit").fact = event
        state.interruptions = 0
    state.seq = event.seq
    if event.time_ms > state.last_ms:
        state.last_ms = event.time_ms
    return state


def fold_all(run_id: str, events: Iterable[Event], state: RunState | None = None) -> RunState:
    """Fold events, from the beginning or behind an earlier state."""
    folded = RunState(run_id) if state is None else state
    for event in events:
        fold(folded, event)
    return folded


# --- the run ----------------------------------------------------------------------------------------------------------


def _run_started(state: RunState, event: Event) -> None:
    data = event.data or {}
    state.started = event
    state.manifest = data
    state.workflow = data.get("workflow", "")
    state.version = data.get("version", "")
    state.fingerprint = data.get("fingerprint", "")
    state.input = data.get("input") or {}


def _run_continued(state: RunState, event: Event) -> None:
    data = event.data
    manifest = data.get("manifest") or state.manifest
    state.manifest = manifest
    state.workflow = manifest.get("workflow", state.workflow)
    state.version = manifest.get("version", state.version)
    state.fingerprint = manifest.get("fingerprint", state.fingerprint)
    state.generation = data["generation"]
    state.input = data["input"]
    state.context = dict(data["state"])
    state.signals = {}
    for signal in data["signals"]:
        state.signals.setdefault(signal["name"], []).append(
            _carried(event, signal["seq"], kinds.SIGNAL_RECEIVED, signal)
        )
    state.secrets.update(data.get("secrets", ()))
    state.senders = {sender: event.seq for sender in data.get("senders", ())}
    state.commands = {
        command_id: _carried(event, event.seq, kind, {"command_id": command_id})
        for command_id, kind in data.get("commands", {}).items()
    }
    state.last_ms = max(state.last_ms, data.get("last_ms", 0))
    state.children = {
        child["child"]: Child(_carried(event, child["seq"], kinds.CHILD_SPAWNED, child)) for child in data["children"]
    }
    state.waits = {}
    state.writes, state.visits, state.active, state.attempts = {}, {}, {}, {}
    state.results, state.last, state.scopes, state.node_scopes = {}, None, {}, {}
    state.base, state.node_writes, state.reenter = dict(state.context), {}, {}
    state.before, state.forgotten = {}, {}
    state.interruptions = 0
    state.status = "running"


def _carried(event: Event, seq: int, kind: str, data: dict[str, Any]) -> Event:
    """An event of an earlier generation as `run.continued` carries it over, so that recovery need not read behind
    it."""
    carried = Event(event.run_id, seq, kind, event.time_ms, None, None, None, event.actor, event.epoch, b"", b"", b"")
    carried._data = data
    return carried


def _run_suspended(state: RunState, event: Event) -> None:
    state.suspended = True
    if not state.terminal and state.paused is None:
        state.status = "waiting"


def _run_paused(state: RunState, event: Event) -> None:
    data = event.data
    _command(state, event)
    state.paused = event
    state.status = "paused"
    state.reason = data["reason"]
    state.detail = data.get("detail") or {}


def _run_resumed(state: RunState, event: Event) -> None:
    _command(state, event)
    state.paused = None
    state.reason = ""
    state.detail = {}
    state.interruptions = 0
    accepted = event.data.get("accepted")
    if accepted:
        state.fingerprint = accepted
    state.status = "running" if state.visits else "pending"


def _run_cancel_requested(state: RunState, event: Event) -> None:
    _command(state, event)
    state.cancel_requested = event
    state.paused = None
    if state.status in ("paused", "waiting"):  # it waits for nobody any more: whoever executes it ends it
        state.status = "running" if state.visits else "pending"


def _ended(status: str) -> Callable[[RunState, Event], None]:
    def handler(state: RunState, event: Event) -> None:
        state.ended = event
        state.status = status  # type: ignore[assignment]
        state.reason = ""
        state.detail = {}
        for wait in state.open_waits():
            if status != "cancelled" or wait.kind != "question":
                wait.closed = event

    return handler


def _run_reopened(state: RunState, event: Event) -> None:
    _command(state, event)
    state.ended = None
    state.cancel_requested = None
    state.paused = None
    state.status = "running" if state.visits else "pending"
    state.reopened += 1
    state.interruptions = 0
    forget(state, event.data["forgets"])


def _command(state: RunState, event: Event) -> None:
    command_id = event.data.get("command_id")
    if command_id is not None:
        state.commands[command_id] = event


# --- nodes ------------------------------------------------------------------------------------------------------------


def _node_entered(state: RunState, event: Event) -> None:
    node = event.node or ""
    name, _, visit = node.rpartition("#")
    state.visits[name] = max(int(visit), state.visits.get(name, 0))
    attempt: int = event.data["attempt"]
    state.active[node] = attempt
    state.attempts[node] = attempt
    state.reenter.pop(node, None)
    if state.status in ("pending", "waiting"):
        state.status = "running"


def _node_completed(state: RunState, event: Event) -> None:
    data = event.data
    _finish(state, event, "completed", data.get("output"), tuple(data.get("next", ())), data.get("end"))
    node = event.node or ""
    root = f"{state.generation}/{node}"
    if state.last is not None and error_of(state.last) is not None:
        _change(state, node, state.writes.get(root) or {})
        return
    state.forgotten.pop(node, None)
    for scope in state.node_scopes.pop(node, ()):
        records = state.scopes.pop(scope, {})
        doubted = {key: record for key, record in records.items() if record.doubt is not None and record.fact is None}
        if doubted:  # the code went on without an answer; a person may still give it
            state.scopes[scope] = doubted
        if scope != root:
            state.writes.pop(scope, None)
    writes = state.writes.pop(root, None)
    if writes:
        state.node_writes[node.rpartition("#")[0]] = writes
        apply_writes(state.context, writes)


def _change(state: RunState, node: str, writes: dict[str, Any]) -> None:
    """A node that ended the run by returning a failure has written this; its records stay."""
    name = node.rpartition("#")[0]
    state.before[name] = state.before[name]._replace(
        context={key: state.context.get(key, DELETED) for key in writes}, writes=state.node_writes.get(name)
    )
    if writes:
        state.node_writes[name] = dict(writes)
        apply_writes(state.context, writes)


def _node_failed(state: RunState, event: Event) -> None:
    data = event.data
    _finish(state, event, "failed", None, (), {"error": data["error"]})


def _node_skipped(state: RunState, event: Event) -> None:
    name, _, visit = (event.node or "").rpartition("#")
    state.visits[name] = max(int(visit), state.visits.get(name, 0))
    _finish(state, event, "skipped", None, (), None)


def _finish(
    state: RunState, event: Event, status: str, output: Any, following: tuple[str, ...], end: dict[str, Any] | None
) -> None:
    node = event.node or ""
    name, _, visit = node.rpartition("#")
    state.active.pop(node, None)
    result = NodeResult(name, int(visit), status, output, following, end)
    if error_of(result) is not None:
        last = state.last.name if state.last is not None else None
        state.before[name] = Before(state.results.get(name), tuple(state.results), last, {}, None)
    state.results.pop(name, None)  # the order is that in which they ended
    state.results[name] = result
    state.last = result
    state.interruptions = 0


def _node_interrupted(state: RunState, event: Event) -> None:
    node = event.node or ""
    if node in state.active:
        state.reenter[node] = state.active.pop(node)
    if event.data["counted"] and not state.active:  # one crash may interrupt several nodes
        state.interruptions += 1


# --- steps ------------------------------------------------------------------------------------------------------------


def _record(state: RunState, event: Event, what: str, fingerprint: str = "", step_kind: str = "") -> Record:
    scope = event.scope or ""
    records = state.scopes.get(scope)
    if records is None:
        records = state.scopes[scope] = {}
        state.node_scopes.setdefault(event.node or "", set()).add(scope)
    key = event.key or ""
    record = records.get(key)
    if record is None:
        record = records[key] = Record(what, fingerprint, step_kind)
    return record


def _step_intended(state: RunState, event: Event) -> None:
    data = event.data
    record = _record(state, event, "step", data["fingerprint"], data["step_kind"])
    record.intent = event
    record.attempt = data["attempt"]
    record.due_ms = None
    if event.payload is not None and _SECRET in event.payload:
        state.secrets.update(_references(data.get("input")))
    if record.since_ms is None:
        record.since_ms = event.time_ms


def _references(tree: Any) -> Iterator[str]:
    """The secrets that a recorded value refers to."""
    if isinstance(tree, dict):
        if tree.keys() == {"$secret"} and isinstance(tree["$secret"], str):
            yield tree["$secret"]
        for child in tree.values():
            yield from _references(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _references(child)


def _step_settled(state: RunState, event: Event) -> None:
    data = event.data
    record = _record(state, event, "step", data["fingerprint"], data.get("step_kind", ""))
    record.fact = event
    record.due_ms = None
    state.facts += 1
    if "secrets" in data:
        state.secrets.update(data["secrets"])
    state.interruptions = 0


def _step_retried(state: RunState, event: Event) -> None:
    data = event.data
    record = _record(state, event, "step", data.get("fingerprint", ""))
    record.attempt = data["attempt"]
    record.due_ms = data["due_ms"]
    record.doubt = None
    if data.get("free"):
        record.free_waits += 1
    if record.since_ms is None:
        record.since_ms = data.get("since_ms", event.time_ms)


def _step_doubted(state: RunState, event: Event) -> None:
    record = _record(state, event, "step")
    record.doubt = event
    record.resolution = None


def _step_resolved(state: RunState, event: Event) -> None:
    _command(state, event)
    record = _record(state, event, "step")
    record.resolution = event
    if event.data.get("by", "person") == "person":
        state.interruptions = 0
    _wake(state)
    for wait in state.open_waits():
        if wait.scope == event.scope and wait.data.get("subject") == event.key:
            wait.closed = event


def _noted(state: RunState, event: Event) -> None:
    data = event.data
    record = _record(state, event, _WHAT[event.kind], data.get("fingerprint", ""))
    record.fact = event
    state.interruptions = 0


def _state_written(state: RunState, event: Event) -> None:
    _noted(state, event)
    state.writes.setdefault(event.scope or "", {}).update(written_by(event))


def _branches_joined(state: RunState, event: Event) -> None:
    _noted(state, event)
    data = event.data
    if data.get("failed") is not None:
        return
    into = state.writes.setdefault(event.scope or "", {})
    for branch in data.get("branches", ()):
        into.update(state.writes.pop(branch, {}))


# --- waits, signals, children -----------------------------------------------------------------------------------------


def _wake(state: RunState) -> None:
    if state.status == "waiting":
        state.status = "running"


def _wait_opened(state: RunState, event: Event) -> None:
    data = event.data
    if data.get("subject") is None:
        record = _record(state, event, "wait", data["fingerprint"])
        record.intent = event
    state.waits[data["wait_id"]] = Wait(event)


def _wait_settled(state: RunState, event: Event) -> None:
    data = event.data
    _command(state, event)
    wait = state.waits.get(data["wait_id"])
    if wait is not None and wait.closed is None:  # the lower seq wins
        wait.closed = event
        record = state.scopes.get(wait.scope, {}).get(wait.key)
        if record is not None and record.what == "wait" and event.kind != kinds.WAIT_CANCELLED:
            record.fact = event
    signal_seq = data.get("signal_seq")
    if signal_seq is not None:
        name = wait.data.get("name", "") if wait is not None else ""
        state.signals[name] = [signal for signal in state.signals.get(name, ()) if signal.seq != signal_seq]
    if event.kind != kinds.WAIT_CANCELLED:
        state.facts += 1
        state.interruptions = 0
        _wake(state)


def _signal_received(state: RunState, event: Event) -> None:
    data = event.data
    _command(state, event)
    state.signals.setdefault(data["name"], []).append(event)
    if data.get("sender_id") is not None:
        state.senders[data["sender_id"]] = event.seq
    for wait in state.open_waits():
        if wait.kind == "signal" and matches(wait, event):
            _wake(state)


def matches(wait: Wait, signal: Event) -> bool:
    """Whether a signal is what a wait waits for: the same name, and the same key where the wait names one."""
    if wait.data.get("name") != signal.data["name"]:
        return False
    wanted = wait.data.get("match")
    return wanted is None or wanted == signal.data.get("match")


def _child_spawned(state: RunState, event: Event) -> None:
    data = event.data
    record = _record(state, event, "child", data["fingerprint"])
    record.intent = event
    record.fact = event
    state.children[data["child"]] = Child(event)
    state.interruptions = 0


def _child_settled(state: RunState, event: Event) -> None:
    child_id = event.data["child"]
    child = state.children.get(child_id)
    if child is not None:
        child.settled = event
    for wait in state.open_waits():
        if wait.kind == "child" and wait.data.get("child") == child_id:
            wait.closed = event
            record = state.scopes.get(wait.scope, {}).get(wait.key)
            if record is not None:
                record.fact = event
            state.interruptions = 0
            _wake(state)


_BY_AN_EXECUTOR: Final = kinds.EXECUTING_KINDS | {kinds.WAIT_RESOLVED, kinds.CHILD_SETTLED, kinds.RUN_CONTINUED}
"""With one of these somebody executes a run that was suspended; an answer, a signal or another command does not say so.
Without the difference, a worker that died while a run waited would count as one that the run has killed."""

_WHAT: Final = {
    kinds.STATE_WRITTEN: "state",
    kinds.ARTIFACT_PUT: "put",
    kinds.PATCH_DECIDED: "patch",
    kinds.BRANCHES_JOINED: "join",
}

_HANDLERS: Final[dict[str, Callable[[RunState, Event], None]]] = {
    kinds.RUN_STARTED: _run_started,
    kinds.RUN_CONTINUED: _run_continued,
    kinds.RUN_SUSPENDED: _run_suspended,
    kinds.RUN_PAUSED: _run_paused,
    kinds.RUN_RESUMED: _run_resumed,
    kinds.RUN_CANCEL_REQUESTED: _run_cancel_requested,
    kinds.RUN_COMPLETED: _ended("completed"),
    kinds.RUN_FAILED: _ended("failed"),
    kinds.RUN_CANCELLED: _ended("cancelled"),
    kinds.RUN_REOPENED: _run_reopened,
    kinds.NODE_ENTERED: _node_entered,
    kinds.NODE_COMPLETED: _node_completed,
    kinds.NODE_FAILED: _node_failed,
    kinds.NODE_SKIPPED: _node_skipped,
    kinds.NODE_INTERRUPTED: _node_interrupted,
    kinds.STEP_INTENDED: _step_intended,
    kinds.STEP_COMPLETED: _step_settled,
    kinds.STEP_FAILED: _step_settled,
    kinds.STEP_RETRIED: _step_retried,
    kinds.STEP_DOUBTED: _step_doubted,
    kinds.STEP_RESOLVED: _step_resolved,
    kinds.WAIT_OPENED: _wait_opened,
    kinds.WAIT_ANSWERED: _wait_settled,
    kinds.WAIT_RESOLVED: _wait_settled,
    kinds.WAIT_CANCELLED: _wait_settled,
    kinds.SIGNAL_RECEIVED: _signal_received,
    kinds.CHILD_SPAWNED: _child_spawned,
    kinds.CHILD_SETTLED: _child_settled,
    kinds.STATE_WRITTEN: _state_written,
    kinds.BRANCHES_JOINED: _branches_joined,
    kinds.ARTIFACT_PUT: _noted,
    kinds.PATCH_DECIDED: _noted,
}
