"""Streams of events: ordered, without gap or repeat, resumed, over slow readers and ends of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.server.following import streams, tails
from perdure.server.following.tails import Tails
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import Frame, Served, frames, served

STREAM = {"accept": "text/event-stream"}


@asynccontextmanager
async def followed(
    place: Served, run_id: str, headers: dict[str, str] | None = None, **query: Any
) -> AsyncIterator[Any]:
    """The frames of a run's stream."""
    path = f"/runs/{run_id}/events"
    async with place.client.stream("GET", path, headers=STREAM | (headers or {}), params=query) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield frames(answer)


async def some(stream: AsyncIterator[Frame], wanted: int) -> list[Frame]:
    """The next frames that are no comments."""
    found: list[Frame] = []
    while len(found) < wanted:
        one = await anext(stream)
        if one.id is not None:
            found.append(one)
    return found


async def rest(stream: AsyncIterator[Frame]) -> list[Frame]:
    return [one async for one in stream if one.id is not None]


def ids(found: list[Frame]) -> list[int | None]:
    return [one.id for one in found]


async def test_a_stream_replays_and_goes_on_live_until_the_run_has_ended() -> None:
    async with served() as place:
        run_id = await place.start("count", numbers=5)
        await place.reaches(run_id, "waiting")
        before = await place.runtime.store.head(run_id)
        assert before is not None
        async with followed(place, run_id) as stream:
            replayed = await some(stream, before.seq)
            await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
            found = replayed + await rest(stream)
        assert ids(found) == list(range(1, len(found) + 1))
        assert found[-1].event == "run.completed"
        listed = (await place.client.get(f"/runs/{run_id}/events")).json()
        assert listed == {"events": [one.data for one in found], "more": False}
        assert [one.event for one in found] == [one["kind"] for one in listed["events"]]


@pytest.mark.parametrize(
    ("after", "last", "first"),
    [("3", None, 4), ("0", "3", 4), ("3", "1", 2), ("-5", None, 1), ("x", None, 1), ("3.5", None, 1), (None, "", 1)],
)
async def test_a_stream_begins_behind_what_was_seen(after: str | None, last: str | None, first: int) -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        headers = {"last-event-id": last} if last is not None else {}
        query = {"after": after} if after is not None else {}
        async with followed(place, run_id, headers, **query) as stream:
            assert ids(await rest(stream))[0] == first
        listed = (await place.client.get(f"/runs/{run_id}/events", headers=headers, params=query)).json()["events"]
        assert listed[0]["seq"] == first


async def test_behind_the_end_there_is_nothing() -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        for after in ("1000", str(1 << 80)):
            async with followed(place, run_id, after=after) as stream:
                assert await rest(stream) == []
            assert (await place.client.get(f"/runs/{run_id}/events", params={"after": after})).json()["events"] == []


async def test_pages_of_events_follow_each_other() -> None:
    async with served() as place:
        run_id = await place.start("count", numbers=7)
        await place.reaches(run_id, "waiting")
        found, more = [], True
        while more:
            query = {"after": found[-1]["seq"] if found else 0, "limit": 2}
            page = (await place.client.get(f"/runs/{run_id}/events", params=query)).json()
            found += page["events"]
            more = page["more"]
        assert [one["seq"] for one in found] == list(range(1, len(found) + 1))


async def test_a_quiet_stream_is_kept_alive_by_comments() -> None:
    async with served(heartbeat_s=0.01) as place:
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        async with followed(place, run_id, after=1000) as stream:
            assert (await anext(stream)).id is None
            assert (await anext(stream)).id is None


async def test_all_readers_of_a_run_share_one_tail_which_ends_with_the_last_of_them() -> None:
    async with served() as place:
        open_tails: Tails = place.service.app.state.tails
        run_id = await place.start("listen")
        async with followed(place, run_id) as one, followed(place, run_id) as other:
            await asyncio.gather(some(one, 1), some(other, 1))
            assert (len(open_tails), open_tails.readers) == (1, 2)
            await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
            first, second = await asyncio.gather(rest(one), rest(other))
            assert ids(first) == ids(second)
        assert len(open_tails) == 0


async def test_a_reader_that_leaves_is_forgotten() -> None:
    async with served(heartbeat_s=0.01) as place:
        open_tails: Tails = place.service.app.state.tails
        run_id = await place.start("listen")
        async with followed(place, run_id) as stream:
            await some(stream, 1)
        await until(lambda: len(open_tails) == 0)


async def test_a_slow_reader_falls_behind_the_tail_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "KEPT", 8)
    monkeypatch.setattr(tails, "PAGE", 5)
    async with served() as place:
        open_tails: Tails = place.service.app.state.tails
        run_id = await place.start("count", numbers=0)
        await place.reaches(run_id, "waiting")
        slow, quick = open_tails.follow(run_id), open_tails.follow(run_id)
        seen = [one.event.seq for one in await anext(slow)]
        swift = [one.event.seq for one in await anext(quick)]
        for number in range(60):
            await place.runtime.signal("other", number, run_id=run_id)
            while swift[-1] < (await head(place, run_id)):
                swift += [one.event.seq for one in await anext(quick)]
        await place.runtime.signal("go", run_id=run_id)
        async for batch in slow:
            assert len(batch) <= 8
            seen += [one.event.seq for one in batch]
        swift += [one.event.seq async for batch in quick for one in batch]
        assert seen == swift == list(range(1, seen[-1] + 1))
        assert len(seen) > 60


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something holds that no event announces."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to hold")


async def head(place: Served, run_id: str) -> int:
    found = await place.runtime.store.head(run_id)
    assert found is not None
    return found.seq


async def test_readers_that_join_at_any_time_get_all_once() -> None:
    async with served() as place:
        open_tails: Tails = place.service.app.state.tails
        run_id = await place.start("count", numbers=30)

        async def read() -> list[int]:
            return [one.event.seq async for batch in open_tails.follow(run_id) for one in batch]

        readers = [asyncio.ensure_future(read())]
        for number in range(40):
            await place.runtime.signal("other", number, run_id=run_id)
            readers.append(asyncio.ensure_future(read()))
        await place.runtime.signal("go", run_id=run_id)
        found = await asyncio.gather(*readers)
        assert all(one == found[0] for one in found)
        assert found[0] == list(range(1, found[0][-1] + 1))


async def test_a_reader_goes_on_at_its_last_id_after_the_service_has_ended(store_path: Path) -> None:
    async with served(SQLiteStore(store_path, durability="process")) as place:
        run_id = await place.start("count", numbers=5)
        await place.reaches(run_id, "waiting")
        async with followed(place, run_id) as stream:
            found = await some(stream, 4)
            place.service.stop()
            found += await rest(stream)
        await place.service.stopped()
    async with served(SQLiteStore(store_path, durability="process")) as place:
        async with followed(place, run_id, {"last-event-id": str(found[-1].id)}) as stream:
            await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
            found += await rest(stream)
        assert ids(found) == list(range(1, len(found) + 1))
        assert found[-1].event == "run.completed"


async def test_a_run_that_is_opened_again_is_followed_again() -> None:
    async with served() as place:
        run_id = await place.start("fails")
        await place.reaches(run_id, "failed")
        async with followed(place, run_id) as stream:
            first = await rest(stream)
        assert (await place.client.post(f"/runs/{run_id}/retry")).status_code == 202
        async with followed(place, run_id, after=str(first[-1].id)) as stream:
            again = await rest(stream)
        assert again[0].event == "run.reopened"
        assert ids(first + again) == list(range(1, len(first + again) + 1))


@pytest.mark.parametrize("name", ["nothing", "%00", "a b", "x" * 2000])
async def test_what_no_run_is_called_has_no_events(name: str) -> None:
    async with served() as place:
        answer = await place.client.get(f"/runs/{name}/events", headers=STREAM)
        assert answer.status_code in (404, 422)


def test_where_a_reader_goes_on_is_a_whole_number_or_the_beginning() -> None:
    for text, place in [("7", 7), (" 007 ", 7), ("+7", 7), ("9" * 30, streams.HIGHEST)]:
        assert streams.place_of(text) == place
    for text in (None, "", "-1", "1e3", "٣"):
        assert streams.place_of(text) == 0
