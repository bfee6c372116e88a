"""`stack.manager_loop`: starts a child pipeline, watches it, and steers it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from perdure.core.canonical import JSONValue
from perdure.core.errors import ChildFailed, WaitTimeout
from perdure.engine.children import ChildHandle
from perdure.engine.failures import origin_of
from perdure.pipeline.conditions import Condition, parse_condition
from perdure.pipeline.outcome import Outcome, failure
from perdure.pipeline.stage import Stage
from perdure.pipeline.stopped import latest_call

CHILD = "stack.child"
STEER = "steer"


async def supervise(stage: Stage) -> Outcome:
    """Observe, steer and wait, until the stop condition holds, the child ends, or the cycles are used up."""
    if not stage.settings.child_autostart:
        return failure("stack.child_autostart is false, and there is no other way to start the child", retryable=False)
    children = stage.pipeline.children
    if not children:
        return failure("the graph names no child pipeline (stack.child_dotfile)", retryable=False)
    child: ChildHandle[Any] = await stage.run.spawn(children[0])
    stage.context.update({f"{CHILD}.run_id": child.id, f"{CHILD}.status": "running"})
    stop = parse_condition(stage.settings.stop_condition) if stage.settings.stop_condition else None
    try:
        for _ in range(stage.settings.max_cycles):
            ended = await _cycle(stage, child)
            if ended is not None:
                return ended
            if stop is not None and _holds(stage, stop):
                return Outcome(notes=f"stopped watching: {stage.settings.stop_condition}")
    except asyncio.CancelledError:  # another branch has won: what this one began is of no use any more
        await asyncio.shield(child.cancel("its branch was cancelled"))
        raise
    await child.cancel(f"not ended after {stage.settings.max_cycles} cycles")
    late = failure(f"the child has not ended after {stage.settings.max_cycles} cycles", retryable=False)
    return replace(late, origin=latest_call())


async def _cycle(stage: Stage, child: ChildHandle[Any]) -> Outcome | None:
    """One cycle; the outcome of the stage if the child has ended in it."""
    settings = stage.settings
    if "steer" in settings.actions:
        await child.signal(STEER, settings.prompt_or_label)
    try:
        output = await child.result(timeout=settings.poll_interval_s if "wait" in settings.actions else 0)
    except WaitTimeout:
        if "observe" in settings.actions:
            await _observe(stage, child)
        return None
    except ChildFailed as error:
        return replace(_ended(stage, "fail", error.details or {}, error.message), origin=origin_of(error))
    return _ended(stage, "success", {"status": "completed", "output": output}, "")


async def _observe(stage: Stage, child: ChildHandle[Any]) -> None:
    seen = await child.status()
    outcome = seen.state.get("outcome")
    stage.context.update(
        {
            f"{CHILD}.status": seen.status,
            f"{CHILD}.outcome": outcome if isinstance(outcome, str) else "",
            f"{CHILD}.current_node": seen.node or "",
        }
    )


def _ended(stage: Stage, outcome: str, details: dict[str, Any], reason: str) -> Outcome:
    updates: dict[str, JSONValue] = {f"{CHILD}.status": str(details.get("status", "")), f"{CHILD}.outcome": outcome}
    if outcome == "fail":
        return failure(reason, retryable=False).with_updates(updates)
    return Outcome(context_updates=updates, notes="the child has ended")


def _holds(stage: Stage, stop: Condition) -> bool:
    before = stage.previous.outcome if stage.previous is not None else Outcome()
    return stop.holds(stage.context.view, before.status, before.preferred_label)
