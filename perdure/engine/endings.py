"""How a turn with a run ends: the run's terminal event, a new generation, a pause, a drain, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.core import kinds
from perdure.core.events import NEVER, Draft, IndexChange
from perdure.engine.large import by_reference
from perdure.engine.logs import logger
from perdure.engine.observing import MOST_CODE, run_changed
from perdure.journal.state import RunState
from perdure.workflow.graph import Break, Finish

if TYPE_CHECKING:
    from perdure.engine.execution import Ending, Execution
    from perdure.engine.log import RunLog
    from perdure.engine.services import Services

MOST_CARRIED: Final = 1000
"""How many of the newest senders' and commands' ids a new generation still recognises."""


async def conclude(execution: Execution, route: Finish | Break) -> None:
    """Append the run's outcome: a barrier, and a decision that a cancel or a pause that came first takes back."""
    if isinstance(route, Finish):
        kind, fields = kinds.RUN_COMPLETED, {"output": route.output}
    else:
        kind, fields = kinds.RUN_FAILED, {"error": dict(route.error)}

    def again(state: RunState) -> Draft | None:
        if state.cancel_requested is not None or state.paused is not None:
            return None
        return _terminal(execution.services, state, kind, fields, execution.taken)

    draft = again(execution.log.state)
    if draft is not None:
        await execution.log.decide(draft, again)
        _ended(execution.services, execution.log.state, fields)


def _ended(services: Services, state: RunState, fields: Mapping[str, Any]) -> None:
    """The run's end is durable. That of a child has marked its parent due; nobody need hear of it, if nobody here
    executes it."""
    if not state.terminal:
        return
    code = str((fields.get("error") or {}).get("code", ""))[:MOST_CODE] or None
    if state.status == "failed":
        logger.warning("run %s: failed (%s)", state.run_id, code, extra={"run_id": state.run_id})
    run_changed(services, state, state.status, code)
    if state.manifest.get("parent"):
        services.due()


def _terminal(services: Services, state: RunState, kind: str, fields: dict[str, Any], taken: Set[int]) -> Draft:
    unread = [signal for signal in state.unread_signals() if signal["seq"] not in taken]
    children = state.live_children()
    payload = dict(fields)
    if unread:
        payload["unread_signals"] = unread
    if children:
        payload["live_children"] = children
    doubts = doubtful(state)
    if doubts:
        payload["in_doubt"] = doubts
    status = kind.partition(".")[2]
    closed: tuple[str, ...] = ("*",)
    if kind == kinds.RUN_CANCELLED:
        closed = tuple(wait.wait_id for wait in state.open_waits() if wait.kind != "question")
    parent = (state.manifest.get("parent") or {}).get("run_id")
    change = IndexChange(status=status, reason="", due_ms=NEVER, closed=closed, release=True, wake=parent)
    return services.draft(kind, orjson.dumps(payload), change=change)


async def cancelled(services: Services, log: RunLog, taken: Set[int] = frozenset()) -> None:
    """Cancel the children, then append `run.cancelled`, which lists what is in doubt. Needs no code of the workflow."""
    request = log.state.cancel_requested
    reason = request.data.get("reason", "") if request is not None else ""
    if services.cancel_run is not None:
        for child_id in log.state.live_children():
            cause = f"parent cancelled: {reason}".rstrip(": ")
            await services.cancel_run(child_id, reason=cause, command_id=f"cancel-{log.run_id}")

    def again(state: RunState) -> Draft | None:
        return _terminal(services, state, kinds.RUN_CANCELLED, {"reason": reason}, taken)

    await log.barrier()
    draft = again(log.state)
    assert draft is not None
    await log.decide(draft, again)
    _ended(services, log.state, {})


def doubtful(state: RunState) -> list[dict[str, str]]:
    """Steps of a run that ends of which nobody knows whether they happened."""
    return [
        {"scope": scope, "key": key}
        for scope, records in state.scopes.items()
        for key, record in records.items()
        if record.fact is None and record.resolution is None and (record.doubt is not None or record.in_flight_once)
    ]


async def continue_run(execution: Execution, data: bytes) -> None:
    """Append `run.continued`: a new generation with its input, the state, unread signals and live children."""
    log = execution.log
    await log.barrier()
    keep = log.keep
    values = {
        name: orjson.Fragment(by_reference(execution.redact(orjson.dumps(value)), keep))
        for name, value in execution.merger.state.items()
    }
    given = {
        name: orjson.Fragment(by_reference(execution.redact(orjson.dumps(value)), keep))
        for name, value in orjson.loads(data).items()
    }

    def again(state: RunState) -> Draft | None:
        if state.cancel_requested is not None or state.paused is not None:
            return None
        signals = [
            {name: event.data.get(name) for name in ("name", "payload", "match", "sender_id")} | {"seq": event.seq}
            for queue in state.signals.values()
            for event in queue
            if event.seq not in execution.taken
        ]
        children = [
            {"child": child.child_id, "workflow": child.workflow, "detached": child.detached, "seq": child.spawned.seq}
            for child in state.children.values()
            if child.settled is None
        ]
        payload = {
            "generation": state.generation + 1,
            "input": given,
            "state": values,
            "signals": [{k: v for k, v in signal.items() if v is not None} for signal in signals],
            "children": children,
            "waits": [],
            "manifest": {name: value for name, value in state.manifest.items() if name != "input"},
            "senders": list(state.senders)[-MOST_CARRIED:],
            "secrets": sorted(state.secrets),
            "commands": {command_id: event.kind for command_id, event in list(state.commands.items())[-MOST_CARRIED:]},
            "last_ms": execution.last_now_ms,
        }
        change = IndexChange(base_seq=state.seq + 1)
        return execution.services.draft(kinds.RUN_CONTINUED, execution.redact(orjson.dumps(payload)), change=change)

    draft = again(log.state)
    if draft is not None:
        await log.decide(draft, again)


async def finish(execution: Execution) -> Ending:
    """What is left to do when the loop is over."""
    log = execution.log
    if log.error is not None:
        return "lost"
    stopping = execution.stopping
    if stopping == "cancel":
        await execution._end_tasks()
        await cancelled(execution.services, log, execution.taken)
        return "ended"
    await log.barrier()
    if log.state.terminal:
        return "ended"
    if execution.stopping == "cancel":
        await cancelled(execution.services, log, execution.taken)
        return "ended"
    if stopping == "drain":
        await _interrupt(execution, "drain")
        return "drained"
    if stopping in ("pause", "park") or log.state.paused is not None:
        run_changed(execution.services, log.state, "paused", log.state.reason or None)
        return "paused"
    return "suspended"


async def _interrupt(execution: Execution, cause: str) -> None:
    """Close the node attempts that this turn leaves open, so that nobody counts them as crashed."""
    log = execution.log
    if log.state.status == "waiting":
        return
    for node, attempt in list(log.state.active.items()):
        payload = orjson.dumps({"attempt": attempt, "counted": False, "cause": cause})
        log.add(execution.services.draft(kinds.NODE_INTERRUPTED, payload, node=node))
    await log.barrier()
