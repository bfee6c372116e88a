"""A verified journal in words, and the check of index rows against the fold."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.cli.output import count
from perdure.core.events import NEVER
from perdure.engine.loading import load_state
from perdure.engine.verification import Verified
from perdure.journal.state import RunState
from perdure.store.port import OpenWait, RunRow, Store


def verified_line(found: Verified) -> str:
    """A journal that is what was written, in words."""
    artifacts = f", {count(found.artifacts, 'artifact')}" if found.artifacts else ""
    return f"journal verified: {count(found.records, 'record')}{artifacts}, head {found.head[:12]}"


async def compare_index(store: Store, row: RunRow) -> list[str]:
    """How a run's index rows differ from what its journal folds to; empty when they agree.

    Raises:
        CorruptRecordError: the journal cannot be read.
    """
    loaded = await load_state(store, row.run_id, verify=True)
    again = await store.get_run(row.run_id)
    if loaded is None or again != row:
        return []  # it went on meanwhile
    return differences(row, loaded[0], await store.open_waits(run_id=row.run_id))


def differences(row: RunRow, state: RunState, waits: Iterable[OpenWait]) -> list[str]:
    """Index rows against a folded state."""
    found = []
    expected = {
        "workflow": state.workflow,
        "version": state.version,
        "reason": state.reason,
        "status": state.status,
    }
    for name, value in expected.items():
        if getattr(row, name) != value:
            found.append(f"{name} is {getattr(row, name)!r} in the index and {value!r} in the journal")
    indexed = {one.wait.wait_id for one in waits}
    open_waits = {wait.wait_id for wait in state.open_waits() if not state.terminal or wait.kind == "question"}
    if indexed != open_waits:
        found.append(f"open waits are {sorted(indexed)} in the index and {sorted(open_waits)} in the journal")
    deadlines = [wait.deadline_ms for wait in state.open_waits() if wait.deadline_ms is not None]
    if row.status == "waiting" and not row.caller_owned and min(deadlines, default=NEVER) < row.due_ms:
        found.append("it is due later than its next deadline")
    return found
