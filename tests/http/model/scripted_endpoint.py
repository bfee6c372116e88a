"""A model endpoint of the test's own: a real HTTP server on a real socket that answers by a script.

Each connection brings one request and takes the next answer of the script, the last one again when it is used up. An
answer is what goes over the wire, byte for byte, in the pieces that the test wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson


@dataclass
class Answer:
    """What goes over the wire for one request.

    Attributes:
        pieces: written one by one; each is sent before the next.
        cut: end the connection with a reset instead of a clean close.
        hold: after the last piece the connection stays open until the client leaves.
    """

    pieces: Sequence[bytes]
    cut: bool = False
    hold: bool = False


@dataclass
class Asked:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Endpoint:
    """A running server."""

    url: str
    script: list[Answer]
    asked: list[Asked] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the client leaves early, as some tests want
                await self._answer(reader, writer)
        finally:
            self.left.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await read_request(reader))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        for piece in answer.pieces:
            writer.write(piece)
            await writer.drain()
        if answer.hold:
            self.held.set()
            await reader.read()
        if answer.cut:
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in rest)}
    return Asked(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


@asynccontextmanager
async def endpoint(*script: Answer) -> AsyncIterator[Endpoint]:
    """A server that answers by this script."""
    place = Endpoint("", list(script))
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    place.url = f"http://{host}:{port}/v1"
    async with server:
        yield place


# --- answers ----------------------------------------------------------------------------------------------------------


def answer(
    status: int,
    body: bytes | str | dict[str, Any],
    *,
    headers: dict[str, str] | None = None,
    media_type: str | None = "application/json",
    length: int | None = None,
    **more: Any,
) -> Answer:
    """A whole answer; `length` lies about its length."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else orjson.dumps(body)
    lines = {"Content-Length": str(len(data) if length is None else length), "Connection": "close", **(headers or {})}
    if media_type is not None:
        lines["Content-Type"] = media_type
    return Answer([head(status, lines), data], **more)


def head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked", "Connection": "close"}
END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streamed(data: bytes, *, size: int | None = None, end: bool = True, **more: Any) -> Answer:
    """A stream of these bytes, in HTTP chunks of `size` bytes; without its end if it is to be cut off."""
    step = size or max(1, len(data))
    pieces = [chunked(data[at : at + step]) for at in range(0, len(data), step)]
    return Answer([head(200, STREAM), *pieces, *([END] if end else [])], **more)


def events(*data: dict[str, Any] | str, line_end: str = "\n") -> bytes:
    """Server-sent events with these data."""
    texts = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in data]
    return "".join(f"data: {text}{line_end}{line_end}" for text in texts).encode()


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def completion(text: str, **more: Any) -> dict[str, Any]:
    """The JSON of a whole reply."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"object": "chat.completion", "model": "served-1", "choices": [choice], "usage": USAGE} | more


def chunks(pieces: Iterable[str], *, finish: str | None = "stop", usage: bool = True) -> list[dict[str, Any]]:
    """The JSON of each chunk of a streamed reply."""
    found = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    if finish is not None:
        found.append(chunk({}, finish))
    if usage:
        found.append({"model": "served-1", "choices": [], "usage": USAGE})
    return found


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """The JSON of one chunk."""
    return {"model": "served-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None}
