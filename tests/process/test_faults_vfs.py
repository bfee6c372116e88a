"""A crash, an IO error or a full disk at every write, sync and truncation of a short run.

Every step that was acknowledged survives, nothing is done twice that must not be, and the run goes on after.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.core.events import Event
from tests.process import short_run
from tests.process.nth_fault import FAULTS, NthFault
from tests.process.workers import ROOT

PARALLEL = 3
STRIDE = {"torn": 2, "error_after": 2}
"""The rarer ones meet every second operation: what they do to one write they do to the next."""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where syncs cost nothing, if there is such a place: what a sync means is the power cut's test."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="perdure-faults-") as place:
        yield Path(place)


async def runs(directory: Path, fault: str, start: int, stride: int) -> dict[str, Any]:
    """One process that executes the run again and again, with faults at `start`, `start + stride`, …."""
    place = directory / str(start)
    place.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.process.nth_fault", str(place), fault, str(start), str(stride)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    report: dict[str, Any] = json.loads(told)
    return report


@pytest.mark.time_limit(150)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_at_every_operation_loses_nothing_that_was_acknowledged(directory: Path, fault: str) -> None:
    stride = STRIDE.get(fault, 1)
    reports = await asyncio.gather(
        *(runs(directory, fault, 1 + stride * number, stride * PARALLEL) for number in range(PARALLEL))
    )
    assert [wrong for report in reports for wrong in report["wrong"]] == []
    operations = reports[0]["operations"]
    assert operations > 60
    met = sum(report["met"] for report in reports)
    assert met >= operations / stride - 30  # a thread more or less moves the end of the run by a few operations


# --- the judge --------------------------------------------------------------------------------------------------------


def event(seq: int, kind: str, salt: bytes = b"s") -> Event:
    return Event("r", seq, kind, 0, None, None, None, "a", 0, b"", salt, b"{}")


def test_the_judge_misses_what_was_seen_and_is_gone() -> None:
    events = {1: event(1, "run.started"), 2: event(2, "node.entered")}
    seen = [["1", "run.started", "73"], ["2", "node.entered", "73"]]
    assert short_run.missing(seen, events) == []
    assert len(short_run.missing([*seen, ["3", "step.completed", "73"]], events)) == 1
    assert len(short_run.missing([["2", "node.entered", "74"]], events)) == 1
    assert len(short_run.missing([["signalled"]], events)) == 1


@pytest.mark.parametrize("effects", [[0, 1, 2, 1, 3], [0, 1, 1, 2, 3], [0, 1, 2], [0, 0, 1, 0, 2, 3]])
def test_the_judge_sees_effects_that_were_forgotten_or_done_twice(effects: list[int]) -> None:
    assert short_run.done_twice([0, 0, 1, 2, 2, 3], 2) == []
    assert short_run.done_twice(effects, 2) != []


async def test_a_run_without_a_fault_is_judged_sound_and_its_operations_are_counted(directory: Path) -> None:
    vfs = NthFault("error", 0)
    assert await short_run.execute(directory, vfs=NthFault.NAME) == 6
    assert await short_run.judge(directory) == []
    assert vfs.count > 100
    vfs.unregister()
