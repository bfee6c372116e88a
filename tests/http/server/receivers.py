"""A receiver of webhooks: a real server on a socket of its own that verifies what it is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from perdure.core.webhooks import ID, verify
from tests.http.model.scripted_endpoint import Asked, read_request

OK = "204 No Content"


@dataclass
class Got:
    """A message that came.

    Attributes:
        id: as it was verified, where a secret is known.
        at_s: by a clock that never goes back.
    """

    id: str
    body: dict[str, Any]
    asked: Asked
    at_s: float

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def run_id(self) -> str:
        return str(self.body["data"]["run_id"])


@dataclass
class Receiver:
    """A running receiver.

    Attributes:
        says: gives the status line, with headers behind it, for each message; `None` gives none
            until it is told to.
        secrets: with which messages are verified.
    """

    port: int
    says: Callable[[Got], str | None]
    secrets: list[str] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    refused: list[Exception] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def has(self, enough: Callable[[Sequence[Got]], bool]) -> list[Got]:
        """Wait until enough came."""
        async with asyncio.timeout(20):
            while not enough(self.got):
                self.moved.clear()
                await self.moved.wait()
        assert self.refused == []
        return self.got

    async def has_got(self, count: int) -> list[Got]:
        """Wait until so many came."""
        return await self.has(lambda got: len(got) >= count)

    def answer_those_who_wait(self) -> None:
        """Accept the messages that were given no answer."""
        self.released.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # the sender may leave at any time
                while True:
                    await self._take(await read_request(reader), writer)
        finally:
            writer.close()

    async def _take(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        identity = asked.headers[ID]
        if self.secrets:
            try:
                identity = verify(asked.headers, asked.body, *self.secrets, now_s=time.time())
            except Exception as error:
                self.refused.append(error)
        got = Got(identity, orjson.loads(asked.body), asked, time.monotonic())
        self.got.append(got)
        self.moved.set()
        said = self.says(got)
        if said is None:
            await self.released.wait()
            said = OK
        writer.write(f"HTTP/1.1 {said}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()


@asynccontextmanager
async def receiver(
    says: Callable[[Got], str | None] = lambda _: OK, *, port: int = 0, secrets: Sequence[str] = ()
) -> AsyncIterator[Receiver]:
    """A receiver that says this to each message."""
    place = Receiver(port, says, list(secrets))
    open_lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_lines[task] = writer
        try:
            await place.serve(reader, writer)
        finally:
            del open_lines[task]

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    place.port = server.sockets[0].getsockname()[1]
    try:
        yield place
    finally:
        server.close()
        for writer in open_lines.values():
            writer.transport.abort()
        place.released.set()
        await asyncio.gather(*open_lines)


async def hook(client: Any, place: Receiver, **given: Any) -> str:
    """Make an endpoint for a receiver over HTTP, and give its id; from now on the receiver verifies."""
    answer = await client.post("/webhooks", json={"url": place.url} | given)
    assert answer.status_code == 201, answer.text
    place.secrets.append(answer.json()["secret"])
    return str(answer.json()["id"])
