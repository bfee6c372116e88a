"""A short run in a process of its own, for faults of the disk: what it did and was told goes into plain files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from perdure import PerdureError, Run, Runtime, current_step, step, workflow
from perdure.store.sqlite.store import SQLiteStore

DIRECTORY = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
STEPS = 4


def tell(file: str, line: str) -> None:
    """Append a line that survives this process."""
    descriptor = os.open(DIRECTORY / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


@step(kind="idempotent")
async def effect(number: int) -> int:
    tell("effects", f"{number} {current_step().idempotency_key}")
    return number


@workflow
async def short(run: Run) -> int:
    total = 0
    for number in range(STEPS):
        total += await run.step(effect, number)
    return total


async def main() -> int:
    async with Runtime(SQLiteStore(DIRECTORY / "runs.db"), workflows=[short]) as runtime:
        handle = await runtime.start(short, id="r")
        async for event in handle.events():
            tell("told", f"{event.seq} {hashlib.sha256(event.header).hexdigest()}")
        return await handle.result()


if __name__ == "__main__":
    try:
        print(asyncio.run(asyncio.wait_for(main(), 30)))
    except PerdureError as error:
        print(f"refused: {error.code}", file=sys.stderr)
        sys.exit(3)
