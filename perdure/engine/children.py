"""Children: runs that a run spawns. A child is a run like any other; its parent records that it spawned it, and takes
its outcome once, in the order in which outcomes were taken."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import orjson

from perdure.core import kinds
from perdure.core.durations import Duration
from perdure.core.errors import (
    ChildFailed,
    InputTypeError,
    PerdureError,
    RunAbandoned,
    StoreError,
    ValueRefusedError,
)
from perdure.core.events import Event, IndexChange
from perdure.core.ids import child_run_id
from perdure.engine import waiting
from perdure.engine.current import current_step
from perdure.engine.failures import with_origin
from perdure.engine.large import by_reference, resolved
from perdure.engine.loading import load_state, read_ending
from perdure.journal.state import TERMINAL
from perdure.workflow.steps import Step, step

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.run import Run
    from perdure.engine.scopes import Scope
    from perdure.workflow.graph import Graph

R = TypeVar("R")
_OUTCOME: Final = {kinds.RUN_COMPLETED: "completed", kinds.RUN_FAILED: "failed", kinds.RUN_CANCELLED: "cancelled"}


class ChildHandle(Generic[R]):
    """A child run, as its parent sees it.

    Attributes:
        id: the child's run id, derived from parent, scope and key.
    """

    def __init__(self, run: Run, child_id: str, graph: Graph) -> None:
        self._run = run
        self._graph = graph
        self.id = child_id

    async def result(self, *, timeout: Duration | None = None) -> R:
        """Wait until the child has ended, and take its outcome.

        Args:
            timeout: how long to wait; the child goes on after it.

        Raises:
            ChildFailed: it ended `failed` or `cancelled`; `details` holds its status and error.
            WaitTimeout: it has not ended in time.
        """
        return cast(R, await self._run._child_result(self.id, self._graph, timeout))

    async def status(self) -> ChildStatus:
        """Look at the child, as a fact: a replay sees the same."""
        return await self._run.step(_look(self._run._execution), self.id)

    async def signal(self, name: str, payload: Any = None, *, match: str | None = None) -> bool:
        """Send the child a signal, once; whether it could still be sent.

        Args:
            name: of the signal.
            payload: JSON data.
            match: the key that the child may ask for.
        """
        return await self._run.step(_send(self._run._execution), self.id, name, payload, match)

    async def cancel(self, reason: str = "") -> None:
        """Ask the child to end; `result` then raises `ChildFailed`."""
        await self._run._cancel_child(self.id, reason)


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """What a child was doing when its parent looked.

    Attributes:
        status: of the run.
        node: the node that it is in, or was in last.
        state: its key-value context, as far as it is committed.
    """

    status: str
    node: str | None
    state: dict[str, Any]


def _look(execution: Execution) -> Step[[str], ChildStatus]:
    store = execution.services.store

    @step(kind="read", name="look_at_child")
    async def look_at_child(child: str) -> ChildStatus:
        loaded = await load_state(store, child)
        if loaded is None:
            return ChildStatus("pending", None, {})
        state, _ = loaded
        active = next(iter(state.active), None)
        node = active.rpartition("#")[0] if active is not None else state.last.name if state.last is not None else None
        return ChildStatus(state.status, node, {name: await resolved(store, it) for name, it in state.view().items()})

    return look_at_child


def _send(execution: Execution) -> Step[[str, str, Any, str | None], bool]:
    signal_run = execution.services.signal_run
    assert signal_run is not None

    @step(kind="idempotent", name="signal_child")
    async def signal_child(child: str, name: str, payload: Any, match: str | None) -> bool:
        return await signal_run(child, name, payload, match, current_step().idempotency_key)

    return signal_child


async def spawn(
    execution: Execution, scope: Scope, definition: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None
) -> tuple[str, Graph]:
    """Record the spawn (a barrier), then start the child; both can be repeated without a second child."""
    registry = execution.services.registry
    if not isinstance(definition, str):
        registry.register(definition)
    graph = registry.get(definition if isinstance(definition, str) else definition.name)
    raw = graph.dump_input(graph.bind(args, kwargs))
    execution.refuse_shape(raw, f"the input of child {graph.name!r}")
    key = scope.key_for(f"spawn.{graph.name}", key)
    scope.call(key)
    asked = b'{"input":%s,"workflow":%s}' % (raw, orjson.dumps(graph.name))
    fingerprint = sha256(asked).hexdigest()
    record = scope.recall(key)
    if record is not None:
        if record.what != "child" or record.fingerprint != fingerprint:
            await execution.drifted_input(scope, key, record, "child", asked)
        assert record.intent is not None
        child_id: str = record.intent.data["child"]
    else:
        await execution.check_start(scope, key)
        if execution.permits is not None:
            await execution.permit()
        reopened = execution.log.state.reopened
        child_id = child_run_id(execution.run_id, scope.path, key if not reopened else f"{key}/{reopened}")
        await _record_spawn(execution, scope, key, graph, child_id, raw, fingerprint)
    child = execution.log.state.children.get(child_id)
    if child is None or child.settled is None:
        assert execution.services.start_child is not None
        try:
            await execution.services.start_child(child_id, graph, raw, execution.run_id, scope.path, key)
        except StoreError as error:
            execution.abandon(error)
    return child_id, graph


async def _record_spawn(
    execution: Execution, scope: Scope, key: str, graph: Graph, child_id: str, raw: bytes, fingerprint: str
) -> None:
    payload = {
        "child": child_id,
        "workflow": graph.name,
        "fingerprint": fingerprint,
        "input": orjson.Fragment(by_reference(execution.redact(raw), execution.log.keep)),
    }
    draft = execution.services.draft(
        kinds.CHILD_SPAWNED, orjson.dumps(payload), node=scope.node, scope=scope.path, key=key
    )
    try:
        stands = await execution.log.decide(draft, execution.start_again(draft))
    except PerdureError as error:
        raise RunAbandoned(error.message) from error
    if not stands:
        execution.check()
        raise RunAbandoned("the spawn was withdrawn")


async def take_outcome(
    execution: Execution, scope: Scope, child_id: str, graph: Graph, deadline: dict[str, int]
) -> Any:
    """Wait for a child and take its outcome; a child that was settled before gives the recorded one."""
    asked = {"child": child_id}
    event = await waiting.wait(
        execution,
        scope,
        f"child.{child_id[:13]}",
        None,
        asked,
        {"wait": "child", **asked, **deadline},
        known=_taken(execution, child_id),
    )
    data = event.data
    if data.get("outcome") == "timed_out":
        await waiting.result_of(execution, event, scope, f"child {child_id}")
    if data["status"] == "completed":
        try:
            return graph.output.load_json(await execution.value_of(data, "output"))
        except (ValueRefusedError, InputTypeError) as misfit:
            await execution.drifted_type(scope, event.key or "", "outcome", misfit)
    error = data.get("error") or {}
    message = f"child {child_id} {data['status']}" + (f": {error['message']}" if error.get("message") else "")
    failed = ChildFailed(
        message,
        error_code=error.get("code", data["status"]),
        error_type=error.get("type", "ChildFailed"),
        details={"status": data["status"], "error": error or None},
        run_id=execution.run_id,
        child_id=child_id,
    )
    raise with_origin(failed, event.scope or "", event.key or "")


def _taken(execution: Execution, child_id: str) -> Event | None:
    """The event that took a child's outcome, also when it is not committed yet."""
    child = execution.log.state.children.get(child_id)
    settled = child.settled if child is not None else None
    return settled or execution.outcomes.get(child_id)


async def settle_children(execution: Execution) -> None:
    """Append `child.settled` for each child that is waited for and has ended."""
    for waiter in list(execution.waiters.values()):
        if waiter.child is None or waiter.future.done() or waiter.resolving or execution.stopping is not None:
            continue
        taken = _taken(execution, waiter.child)
        if taken is not None:
            execution.settle(waiter, taken)
            continue
        try:
            row = await execution.services.store.get_run(waiter.child)
        except StoreError as error:
            execution.log.lost(error)  # recovered from the store, as soon as that answers again
            return
        if row is None or row.status not in TERMINAL or waiter.future.done() or waiter.child in execution.settling:
            continue
        execution.settling.add(waiter.child)
        try:
            payload = await outcome_payload(execution, waiter.child)
        except PerdureError as error:
            execution.settling.discard(waiter.child)
            execution.log.lost(error)
            return
        waiting_too = [one for one in execution.waiters.values() if one.child == waiter.child]
        draft = execution.services.draft(
            kinds.CHILD_SETTLED,
            execution.redact(orjson.dumps(payload)),
            scope=waiter.scope,
            key=waiter.key,
            change=IndexChange(status="running", due_ms=0, closed=tuple(one.wait_id for one in waiting_too)),
        )
        execution.log.add(draft)
        event = execution.outcomes[waiter.child] = execution.own_event(draft)
        for one in waiting_too:
            execution.settle(one, event)


async def outcome_payload(execution: Execution, child_id: str) -> dict[str, Any]:
    """What a child's journal says of its end."""
    event = await read_ending(execution.services.store, child_id)
    payload: dict[str, Any] = {"child": child_id, "status": _OUTCOME[event.kind], "child_seq": event.seq}
    return payload | {name: event.data[name] for name in ("output", "error") if event.data.get(name) is not None}
