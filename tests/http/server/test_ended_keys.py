"""Keys that are revoked, or expire, while an answer goes on: nothing more is told to whoever holds them."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from perdure.client import Client
from perdure.core.errors import NotAuthorisedError
from perdure.server import KeyRing
from perdure.server.admission import gate
from tests.http.server.served import Frame, Served, frames, served


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms


async def until_the_end(answer: httpx2.Response, seen: list[Frame], moved: asyncio.Event) -> None:
    async for frame in frames(answer):
        if frame.id is not None:
            seen.append(frame)
            moved.set()


async def number_of_ends(place: Served, path: str, token: str, end: str, clock: Clock, keys: KeyRing) -> None:
    """Follow a stream with a key, end the key, and see that what happens then is not told."""
    run_id = await place.start("count", numbers=3)
    await place.reaches(run_id, "waiting")
    seen: list[Frame] = []
    moved = asyncio.Event()
    headers = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
    async with (
        asyncio.timeout(20),
        place.plain.stream("GET", path.format(run_id=run_id), headers=headers) as answer,
    ):
        assert answer.status_code == 200
        reading = asyncio.ensure_future(until_the_end(answer, seen, moved))
        while not any(one.event == "wait.opened" for one in seen):
            moved.clear()
            await moved.wait()
        if end == "revoked":
            keys.revoke("reader")
        else:
            clock.ms += 3_600_001
        await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        await reading  # the answer ends as an answer does: it is not cut off
    assert [one.event for one in seen if one.event in ("signal.received", "run.completed")] == []


@pytest.mark.parametrize("end", ["revoked", "expired"])
@pytest.mark.parametrize("path", ["/runs/{run_id}/events", "/events"])
async def test_a_stream_ends_with_its_key(path: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "KEY_HOLDS_S", 0.0)
    clock = Clock()
    keys = KeyRing(now_ms=clock)
    admin = keys.add("admin", ["admin"])
    keys.token = admin
    token = keys.add("reader", ["runs:read"], expires_ms=clock.ms + 3_600_000)
    async with served(keys=keys) as place:
        await number_of_ends(place, path, token, end, clock, keys)


async def test_the_client_says_that_its_key_is_not_good_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "KEY_HOLDS_S", 0.0)
    keys = KeyRing.fresh()
    token = keys.add("reader", ["runs:read"])
    async with served(keys=keys) as place, Client(place.service.url, token=token) as client:
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        kinds: list[str] = []

        async def follow() -> None:
            async for event in client.events(run_id):
                kinds.append(event.kind)
                if event.kind == "wait.opened":
                    keys.revoke("reader")
                    await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})

        async with asyncio.timeout(20):
            with pytest.raises(NotAuthorisedError):
                await follow()
        assert "wait.opened" in kinds
        assert "run.completed" not in kinds


async def test_a_key_that_is_good_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "KEY_HOLDS_S", 0.0)
    keys = KeyRing.fresh()
    token = keys.add("reader", ["runs:read"])
    keys.add("other", ["runs:read"])
    async with served(keys=keys) as place, Client(place.service.url, token=token) as client:
        run_id = await place.start("listen")
        kinds: list[str] = []
        async with asyncio.timeout(20):
            async for event in client.events(run_id):
                kinds.append(event.kind)
                if event.kind == "wait.opened":
                    keys.revoke("other")
                    await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        assert kinds[-1] == "run.completed"
