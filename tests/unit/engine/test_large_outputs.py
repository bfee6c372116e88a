"""A node's output that is large is an artifact in the journal, and what it was to the code of other nodes."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Done, Flow, Next, Run
from tests.unit.engine.staging import events_of, memory, running

pytestmark = pytest.mark.time_limit(20)

LARGE = "x" * 100_000


async def test_the_next_node_reads_a_large_output_as_it_was_given() -> None:
    flow = Flow("large")

    @flow.node(to=["second"])
    async def first(run: Run) -> Next:
        return Next("second", output={"text": LARGE, "$own": 1})

    @flow.node
    async def second(run: Run) -> Done:
        return Done({"length": len(run.outputs["first"]["text"]), "again": run.outputs["first"]})

    async with running(memory(), flow) as runtime:
        handle = await runtime.start(flow)
        given: Any = {"text": LARGE, "$own": 1}
        assert await handle.result() == {"length": len(LARGE), "again": given}
        found = await events_of(handle, "node.completed", "run.completed")
    outputs = [one.data["output"] for one in found if one.data and one.data.get("output")]
    assert [list(one) for one in outputs] == [["$artifact"], ["$artifact"]]
