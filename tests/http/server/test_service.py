"""The service as a whole: it begins with every run known, and ends when told to."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx2

from perdure import Runtime
from perdure.server import KeyRing, Settings, serve
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import frames, served

GATE = """digraph Gate {
    start [shape=Mdiamond]; ask [shape=hexagon, prompt="Ship it?"]; done [shape=Msquare]
    start -> ask; ask -> done [label="[Y] Yes"]
}"""


async def test_a_pipeline_waits_over_a_restart_and_its_reader_goes_on(store_path: Path) -> None:
    async with served(SQLiteStore(store_path, durability="process")) as place:
        answer = await place.client.post("/pipelines", json={"dot": GATE})
        assert answer.status_code == 202
        path = f"/pipelines/{answer.json()['pipeline_id']}"
        await place.reaches(answer.json()["pipeline_id"], "waiting")
        async with place.client.stream("GET", f"{path}/events") as stream:
            reading = frames(stream)
            first = await anext(reading)
            place.service.stop()
            before = [first] + [one async for one in reading]
        await place.service.stopped()
    async with served(SQLiteStore(store_path, durability="process")) as place:
        [question] = (await place.client.get(f"{path}/questions")).json()["questions"]
        answer = await place.client.post(f"{path}/questions/{question['id']}/answer", json={"answer": "Y"})
        assert answer.status_code == 202
        async with place.client.stream(
            "GET", f"{path}/events", headers={"last-event-id": str(before[-1].id)}
        ) as stream:
            after = [one async for one in frames(stream)]
        found = [one.id for one in before + after if one.id is not None]
        assert found == list(range(1, len(found) + 1))
        assert after[-1].event == "PipelineCompleted"


async def test_an_answer_needs_no_more_than_its_scope() -> None:
    ring = KeyRing.fresh()
    bearer = {"authorization": f"Bearer {ring.add('person', ['questions:answer'])}"}
    async with served(keys=ring) as place:
        run_id = await place.start("ask")
        await place.reaches(run_id, "waiting")
        assert (await place.plain.post(f"/runs/{run_id}/cancel", headers=bearer)).status_code == 403
        answer = await place.plain.post(f"/runs/{run_id}/answer", json={"value": "yes"}, headers=bearer)
        assert answer.status_code == 202
        await place.reaches(run_id, "completed")


async def test_a_service_that_is_told_to_stop_ends_its_streams_and_lets_go() -> None:
    ring = KeyRing.fresh()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with Runtime(MemoryStore()) as runtime:
        serving = asyncio.ensure_future(serve(runtime, Settings(ring), port=0, ready=ready.set_result))
        url, _, token = (await ready).partition("/#token=")
        assert token == ring.token
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/readyz")).status_code == 200
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await serving
        [worker] = await runtime.store.workers()
        assert worker.draining
