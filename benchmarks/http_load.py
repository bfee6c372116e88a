"""Load for the HTTP service from a process of its own: `python -m benchmarks.http_load JSON`.

A client library would cost more than the service that is measured, so this speaks HTTP/1.1 over plain sockets that are
kept alive: requests are bytes made beforehand, and of an answer only status and length are read. The result goes to
standard output as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RUN_ID = re.compile(rb'"(?:run_id|pipeline_id)":"([^"]+)"')
IDS = re.compile(rb"\nid: (\d+)\n")


def request(method: str, path: str, host: str, token: str | None, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}"]
    lines += [f"authorization: Bearer {token}"] if token else []
    lines += ["content-type: application/json", f"content-length: {len(body)}"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """Sends one request after the other over one connection, until there are none left."""

    def __init__(self, requests: Iterator[bytes], told: Told) -> None:
        self._requests = requests
        self._told = told
        self._buffer = b""
        self._wanted = 0
        self._began = 0.0
        self._transport: asyncio.Transport
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def begin(self) -> None:
        """Send the next request."""
        data = next(self._requests, None)
        if data is None:
            self._transport.close()
            self.ended.set_result(None)
            return
        self._began = time.perf_counter()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._wanted:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            length = LENGTH.search(self._buffer, 0, head + 2)
            if length is None:
                self.ended.set_exception(ValueError(f"an answer without a length: {self._buffer[:200]!r}"))
                return
            self._wanted = head + 4 + int(length[1])
        if len(self._buffer) >= self._wanted:
            self._told.add(self._buffer, time.perf_counter() - self._began)
            self._buffer, self._wanted = b"", 0
            self.begin()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the service closed the connection"))


class Told:
    """What the answers came to."""

    def __init__(self, *, keep_ids: bool) -> None:
        self.took_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.ids: list[str] = []
        self._keep_ids = keep_ids

    def add(self, answer: bytes, took_s: float) -> None:
        self.took_s.append(took_s)
        status = STATUS.match(answer)
        self.statuses[status[1].decode() if status else "?"] += 1
        if self._keep_ids and (found := RUN_ID.search(answer)):
            self.ids.append(found[1].decode())


async def send(
    address: tuple[str, int], requests: Sequence[bytes], *, count: int, connections: int, keep_ids: bool
) -> dict[str, Any]:
    """Send requests in turn over some connections, each of which sends its next when it has the answer to its last.

    Returns:
        Seconds in all, milliseconds of each request, statuses, and the ids that the answers named.
    """
    told = Told(keep_ids=keep_ids)
    queue = itertools.islice(itertools.cycle(requests), count)
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(lambda: Connection(queue, told), *address))[1] for _ in range(connections)]
    began = time.perf_counter()
    for one in made:
        one.begin()
    await asyncio.gather(*(one.ended for one in made))
    seconds = time.perf_counter() - began
    ms = sorted(took_s * 1e3 for took_s in told.took_s)
    return {"seconds": seconds, "ms": ms, "statuses": told.statuses, "ids": told.ids}


class Reader(asyncio.Protocol):
    """Reads one stream of events to its end, and checks that its ids follow each other.

    Args:
        request: what asks for the stream.
        marks: where the instant of each id is kept, if it is wanted.
    """

    def __init__(self, request: bytes, marks: dict[int, int] | None) -> None:
        self._request = request
        self._marks = marks
        self._rest = b"\n"
        self.last = 0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.opened.done():
            self.opened.set_result(None)
        text = self._rest + data
        place = 0
        for match in IDS.finditer(text):
            identity, place = int(match[1]), match.end() - 1
            if identity != self.last + 1 and not self.ended.done():
                self.ended.set_exception(ValueError(f"id {identity} after {self.last}"))
            self.last = identity
            if self._marks is not None:
                self._marks[identity] = now
        self._rest = text[max(place, len(text) - 24) :]  # an id may be cut in two
        if text.endswith(b"\r\n0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self.opened, self.ended):
            if not future.done():
                future.set_exception(error or ConnectionError(f"the stream was cut after id {self.last}"))


async def follow(address: tuple[str, int], requests: Sequence[bytes], *, timed: bool) -> dict[str, Any]:
    """Read streams side by side to their ends. One line on standard output says that all have begun.

    Returns:
        The last id of each, and of each, if wanted, the monotonic nanosecond at which each id came.
    """
    loop = asyncio.get_running_loop()
    readers: list[tuple[Reader, dict[int, int]]] = []
    for one in requests:
        marks: dict[int, int] = {}
        _, reader = await loop.create_connection(lambda: Reader(one, marks if timed else None), *address)  # noqa: B023
        readers.append((reader, marks))
    await asyncio.gather(*(reader.opened for reader, _ in readers))
    print("begun", flush=True)
    await asyncio.gather(*(reader.ended for reader, _ in readers))
    return {"last": [reader.last for reader, _ in readers], "marks": [marks for _, marks in readers if timed]}


def main(text: str) -> None:
    """Do what the JSON asks for."""
    asked = json.loads(text)
    address = (asked["host"], asked["port"])
    requests = [
        request(method, path, f"{asked['host']}:{asked['port']}", asked["token"], body.encode())
        for method, path, body in asked["requests"]
    ]
    if asked["what"] == "follow":
        told = asyncio.run(follow(address, requests, timed=asked["timed"]))
    else:
        keywords = {name: asked[name] for name in ("count", "connections", "keep_ids")}
        told = asyncio.run(send(address, requests, **keywords))
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.stdin.read() if len(sys.argv) == 1 else sys.argv[1])
