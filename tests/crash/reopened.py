"""Retries a pipeline that failed, in a process that dies at a commit: `reopened.py DATABASE MOMENT NUMBER`."""

from __future__ import annotations

import asyncio
import sys

from perdure import Runtime
from perdure.pipeline.definition import Pipeline
from perdure.store.sqlite import SQLiteStore
from perdure.testing.crash.points import CrashingStore, CrashPoint

RUN_ID = "r1"

declined = Pipeline.parse(
    """digraph declined { start; exit;
       a [shape=parallelogram, effect=once, tool_command="echo x >> a"];
       b [shape=parallelogram, effect=once, max_retries=1, tool_command="echo x >> b; test -e mended"];
       c [shape=parallelogram, effect=once, tool_command="echo x >> c"];
       start -> a -> b; b -> c [condition="outcome=success"]; c -> exit }"""
)


async def main(database: str, moment: str, number: str) -> None:
    """Retry the run, and see it to its end, if this process lives that long."""
    store = CrashingStore(SQLiteStore(database), CrashPoint.parse(f"commit:{moment}:{number}"))
    async with Runtime(store, workflows=[declined]) as runtime:
        handle = runtime.run(RUN_ID)
        await handle.retry(command_id="again")
        await handle.result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
