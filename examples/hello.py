"""The smallest durable workflow: two steps, each with its kind.

    perdure run examples/hello.py --input name=Ada

A `read` step looks at the outside world, a `pure` step only computes. Both are recorded: whatever happens to the
process, a step whose result is recorded is never done again.
"""

from __future__ import annotations

import platform

from perdure import Run, step, workflow


@step(kind="read")
def machine() -> str:
    """The name of this machine's system."""
    return platform.system()


@step(kind="pure")
def greeting(name: str, system: str, hour: int) -> str:
    """The words."""
    time_of_day = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    return f"Good {time_of_day}, {name}. This is Perdure on {system}."


@workflow
async def hello(run: Run, name: str = "world") -> str:
    """Greet somebody."""
    system = await run.step(machine)
    hour = run.now().hour  # the clock is a recorded fact, too: a replay sees the same time
    return await run.step(greeting, name, system, hour)
