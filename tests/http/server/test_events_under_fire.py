"""Streams of events under fire: a killed service, cut lines, slow readers, many readers. Each stream is read by the
strict reader of `event_reader`, over all three families of streams, and must in the end equal the journal."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.journal.chain import check
from perdure.store.sqlite import SQLiteStore
from tests.http.server.event_reader import Address, EventReader, Streamed
from tests.http.server.killed_service import Caller, KilledService, Reached
from tests.http.server.served import Served, served

BURSTS, EVENTS = 4, 60
STAGES = 40
PIPELINE = (
    "digraph fire { start [shape=Mdiamond] exit [shape=Msquare] "
    + " ".join(f'n{number} [prompt="Do"]' for number in range(STAGES))
    + " -> ".join(["start", *(f"n{number}" for number in range(STAGES)), "exit"])
    + " }"
)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.time_limit(90)
async def test_streams_go_on_over_kills_of_the_service(tmp_path: Path) -> None:
    async with KilledService(tmp_path) as service:
        call, seen = Caller(service), Reached()
        runs = [await started(call, "chatter", bursts=BURSTS, events=EVENTS) for _ in range(3)]
        pipelines: list[str] = []
        feed = EventReader(service.address, "/events", service.token, "position")
        follow_feed = asyncio.ensure_future(feed.to_end())
        readers = [
            EventReader(service.address, f"/runs/{run_id}/events", service.token, "seq", seen=seen.one_more)
            for run_id in runs * 2
        ]
        follow = [asyncio.ensure_future(one.to_end()) for one in readers]
        for burst in range(BURSTS):
            _, told = await call("POST", "/pipelines", {"dot": PIPELINE, "opts": {"pipeline_id": f"fire-{burst}"}})
            pipelines.append(f"fire-{burst}")
            assert told in ({"pipeline_id": pipelines[-1]}, {"error": "pipeline id already exists"})
            one = EventReader(service.address, f"/pipelines/fire-{burst}/events", service.token, "sequence")
            readers.append(one)
            follow.append(asyncio.ensure_future(one.to_end()))
            now = seen.count
            for run_id in runs:
                signal = {"name": "go", "sender_id": f"go-{burst}"}
                status, _ = await call("POST", f"/runs/{run_id}/signal", signal)
                assert status == 202
            await seen.at(now + EVENTS, *follow)  # in the middle of the burst
            await service.kill()
        await asyncio.gather(*follow)
        assert service.kills == BURSTS
        assert max(one.connections for one in readers) > 1, "no reader ever noticed a kill"
        for one in readers:
            await is_listed(call, one)
        follow_feed.cancel()
        await asyncio.gather(follow_feed, return_exceptions=True)
        call.close()
        await service.stop()
    await equals_the_store(service.path, readers, feed)


async def started(call: Caller, workflow: str, **given: Any) -> str:
    """Start a run under a key, so that a start that is sent again is the same."""
    body = {"workflow": workflow, "input": given}
    status, told = await call("POST", "/runs", body, idempotency_key=f"{workflow}-{random.getrandbits(64)}")
    assert status == 201, told
    return str(told["run_id"])


async def is_listed(call: Caller, reader: EventReader) -> None:
    """What a stream told is what the list of events tells."""
    found: list[Any] = []
    while True:
        query = f"?stream=false&after={len(found)}"
        page = await call.get(reader._path + query)
        found += page["events"]
        if not page.get("more"):
            break
    assert [one.data for one in reader.found] == found


async def equals_the_store(path: Path, readers: list[EventReader], feed: EventReader) -> None:
    """What streams told is what the journals hold, and their chains hold."""
    store = SQLiteStore(path)
    await store.open()
    try:
        entries = await store.read_feed(limit=1_000_000)
        told = {one.id: one for one in feed.found}
        assert feed.ids == list(range(1, len(feed.found) + 1))
        assert len(told) > len(entries) / 2
        for entry in entries:
            if entry.position in told:
                data = told[entry.position].data
                assert (data["run_id"], data["seq"]) == (entry.event.run_id, entry.event.seq)
        for one in readers:
            run_id = one._path.split("/")[2]
            events = await store.read(run_id)
            check(run_id, events)
            if one._path.startswith("/runs/"):
                assert [event.to_dict() for event in events] == [found.data for found in one.found]
                assert events[-1].kind == "run.completed"
            else:
                assert one.found[-1].event == "PipelineCompleted"
    finally:
        await store.close()


# --- cut lines --------------------------------------------------------------------------------------------------------


class CuttingLine:
    """Passes on what both sides send, and cuts each connection after a number of bytes that nobody foresees.

    Args:
        target: where it leads.
        most_bytes: after which a connection is cut at the latest.
        seed: of what is drawn.
    """

    def __init__(self, target: Address, most_bytes: int, seed: int) -> None:
        self._target = target
        self._most_bytes = most_bytes
        self._random = random.Random(seed)
        self._server: asyncio.Server
        self._lines: dict[asyncio.Task[None], None] = {}
        self.cuts = 0

    def address(self) -> Address:
        """Where it begins."""
        found: Address = self._server.sockets[0].getsockname()
        return found

    async def __aenter__(self) -> CuttingLine:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._lines:
            task.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._pass_on(reader, writer))
        self._lines[task] = None
        task.add_done_callback(self._lines.pop)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        both = [asyncio.ensure_future(self._up(reader, there_writer))]
        both.append(asyncio.ensure_future(self._down(there_reader, writer)))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()
            there_writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._random.randrange(1, self._most_bytes)
        while data := await reader.read(left):
            writer.write(data)
            await writer.drain()
            left -= len(data)
            if not left:
                self.cuts += 1
                writer.transport.abort()
                return

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


def token_of(place: Served) -> str:
    assert place.keys is not None
    assert place.keys.token is not None
    return place.keys.token


@pytest.mark.parametrize("seed", range(3))
async def test_streams_go_on_over_cut_lines(seed: int) -> None:
    async with served() as place, CuttingLine((place.service.host, place.service.port), 6000, seed) as line:
        token = token_of(place)
        pipeline = (await place.client.post("/pipelines", json={"dot": PIPELINE})).json()["pipeline_id"]
        run_id = await place.start("count", numbers=100)
        readers = [EventReader(line.address, f"/pipelines/{pipeline}/events", token, "sequence") for _ in range(2)]
        readers += [EventReader(line.address, f"/runs/{run_id}/events", token, "seq") for _ in range(4)]
        feed = EventReader(line.address, "/events", token, "position")
        follow = [asyncio.ensure_future(one.to_end()) for one in readers]
        follow_feed = asyncio.ensure_future(feed.to_end())
        await place.reaches(run_id, "waiting")
        for number in range(100):
            await place.runtime.signal("other", number, run_id=run_id)
        await place.runtime.signal("go", run_id=run_id)
        await asyncio.gather(*follow)
        assert line.cuts > 20
        assert min(one.connections for one in readers) > 1
        for one in readers:
            listed = (await place.client.get(one._path, params={"stream": "false"})).json()["events"]
            assert [found.data for found in one.found] == listed
        follow_feed.cancel()
        await asyncio.gather(follow_feed, return_exceptions=True)
        entries = await place.runtime.store.read_feed(limit=100_000)
        told = [(found.data["run_id"], found.data["seq"]) for found in feed.found]
        assert told == [(entry.event.run_id, entry.event.seq) for entry in entries[: len(told)]]


# --- slow readers -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def following(*readers: EventReader) -> AsyncIterator[list[asyncio.Task[list[Streamed]]]]:
    """Readers at work."""
    tasks = [asyncio.ensure_future(one.to_end()) for one in readers]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def one_chunk_for_each(reached: Reached, step: int) -> Callable[[], Awaitable[None]]:
    """A pace: one read for so many events that somebody else has seen."""
    turns = 0

    async def pace() -> None:
        nonlocal turns
        turns += step
        await reached.at(turns)

    return pace


@pytest.mark.parametrize(
    ("path", "number"), [("/runs/{run_id}/events", "seq"), ("/events", "position")], ids=["run", "feed"]
)
async def test_a_slow_reader_slows_nobody_and_misses_nothing(path: str, number: str) -> None:
    """8 MB of events: neither the buffers of the sockets nor what a tail keeps hold them."""
    signals, text = 400, "x" * 20_000
    async with served() as place:
        token = token_of(place)
        address = place.service.host, place.service.port
        run_id = await place.start("count", numbers=0)
        await place.reaches(run_id, "waiting")
        seen, seen_late = Reached(), Reached()
        quick = EventReader(lambda: address, path.format(run_id=run_id), token, number, seen=seen.one_more)
        slow = EventReader(
            lambda: address,
            path.format(run_id=run_id),
            token,
            number,
            chunk_bytes=4096,
            pace=one_chunk_for_each(seen, 4),
            seen=seen_late.one_more,
        )
        async with following(quick, slow) as (follow_quick, follow_slow):
            for place_in_line in range(signals):
                await place.runtime.signal("other", {"text": text, "number": place_in_line}, run_id=run_id)
            await place.runtime.signal("go", run_id=run_id)
            await place.reaches(run_id, "completed")
            head = await place.runtime.store.feed_position()
            await seen.at(head, follow_quick, follow_slow)
            assert len(slow.found) < len(quick.found) / 2, "it was not slow"
            seen.over()
            await seen_late.at(head, follow_slow)
            assert slow.found == quick.found
            if number == "seq":
                await asyncio.gather(follow_quick, follow_slow)
            assert slow.connections == quick.connections == 1


# --- many readers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("readers", [200])
async def test_many_readers_of_one_run_all_get_all(readers: int) -> None:
    async with served() as place:
        address, token = (place.service.host, place.service.port), token_of(place)
        run_id = await place.start("count", numbers=10)
        many = [EventReader(lambda: address, f"/runs/{run_id}/events", token, "seq") for _ in range(readers)]
        async with following(*many) as follow:
            for number in range(30):
                await place.runtime.signal("other", number, run_id=run_id)
            await place.runtime.signal("go", run_id=run_id)
            found = await asyncio.gather(*follow)
        assert all(one == found[0] for one in found)
        assert found[0][-1].event == "run.completed"
        assert [one.connections for one in many] == [1] * readers
        listed = (await place.client.get(f"/runs/{run_id}/events")).json()["events"]
        assert [one.data for one in found[0]] == listed
