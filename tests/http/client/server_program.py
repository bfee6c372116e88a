"""A service in a process of its own, for tests that kill it: `server_program.py DATABASE PORT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from perdure import Runtime
from perdure.server import serve
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import WORKFLOWS


async def main(path: str, port: int) -> None:
    async with Runtime(SQLiteStore(Path(path)), workflows=WORKFLOWS) as runtime:
        await serve(runtime, port=port, ready=lambda url: print(url, flush=True))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
