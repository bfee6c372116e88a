"""`parallel`: every edge that leaves the node is a branch; they meet at their common fan-in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from perdure.core.canonical import JSONValue
from perdure.engine.run import Run
from perdure.pipeline.blueprint import Place, Way
from perdure.pipeline.context import find
from perdure.pipeline.handler_types import EXIT, FAN_IN
from perdure.pipeline.journey import Journey
from perdure.pipeline.outcome import SATISFIED, Outcome, failure
from perdure.pipeline.run_context import CloneContext
from perdure.pipeline.stage import Stage
from perdure.pipeline.stage_events import STAGE_ENDED, STAGE_ENTERED
from perdure.pipeline.winning import branch_won
from perdure.workflow.steps import step

VISITS: Final = "visits"
"""How often the nodes of branches were visited, before the fan-out that is executed now."""
LONGEST_OUTPUT: Final = 16_384
Result = dict[str, Any]


class _Won(Exception):
    """Ends a fan-out that waits for the first success."""

    def __init__(self, came_to: CameTo) -> None:
        super().__init__("a branch has won")
        self.came_to = came_to


@dataclass(slots=True)
class CameTo:
    """What the branches came to.

    Attributes:
        results: of each branch, in the order of the file.
        visits: by node, how often the branches visited it, earlier fan-outs included.
        gates: what goal gates in branches came to.
        stages: how many stages the branches began.
    """

    results: list[Result]
    visits: dict[str, int] = field(default_factory=dict)
    gates: dict[str, str] = field(default_factory=dict)
    stages: int = 0


@dataclass(slots=True)
class _FanOut:
    """One execution of a fan-out; what it counts is of use only until the branches meet."""

    stage: Stage
    ways: tuple[Way, ...]
    before: dict[str, Any]
    came_to: CameTo
    won: asyncio.Event = field(default_factory=asyncio.Event)

    async def branch(self, place: int) -> Result:
        """Execute a branch up to the fan-in."""
        branch = _Branch(self, CloneContext(self.stage.context))
        result = await branch.result(self.ways[place])
        self.came_to.results[place] = result
        if self.stage.settings.join_policy == "first_success" and result["outcome"] in SATISFIED:
            self.won.set()
            raise _Won(await self._settled(self.stage.run))
        return result

    async def _settled(self, run: Run) -> CameTo:
        """What the branches had come to when one won, as a fact: of the others it is not to be found again."""

        @step(kind="pure", name="settle_branches")
        async def settle_branches() -> CameTo:
            return self.came_to

        return await run.step(settle_branches)


async def fan_out(stage: Stage) -> Outcome:
    """Execute all branches, each on a clone of the context, so many at a time."""
    ways = stage.place.ways
    before = stage.context.get_own(VISITS)
    came_to = CameTo([_unfinished(way) for way in ways])
    work = _FanOut(stage, ways, before if isinstance(before, dict) else {}, came_to)
    token = branch_won.set((*branch_won.get(), work.won))
    try:
        await stage.run.map(
            work.branch, range(len(ways)), limit=stage.settings.max_parallel, key=f"branches#{stage.attempt}"
        )
    except _Won as won:
        came_to = won.came_to
    finally:
        branch_won.reset(token)
    stage.journey.stages += came_to.stages
    if came_to.gates:
        stage.journey.note_gates(came_to.gates)
    if came_to.visits:
        stage.context.set_own(VISITS, {**work.before, **came_to.visits})
    return _joined(stage, came_to.results)


def _joined(stage: Stage, results: list[Result]) -> Outcome:
    succeeded = sum(one["outcome"] in SATISFIED for one in results)
    told: dict[str, JSONValue] = {"parallel.results": list(results)}
    settings = stage.settings
    if settings.join_policy == "first_success":
        reached, reason = succeeded > 0, "no branch succeeded"
    elif settings.join_policy == "k_of_n":
        quorum = settings.quorum or len(results)
        reached, reason = succeeded >= quorum, f"{succeeded} branches succeeded, of a quorum of {quorum}"
    else:
        reached, reason = True, ""
    if not reached:
        return failure(reason).with_updates(told)
    partly = settings.join_policy == "wait_all" and any(one["outcome"] == "fail" for one in results)
    return Outcome("partial_success" if partly else "success", context_updates=told)


def _unfinished(way: Way) -> Result:
    return {"id": way.target, "outcome": "skipped", "output": "", "context_updates": {}, "score": 0}


@dataclass(slots=True)
class _Branch:
    """A strand of stages from an edge of the fan-out to the fan-in."""

    fan_out: _FanOut
    context: CloneContext
    own_visits: dict[str, int] = field(default_factory=dict)

    async def result(self, way: Way) -> Result:
        outer = self.fan_out.stage
        journey = Journey(outer.pipeline, outer.run, self.context, outer.journey.previous, outer.journey.stages)
        outcome = await self._travelled(journey, way)
        self.fan_out.came_to.stages += journey.stages - outer.journey.stages
        score = find(self.context.view, "score")
        return {
            "id": way.target,
            "outcome": outcome.status,
            "output": outcome.output[:LONGEST_OUTPUT],
            "context_updates": dict(self.context.written),
            "score": score if isinstance(score, int | float) and not isinstance(score, bool) else 0,
        }

    async def _travelled(self, journey: Journey, first: Way) -> Outcome:
        """The outcome of the branch: that of its last stage, or why it could not go on."""
        place: Place | None = journey.blueprint.places[first.target]
        way: Way | None = first
        outcome = Outcome()
        inner_join: str | None = None  # of a fan-out inside of the branch: its own fan-in is a stage like any other
        while place is not None and (place.type != FAN_IN or place.id == inner_join):
            refused = self._bounded(journey, place)
            if refused is not None:
                return refused
            journey.stages += 1
            outcome = await self._performed(journey, place, way)
            if place.settings.goal_gate:
                self.fan_out.came_to.gates[place.id] = outcome.status
            if place.type == EXIT:
                return outcome
            last = place
            inner_join = last.join
            place, way = journey.next_place(last, outcome)
            if place is None and outcome.status != "fail":
                return failure(f"no eligible edge leaves stage {last.id!r}")
            if way is not None and way.settings.loop_restart:
                return failure(f"the edge {last.id} -> {way.target} restarts the run, which a branch cannot do")
        return outcome

    async def _performed(self, journey: Journey, place: Place, way: Way | None) -> Outcome:
        """Execute a stage; that it began and ended is told by events, since it is no node of the run's graph."""
        visit = self._visit(place.id)
        journey.run.emit(STAGE_ENTERED, {"node": place.id, "visit": visit}, level="minimal")
        outcome = await journey.perform(place, visit, way)
        told = {"node": place.id, "visit": visit, "status": outcome.status}
        journey.run.emit(STAGE_ENDED, told, level="minimal")
        return outcome

    def _visit(self, node: str) -> int:
        self.own_visits[node] = self.own_visits.get(node, 0) + 1
        visits, before = self.fan_out.came_to.visits, int(self.fan_out.before.get(node, 0))
        visit = before + self.own_visits[node]
        visits[node] = max(visits.get(node, 0), visit)
        return visit

    def _bounded(self, journey: Journey, place: Place) -> Outcome | None:
        if self.own_visits.get(place.id, 0) >= place.settings.max_visits:
            return failure(f"visit_limit: stage {place.id!r} was visited {place.settings.max_visits} times in a branch")
        if journey.stages >= journey.blueprint.settings.max_steps:
            return failure(f"step_limit: the run has come to {journey.blueprint.settings.max_steps} stages")
        return None
