"""What stands between a client and a service, in tests: a line that can be cut, and servers that behave badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

CUT: Final = b"cut"
"""Instead of an answer: the connection is closed."""
SILENT: Final = b"silent"
"""Instead of an answer: nothing, for ever."""


class Line:
    """A relay of bytes to a service, which cuts its connections when it is told to.

    Attributes:
        cuts: asked before each piece of an answer is passed on, with the bytes that the connection passed so far;
            `True` cuts it there. It is also asked with 0 when an answer begins.
        requests: the first lines of what was asked for.
        open: how many connections there are.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts: Callable[[int], bool] = lambda passed: False
        self.requests: list[str] = []
        self.open = 0
        self.closed = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        self.open += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        forward = asyncio.ensure_future(self._forward(reader, back))
        backward = asyncio.ensure_future(self._backward(there, writer))
        try:
            await asyncio.wait((forward, backward), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (forward, backward):
                task.cancel()
            await asyncio.gather(forward, backward, return_exceptions=True)
            for one in (writer, back):
                one.transport.abort()
            self.open -= 1
            self.closed.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            first = data.partition(b"\r\n")[0].decode()
            if first.endswith("HTTP/1.1"):
                self.requests.append(first.removesuffix(" HTTP/1.1"))
            writer.write(data)
            await writer.drain()

    async def _backward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(512):
            if self.cuts(passed):
                return
            passed += len(data)
            writer.write(data)
            await writer.drain()

    async def at_most(self, number: int) -> None:
        """Wait until there are no more connections than these."""
        while self.open > number:
            self.closed.clear()
            await self.closed.wait()


@asynccontextmanager
async def line_to(port: int) -> AsyncIterator[Line]:
    """A line to a port of this machine."""
    line = Line(port)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()


@dataclass
class Heard:
    """A request."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return orjson.loads(self.body)


@dataclass
class Stranger:
    """A server that answers what it was told to, one answer a request, each on a connection of its own.

    Attributes:
        answers: what is left; the last one stays.
        heard: the requests.
        times: when they came, by the loop's clock.
        was_asked: set once the first one was answered.
    """

    answers: list[bytes]
    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            method, target, _ = first.split()
            self.heard.append(Heard(method, target, headers, body))
            self.times.append(asyncio.get_running_loop().time())
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer == SILENT:
                await reader.read()
            elif answer != CUT:
                writer.write(answer)
                await writer.drain()
            self.was_asked.set()
        writer.close()


def answer(status: int, body: Any = None, **headers: str) -> bytes:
    """An HTTP answer with JSON, or with bytes as they are."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    told = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items() if value)
    return f"HTTP/1.1 {status} Told\r\n{lines}\r\n".encode() + content


def stream(*frames: bytes) -> bytes:
    """An HTTP answer with a stream that ends behind these bytes."""
    return answer(200, b"".join(frames), content_type="text/event-stream")


@asynccontextmanager
async def stranger(*answers: bytes) -> AsyncIterator[Stranger]:
    """A server of a test's own."""
    one = Stranger(list(answers))
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()
