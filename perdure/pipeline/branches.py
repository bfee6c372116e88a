"""One branch of a fan-out: a strand of stages on a clone of the context, up to the fan-in.

What a branch comes to depends on nothing but its own facts, so that it is the same when it is executed again: what it
counts is its own, and is put together where the branches meet, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from perdure.pipeline.blueprint import Place, Way
from perdure.pipeline.context import find
from perdure.pipeline.handler_types import EXIT, FAN_IN
from perdure.pipeline.journey import Journey
from perdure.pipeline.outcome import SATISFIED, Outcome, failure
from perdure.pipeline.stage_events import STAGE_ENDED, STAGE_ENTERED

LONGEST_OUTPUT: Final = 16_384
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BranchEnd:
    """What a branch came to.

    Attributes:
        result: for `parallel.results`.
        stages: how many stages it began.
        visits: by node, how many numbers of visits it used up.
        gates: what goal gates in it came to last.
        failures: a failure was passed over in it.
    """

    result: Result
    stages: int = 0
    visits: dict[str, int] = field(default_factory=dict)
    gates: dict[str, str] = field(default_factory=dict)
    failures: bool = False


def unfinished(way: Way) -> BranchEnd:
    """What a branch came to that was not heard of before another one won."""
    return BranchEnd({"id": way.target, "outcome": "skipped", "output": "", "context_updates": {}, "score": 0})


async def travel(journey: Journey, way: Way, began: int) -> BranchEnd:
    """Execute a branch.

    Args:
        journey: of the branch, on a clone of the context.
        way: the edge of the fan-out that leads into it.
        began: how many stages of the run were begun before.
    """
    outcome = await _outcome(journey, way)
    score = find(journey.context.view, "score")
    result = {
        "id": way.target,
        "outcome": outcome.status,
        "output": outcome.output[:LONGEST_OUTPUT],
        "context_updates": {
            key: value
            for key, value in journey.context.written.items()
            if key != "parallel" and not key.startswith("parallel.")  # of a fan-out inside: it would nest without end
        },
        "score": score if isinstance(score, int | float) and not isinstance(score, bool) else 0,
    }
    visits = {node: journey.visits.taken(node) for node in journey.visits.counts}
    return BranchEnd(result, journey.stages - began, visits, dict(journey.gates or {}), journey.failures)


async def _outcome(journey: Journey, first: Way) -> Outcome:
    """That of the last stage, or why the branch could not go on."""
    place: Place | None = journey.blueprint.places[first.target]
    way: Way | None = first
    outcome = Outcome()
    inner_join: str | None = None  # of a fan-out inside of the branch: its own fan-in is a stage like any other
    while place is not None and (place.type != FAN_IN or place.id == inner_join):
        refused = _refused(journey, place)
        if refused is not None:
            return refused
        journey.stages += 1
        outcome = await _performed(journey, place, way)
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


async def _performed(journey: Journey, place: Place, way: Way | None) -> Outcome:
    """Execute a stage; that it began and ended is told by events, since it is no node of the run's graph."""
    visit = journey.visits.enter(place.id)
    journey.run.emit(STAGE_ENTERED, {"node": place.id, "visit": visit}, level="minimal")
    outcome = await journey.perform(place, visit, way)
    told = {"node": place.id, "visit": visit, "status": outcome.status}
    if outcome.failure_reason:
        told["failure_reason"] = outcome.failure_reason
    journey.run.emit(STAGE_ENDED, told, level="minimal")
    return outcome


def _refused(journey: Journey, place: Place) -> Outcome | None:
    """Why a stage may not be entered, if it may not."""
    if place.id in journey.inside:
        return failure(f"the branch leads back into {place.id!r}, the fan-out that it belongs to")
    if journey.visits.made(place.id) >= place.settings.max_visits:
        return failure(f"visit_limit: stage {place.id!r} was visited {place.settings.max_visits} times")
    if journey.stages >= journey.blueprint.settings.max_steps:
        return failure(f"step_limit: the run has come to {journey.blueprint.settings.max_steps} stages")
    return None


def worst_gates(ends: Sequence[BranchEnd]) -> dict[str, str]:
    """What the goal gates in branches came to; where several branches went through one, the one that failed counts."""
    found: dict[str, str] = {}
    for end in ends:
        for node, status in end.gates.items():
            if found.get(node, "success") in SATISFIED:
                found[node] = status
    return found
