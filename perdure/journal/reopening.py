"""Reopening: what a retry of a failed run forgets, and how the state of the run is without it.

A node ends the run in one of two ways. Its code *raises*: then the record that the exception came from is forgotten,
and the node is entered again. Or its code *returns* a failure that it has made of what is recorded. Executed again it
would make the same of the same records, so it is entered again only where the failure says `again`: then the failure
stands for the outcome of one step, its `origin` (or of none, and something beside the journal may have changed). With
the origin goes what was noted behind it in its scope, for it speaks of that outcome: events of the author's, writes of
the state, artifacts. Never a step: what was done stays done.
"""

from __future__ import annotations

from typing import Any, Final

from perdure.core.errors import NotReopenableError
from perdure.journal.state import NodeResult, Record, RunState, error_of
from perdure.journal.writes import apply_writes, writes_of

AGAIN: Final = "again"
"""In a failure that a node returned: the node may be executed again, and come to something else."""
ORIGIN: Final = "origin"
"""Scope and key of the record that a failure came from."""
_NOTED: Final = frozenset(("emit", "state", "put"))
_OF_CHILDREN: Final = frozenset(("look_at_child", "signal_child"))

Place = tuple[str, str]


# --- what is forgotten ------------------------------------------------------------------------------------------------


def forgotten(state: RunState) -> dict[str, Any]:
    """The records and nodes that a retry must forget: the origin of each failure, what follows from it, and the joins
    above it.

    Raises:
        NotReopenableError: a node ended the run by a failure that it would come to again.
    """
    revisits = state.manifest.get("policy", {}).get("revisits", {})
    failed = [result for result in state.results.values() if _is_forgotten(state, result, revisits)]
    records: dict[Place, None] = {}
    for result in failed:
        records.update(dict.fromkeys(_of_failure(state, result)))
    error = (state.ended.data.get("error") if state.ended is not None else None) or {}
    records.update(dict.fromkeys(_of_origin(state, error)))
    again = dict.fromkeys(name for result in failed for name in revisits.get(result.name, ()))
    forgets = {
        "records": list(records),
        "nodes": [result.name for result in failed if result.name not in again],
        "last": _last_before(state, {result.name for result in failed}),
    }
    return forgets | ({"visits": list(again)} if again else {})


def _is_forgotten(state: RunState, result: NodeResult, revisits: dict[str, Any]) -> bool:
    """Whether a node has failed in a way that a retry takes back."""
    error = error_of(result)
    if error is None:
        return False
    if result.status == "failed" or error.get(AGAIN) or revisits.get(result.name):
        return True
    if state.status == "failed":
        raise NotReopenableError(
            f"run {state.run_id} was ended by its own code ({error.get('code')}), which decided that from what is "
            "recorded: a retry would decide the same",
            hint="start a new run",
            run_id=state.run_id,
            node=result.name,
        )
    return False  # it was cancelled before the failure could end it


def _last_before(state: RunState, failed: set[str]) -> str | None:
    """The node that had ended last before those that failed."""
    last = state.last.name if state.last is not None else None
    while last in failed:
        before = state.before.get(last)
        if before is None or before.last == last:  # of two visits of one node the earlier one stands again
            return last if before is not None and before.result is not None else None
        last = before.last
    return last


def _of_failure(state: RunState, result: NodeResult) -> list[Place]:
    error = error_of(result) or {}
    records = _of_origin(state, error)
    if result.status == "completed" and error.get(AGAIN):
        records += _noted_behind(state, f"{state.generation}/{result.name}#{result.visit}", records)
    return records


def _of_origin(state: RunState, error: dict[str, Any]) -> list[Place]:
    """The origin of a failure, what it did with a child, and the joins above it."""
    if error.get(ORIGIN) is None:
        return []
    scope, key = error[ORIGIN]
    return [(scope, key), *_of_its_child(state, scope, key), *_joins_above(state, scope)]


def _joins_above(state: RunState, scope: str) -> list[Place]:
    return [
        (above, join)
        for above, entries in state.scopes.items()
        for join, record in entries.items()
        if record.what == "join"
        and record.fact is not None
        and record.fact.data.get("failed") is not None
        and scope.startswith(f"{above}/{join}[")
    ]


def _of_its_child(state: RunState, scope: str, key: str) -> list[Place]:
    """All that is recorded of the child whose failure was taken under this key: a retry takes the outcome of another
    child."""
    record = state.scopes.get(scope, {}).get(key)
    child_id = _child_of(record) if record is not None else None
    if child_id is None:
        return []
    return [
        (place, name)
        for place, records in state.scopes.items()
        for name, found in records.items()
        if (place, name) != (scope, key) and _child_of(found) == child_id
    ]


def _child_of(record: Record) -> str | None:
    """The child that a record is about: its spawn, a wait for it, a look at it, or a signal to it."""
    event = record.intent or record.fact
    if event is None:
        return None
    told = event.data
    if record.what == "step":
        told = told.get("input") if told.get("step") in _OF_CHILDREN else None
    found = told.get("child") if record.what in ("child", "wait", "step") and isinstance(told, dict) else None
    return found if isinstance(found, str) else None


def _noted_behind(state: RunState, root: str, gone: list[Place]) -> list[Place]:
    """What a node has noted behind the first of its records that are forgotten; if none is, behind its last step."""
    records = state.scopes.get(root, {})
    keys = {key for scope, key in gone if scope == root and key in records}
    if keys:
        behind = min(_begun(records[key]) for key in keys)
    else:
        behind = max((_begun(record) for record in records.values() if record.what not in _NOTED), default=0)
    return [(root, key) for key, record in records.items() if record.what in _NOTED and _begun(record) > behind]


def _begun(record: Record) -> int:
    """The seq at which a record began."""
    event = record.intent or record.fact
    return 0 if event is None else event.seq


# --- the state without it ---------------------------------------------------------------------------------------------


def forget(state: RunState, forgets: dict[str, Any]) -> None:
    """Take back what a `run.reopened` names, in place."""
    for scope, key in forgets.get("records", ()):
        state.scopes.get(scope, {}).pop(key, None)
    last = state.last
    for node in forgets.get("nodes", ()):
        _take_back(state, node)
    for node in forgets.get("visits", ()):  # these are visited anew: their facts do not count any more
        state.results.pop(node, None)
        state.node_writes.pop(node, None)
        state.before.pop(node, None)
    if "visits" in forgets:
        state.context = dict(state.base)
        for writes in state.node_writes.values():
            apply_writes(state.context, writes)
    if last is not None and state.results.get(last.name) is not last:
        state.last = state.results.get(forgets.get("last") or "")


def _take_back(state: RunState, node: str) -> None:
    """Take back how a visit of a node ended, and what it changed; those of its records that are left stand."""
    result = state.results.pop(node, None)
    before = state.before.pop(node, None)
    if result is None:
        return
    state.visits[node] = result.visit - 1
    place = f"{node}#{result.visit}"
    state.forgotten.setdefault(place, []).append(error_of(result) or {})
    for scope in state.node_scopes.get(place, ()):
        state.writes[scope] = writes_of(state, scope)
    if before is None:
        return
    apply_writes(state.context, before.context)
    if before.result is not None:
        state.results[node] = before.result
        stood = {name: state.results[name] for name in before.order if name in state.results}
        state.results = stood | {name: found for name, found in state.results.items() if name not in stood}
    if before.writes is not None:
        state.node_writes[node] = before.writes
    elif before.context:
        state.node_writes.pop(node, None)
