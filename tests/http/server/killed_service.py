"""`perdure serve` as a process that is killed and started again on the same listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

ROOT: Final = Path(__file__).parents[3]
PROGRAM: Final = Path(__file__).with_name("fire_workflows.py")
LIMIT_S: Final = 30.0

Address = tuple[str, int]


class KilledService:
    """A service over a store of its own. Whoever connects while it is down waits in the socket's queue, or is cut.

    Args:
        directory: of the store and the ledger.

    Attributes:
        path: of the store.
        kills: how often it was killed.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "runs.db"
        self._directory = directory
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._process: asyncio.subprocess.Process | None = None
        self.token = ""
        self.kills = 0

    def address(self) -> Address:
        """Where it is found."""
        found: Address = self._socket.getsockname()
        return found

    async def __aenter__(self) -> KilledService:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(signal.SIGKILL)
        self._socket.close()

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "perdure", "serve", str(PROGRAM), "--fd", str(self._socket.fileno())]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            *("--store", f"sqlite:///{self.path}", "--durability", "process", "--json"),
            cwd=ROOT,
            env={**os.environ, "PERDURE_TEST_DIRECTORY": str(self._directory)},
            pass_fds=[self._socket.fileno()],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "it did not begin"
        self.token = json.loads(line)["url"].partition("/#token=")[2]

    async def kill(self) -> None:
        """`kill -9`, and start it again."""
        await self._end(signal.SIGKILL)
        self.kills += 1
        await self.start()

    async def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        assert await self._end(signal.SIGTERM) == 0

    async def _end(self, number: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return await asyncio.wait_for(process.wait(), LIMIT_S)


class Caller:
    """One connection that is kept alive; a request that meets a cut line is sent again until it is answered.

    Args:
        service: that is asked.
    """

    def __init__(self, service: KilledService) -> None:
        self._service = service
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.resent = 0

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request; the status and the JSON of its answer."""
        while True:
            try:
                return await self._once(method, path, body, headers)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.resent += 1
                self.close()

    async def get(self, path: str) -> Any:
        """What stands at a path."""
        status, found = await self("GET", path)
        assert status == 200, found
        return found

    def close(self) -> None:
        """End the connection."""
        line, self._line = self._line, None
        if line is not None:
            line[1].close()

    async def _once(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        if self._line is None:
            self._line = await asyncio.open_connection(*self._service.address())
        reader, writer = self._line
        data = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {self._service.token}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"content-length: {len(data)}", *(["content-type: application/json"] if data else [])]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("\r\ncontent-length: ")[2].partition("\r\n")[0])
        answer = await reader.readexactly(length)
        if "\r\nconnection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), orjson.loads(answer)


class Reached:
    """Counts, and lets whoever waits for a number of them go on."""

    def __init__(self) -> None:
        self.count = 0
        self._over = False
        self._waiting: dict[int, asyncio.Event] = {}

    def one_more(self, *_: Any) -> None:
        """Count one."""
        self.count += 1
        event = self._waiting.pop(self.count, None)
        if event is not None:
            event.set()

    def over(self) -> None:
        """No more come: nobody is to wait any longer."""
        self._over = True
        for event in self._waiting.values():
            event.set()

    async def at(self, number: int, *readers: asyncio.Task[Any]) -> None:
        """Wait until so many have come; raises at once what one of those who bring them met."""
        if self.count >= number or self._over:
            return
        here = asyncio.ensure_future(self._waiting.setdefault(number, asyncio.Event()).wait())
        try:
            while not here.done():
                at_work = {one for one in readers if not one.done()}
                await asyncio.wait({here, *at_work}, return_when=asyncio.FIRST_COMPLETED)
                for one in at_work:
                    if one.done():
                        one.result()
        finally:
            here.cancel()
