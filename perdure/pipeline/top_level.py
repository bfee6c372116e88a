"""The top level of a pipeline's run: each stage is a node, which ends by saying where the run goes on.

What a later stage must know of an earlier one stands in the earlier one's recorded output: its outcome, how many stages
there were so far, and whether a failure was passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure.core.canonical import JSONValue
from perdure.engine.run import Run
from perdure.pipeline.blueprint import Blueprint, Place, Way
from perdure.pipeline.context import Context, nested, updated
from perdure.pipeline.document import Document
from perdure.pipeline.handler_types import EXIT
from perdure.pipeline.journey import GATES, Journey, outcome_from
from perdure.pipeline.outcome import SATISFIED, Outcome
from perdure.pipeline.run_context import RunContext, StageContext
from perdure.pipeline.stage import Ended
from perdure.pipeline.stopped import ATTEMPT, GATE_UNSATISFIED, STAGE_FAILED, LastExecution, Stopped, reopened_at
from perdure.pipeline.visits import Visits
from perdure.workflow.graph import Done, Fail, Next
from perdure.workflow.graph import Outcome as NodeOutcome
from perdure.workflow.steps import step

if TYPE_CHECKING:
    from perdure.pipeline.definition import Pipeline

RESTART: Final = ".restart"
"""The input of a generation that a loop restarted: `{"at", "stages", "failures"}`. No caller can give it, since no
part of a context's key is empty."""


class Restarted(dict[str, JSONValue]):
    """What a loop that restarts begins anew with: by its type it is told from what a caller hands in."""


VISITS: Final = "visits"
"""By node, the visits in branches, and those before a loop restarted."""
REDIRECTS: Final = "redirects"
"""How often the exit sent the run back for each gate."""
SOURCE: Final = "pipeline.dot"
"""The artifact that holds the text of the pipeline."""
RUN: Final = "run"
"""What was found when the run began: `{"directory", "simulated"}`."""


class Before(NamedTuple):
    """What was, when a stage begins.

    Args:
        ended: the stage before it.
        stages: how many were begun before it.
        failures: a failure was passed over.
        edge: the place of the edge that led here among the document's; `None` for none.
    """

    ended: Ended | None = None
    stages: int = 0
    failures: bool = False
    edge: int | None = None


@dataclass(frozen=True, slots=True)
class TopLevel:
    """Executes one node of a pipeline's graph.

    Args:
        pipeline: that is executed.
        place: the node.
    """

    pipeline: Pipeline
    place: Place

    @property
    def _blueprint(self) -> Blueprint:
        return self.pipeline.blueprint

    async def __call__(self, run: Run) -> NodeOutcome:
        """See `perdure.workflow.graph.Handler`."""
        context = RunContext(run)
        before = self._before(run)
        if before.stages == 0:
            await self._begin(run, context)
        known = _AllVisits(run.visits, _own(context, VISITS))
        journey = Journey(
            self.pipeline,
            run,
            context,
            before.ended,
            before.stages + 1,
            visits=Visits(known),
            reopened_at=reopened_at(run.forgotten),
        )
        visit = run.visit + known.in_branches(self.place.id)
        outcome = await journey.perform(self.place, visit, self._way(before.edge))
        if journey.visits.counts:
            context.set_own(VISITS, known.with_more(journey.visits.counts))
        if self.place.type == EXIT:
            return self._exit(journey, before, outcome)
        return await self._go_on(journey, before, outcome)

    # --- the beginning ------------------------------------------------------------------------------------------------

    def _before(self, run: Run) -> Before:
        """From the recorded output of the stage before, or from the input that a restarted loop began with."""
        last = run.previous_node
        if last is None:
            told = run.input.get(RESTART)
            if told is None:
                return Before()
            return Before(None, told["stages"], told["failures"], None)
        output = run.outputs[last]
        ended = Ended(last, outcome_from(output))
        return Before(ended, output["stages"], output.get("failures", False), output.get("edge"))

    async def _begin(self, run: Run, context: RunContext) -> None:
        """The first stage of all initialises the context: what was handed in, and the graph's attributes."""

        @step(kind="read", name="look_around")
        async def look_around() -> dict[str, Any]:
            directory, simulated = self.pipeline.surroundings()
            return {"directory": directory, "simulated": simulated}

        context.set_own(RUN, await run.step(look_around))
        if self.pipeline.source is not None:
            run.put(self.pipeline.source, name=SOURCE, media_type="text/vnd.graphviz", kind="graphviz")
        context.update(dict(initial_context(self._blueprint.document, run.input)))

    def _way(self, edge: int | None) -> Way | None:
        if edge is None:
            return None
        found = self._blueprint.document.edges[edge]
        return next(way for way in self._blueprint.places[found.start].ways if way.edge is found)

    # --- the way on ---------------------------------------------------------------------------------------------------

    async def _go_on(self, journey: Journey, before: Before, outcome: Outcome) -> NodeOutcome:
        place, way = journey.next_place(self.place, outcome)
        if place is None:
            return self._stopped(outcome, journey.last)
        failures = before.failures or journey.failures
        refused = self._bounded(journey, place)
        if refused is not None:
            return refused
        if way is not None and way.settings.loop_restart:
            await self._restart(journey, way, failures)
        edge = None if way is None else self._blueprint.edge_places[id(way.edge)]
        return self._next(journey, outcome, place.id, failures, edge)

    def _next(self, journey: Journey, outcome: Outcome, target: str, failures: bool, edge: int | None) -> Next:
        told = {key: value for key, value in outcome.to_dict().items() if key not in ("outcome", "context_updates")}
        told["stages"] = journey.stages
        if failures:
            told["failures"] = True
        if edge is not None:
            told["edge"] = edge
        return Next(target, output=told)

    def _stopped(self, outcome: Outcome, last: LastExecution | None) -> Fail:
        """The run fails after this stage. What another execution of the stage need not come to says so."""
        name = self.place.id
        if outcome.status == "fail":
            reason = outcome.failure_reason or "no reason was given"
            message = f"stage {name!r} failed: {reason}"
            if last is None or not last.again:
                return Fail(message, code=STAGE_FAILED, details=_details(name, reason))
            details = _details(name, reason, **{ATTEMPT: last.attempt})
            return Stopped(message, code=STAGE_FAILED, details=details, origin=last.origin)
        return Fail(f"no eligible edge leaves stage {name!r}", code="no_eligible_edge", details=_details(name))

    def _bounded(self, journey: Journey, place: Place) -> Fail | None:
        """The bounds on loops, each with an error of its own."""
        limit = place.settings.max_visits
        if journey.visits.made(place.id) >= limit:
            message = f"stage {place.id!r} was visited {limit} times, which is its limit (max_visits)"
            return Fail(message, code="visit_limit", details=_details(place.id, limit=limit))
        most = self._blueprint.settings.max_steps
        if journey.stages >= most:
            message = f"the run has come to {most} stages, which is its limit (max_steps)"
            return Fail(message, code="step_limit", details=_details(place.id, limit=most))
        return None

    async def _restart(self, journey: Journey, way: Way, failures: bool) -> None:
        assert isinstance(journey.context, RunContext)
        journey.context.start_afresh()
        # A new generation counts its visits from the beginning.
        own = _own(journey.context, VISITS)
        made = {node: count + _count(own, node) for node, count in journey.run.visits.items()}
        journey.context.set_own(VISITS, {**own, **made})
        told = Restarted(at=way.target, stages=journey.stages, failures=failures)
        await journey.run.continue_as(**{RESTART: told})

    # --- the exit -----------------------------------------------------------------------------------------------------

    def _exit(self, journey: Journey, before: Before, outcome: Outcome) -> NodeOutcome:
        assert isinstance(journey.context, RunContext)
        gates = _own(journey.context, GATES)
        unsatisfied = next(
            (name for name in self._blueprint.gates if gates.get(name, "success") not in SATISFIED), None
        )
        if unsatisfied is not None:
            return self._sent_back(journey, before, unsatisfied, outcome)
        result: dict[str, Any] = {"status": "success", "completed_with_failures": before.failures}
        if _own(journey.context, RUN).get("simulated"):
            result["simulated"] = True
        return Done(result | {"context": journey.context.clone()})

    def _sent_back(self, journey: Journey, before: Before, gate: str, outcome: Outcome) -> NodeOutcome:
        blueprint, settings = self._blueprint, self._blueprint.places[gate].settings
        if any(error.get("code") == GATE_UNSATISFIED for error in journey.run.forgotten):
            # A retry of the run: it was at its end for the want of a target, and is sent back to the gate itself.
            refused = self._bounded(journey, blueprint.places[gate])
            return refused or self._next(journey, outcome, gate, before.failures, None)
        target = blueprint.target_of(
            settings.retry_target,
            settings.fallback_retry_target,
            blueprint.settings.retry_target,
            blueprint.settings.fallback_retry_target,
        )
        if target is None:
            message = f"goal gate {gate!r} is not satisfied, and there is no retry target"
            if blueprint.in_branch(gate):  # where nothing is entered from outside
                return Fail(message, code=GATE_UNSATISFIED, details=_details(gate))
            return Stopped(message, code=GATE_UNSATISFIED, details=_details(gate))
        redirects = _own(journey.context, REDIRECTS)
        count = int(str(redirects.get(gate, 0))) + 1
        limit = blueprint.settings.goal_gate_limit
        if count > limit:
            message = f"goal gate {gate!r} was not satisfied after {limit} redirects, which is the limit"
            return Fail(message, code="goal_gate_limit", details=_details(gate, limit=limit))
        refused = self._bounded(journey, blueprint.places[target])
        if refused is not None:
            return refused
        journey.context.set_own(REDIRECTS, {**redirects, gate: count})
        return self._next(journey, outcome, target, before.failures, None)


class _AllVisits(Mapping[str, int]):
    """How often nodes were visited so far, as nodes of the run, in branches, and before a loop restarted.

    Args:
        as_nodes: of this generation.
        own: the rest, as the run keeps it.
    """

    def __init__(self, as_nodes: Mapping[str, int], own: Context) -> None:
        self._as_nodes = as_nodes
        self._own = own

    def in_branches(self, node: str) -> int:
        """Those that the engine does not count."""
        return _count(self._own, node)

    def with_more(self, counts: Mapping[str, int]) -> Context:
        """What the run is to keep when so many have come to it."""
        return {**self._own, **{node: self.in_branches(node) + count for node, count in counts.items()}}

    def __getitem__(self, node: str) -> int:
        return self._as_nodes.get(node, 0) + self.in_branches(node)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._as_nodes, *self._own]))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _count(own: Context, node: str) -> int:
    count = own.get(node, 0)
    return count if isinstance(count, int) else 0


def initial_context(document: Document, submitted: Mapping[str, JSONValue]) -> Context:
    """What a run begins with: the context that was handed in, and the graph's attributes under `graph`.

    Raises:
        ContextKeyError: a key cannot be written.
    """
    graph: Context = {
        key: str(one.value) if isinstance(one.value, str) else one.value for key, one in document.attributes.items()
    }
    return {**nested(submitted), "graph": updated({}, graph)}


def _own(context: StageContext, key: str) -> Context:
    value = context.get_own(key)
    return value if isinstance(value, dict) else {}


def _details(node: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"node": node} | ({} if reason is None else {"failure_reason": reason}) | more
