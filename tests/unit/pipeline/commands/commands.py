"""Real commands for the tests, and what to see of the processes that they begin."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path
from typing import Any

from perdure.pipeline.commands import Command, CommandResult, allowed_environment, run_command

GONE_MS = 10_000


def command(folder: Path, **fields: Any) -> Command:
    """A command in a folder, with what this process's environment allows."""
    return Command(cwd=folder, **{"environ": allowed_environment(os.environ, {}), **fields})


async def run(folder: Path, *, grace_s: float = 0.5, **fields: Any) -> CommandResult:
    """Run it."""
    return await run_command(command(folder, **fields), grace_s=grace_s)


def ends(process_id: int) -> bool:
    """Is the process gone, or gone within some seconds? One that is dead and not reaped yet is gone."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(GONE_MS))
    finally:
        os.close(descriptor)


def is_gone(process_id: int) -> bool:
    """Is the process gone now, or dead and not reaped yet?"""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"


async def line_of(fifo: Path) -> str:
    """What somebody writes into a FIFO, as soon as it is written."""
    return (await asyncio.to_thread(fifo.read_text)).strip()


def open_descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Processes that this process has begun and not reaped, whatever their thread."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(one) for one in (task / "children").read_text().split()}
    return found
