"""`parallel`: every edge that leaves the node is a branch; they meet at their common fan-in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.core.canonical import JSONValue
from perdure.pipeline.branches import BranchEnd, travel, unfinished, worst_gates
from perdure.pipeline.context import find
from perdure.pipeline.journey import Journey
from perdure.pipeline.outcome import SATISFIED, Outcome, failure
from perdure.pipeline.run_context import CloneContext
from perdure.pipeline.stage import Stage
from perdure.pipeline.visits import Visits
from perdure.pipeline.winning import branch_won
from perdure.workflow.steps import step

RESULTS = "parallel.results"


class _Won(Exception):
    """Ends a fan-out that waits for the first success."""

    def __init__(self, ends: list[BranchEnd]) -> None:
        super().__init__("a branch has won")
        self.ends = ends


@dataclass(slots=True)
class _FanOut:
    """One execution of a fan-out.

    Attributes:
        ends: of the branches that have ended so far; of use only until they meet.
        won: set when the first success is there.
    """

    stage: Stage
    ends: list[BranchEnd]
    won: asyncio.Event = field(default_factory=asyncio.Event)

    async def branch(self, place: int) -> BranchEnd:
        """Execute a branch up to the fan-in."""
        outer = self.stage.journey
        region = outer.blueprint.region(self.stage.id)
        ways = self.stage.place.ways
        journey = Journey(
            outer.pipeline,
            outer.run,
            CloneContext(self.stage.context),
            outer.previous,
            outer.stages,
            visits=Visits(parent=outer.visits, shared=region.shared, place=place, of=len(ways)),
            gates={},
            inside=(*outer.inside, self.stage.id),
            region=region.inside,
        )
        end = await travel(journey, ways[place], outer.stages)
        self.ends[place] = end
        if self.stage.settings.join_policy == "first_success" and end.result["outcome"] in SATISFIED:
            self.won.set()
            raise _Won(await self._settled())
        return end

    async def _settled(self) -> list[BranchEnd]:
        """What the branches had come to when one won, as a fact: of the others it is not to be found again."""

        @step(kind="pure", name="settle_branches")
        async def settle_branches() -> list[BranchEnd]:
            return self.ends

        return await self.stage.run.step(settle_branches)


async def fan_out(stage: Stage) -> Outcome:
    """Execute all branches, each on a clone of the context, so many at a time."""
    ways = stage.place.ways
    if find(stage.context.view, RESULTS):
        stage.context.update({RESULTS: []})  # those of an earlier fan-out are nobody's any more
    work = _FanOut(stage, [unfinished(way) for way in ways])
    token = branch_won.set((*branch_won.get(), work.won))
    try:
        ends = await stage.run.map(
            work.branch,
            range(len(ways)),
            limit=stage.settings.max_parallel,
            key=f"{stage.id}.{stage.visit}.{stage.attempt}",
        )
    except _Won as won:
        ends = won.ends
    finally:
        branch_won.reset(token)
    _gathered(stage.journey, ends)
    return _joined(stage, [end.result for end in ends])


def _gathered(journey: Journey, ends: Sequence[BranchEnd]) -> None:
    """Put together what the branches counted."""
    journey.stages += sum(end.stages for end in ends)
    journey.failures = journey.failures or any(end.failures for end in ends)
    journey.note_gates(worst_gates(ends))
    for node in dict.fromkeys(node for end in ends for node in end.visits):
        used = max(end.visits.get(node, 0) for end in ends)
        journey.visits.counts[node] = journey.visits.counts.get(node, 0) + used


def _joined(stage: Stage, results: list[dict[str, Any]]) -> Outcome:
    succeeded = sum(one["outcome"] in SATISFIED for one in results)
    told: dict[str, JSONValue] = {RESULTS: list(results)}
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
