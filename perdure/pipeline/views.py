"""What a pipeline's run did, folded from its journal: its path, its context, its artifacts by their paths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.core import kinds
from perdure.core.events import Event
from perdure.journal.state import NodeResult, RunState
from perdure.pipeline.context import Context
from perdure.pipeline.run_context import OWN
from perdure.pipeline.stage_events import STAGE_ENTERED


def path_of(events: Iterable[Event]) -> list[str]:
    """The stages in the order in which they were entered: a node for each visit, stages of branches included.

    Args:
        events: of the run, from the first.
    """
    path: list[str] = []
    seen: set[str] = set()
    for event in events:
        if event.kind == kinds.RUN_CONTINUED:
            seen.clear()
        elif event.kind == kinds.NODE_ENTERED and event.node is not None and event.node not in seen:
            seen.add(event.node)
            path.append(event.node.rpartition("#")[0])
        elif event.kind == STAGE_ENTERED:
            path.append(event.data["node"])
    return path


def has_failed(result: NodeResult) -> bool:
    """Whether a stage that ended came to a failure, wherever the run went on to."""
    return isinstance(result.output, dict) and result.output.get("status") == "fail"


def context_of(state: RunState) -> Context:
    """The context of a run; large values are marks that refer to artifacts."""
    return {name: value for name, value in state.view().items() if not name.startswith(OWN)}


def artifacts_of(events: Iterable[Event]) -> dict[str, str]:
    """SHA-256 of the stages' artifacts by path: `<node>/visit-<n>/<name>` for each visit, and `<node>/<name>` for the
    newest.

    Args:
        events: of the run, from the first.
    """
    found: dict[str, str] = {}
    newest: dict[str, tuple[int, str]] = {}
    for event in events:
        path = event.data.get("name") if event.kind == kinds.ARTIFACT_PUT else None
        parts = path.split("/", 2) if isinstance(path, str) else []
        if len(parts) != 3 or not parts[1].startswith("visit-"):
            continue
        node, visit, name = parts
        number = int(visit.removeprefix("visit-"))
        found["/".join(parts)] = event.data["artifact"]
        plain = f"{node}/{name}"
        if plain not in newest or newest[plain][0] <= number:
            newest[plain] = (number, event.data["artifact"])
    return {path: sha for path, (_, sha) in newest.items()} | found


def ending_of(state: RunState) -> dict[str, Any]:
    """How a run stands: `status` (`success`, `fail`, `cancelled`, or the run's own while it has not ended),
    `failure_reason` and `completed_with_failures`."""
    outcome: Mapping[str, Any] = state.outcome() if state.terminal else {}
    status = {"completed": "success", "failed": "fail"}.get(state.status, state.status)
    error = outcome.get("error") or {}
    return {
        "status": status,
        "failure_reason": (error.get("details") or {}).get("failure_reason") or error.get("message") or "",
        "completed_with_failures": status == "success" and _has_passed_failures(state, outcome.get("output")),
    }


def _has_passed_failures(state: RunState, output: Any) -> bool:
    """Whether a completed run followed the edge of a stage that failed. With a large context its output is an artifact;
    then what the stage before the exit handed on tells."""
    if isinstance(output, dict) and "completed_with_failures" in output:
        return bool(output["completed_with_failures"])
    handed_on = [result.output for result in state.results.values() if isinstance(result.output, dict)]
    return any(told.get("failures") is True for told in handed_on)


def checkpoint_of(state: RunState) -> dict[str, Any]:
    """Where a run stands: the seq, the node that it is in or was in last, and what each node came to."""
    active = next(iter(state.active), None)
    last = state.last.name if state.last is not None else None
    ended = {
        name: (result.output or {}) if isinstance(result.output, dict) else {} for name, result in state.results.items()
    }
    return {
        "seq": state.seq,
        "current_node": active.rpartition("#")[0] if active is not None else last,
        "completed_nodes": list(ended),
        "outcomes": {name: output["status"] for name, output in ended.items() if "status" in output},
        "visits": dict(state.visits),
    }
