"""A server with the routes of `/pipelines` alone, on a real socket, and a client of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from perdure import Runtime
from perdure.server.pipelines import Library, PipelineSettings, router

GATE = """digraph Gate {
    graph [goal="ship"]
    start [shape=Mdiamond]
    ask [shape=hexagon, prompt="Ship it?"]
    done [shape=Msquare]
    again [prompt="Do it again"]
    start -> ask
    ask -> done [label="[Y] Yes"]
    ask -> again [label="[N] No"]
    again -> ask
}"""
PLAIN = (
    """digraph Plain { start [shape=Mdiamond]; work [prompt="Work"]; done [shape=Msquare]; start -> work -> done }"""
)


class Service:
    """What a test speaks to."""

    def __init__(self, client: httpx2.AsyncClient, library: Library) -> None:
        self.client = client
        self.library = library
        self.runtime = library.runtime

    async def get(self, path: str, **options: Any) -> httpx2.Response:
        return await self.client.get(path, **options)

    async def post(self, path: str, body: Any = None) -> httpx2.Response:
        return await self.client.post(path, json={} if body is None else body)

    async def start(self, dot: str, **members: Any) -> str:
        response = await self.post("/pipelines", {"dot": dot, **members})
        assert response.status_code == 202, response.text
        pipeline_id: str = response.json()["pipeline_id"]
        return pipeline_id

    async def events(self, pipeline_id: str, **params: Any) -> list[dict[str, Any]]:
        response = await self.get(f"/pipelines/{pipeline_id}/events", params={"stream": "false", **params})
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["events"]
        return found

    async def until(self, pipeline_id: str, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Follow the stream until it has brought so many records of a type."""
        found: list[dict[str, Any]] = []
        async for record in self.stream(pipeline_id):
            found.append(record)
            if sum(one["type"] == kind for one in found) >= count:
                break
        return found

    async def stream(self, pipeline_id: str, **headers: str) -> AsyncIterator[dict[str, Any]]:
        async with self.client.stream("GET", f"/pipelines/{pipeline_id}/events", headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    async def question(self, pipeline_id: str) -> dict[str, Any]:
        """The question that a run asks, once it asks one."""
        await self.until(pipeline_id, "InterviewStarted")
        questions = (await self.get(f"/pipelines/{pipeline_id}/questions")).json()["questions"]
        assert len(questions) == 1
        found: dict[str, Any] = questions[0]
        return found

    async def ended(self, pipeline_id: str) -> dict[str, Any]:
        """The summary of a run, once it has ended."""
        async for _ in self.stream(pipeline_id):
            pass
        found: dict[str, Any] = (await self.get(f"/pipelines/{pipeline_id}")).json()
        return found


@asynccontextmanager
async def served(
    store: str = "memory://",
    settings: PipelineSettings | None = None,
    *,
    execute: bool = True,
    heartbeat_s: float = 15.0,
) -> AsyncIterator[Service]:
    """The routes over a runtime of their own, until the block is left."""
    app = FastAPI()
    app.include_router(router)
    app.state.heartbeat_s = heartbeat_s
    async with Runtime(store, execute=execute) as runtime:
        app.state.runtime = runtime
        library = app.state.pipeline_library = Library(runtime, settings or PipelineSettings())
        assert await library.know_unfinished() == {}
        config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        socket = config.bind_socket()
        serving = asyncio.ensure_future(server.serve(sockets=[socket]))
        url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        try:
            async with httpx2.AsyncClient(base_url=url, timeout=20) as client:
                yield Service(client, library)
        finally:
            server.should_exit = True
            await serving
