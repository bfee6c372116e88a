"""A service in a process of its own, as tests hold it: started, killed and started again at the same address."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]


class Killable:
    """A service over one database.

    Attributes:
        url: the start-up URL, with the token; the same after each start.
        port: where it listens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: Process | None = None
        self.url = ""
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port: int = one.getsockname()[1]

    async def start(self) -> None:
        """Start it, and wait until it serves."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.http.client.server_program", self._path, str(self.port), cwd=ROOT, stdout=PIPE
        )
        assert self._process.stdout is not None
        self.url = (await self._process.stdout.readline()).decode().strip()
        assert self.url.startswith("http://"), "it did not start"

    async def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Let it end (SIGTERM)."""
        assert self._process is not None
        self._process.terminate()
        await self._process.wait()


@asynccontextmanager
async def killable(path: Path) -> AsyncIterator[Killable]:
    """A service that serves."""
    service = Killable(path)
    await service.start()
    try:
        yield service
    finally:
        await service.kill()
