"""A workflow that does what its input says, and the world outside that counts what was done to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from perdure import Backoff, Run, StepFailed, step, workflow

Op = list[Any]
"""What to do: its name, and a number for some."""

DONE: Counter[tuple[str, str]] = Counter()
"""How often the world was changed or looked at, by run and place in its script."""
GATES: dict[tuple[str, str], asyncio.Event] = {}
"""What a step waits for that does not come back by itself."""


class Doubtful(Exception):
    """The other side does not say whether it was done."""


def happened(run_id: str, place: str) -> int:
    DONE[run_id, place] += 1
    return DONE[run_id, place]


@step(kind="pure")
def compute(run_id: str, place: str) -> str:
    happened(run_id, place)
    return place


@step(kind="idempotent")
async def charge(run_id: str, place: str) -> str:
    happened(run_id, place)
    return place


@step(kind="once")
async def post(run_id: str, place: str) -> str:
    happened(run_id, place)
    return place


@step(kind="once")
async def lose(run_id: str, place: str) -> str:
    happened(run_id, place)
    raise Doubtful("no answer")


@step(kind="idempotent", retries=2, backoff=Backoff(initial_s=10, factor=1, jitter=0))
async def stutter(run_id: str, place: str, times: int) -> str:
    if happened(run_id, place) <= times:
        raise ConnectionError("busy")
    return place


@step(kind="read")
def stumble(run_id: str, place: str, times: int) -> str:
    if happened(run_id, place) <= times:
        raise FileNotFoundError("not there")
    return place


@step(kind="idempotent")
async def hang(run_id: str, place: str) -> str:
    happened(run_id, place)
    await GATES.setdefault((run_id, place), asyncio.Event()).wait()
    return place


@step(kind="once")
async def hold(run_id: str, place: str) -> str:
    happened(run_id, place)
    await GATES.setdefault((run_id, place), asyncio.Event()).wait()
    return place


STEPS: dict[str, Any] = {
    "compute": compute,
    "charge": charge,
    "post": post,
    "lose": lose,
    "stumble": stumble,
    "hang": hang,
    "hold": hold,
}


@workflow
async def script(run: Run, ops: list[Op]) -> list[Any]:
    results: list[Any] = []
    for number, (name, *numbers) in enumerate(ops):
        results.append(await perform(run, name, f"{number}-{name}", *numbers))
    return [results, dict(run.state)]


async def perform(run: Run, name: str, place: str, *numbers: int) -> Any:
    if name in STEPS:
        return await run.step(STEPS[name], run.id, place, *numbers)
    if name == "stutter":
        try:
            return await run.step(stutter, run.id, place, *numbers)
        except StepFailed:
            return "gave up"
    if name == "ask":
        return await run.ask(place, choices=["a", "b"], timeout=numbers[0] or None, default="b")
    if name == "signal":
        return await run.wait_for("news", timeout=numbers[0] or None, default="none")
    if name == "sleep":
        return await run.sleep(numbers[0])
    if name == "write":
        run.state["written"] = run.state.get("written", 0) + 1
        return run.state["written"]
    raise AssertionError(name)
