"""What a stage costs in the journal, the first one and the ten-thousandth."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import Runtime
from perdure.core.events import Event
from tests.unit.engine.staging import journal, memory, on_disk
from tests.unit.pipeline.execution.stories import ending, pipeline

VISITS = 10_000


def size_of(event: Event) -> int:
    """Of what is kept of it, in bytes."""
    return len(event.header) + len(event.payload or b"")


@pytest.mark.time_limit(180)
@pytest.mark.clause("overhead-flat")
async def test_the_ten_thousandth_visit_writes_as_much_as_the_hundredth() -> None:
    body = "start -> a; a -> a [weight=1]; a -> exit"
    made = pipeline(body, graph=f"max_steps={VISITS * 2}; max_visits={VISITS};")
    async with Runtime(memory(), workflows=[made]) as runtime:
        end = await ending(await runtime.start(made))
    assert end.code == "visit_limit"
    of_visit: dict[str, list[Event]] = {}
    for event in end.events:
        of_visit.setdefault(str(event.node), []).append(event)
    early, late = of_visit["a#100"], of_visit[f"a#{VISITS - 1}"]
    assert [event.kind for event in late] == [event.kind for event in early]
    # Longer numbers are all that a later visit may add.
    assert sum(map(size_of, late)) - sum(map(size_of, early)) <= 10 * len(late)


@pytest.mark.clause("overhead-small")
async def test_two_hundred_stages_take_less_than_a_megabyte(store_path: Path) -> None:
    stages = " -> ".join(f"s{number}" for number in range(200))
    made = pipeline(f"start -> {stages} -> exit")
    store = on_disk(store_path)
    async with Runtime(store, workflows=[made]) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle)).output is not None
        assert sum(map(size_of, await journal(handle))) < 1_000_000
    files = [path for path in store_path.parent.iterdir() if path.name in (store_path.name, f"{store_path.name}-wal")]
    assert sum(path.stat().st_size for path in files) < 1_000_000
