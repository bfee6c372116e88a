"""The shop after a deploy: it looks at the weather first, which is nothing that anybody need know of."""

from __future__ import annotations

from typing import Any

from perdure import Run, step, workflow
from tests.crash.planted import charge, prepare, ship


@step(kind="pure")
def look_outside() -> str:
    weather = "fine"
    return weather


@workflow
async def shop(run: Run, order: str) -> list[Any]:
    run.state["order"] = order
    await run.step(look_outside)
    prepared = await run.step(prepare, order)
    receipt = await run.step(charge, prepared)
    return [receipt, await run.step(ship, prepared), dict(run.state)]
