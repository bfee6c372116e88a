"""The summary of a run, as clients of `/pipelines` see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from perdure.core.errors import PerdureError
from perdure.journal.state import RunState, Wait
from perdure.pipeline.views import ending_of
from perdure.server.pipelines.portrait import Portrait
from perdure.server.pipelines.records import CHECKPOINT_RESUME
from perdure.server.pipelines.resume import KNOWN_LIMIT, recovery_data
from perdure.server.pipelines.times import iso
from perdure.store.port import RunRow

_STATUS: Final = {"completed": "success", "failed": "fail", "cancelled": "cancelled"}


def pipeline_status(state: RunState) -> str:
    """`running`, `success`, `fail` or `cancelled`: whatever has not ended is running."""
    return _STATUS.get(state.status, "running")


def summary_data(portrait: Portrait, diagnostics: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The summary of a run.

    Args:
        portrait: of the run.
        diagnostics: the warnings of its pipeline.
    """
    state, recovery = portrait.state, recovery_data(portrait)
    status = pipeline_status(state)
    started_ms = state.started.time_ms if state.started is not None else state.last_ms
    return {
        "pipeline_id": state.run_id,
        "status": status,
        "event_count": len(portrait.log),
        "pending_questions": len(portrait.questions),
        "logs_root": f"runs/{state.run_id}",
        "inserted_at": iso(started_ms),
        "updated_at": iso(state.last_ms),
        "has_checkpoint": portrait.checkpoint is not None,
        "resume_ready": recovery["refusal_reason"] is None,
        "recovery": recovery,
        "artifacts": [entry.data for entry in portrait.artifacts],
        "current_node": current_node(portrait),
        "error": _error(state, status),
        "diagnostics": list(diagnostics),
        "waiting_for": [] if state.terminal else [_waits_for(wait) for wait in state.open_waits()],
        "completed_with_failures": ending_of(state)["completed_with_failures"],
    }


def corrupt_summary(row: RunRow, error: PerdureError) -> dict[str, Any]:
    """The summary of a run whose journal cannot be read: what its index row says, and what is wrong."""
    refusal = {"state": "refused", "action": CHECKPOINT_RESUME, "refusal_reason": error.message}
    return {
        "pipeline_id": row.run_id,
        "status": _STATUS.get(row.status, "running"),
        "event_count": 0,
        "pending_questions": 0,
        "logs_root": f"runs/{row.run_id}",
        "inserted_at": iso(row.created_ms),
        "updated_at": iso(row.updated_ms),
        "has_checkpoint": False,
        "resume_ready": False,
        "recovery": refusal | {"known_limit": KNOWN_LIMIT},
        "artifacts": [],
        "current_node": None,
        "error": f"{error.code}: {error.message}",
        "diagnostics": [],
        "waiting_for": [],
        "completed_with_failures": False,
    }


def current_node(portrait: Portrait) -> str | None:
    """The stage that a run is in, or was in last."""
    state = portrait.state
    for node in (*state.active, *state.reenter):
        return node.rpartition("#")[0]
    return state.last.name if state.last is not None else None


def _error(state: RunState, status: str) -> str | None:
    if status == "cancelled":
        return "cancelled"
    if status == "fail":
        return str((state.outcome().get("error") or {}).get("message") or "the run failed")
    paused = state.paused.data if state.paused is not None else None
    if paused is None:
        return None
    return f"paused: {paused.get('message') or paused.get('reason')}"


def _waits_for(wait: Wait) -> dict[str, Any]:
    kind = "doubt" if wait.data.get("subject") is not None else wait.kind
    deadline = None if wait.deadline_ms is None else iso(wait.deadline_ms)
    return {"kind": kind, "id": wait.wait_id, "node": wait.node.rpartition("#")[0] or None, "deadline": deadline}
