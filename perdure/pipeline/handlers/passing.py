"""`start`, `exit` and `conditional`: stages that do nothing themselves."""

from __future__ import annotations

from dataclasses import replace

from perdure.pipeline.outcome import Outcome
from perdure.pipeline.stage import Stage


async def succeed(stage: Stage) -> Outcome:
    """`start` and `exit`."""
    return Outcome()


async def pass_through(stage: Stage) -> Outcome:
    """`conditional`: the outcome of the stage before it, for the edges to decide on."""
    if stage.previous is None:
        return Outcome()
    return replace(stage.previous.outcome, context_updates={}, edge=None, offered=(), origin=None, decided=True)
