"""A service of the test's own: a real socket, and a client that speaks to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from perdure import Run, Runtime, step, workflow
from perdure.server import KeyRing, Service, Settings
from perdure.store.memory import MemoryStore
from perdure.store.port import Store

JSON = {"content-type": "application/json"}


@workflow
async def add(run: Run, a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


@workflow
async def ask(run: Run, text: str = "Publish?") -> str:
    """Asks a person."""
    return str(await run.ask(text, choices=["yes", "no"]))


@workflow
async def listen(run: Run) -> Any:
    """Waits for a signal, and says what it carried."""
    return await run.wait_for("go")


@workflow
async def count(run: Run, numbers: int) -> int:
    """Emits events of its own, then waits for a signal."""
    for number in range(numbers):
        run.emit("number.seen", {"number": number})
    await run.wait_for("go")
    return numbers


@workflow
async def keep(run: Run, text: str) -> str:
    """Keeps an artifact."""
    return run.put(text.encode(), name="note.txt", media_type="text/plain").sha256


class Refused(Exception):
    """What `fails` raises."""


@step(kind="pure")
def breaks() -> None:
    raise Refused("it is broken")


@workflow
async def fails(run: Run) -> None:
    """Fails."""
    await run.step(breaks)


WORKFLOWS = (add, ask, listen, count, keep, fails)


@dataclass
class Served:
    """A running service.

    Attributes:
        client: sends the token of the first key.
        plain: sends no token.
    """

    runtime: Runtime
    service: Service
    keys: KeyRing | None
    client: httpx2.AsyncClient
    plain: httpx2.AsyncClient

    async def start(self, workflow: str, **given: Any) -> str:
        """Start a run over HTTP, and give its id."""
        answer = await self.client.post("/runs", json={"workflow": workflow, "input": given})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["run_id"])

    async def reaches(self, run_id: str, status: str) -> None:
        """Wait until the run has a status."""
        async with asyncio.timeout(20):
            with self.runtime.hub.watch(run_id) as grown:
                while await self.runtime.run(run_id).status() != status:
                    await grown.wait()
                    grown.clear()

    async def raw(self, data: bytes) -> bytes:
        """Send bytes as they are, and give all that comes back."""
        reader, writer = await asyncio.open_connection(self.service.host, self.service.port)
        writer.write(data)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@asynccontextmanager
async def served(
    store: Store | None = None,
    *,
    workflows: Sequence[Any] = WORKFLOWS,
    keys: KeyRing | None = None,
    open_to_all: bool = False,
    **settings: Any,
) -> AsyncIterator[Served]:
    """A service over a store, with one token unless it is open to all."""
    ring = None if open_to_all else keys or KeyRing.fresh()
    bearer = {"authorization": f"Bearer {ring.token}"} if ring is not None else {}
    async with (
        Runtime(store or MemoryStore(), workflows=workflows) as runtime,
        Service(runtime, Settings(ring, **settings)) as service,
        httpx2.AsyncClient(base_url=service.url, headers=bearer, timeout=30) as client,
        httpx2.AsyncClient(base_url=service.url, timeout=30) as plain,
    ):
        yield Served(runtime, service, ring, client, plain)


@dataclass
class Frame:
    """A frame of a stream; a comment has no id, and neither has what a step tells while it runs."""

    id: int | None
    event: str
    data: Any


async def frames(answer: httpx2.Response) -> AsyncIterator[Frame]:
    """The frames of a stream, as a strict reader sees them."""
    lines: list[str] = []
    async for line in answer.aiter_lines():
        if line:
            lines.append(line)
            continue
        if lines[0].startswith(":"):
            assert len(lines) == 1
            yield Frame(None, "", None)
        else:
            names = [one.partition(": ")[0] for one in lines]
            if names == ["event", "data"] and lines[0] == "event: token":
                yield Frame(None, "token", orjson.loads(lines[1].partition(": ")[2]))
                lines = []
                continue
            assert names == ["id", "event", "data"], lines
            identity, event, data = (one.partition(": ")[2] for one in lines)
            yield Frame(int(identity), event, orjson.loads(data))
        lines = []
    assert not lines, f"cut in the middle of a frame: {lines}"
