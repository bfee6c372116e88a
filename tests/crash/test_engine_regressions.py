"""Faults of the engine that this room's tools have found, each with the smallest test that shows it."""

from __future__ import annotations

from perdure import Run, Runtime, workflow
from perdure.testing import VirtualClock


@workflow
async def asking_child(run: Run) -> str:
    answer: str = await run.ask("Which way?", choices=["left", "right"])
    return answer


@workflow
async def waiting_parent(run: Run) -> str:
    child = await run.spawn(asking_child)
    await run.wait_for("go")
    return await child.result()


async def test_an_answer_reaches_a_child_whose_parent_waits_for_it() -> None:
    """The parent's interest in the child took the place of the child's own."""
    clock = VirtualClock()
    async with Runtime("memory://", workflows=[waiting_parent, asking_child], clock=clock) as runtime:
        parent = await runtime.start(waiting_parent)
        await clock.settle()
        await parent.signal("go")
        await clock.settle()
        (question,) = await runtime.questions()
        await runtime.answer(question.run_id, "left")
        assert await clock.until(parent.result(), at_most="1s") == "left"
