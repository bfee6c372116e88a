"""Crash, EIO and ENOSPC at every sync, and at many a `pwrite`, of a short run, by strace's fault injection.

What a program was told of is in the journal afterwards, and the run ends as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure import Runtime

PROJECT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("disk_run.py")
SYNC = "fdatasync"
WRITE = "pwrite64"


def run(directory: Path, *strace: str) -> subprocess.CompletedProcess[str]:
    command = [*strace, sys.executable, str(PROGRAM), str(directory)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def calls_of(syscall: str, directory: Path) -> int:
    """How often an undisturbed run makes this call."""
    log = directory / "calls"
    done = run(directory, "strace", "-f", "-qq", "-o", str(log), "-e", f"trace={syscall}")
    assert done.stdout.strip() == "6", done.stderr
    return sum(f"{syscall}(" in line for line in log.read_text().splitlines())


def lines(file: Path) -> list[list[str]]:
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


async def journal(directory: Path) -> dict[int, str]:
    async with Runtime(f"sqlite:///{directory / 'runs.db'}", execute=False) as runtime:
        handle = runtime.run("r")
        await handle.verify()
        return {event.seq: hashlib.sha256(event.header).hexdigest() async for event in handle.events(follow=False)}


def disturbed(directory: Path, syscall: str, fault: str, number: int) -> str | None:
    """Run with a fault at one call, then to the end without; what is wrong afterwards, if anything."""
    place = directory / f"{fault.replace('=', '-')}-{number}"
    place.mkdir()
    injection = f"inject={syscall}:{fault}:when={number}"
    first = run(place, "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={syscall}", "-e", injection)
    told = lines(place / "told")
    last = run(place)
    if last.stdout.strip() != "6":
        return f"call {number}: it ended {last.stdout!r} {last.stderr[-300:]!r} after {first.stderr[-300:]!r}"
    found = asyncio.run(journal(place))
    lost = [seq for seq, header in told if found.get(int(seq)) != header]
    if lost:
        return f"call {number}: it was told of seq {', '.join(lost)}, which is not in the journal"
    keys: dict[str, set[str]] = {}
    for effect, key in lines(place / "effects"):
        keys.setdefault(effect, set()).add(key)
    if sorted(keys) != ["0", "1", "2", "3"] or any(len(found_keys) != 1 for found_keys in keys.values()):
        return f"call {number}: effects {keys}"
    shutil.rmtree(place)
    return None


def everywhere(directory: Path, syscall: str, fault: str, numbers: Sequence[int]) -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        problems = pool.map(lambda number: disturbed(directory, syscall, fault, number), numbers)
        return [problem for problem in problems if problem is not None]


@pytest.mark.time_limit(240)
@pytest.mark.parametrize("fault", ["error=EIO", "signal=SIGKILL"])
def test_a_fault_at_every_sync_loses_nothing_that_was_told(tmp_path: Path, fault: str) -> None:
    (tmp_path / "whole").mkdir()
    count = calls_of(SYNC, tmp_path / "whole")
    assert count >= 4
    assert everywhere(tmp_path, SYNC, fault, range(1, count + 1)) == []


@pytest.mark.time_limit(240)
@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=SIGKILL"])
def test_a_fault_at_a_write_loses_nothing_that_was_told(tmp_path: Path, fault: str) -> None:
    """Every seventh write, because each takes two processes."""
    (tmp_path / "whole").mkdir()
    count = calls_of(WRITE, tmp_path / "whole")
    assert count >= 10
    assert everywhere(tmp_path, WRITE, fault, range(1, count + 1, 7)) == []
