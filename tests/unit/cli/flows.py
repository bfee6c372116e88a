"""Workflows that the tests of the command line run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perdure import Done, Flow, Next, Run, step, workflow


@step(kind="read")
async def look(n: int) -> int:
    """Look."""
    return n


@step(kind="pure")
def blob() -> str:
    """A value that becomes an artifact."""
    return "x" * 100_000


@step(kind="once")
async def pay() -> str:
    """Pay; the line goes dead."""
    raise ConnectionError("the line went dead")


@step(kind="read", retries=0)
async def check() -> str:
    """Fail until there is a file."""
    if not Path("go").exists():
        raise ValueError("no good")
    return "good"


@workflow
async def who(run: Run) -> str:
    """Ask one question."""
    return str(await run.ask("Who?"))


@workflow
async def two(run: Run) -> list[Any]:
    """Ask two questions at once."""
    return await run.gather(
        run.ask("Colours?", choices=["red", "green", "-blue"], kind="multiple"), run.ask("Sure?", kind="confirm")
    )


@workflow
async def rich(run: Run) -> int:
    """A little of everything."""
    run.state["colour"] = "red"
    run.put(b"hello", name="greeting.txt", media_type="text/plain")
    run.state["colour"] = "green"
    await run.step(blob)
    run.emit("noted", {"a": 1})
    await run.sleep("10ms")
    return len(await run.map(look, [1, 2]))


@workflow
async def payer(run: Run) -> str:
    """End in doubt."""
    return await run.step(pay)


@workflow
async def checked(run: Run) -> str:
    """Fail."""
    await run.step(look, 1)
    return await run.step(check)


@workflow
async def order(run: Run) -> Any:
    """Wait for a signal."""
    return await run.wait_for("paid", match="o1", timeout="3d", default=0)


@workflow
async def parent(run: Run) -> str:
    """Wait for a child that waits."""
    child = await run.spawn(who)
    return await child.result()


review = Flow("review")


@review.node
async def draft(run: Run) -> Next:
    """One round."""
    run.state["round"] = run.state.get("round", 0) + 1
    await run.step(look, run.state["round"])
    return Next("judge")


@review.node
async def judge(run: Run) -> Next | Done:
    """Another round, or the end."""
    return Next("draft") if run.state["round"] < 2 else Done(run.state["round"])
