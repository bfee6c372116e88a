"""What a model is told of what happened before its stage, as much as the fidelity allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from perdure.core.canonical import JSONValue
from perdure.pipeline.conditions import text_of
from perdure.pipeline.stage import Stage

CHARACTERS: Final[Mapping[str, int]] = {
    "truncate": 200,
    "compact": 1200,
    "summary:low": 2400,
    "summary:medium": 6000,
    "summary:high": 12000,
}
"""How long the text is at most, by fidelity; about four characters a token."""
_LINE: Final = 200


def preamble_of(stage: Stage, fidelity: str) -> str:
    """The goal, the stages that ended, latest first, and the context, until the room is used up.

    Args:
        stage: that asks the model.
        fidelity: one of `CHARACTERS`.
    """
    room = CHARACTERS[fidelity]
    lines = _goal(stage) if fidelity == "truncate" else _lines(stage)
    told: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        told.append(line)
    return "\n".join(told)


def _goal(stage: Stage) -> Iterator[str]:
    goal = stage.blueprint.settings.goal
    if goal:
        yield f"Goal: {_short(goal)}"


def _lines(stage: Stage) -> Iterator[str]:
    yield from _goal(stage)
    ended = [
        f"- {node}: {status}" + (f" ({_short(notes)})" if notes else "")
        for node, status, notes in stage.journey.history()
    ]
    if ended:
        yield "Stages that ended, latest first:"
        yield from ended
    values = sorted(name for name in stage.context.view if name not in _TOLD_ELSEWHERE)
    if values:
        yield "Context:"
        yield from (f"- {name}: {_short(text_of(_value(stage, name)))}" for name in values)


_TOLD_ELSEWHERE: Final = frozenset(("graph", "outcome", "preferred_label"))


def _value(stage: Stage, name: str) -> JSONValue:
    return stage.context.view[name]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LINE else f"{line[: _LINE - 1]}…"
