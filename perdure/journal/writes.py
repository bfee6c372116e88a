"""What the code of a run wrote into its state, read from its records."""

from __future__ import annotations

from typing import Any

from perdure.core import kinds
from perdure.core.events import Event
from perdure.journal.state import DELETED, RunState


def written_by(event: Event) -> dict[str, Any]:
    """The values of a `state.written`, by key; `DELETED` for one that was deleted."""
    data = event.data
    if "values" in data:
        values: dict[str, Any] = data["values"]
        return values
    return {data["name"]: DELETED if data.get("deleted") else data.get("value")}


def apply_writes(context: dict[str, Any], writes: dict[str, Any]) -> None:
    """Change a context, in place."""
    for name, value in writes.items():
        if value is DELETED:
            context.pop(name, None)
        else:
            context[name] = value


def writes_of(state: RunState, scope: str) -> dict[str, Any]:
    """What a scope wrote, and the branches that were joined into it, by the records that it has."""
    facts = [record.fact for record in state.scopes.get(scope, {}).values() if record.what in ("state", "join")]
    writes: dict[str, Any] = {}
    for fact in sorted((fact for fact in facts if fact is not None), key=lambda fact: fact.seq):
        if fact.kind == kinds.STATE_WRITTEN:
            writes.update(written_by(fact))
        elif fact.data.get("failed") is None:
            for branch in fact.data.get("branches", ()):
                writes.update(writes_of(state, branch))
    return writes
