"""All that is known of a run, read from the store once: for `show`, and for the end of `run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perdure.cli.account import Account
from perdure.cli.explanation import Circumstances, following, why
from perdure.cli.place import Place
from perdure.cli.times import now_ms
from perdure.core.errors import CorruptRecordError
from perdure.core.events import Event
from perdure.engine.large import resolved
from perdure.engine.runtime import Runtime
from perdure.journal.chain import check
from perdure.journal.fold import fold_all
from perdure.journal.state import RunState
from perdure.store.port import OpenWait, RunFilter, RunRow, Store


@dataclass(slots=True)
class Portrait:
    """All that is known of a run.

    Attributes:
        row: its index row.
        state: folded from its journal.
        account: of its steps.
        context: the author's key-value state.
        circumstances: for the explanation.
    """

    row: RunRow
    state: RunState
    account: Account
    context: dict[str, Any]
    circumstances: Circumstances


async def portray(runtime: Runtime, place: Place, run_id: str, *, file: str | None = None) -> Portrait:
    """Read all about a run.

    Args:
        file: of its workflow, where it is known.

    Raises:
        RunNotFoundError: there is no such run.
    """
    store = runtime.store
    row = await runtime.run(run_id).row()
    events, damage = sound_events(run_id, await store.read(run_id))
    state, account = fold_all(run_id, events), Account(events)
    children = {child.run_id: child for child in await store.list_runs(RunFilter(parent_id=run_id, limit=10_000))}
    seen = Circumstances(row, state, account, await store.workers(), children, now_ms(), place, damage=damage)
    if file is not None:
        seen.file = file
    context = {name: await resolved(store, value) for name, value in state.view().items()}
    return Portrait(row, state, account, context, seen)


def sound_events(run_id: str, events: list[Event]) -> tuple[list[Event], CorruptRecordError | None]:
    """The events before the first bad record, and what is wrong with that."""
    try:
        check(run_id, events)
    except CorruptRecordError as error:
        return events[: error.ids["seq"] - 1], error
    return events, None


def portrait_data(found: Portrait) -> dict[str, Any]:
    """A portrait as plain JSON data."""
    row, state, seen = found.row, found.state, found.circumstances
    parked = None
    if state.paused is not None:
        data = state.paused.data
        parked = {
            "reason": state.reason,
            "message": data.get("message"),
            "detail": state.detail or None,
            "actor": state.paused.actor,
            "time_ms": state.paused.time_ms,
        }
    return row.to_dict() | {
        "seq": found.account.seq,
        "last_ms": state.last_ms,
        "generation": found.account.generation,
        "crashes": found.account.crashes,
        "input": state.input,
        "nodes": [node.to_dict() for node in found.account.nodes],
        "waits": [
            {
                "wait_id": wait.wait_id,
                "kind": wait.kind,
                "deadline_ms": wait.deadline_ms,
                "scope": wait.scope,
                "key": wait.key,
            }
            | _asked(wait.data)
            for wait in state.open_waits()
        ],
        "in_doubt": [{"scope": scope, "key": key} for scope, key, _ in state.in_doubt()],
        "children": [
            {"run_id": child.run_id, "workflow": child.workflow, "status": child.status}
            for child in seen.children.values()
        ],
        "state": found.context,
        "paused": parked,
        "why": [point.to_dict() for point in why(seen)],
        "next": [point.to_dict() for point in following(seen)],
    }


def _asked(data: dict[str, Any]) -> dict[str, Any]:
    names = ("question", "name", "match", "child", "subject", "default")
    return {name: data[name] for name in names if data.get(name) is not None}


async def outcome_of(store: Store, state: RunState) -> dict[str, Any]:
    """How a run ended: `output` or `error`, resolved; nothing while it has not."""
    return {
        name: await resolved(store, value)
        for name, value in state.outcome().items()
        if value not in (None, "") or name == "output"
    }


# --- as data ---------------------------------------------------------------------------------------------------------


def wait_data(place: OpenWait) -> dict[str, Any]:
    """An open wait's index row as plain JSON data."""
    wait = place.wait
    return {
        "wait_id": wait.wait_id,
        "kind": wait.kind,
        "name": wait.name,
        "match": wait.key,
        "deadline_ms": wait.deadline_ms,
    }
