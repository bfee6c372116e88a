"""A strict reader of event streams, over plain sockets: it checks every byte of what it is sent, and comes again with
the last id that it saw whenever the line is cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

CUT: Final = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)
"""How it looks to a reader that the line was cut."""
NUMBERS: Final = ("seq", "sequence", "position")
KINDS: Final = ("kind", "type")

Address = tuple[str, int]


@dataclass(frozen=True)
class Streamed:
    """An event as the stream told it."""

    id: int
    event: str
    data: dict[str, Any]


class EventReader:
    """Follows one stream.

    Args:
        address: where the service is found; asked for anew each time the reader connects.
        path: of the stream.
        token: that is sent.
        number: the member of an event that its id must equal: `seq`, `sequence` or `position`.
        after: the last id that is taken as seen already.
        chunk_bytes: how much is read at once; the socket's own buffer is as small, if the system allows it.
        pace: awaited before each read.
        seen: called with each event.

    Attributes:
        found: the events, in order.
        connections: how often it has connected.
    """

    def __init__(
        self,
        address: Callable[[], Address],
        path: str,
        token: str,
        number: str,
        *,
        after: int = 0,
        chunk_bytes: int = 1 << 16,
        pace: Callable[[], Awaitable[None]] | None = None,
        seen: Callable[[Streamed], None] = lambda _: None,
    ) -> None:
        assert number in NUMBERS
        self._address = address
        self._path = path
        self._token = token
        self._number = number
        self._chunk_bytes = chunk_bytes
        self._pace = pace
        self._seen = seen
        self.last = after
        self.found: list[Streamed] = []
        self.connections = 0

    @property
    def ids(self) -> list[int]:
        """The ids of the events, in order."""
        return [one.id for one in self.found]

    async def to_end(self) -> list[Streamed]:
        """Read until the service says that nothing more comes; over as many connections as it takes."""
        while True:
            try:
                await self._once()
            except CUT:
                await asyncio.sleep(0)
            else:
                return self.found

    async def _once(self) -> None:
        """One connection, from the request to the end of the answer."""
        reader, writer = await self._connected()
        try:
            self.connections += 1
            writer.write(self._request())
            await self._head(reader)
            await self._body(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = socket.socket()
        connection.setblocking(False)
        if self._chunk_bytes < 1 << 16:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._chunk_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(connection, self._address())
        except BaseException:
            connection.close()
            raise
        return await asyncio.open_connection(sock=connection, limit=max(self._chunk_bytes, 4096))

    def _request(self) -> bytes:
        host, port = self._address()
        lines = [f"GET {self._path} HTTP/1.1", f"host: {host}:{port}", f"authorization: Bearer {self._token}"]
        lines += ["accept: text/event-stream", *([f"last-event-id: {self.last}"] if self.last else [])]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _head(self, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        assert head.startswith("http/1.1 200 "), head
        assert "\r\ncontent-type: text/event-stream" in head, head
        assert "\r\ntransfer-encoding: chunked" in head, head

    async def _body(self, reader: asyncio.StreamReader) -> None:
        """The chunks, to the one that says that there are no more."""
        rest = b""
        while True:
            size = int((await reader.readuntil(b"\r\n")).rstrip(), 16)
            left = size + 2
            while left:
                if self._pace is not None:
                    await self._pace()
                part = await reader.read(min(left, self._chunk_bytes))
                if not part:
                    raise ConnectionResetError("cut within a chunk")
                left -= len(part)
                rest += part[: len(part) + min(0, left - 2)] if left < 2 else part
                *frames, rest = rest.split(b"\n\n")
                for frame in frames:
                    self._frame(frame.decode())
            if not size:
                assert rest == b"", f"it ends in the middle of a frame: {rest!r}"
                return

    def _frame(self, text: str) -> None:
        lines = text.split("\n")
        if lines[0].startswith(":"):
            assert len(lines) == 1, text
            return
        fields = [line.partition(": ") for line in lines]
        assert [name for name, _, _ in fields] == ["id", "event", "data"], text
        identity, event, data = fields[0][2], fields[1][2], orjson.loads(fields[2][2])
        assert identity == str(self.last + 1), f"id {identity} after {self.last}"
        assert data[self._number] == int(identity), text
        assert event in [data.get(name) for name in KINDS], text
        self.last += 1
        one = Streamed(self.last, event, data)
        self.found.append(one)
        self._seen(one)
