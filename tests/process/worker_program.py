"""A worker in a process of its own: `python -m tests.process.worker_program STORE LIMITS`.

LIMITS is JSON for `Limits`. It says `ready` when it executes runs, and `drained` when SIGTERM has ended it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

from perdure import Limits, Runtime
from tests.process import jobs


async def main(store: str, limits: str) -> None:
    begun = time.time()
    async with Runtime(store, workflows=jobs.ALL, limits=Limits(**json.loads(limits))) as runtime:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        async def drain() -> None:
            await runtime.drain()
            print("drained", flush=True)
            done.set()

        draining: list[asyncio.Task[None]] = []
        loop.add_signal_handler(signal.SIGTERM, lambda: draining.append(loop.create_task(drain())))
        print(f"ready {runtime.worker_id} {begun}", flush=True)
        await done.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
