"""Which edge is taken after a stage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from perdure.core.canonical import JSONValue
from perdure.pipeline.blueprint import Way
from perdure.pipeline.outcome import Outcome

_ACCELERATOR = re.compile(r"\[(?P<bracket>[^\]\s]+)\]\s*|(?P<paren>[^\s)])\)\s*|(?P<dash>\S) - ")


def choose_way(ways: Sequence[Way], outcome: Outcome, context: Mapping[str, JSONValue]) -> Way | None:
    """The edge that is taken; `None` if none is eligible.

    In this order: an edge whose condition holds, by weight, then target; an unconditional edge with the preferred
    label; an unconditional edge to a suggested node; any unconditional edge by weight, then target. An edge whose
    condition does not hold is never taken, nor one that a person was offered and did not choose.

    Args:
        ways: the edges that leave the stage.
        outcome: of the stage.
        context: after its updates.
    """
    if outcome.edge is not None:
        return next((way for way in ways if way.edge is outcome.edge), None)
    if outcome.offered:
        ways = [way for way in ways if not any(way.edge is edge for edge in outcome.offered)]
    held = [
        way
        for way in ways
        if way.condition is not None and way.condition.holds(context, outcome.status, outcome.preferred_label)
    ]
    if held:
        return _heaviest(held)
    free = [way for way in ways if way.condition is None]
    wanted = normalised(outcome.preferred_label)
    if wanted:
        labelled = next((way for way in free if normalised(way.settings.label) == wanted), None)
        if labelled is not None:
            return labelled
    for suggested in outcome.suggested_next_ids:
        found = next((way for way in free if way.target == suggested), None)
        if found is not None:
            return found
    return _heaviest(free) if free else None


def _heaviest(ways: Iterable[Way]) -> Way:
    return min(ways, key=lambda way: (-way.settings.weight, way.target))


def normalised(label: str) -> str:
    """A label as labels are compared: lower case, trimmed, without its accelerator."""
    text = label.strip()
    found = _ACCELERATOR.match(text)
    return (text[found.end() :] if found else text).strip().lower()


def accelerator_of(label: str) -> str | None:
    """The accelerator of a label as written: `Y` of `[Y] Yes`, `Y) Yes` and `Y - Yes`."""
    found = _ACCELERATOR.match(label.strip())
    return next((one for one in found.groups() if one), None) if found else None
