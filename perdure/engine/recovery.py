"""Recovery: from a claim to an execution that goes on where the journal ends.

This is the file that decides what a crash means, so here is the whole of it.

A worker that claims a run reads its journal, checks the chain, and folds it. What it finds is one of these:

* The run has ended, or is paused: nothing to execute; the claim is given back.
* A record is not what was written: the run is parked as `corrupt_record`. Nobody acts on a journal that lies.
* The workflow's definition (name, version, structure) is not the one that the run was started with: the run is parked
  as `definition_changed`. It is not failed, because putting the old definition back, or accepting the new one, lets it
  go on.
* The run waited. Its owner may have let it go or died; either way nothing was in the middle of anything. The node is
  executed again in the *same* attempt: recorded facts are handed to the code until it arrives at the open wait.
* The run was executing and its owner is gone. Each active node attempt is an orphan. It is closed by `node.interrupted`
  and the node is entered in the next attempt. Unless the owner had received SIGTERM, this counts against the run's
  crash budget: a run that kills its worker again and again, with no new fact in between, is parked as
  `crash_budget_spent` instead of taking the next worker down. Any durable fact resets the count.

Because many runs may have been in flight when one of them killed the process, every such run is a *suspect*: the worker
resumes suspects one at a time, each until it makes progress (see `worker.py`). So a poisonous run spends its own budget
and not that of its neighbours.

What the steps themselves do about a crash is decided by their kind, when the code asks for them again (`stepping.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from perdure.core import kinds
from perdure.core.errors import CorruptRecordError, PerdureError
from perdure.core.events import NEVER, Draft, Head, IndexChange
from perdure.engine.endings import cancelled
from perdure.engine.execution import Execution
from perdure.engine.loading import load_state
from perdure.engine.log import RunLog
from perdure.engine.logs import logger
from perdure.engine.observing import run_parked
from perdure.journal.chain import genesis, hash_of
from perdure.journal.state import RunState
from perdure.store.port import Append, Claimed

if TYPE_CHECKING:
    from perdure.engine.services import Services


async def recover(services: Services, claimed: Claimed) -> Execution | None:
    """Make a claimed run ready to execute.

    Returns:
        None when there is nothing to execute: the run has ended, is paused, or was parked just now.
    """
    run_id = claimed.row.run_id
    try:
        loaded = await load_state(services.store, run_id, verify=True)
    except CorruptRecordError as error:
        await _park(services, claimed, "corrupt_record", error.message, {"seq": error.ids.get("seq")})
        return None
    assert loaded is not None
    state, head = loaded
    if state.terminal or (state.paused is not None and state.cancel_requested is None):
        return None
    log = _log(services, claimed, state, head)
    if state.cancel_requested is not None:
        await cancelled(services, log)
        return None
    graph = services.registry.get(state.workflow)
    if graph.fingerprint != state.fingerprint:
        detail = {
            "recorded": state.fingerprint,
            "loaded": graph.fingerprint,
            "version": state.version,
            "loaded_version": graph.version,
        }
        message = f"workflow {state.workflow!r} (version {graph.version}) is not the definition that the run began with"
        await _park(services, claimed, "definition_changed", message, detail, head)
        return None
    interrupted: dict[str, int] = {}
    in_flight = claimed.orphaned and state.status == "running" and not state.suspended
    if in_flight and state.active:
        if _interrupt(services, claimed, state, log):
            await log.barrier()
            return None
        interrupted = dict(state.active)
    lost_until_s = (
        services.clock.monotonic_s() + claimed.lease_lost_ms / 1000
        if claimed.orphaned and not claimed.prior_dead
        else 0.0
    )
    try:
        return Execution(
            services,
            graph,
            log,
            lost_until_s,
            interrupted,
            orphaned=claimed.orphaned,
            suspect=in_flight and not claimed.drained,
        )
    except PerdureError as error:
        await _park(services, claimed, "definition_changed", f"the input no longer fits: {error.message}", {}, log.head)
        return None


def _log(services: Services, claimed: Claimed, state: RunState, head: Head) -> RunLog:
    owner = claimed.row.owner
    assert owner is not None
    return RunLog(services.store, services.writer, claimed.row.run_id, claimed.row.epoch, owner, state, head)


def _interrupt(services: Services, claimed: Claimed, state: RunState, log: RunLog) -> bool:
    """Close the orphaned attempts; whether the crash budget is spent and the run was parked."""
    counted = not claimed.drained
    for node, attempt in list(state.active.items()):
        payload = {"attempt": attempt, "counted": counted, "cause": "worker lost", "worker": claimed.prior_worker}
        log.add(services.draft(kinds.NODE_INTERRUPTED, orjson.dumps(payload), node=node))
    spent = state.interruptions + 1
    if counted and spent > services.limits.crash_budget:
        message = f"the worker was lost {spent} times in a row without a new fact"
        log.add(_pause(services, "crash_budget_spent", message, {"interruptions": spent}))
        log.when_durable(lambda: _tell_parked(services, claimed, "crash_budget_spent", message))
        return True
    return False


def _pause(services: Services, reason: str, message: str, detail: dict[str, Any]) -> Draft:
    return services.draft(
        kinds.RUN_PAUSED,
        orjson.dumps({"reason": reason, "message": message, "detail": detail}),
        change=IndexChange(status="paused", reason=reason, due_ms=NEVER),
    )


async def _park(
    services: Services, claimed: Claimed, reason: str, message: str, detail: dict[str, Any], head: Head | None = None
) -> None:
    """Park a run that cannot be executed here."""
    run_id = claimed.row.run_id
    if head is None:
        head = await _last_record(services, run_id)
    draft = _pause(services, reason, message, detail)
    await services.writer.append(Append(run_id, [draft], head, claimed.row.epoch, claimed.row.owner))
    _tell_parked(services, claimed, reason, message)


def _tell_parked(services: Services, claimed: Claimed, reason: str, message: str) -> None:
    run_id = claimed.row.run_id
    logger.warning("run %s: parked (%s): %s", run_id, reason, message, extra={"run_id": run_id})
    run_parked(services, claimed.row, reason)


async def _last_record(services: Services, run_id: str) -> Head:
    """The end of a journal that does not verify: the pause is chained to whatever stands last."""
    head = await services.store.head(run_id)
    if head is not None:
        return head
    events = await services.store.read(run_id)
    return Head(events[-1].seq, hash_of(events[-1])) if events else Head(0, genesis(run_id))
