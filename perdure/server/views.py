"""Runs, questions, workflows and workers as the JSON that the service gives."""

from __future__ import annotations

from typing import Any

from perdure.core.errors import CorruptRecordError, StoreCorruptError
from perdure.engine.large import resolved
from perdure.engine.reasons import reasons_of
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question
from perdure.journal.state import RunState
from perdure.server.responses import error_body
from perdure.store.port import RunRow, Store, WorkerRow
from perdure.workflow.graph import Graph


async def run_view(runtime: Runtime, run_id: str) -> dict[str, Any]:
    """All that a run's journal folds to. Of one that cannot be read, the index row, and what is wrong with it.

    Raises:
        RunNotFoundError: there is no such run.
    """
    handle = runtime.run(run_id)
    row = await handle.row()
    try:
        state = await handle.fold()
        view = await _folded(runtime, row, state)
    except (CorruptRecordError, StoreCorruptError) as error:
        return row.to_dict() | {"damage": error_body(error)}
    return row.to_dict() | view


async def _folded(runtime: Runtime, row: RunRow, state: RunState) -> dict[str, Any]:
    store = runtime.store
    view = state.to_dict()
    for name in ("run_id", "workflow", "version", "status", "reason", "output", "error"):
        view.pop(name, None)
    view["input"] = {name: await resolved(store, value) for name, value in state.input.items()}
    view["state"] = await context_view(store, state)
    view["why"] = [one.to_dict() for one in reasons_of(row, state, await store.workers())]
    view["damage"] = None
    outcome = state.outcome()
    view["output"] = await resolved(store, outcome.get("output"))
    view["error"] = outcome.get("error")
    return view


async def context_view(store: Store, state: RunState) -> dict[str, Any]:
    """A run's key-value state, large values included."""
    return {name: await resolved(store, value) for name, value in state.view().items()}


def question_view(question: Question) -> dict[str, Any]:
    """An open question."""
    return {
        "run_id": question.run_id,
        "wait_id": question.wait_id,
        "workflow": question.workflow,
        "text": question.text,
        "kind": question.kind,
        "choices": list(question.choices),
        "keys": list(question.keys),
        "deadline_ms": question.deadline_ms,
        "has_default": question.has_default,
        "default": question.default,
        "step": question.step,
        "approve": question.approve,
        "hash": question.hash,
        "declinable": question.declinable,
    }


def workflow_view(graph: Graph) -> dict[str, Any]:
    """A workflow that can be started, with the JSON schema of its input."""
    return {
        "name": graph.name,
        "version": graph.version,
        "form": graph.form,
        "description": graph.description,
        "input": graph.input_schema(),
    }


def worker_view(worker: WorkerRow) -> dict[str, Any]:
    """A worker."""
    return {
        "worker_id": worker.worker_id,
        "host": worker.host,
        "pid": worker.pid,
        "started_ms": worker.started_ms,
        "alive": worker.alive,
        "draining": worker.draining,
        "workflows": list(worker.workflows),
    }
