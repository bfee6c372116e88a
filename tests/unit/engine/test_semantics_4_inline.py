"""Rules of section 4: where a synchronous step runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from perdure import Run, step, workflow
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import witnessed

pytestmark = pytest.mark.time_limit(20)


@pytest.mark.parametrize(
    ("kind", "options", "inline"),
    [
        ("pure", {}, True),
        ("pure", {"thread": True}, False),
        ("read", {}, False),
        ("idempotent", {}, False),
        ("once", {}, False),
    ],
)
async def test_4_a_synchronous_pure_step_runs_inline_unless_it_asks_for_a_thread(
    kind: Any, options: dict[str, Any], inline: bool
) -> None:
    """Any other one, which may block, never holds the event loop up."""

    @step(kind=kind, **options)
    def where() -> int:
        return threading.get_ident()

    @workflow
    async def main(run: Run) -> int:
        return await run.step(where)

    async with witnessed(MemoryStore(), main) as runtime:
        found = await (await runtime.start(main)).result()
    assert (found == threading.get_ident()) is inline
