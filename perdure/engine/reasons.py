"""Why a run stands where it stands, as data with a sentence for people. Pure: made of what was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.journal.state import RunState, Wait
from perdure.store.port import RunRow, WorkerRow


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason.

    Args:
        kind: `question`, `signal`, `timer`, `child` (an open wait), `doubt`, `paused`, `cancel`, `failed`, or who
            executes: `caller`, `worker`, `due`, `no_worker`.
        text: for people.
        about: what the reason is about.
    """

    kind: str
    text: str
    about: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {"kind": self.kind, "text": self.text} | self.about


# --- who executes -----------------------------------------------------------------------------------------------------


def owner_of(row: RunRow, workers: Sequence[WorkerRow]) -> WorkerRow | None:
    """The worker that owns a run, as far as it is registered."""
    return next((worker for worker in workers if worker.worker_id == row.owner), None)


def is_orphaned(row: RunRow, workers: Sequence[WorkerRow]) -> bool:
    """Whether a run's worker is gone."""
    owner = owner_of(row, workers)
    return row.owner is not None and (owner is None or not owner.alive)


def able_workers(row: RunRow, workers: Sequence[WorkerRow]) -> list[WorkerRow]:
    """Live workers that have loaded a run's workflow."""
    return [one for one in workers if one.alive and not one.draining and row.workflow in one.workflows]


def doubt_name(state: RunState, scope: str, key: str) -> str:
    """What a step in doubt is called: its key, where no other in doubt has the same."""
    return key if sum(1 for _, other, _ in state.in_doubt() if other == key) <= 1 else f"{scope}/{key}"


# --- reasons ----------------------------------------------------------------------------------------------------------


def reasons_of(row: RunRow, state: RunState, workers: Sequence[WorkerRow]) -> list[Reason]:
    """Why a run stands where it stands; nothing for one that ended well.

    Args:
        row, state: of the run.
        workers: all that are registered.
    """
    reasons = [*_doubts(state)]
    if state.paused is not None:
        data = state.paused.data or {}
        text = "it is paused" if row.reason == "paused" else f"it is parked: {data.get('message') or row.reason}"
        reasons.append(Reason("paused", text, {"reason": row.reason, "detail": data.get("detail")}))
    elif row.status in ("pending", "running"):
        reasons.append(_executor(row, workers))
    elif row.status == "failed":
        error = state.outcome().get("error") or {}
        reasons.append(Reason("failed", f"it failed: {error.get('message', '')}", {"error": error}))
    if not state.terminal:
        reasons += [wait_reason(wait) for wait in state.open_waits() if wait.data.get("subject") is None]
        if state.cancel_requested is not None:
            reasons.append(Reason("cancel", "a cancel was asked for: it ends when what is in flight has ended"))
    return reasons


def wait_reason(wait: Wait) -> Reason:
    """What an open wait is for."""
    data = wait.data
    about: dict[str, Any] = {"wait_id": wait.wait_id, "deadline_ms": wait.deadline_ms}
    if wait.kind == "question":
        question = data["question"]
        return Reason("question", f"it asks: {question['text']}", {"question": question} | about)
    if wait.kind == "signal":
        name, match = data.get("name"), data.get("match")
        text = f"it waits for signal {name!r}" + (f" with key {match!r}" if match is not None else "")
        return Reason("signal", text, {"name": name, "match": match} | about)
    if wait.kind == "child":
        return Reason("child", f"it waits for run {data.get('child')}", {"child": data.get("child")} | about)
    return Reason(wait.kind, "it sleeps", about)


def _doubts(state: RunState) -> Iterator[Reason]:
    for scope, key, _ in state.in_doubt():
        text = f"step {doubt_name(state, scope, key)!r} is in doubt: whether it happened is not known"
        yield Reason("doubt", text, {"scope": scope, "step": key})


def _executor(row: RunRow, workers: Sequence[WorkerRow]) -> Reason:
    if row.caller_owned:
        return Reason("caller", "its loop belongs to the program that started it")
    owner = owner_of(row, workers)
    if owner is not None and owner.alive:
        return Reason("worker", f"worker {owner.worker_id} executes it", {"worker": owner.worker_id})
    if able_workers(row, workers):
        return Reason("due", "it is ready, and a worker will take it up")
    text = f"no live worker has loaded workflow {row.workflow!r}"
    return Reason("no_worker", text, {"workflow": row.workflow})
