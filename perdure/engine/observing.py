"""Observers: who is told what this process executes, for traces and metrics.

An observer hears of a step only while this process executes it: a recorded fact that is handed to replayed code is no
news. That a step has ended is told when its fact is durable, so whatever an observer exports was not taken back by a
crash, and of all processes that had a hand in a step only the one whose fact counts tells of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import orjson

from perdure.engine.logs import logger

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.services import Services
    from perdure.engine.step_call import StepCall
    from perdure.journal.state import RunState
    from perdure.store.port import RunRow

MOST_CODE: Final = 128
"""Characters of an error's code that are told: an author's exception may have anything for its code."""


class FailedAttempt(NamedTuple):
    """An attempt of a step that was followed by another one.

    Args:
        attempt: from 1.
        time_ms: when it had failed, in milliseconds since 1970.
        code: of the error.
    """

    attempt: int
    time_ms: int
    code: str


@dataclass(eq=False)
class ObservedStep:
    """A step that this process executes.

    Attributes:
        run_id, workflow, node, scope, key: its place.
        name, kind: of the step.
        reopened: how often the run was opened again after its end; then the same place may be executed again.
        begun_ms: when its first attempt began, in whatever process.
        args: what the function is given; not for export.
        failed_attempts: those that failed in this process, without the last.
        attempts: how many there were, in all processes.
        ended_ms, outcome, error: how it ended; the error's code.
        value: what it returned; not for export.
    """

    run_id: str
    workflow: str
    node: str
    scope: str
    key: str
    name: str
    kind: str
    reopened: int
    begun_ms: int
    args: tuple[Any, ...] = ()
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    attempts: int = 0
    ended_ms: int = 0
    outcome: Literal["completed", "failed"] = "completed"
    error: str | None = None
    value: Any = None


@dataclass(frozen=True)
class ObservedRun:
    """A run that has changed its status, here and durably.

    Attributes:
        run_id, workflow, version: which.
        status: `running` when it was taken over from a worker that is gone, `waiting`, `paused`, or how it has ended.
        reopened: how often it was opened again after its end.
        started_ms: when it was started.
        time_ms: now.
        parent_id: the run that started it, if one did.
        reason: why it is paused, or the code of the error that it failed with.
    """

    run_id: str
    workflow: str
    version: str
    status: str
    reopened: int
    started_ms: int
    time_ms: int
    parent_id: str | None = None
    reason: str | None = None


class Observer(Protocol):
    """Is told what this process executes; in the event loop, so it must be quick. What it raises is logged."""

    def step_begun(self, step: ObservedStep) -> None:
        """The function is about to be called, in the present context."""

    def step_left(self, step: ObservedStep) -> None:
        """The present context has nothing to do with the step any more; whether it has ended is told later, if it
        has."""

    def step_ended(self, step: ObservedStep) -> None:
        """Its fact is durable."""

    def run_changed(self, run: ObservedRun) -> None:
        """A run was taken over, waits, is paused, or has ended."""


async def observed(made: StepCall, execute: Callable[[StepCall], Awaitable[Any]]) -> Any:
    """Execute a step and tell the observers of it."""
    execution = made.execution
    services = execution.services
    step = made.observed = _step(made)
    _tell(services.observers, "step_begun", step)
    try:
        value = step.value = await execute(made)
        return value
    finally:  # what is told is what is recorded: the caller may be cancelled, or the run paused, directly behind that
        _tell(services.observers, "step_left", step)
        made.observed = None
        if made.settled:
            step.outcome, step.error = ("completed", None) if made.failed is None else ("failed", made.failed)
            step.attempts = made.attempt
            step.ended_ms = services.clock.now_ms()
            execution.log.when_durable(partial(_tell, services.observers, "step_ended", step))


def _step(made: StepCall) -> ObservedStep:
    execution, scope = made.execution, made.scope
    return ObservedStep(
        execution.run_id,
        execution.graph.name,
        scope.node,
        scope.path,
        made.key,
        made.step.name,
        made.policy.kind,
        execution.log.state.reopened,
        made.since_ms or execution.services.clock.now_ms(),
        (*made.args, *made.kwargs.values()),
    )


def code_of(execution: Execution, described: Mapping[str, Any]) -> str:
    """The code of an error that is recorded, as it may be told."""
    code: str = orjson.loads(execution.redact(orjson.dumps(str(described["code"]))))
    return code[:MOST_CODE]


def run_parked(services: Services, row: RunRow, reason: str) -> None:
    """Tell the observers of a run that was parked before it could be executed, and is durably so."""
    if services.observers:
        place = (row.run_id, row.workflow, row.version, "paused", 0, row.created_ms, services.clock.now_ms())
        _tell(services.observers, "run_changed", ObservedRun(*place, row.parent_id, reason))


def run_changed(services: Services, state: RunState, status: str, reason: str | None = None) -> None:
    """Tell the observers of a run whose change is durable."""
    if not services.observers:
        return
    parent = state.manifest.get("parent") or {}
    started_ms = state.started.time_ms if state.started is not None else services.clock.now_ms()
    run = ObservedRun(
        state.run_id,
        state.workflow,
        state.version,
        status,
        state.reopened,
        started_ms,
        services.clock.now_ms(),
        parent.get("run_id"),
        reason,
    )
    _tell(services.observers, "run_changed", run)


def _tell(observers: Sequence[Observer], what: str, about: object) -> None:
    for observer in observers:
        try:
            getattr(observer, what)(about)
        except Exception:  # a run does not depend on who looks at it
            logger.exception("the observer %s failed", type(observer).__name__)
