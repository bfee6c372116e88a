"""Executing stages, one after the other: the whole pipeline, or one branch of a fan-out.

A stage is executed until it has not failed or may not be repeated any more; then its outcome is written into the
context, and an edge is chosen. How the top level goes on is recorded by the engine, node by node; a branch is one
strand of the fan-out's node, and finds its way again from the facts of its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.core.canonical import JSONValue
from perdure.core.errors import PerdureError, ScopeInUseError, StepFailed, ValueRefusedError
from perdure.core.pipeline_errors import ContextKeyError
from perdure.engine.failures import origin_of
from perdure.engine.run import Run
from perdure.model.errors import may_succeed_later
from perdure.pipeline.blueprint import Blueprint, Place, Way
from perdure.pipeline.handler_types import CODERGEN, CONDITIONAL, EXIT, PARALLEL, START, TOOL
from perdure.pipeline.outcome import Outcome, Status, failure
from perdure.pipeline.routing import choose_way
from perdure.pipeline.run_context import StageContext
from perdure.pipeline.stage import Ended, HandlerResult, Stage
from perdure.pipeline.stage_events import STAGE_FAILED
from perdure.pipeline.stopped import Calls, LastExecution
from perdure.pipeline.visits import Visits

if TYPE_CHECKING:
    from perdure.pipeline.definition import Pipeline

NEVER_REPEATED: Final = frozenset((START, EXIT, CONDITIONAL))
WITH_STATUS: Final = frozenset((CODERGEN, TOOL))
"""Stages of these types leave a `status.json`."""
GATES: Final = "gates"
"""Under what the run keeps what the goal gates that were visited came to last, by node."""
_HISTORY: Final = 40


@dataclass(slots=True)
class Journey:
    """A strand of stages, up to the one that is executed now.

    Args:
        pipeline: that is executed.
        run: that executes it.
        context: of the strand.
        previous: the stage that ended last.
        stages: how many stages of the run were begun so far.
        visits: how often the strand visited nodes.
        failures: a failure was passed over in it.
        gates: what goal gates in a branch came to; at the top level they are kept by the run.
        inside: the fan-outs whose branch this is, the outermost first.
        region: in a branch, the nodes that it can come to.
        reopened_at: the executions of its stage that retries of the run began again with; at the top level.

    Attributes:
        last: the last execution of the stage that ended last, if it failed.
    """

    pipeline: Pipeline
    run: Run
    context: StageContext
    previous: Ended | None = None
    stages: int = 0
    visits: Visits = field(default_factory=Visits)
    failures: bool = False
    gates: dict[str, str] | None = None
    inside: tuple[str, ...] = ()
    region: frozenset[str] | None = None
    reopened_at: tuple[int, ...] = ()
    last: LastExecution | None = field(default=None, init=False)

    @property
    def blueprint(self) -> Blueprint:
        """The pipeline, ready to be executed."""
        return self.pipeline.blueprint

    def history(self) -> Iterator[tuple[str, str, str]]:
        """Node, status and notes of what ended before, the latest first; the newest visit of each."""
        names = list(self.run.outputs)
        for name in reversed(names[-_HISTORY:]):
            output = self.run.outputs[name] or {}
            yield name, output.get("status", ""), output.get("failure_reason") or output.get("notes") or ""

    def note_gates(self, statuses: Mapping[str, str]) -> None:
        """Keep what goal gates came to, for the exit."""
        if self.gates is not None:
            self.gates.update(statuses)
            return
        known = self.context.get_own(GATES)
        gates = known if isinstance(known, dict) else {}
        if any(gates.get(name) != status for name, status in statuses.items()):
            self.context.set_own(GATES, {**gates, **statuses})

    # --- one stage ----------------------------------------------------------------------------------------------------

    async def perform(self, place: Place, visit: int, entered_by: Way | None) -> Outcome:
        """Execute a stage until it has not failed, or may not be repeated any more, and write its outcome down.

        Args:
            place: the node.
            visit: of the node, from 1.
            entered_by: the edge that led to it.

        Returns:
            The outcome; its status is not `retry` any more.
        """
        outcome, calls, attempt = await self._repeated(place, visit, entered_by)
        outcome = self._written(outcome)
        self.last = calls.last_execution(attempt, outcome) if outcome.failed else None
        if place.type in WITH_STATUS:
            status = orjson.dumps(outcome.to_dict(), option=orjson.OPT_INDENT_2)
            self._stage(place, visit, 1, entered_by).keep("status.json", status, "application/json")
        if place.settings.goal_gate:
            self.note_gates({place.id: outcome.status})
        self.previous = Ended(place.id, outcome)
        return outcome

    async def _repeated(self, place: Place, visit: int, entered_by: Way | None) -> tuple[Outcome, Calls, int]:
        """Execute a stage as often as its policy says; a retry of the run begins that anew.

        Returns:
            The outcome, what the last execution asked for, and which one that was.
        """
        settings = place.settings
        policy = self.pipeline.retry.of_node(settings.max_retries if settings.says_retries else None)
        attempts = 1 if place.type in NEVER_REPEATED else policy.attempts
        last = attempts + max((1, *self.reopened_at)) - 1
        attempt, calls = 1, Calls()
        outcome = await self._attempted(self._stage(place, visit, attempt, entered_by))
        while outcome.failed and outcome.retryable:
            if attempt == last:
                status: Status = "partial_success" if settings.allow_partial else "fail"
                return replace(outcome, status=status), calls, attempt
            begun = max((1, *(one for one in self.reopened_at if one <= attempt)))
            delay_s = policy.backoff.delay_s(attempt - begun + 1, self.run.random())
            await self._pause(place, visit, attempt, outcome, delay_s)
            attempt, calls = attempt + 1, Calls()
            outcome = await self._attempted(self._stage(place, visit, attempt, entered_by))
        return (replace(outcome, status="fail") if outcome.failed else outcome), calls, attempt

    async def _pause(self, place: Place, visit: int, attempt: int, outcome: Outcome, delay_s: float) -> None:
        """Tell that an execution failed, and wait for the next one."""
        failed = {"node": place.id, "visit": visit, "attempt": attempt, "error": outcome.failure_reason}
        self.run.emit(STAGE_FAILED, {**failed, "delay_ms": round(delay_s * 1000)}, level="minimal")
        await self.run.sleep(delay_s)

    def _stage(self, place: Place, visit: int, attempt: int, entered_by: Way | None) -> Stage:
        return Stage(self.run, place, self.context, self, visit, attempt, self.previous, entered_by)

    async def _attempted(self, stage: Stage) -> Outcome:
        handler = self.pipeline.handlers[stage.place.type]
        try:
            return outcome_of(await handler(stage), auto_status=stage.settings.auto_status)
        except StepFailed as error:
            return replace(failure_of(error), raised=True)
        except ScopeInUseError:  # a defect of the handler, and no outcome
            raise
        except PerdureError as error:
            failed = failure(error.message, retryable=error.retryable)
            return replace(failed, origin=origin_of(error), raised=True)
        except Exception as error:
            failed = failure(f"{type(error).__name__}: {error}")
            return replace(failed, origin=origin_of(error), raised=True)

    def _written(self, outcome: Outcome) -> Outcome:
        """Write the outcome into the context; one that cannot be written is a failed one."""
        try:
            self.context.update({**outcome.context_updates, **_told(outcome)})
        except (ContextKeyError, ValueRefusedError) as error:
            outcome = replace(failure(error.message, retryable=False), offered=outcome.offered)
            self.context.update(_told(outcome))
        return outcome

    # --- the way on ---------------------------------------------------------------------------------------------------

    def way_on(self, place: Place, outcome: Outcome) -> Way | None:
        """The edge that is taken after a stage."""
        return choose_way(place.ways, outcome, self.context.view)

    def next_place(self, place: Place, outcome: Outcome) -> tuple[Place | None, Way | None]:
        """Where a stage leads to, and by which edge; a fan-out leads to its join, a failure to where it says.

        Returns:
            The place is `None` where there is no way on.
        """
        blueprint = self.blueprint
        if place.type == PARALLEL and place.join is not None:
            return blueprint.places[place.join], None
        way = self.way_on(place, outcome)
        if way is not None:
            self.failures = self.failures or (outcome.status == "fail" and way.condition is None)
            return blueprint.places[way.target], way
        if outcome.status != "fail":
            return None, None
        settings = place.settings
        targets: tuple[str, ...] = (settings.retry_target, settings.fallback_retry_target)
        if self.region is not None:  # a branch cannot leave its fan-out
            targets = tuple(target for target in targets if target in self.region)
        target = blueprint.target_of(*targets)
        return None if target is None else blueprint.places[target], None


def outcome_of(result: HandlerResult, *, auto_status: bool = False) -> Outcome:
    """The outcome that a handler's result stands for.

    Args:
        result: as the handler returned it.
        auto_status: a handler that returned nothing has succeeded.
    """
    if isinstance(result, Outcome):
        return result
    if isinstance(result, str):
        return Outcome(output=result)
    if isinstance(result, Mapping):
        return outcome_from(result)
    return Outcome() if auto_status else failure("the handler gave no outcome", retryable=False)


def outcome_from(fields: Mapping[str, Any]) -> Outcome:
    """An outcome from plain data: `outcome` or `status`, and the other fields of an outcome.

    A field of the wrong type makes a failed outcome that names it.
    """
    status = fields.get("outcome", fields.get("status", "success"))
    texts = {name: fields.get(name) or "" for name in ("preferred_label", "notes", "failure_reason")}
    suggested = fields.get("suggested_next_ids") or ()
    updates = fields.get("context_updates") or {}
    wrong = [name for name, value in texts.items() if not isinstance(value, str)]
    if not isinstance(suggested, list | tuple) or not all(isinstance(one, str) for one in suggested):
        wrong.append("suggested_next_ids")
    if not isinstance(updates, dict):
        wrong.append("context_updates")
    if wrong:
        return failure(f"the outcome's {wrong[0]!r} has the wrong type", retryable=False)
    try:
        return Outcome(
            status,
            texts["preferred_label"],
            tuple(suggested),
            updates,
            texts["notes"],
            texts["failure_reason"],
        )
    except PerdureError as error:
        return failure(error.message, retryable=False)


def failure_of(error: StepFailed) -> Outcome:
    """The outcome of a stage whose step failed for good."""
    return replace(failure(error.message, retryable=_is_worth_repeating(error)), origin=origin_of(error))


def _told(outcome: Outcome) -> dict[str, JSONValue]:
    return {"outcome": outcome.status, "preferred_label": outcome.preferred_label}


def _is_worth_repeating(error: StepFailed) -> bool:
    """Could another execution come to something else? Not when the request itself was refused.

    What is in doubt may have happened: only its own policy repeats it.
    """
    if error.error_code == "in_doubt":
        return False
    if error.error_code.startswith("model_"):
        return may_succeed_later(error)
    return error.error_code not in DETERMINISTIC


DETERMINISTIC: Final = frozenset(
    (
        "command_folder",
        "command_invalid",
        "command_missing",
        "command_not_executable",
        "command_too_long",
        "input_type",
        "invalid_input",
        "secret_shape",
        "secret_unresolved",
        "value_refused",
    )
)
"""Codes of failures that another execution would meet again."""
