"""Why a run stands where it stands, as data with a sentence for people. Pure: made of what was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from perdure.journal.state import RunState, Wait
from perdure.store.port import RunRow, WorkerRow


def why(row: RunRow, state: RunState, workers: Sequence[WorkerRow]) -> list[dict[str, Any]]:
    """Why a run stands where it stands; nothing for one that ended well.

    Args:
        row, state: of the run.
        workers: all that are registered.

    Returns:
        Reasons: `kind`, `text`, and what the reason is about.
    """
    reasons = [*_doubts(state)]
    if state.paused is not None:
        data = state.paused.data or {}
        text = "it is paused" if row.reason == "paused" else f"it is parked: {data.get('message') or row.reason}"
        reasons.append({"kind": "paused", "text": text, "reason": row.reason, "detail": data.get("detail")})
    elif row.status in ("pending", "running"):
        reasons.append(_executor(row, workers))
    elif row.status == "failed":
        error = state.outcome().get("error") or {}
        reasons.append({"kind": "failed", "text": f"it failed: {error.get('message', '')}", "error": error})
    if not state.terminal:
        reasons += [wait_reason(wait) for wait in state.open_waits() if wait.data.get("subject") is None]
        if state.cancel_requested is not None:
            reasons.append(
                {"kind": "cancel", "text": "a cancel was asked for: it ends when what is in flight has ended"}
            )
    return reasons


def wait_reason(wait: Wait) -> dict[str, Any]:
    """What an open wait is for."""
    data = wait.data
    about: dict[str, Any] = {"wait_id": wait.wait_id, "deadline_ms": wait.deadline_ms}
    if wait.kind == "question":
        return {
            "kind": "question",
            "text": f"it asks: {data['question']['text']}",
            "question": data["question"],
        } | about
    if wait.kind == "signal":
        match = data.get("match")
        text = f"it waits for signal {data.get('name')!r}" + (f" with key {match!r}" if match is not None else "")
        return {"kind": "signal", "text": text, "name": data.get("name"), "match": match} | about
    if wait.kind == "child":
        return {"kind": "child", "text": f"it waits for run {data.get('child')}", "child": data.get("child")} | about
    return {"kind": wait.kind, "text": "it sleeps"} | about


def _doubts(state: RunState) -> Iterator[dict[str, Any]]:
    for scope, key, _ in state.in_doubt():
        text = f"step {key!r} is in doubt: whether it happened is not known"
        yield {"kind": "doubt", "text": text, "scope": scope, "step": key}


def _executor(row: RunRow, workers: Sequence[WorkerRow]) -> dict[str, Any]:
    if row.caller_owned:
        return {"kind": "caller", "text": "its loop belongs to the program that started it"}
    owner = next((one for one in workers if one.worker_id == row.owner), None)
    if owner is not None and owner.alive:
        return {"kind": "worker", "text": f"worker {owner.worker_id} executes it", "worker": owner.worker_id}
    if any(one.alive and not one.draining and row.workflow in one.workflows for one in workers):
        return {"kind": "due", "text": "it is ready, and a worker will take it up"}
    text = f"no live worker has loaded workflow {row.workflow!r}"
    return {"kind": "no_worker", "text": text, "workflow": row.workflow}
