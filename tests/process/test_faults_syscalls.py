"""Faults of the kernel's own: system calls of a short run that fail, or during which the process is killed.

strace injects them, so nothing of this process's knows: neither SQLite's file system layer nor Python. Calls are
counted by thread.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.process import short_run
from tests.process.workers import ROOT

pytestmark = pytest.mark.time_limit(120)

STRACE = ["strace", "-f", "--seccomp-bpf", "-qq"]
PARALLEL = 3


def program(directory: Path) -> list[str]:
    return [sys.executable, "-m", "tests.process.short_run", "execute", "full", str(directory)]


def counted(directory: Path, calls: tuple[str, ...]) -> dict[str, int]:
    """How often a thread makes each call at most, in a run without a fault."""
    trace = directory / "trace"
    command = [*STRACE, "-o", str(trace), "-e", f"trace={','.join(calls)}", *program(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    made: Counter[tuple[str, str]] = Counter()
    for line in trace.read_text().splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found:
            made[found[1], found[2]] += 1
    return {call: max((number for (_, name), number in made.items() if name == call), default=0) for call in calls}


async def executed(directory: Path, call: str, inject: str, nth: int) -> list[str]:
    """Execute the run with one fault in each thread that comes so far, then judge it."""
    directory.mkdir()
    what = f"{inject} in {call} number {nth}"
    fault = f"inject={call}:{inject}:when={nth}"
    process = await asyncio.create_subprocess_exec(
        *(*STRACE, "-o", "/dev/null", "-e", f"trace={call}", "-e", fault, *program(directory)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        told, complaint = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if inject.startswith("error") and told.split() != [b"6"]:
        return [f"{what}: it gave {told!r} and said {complaint[-500:]!r}"]
    return await short_run.judge(directory, lost=what)


async def all_of(directory: Path, call: str, inject: str, numbers: range) -> list[str]:
    """Run after run, a few at a time."""
    places = asyncio.Semaphore(PARALLEL)

    async def one(nth: int) -> list[str]:
        async with places:
            return await executed(directory / f"{call}-{nth}", call, inject, nth)

    return [wrong for found in await asyncio.gather(*map(one, numbers)) for wrong in found]


@pytest.mark.parametrize("inject", ["signal=SIGKILL", "error=EIO"])
async def test_a_crash_or_an_error_in_any_sync_loses_nothing_that_was_acknowledged(tmp_path: Path, inject: str) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for call, most in counted(whole, ("fdatasync", "fsync")).items():
        assert most >= 1
        assert await all_of(tmp_path, call, inject, range(1, most + 1)) == []


@pytest.mark.parametrize("inject", ["signal=SIGKILL", "error=EIO", "error=ENOSPC"])
async def test_a_crash_or_an_error_in_a_write_loses_nothing_that_was_acknowledged(tmp_path: Path, inject: str) -> None:
    """At every seventh write; the SQLite layer's own test meets every single one."""
    whole = tmp_path / "whole"
    whole.mkdir()
    most = counted(whole, ("pwrite64",))["pwrite64"]
    assert most > 20
    assert await all_of(tmp_path, "pwrite64", inject, range(1, most + 1, 7)) == []
