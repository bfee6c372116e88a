"""The feed of all runs: in the order of commits, without gap or repeat, resumed, filtered, shared, past damage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from perdure import Runtime
from perdure.server.following import feed
from perdure.server.following.feed import Feed, Wanted
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SQLiteStore
from tests.http.server.served import WORKFLOWS, Served, served

STREAM = {"accept": "text/event-stream"}


async def page(place: Served, headers: dict[str, str] | None = None, **query: Any) -> Any:
    answer = await place.client.get("/events", params=query, headers=headers or {})
    assert answer.status_code == 200, answer.text
    return answer.json()


@asynccontextmanager
async def followed(
    place: Served, headers: dict[str, str] | None = None, **query: Any
) -> AsyncIterator[AsyncIterator[tuple[int | None, str, Any]]]:
    """The frames of the feed: position, kind, data; a comment has no position, a bare place no data."""
    async with place.client.stream("GET", "/events", headers=STREAM | (headers or {}), params=query) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parsed(answer)


async def parsed(answer: httpx2.Response) -> AsyncIterator[tuple[int | None, str, Any]]:
    lines: list[str] = []
    async for line in answer.aiter_lines():
        if line:
            lines.append(line)
            continue
        fields = dict(one.split(": ", 1) for one in lines)
        position = fields.get("id")
        data = fields.get("data")
        yield (
            None if position is None else int(position),
            fields.get("event", ""),
            None if data is None else orjson.loads(data),
        )
        lines = []
    assert not lines, f"cut in the middle of a frame: {lines}"


async def until(stream: AsyncIterator[tuple[int | None, str, Any]], position: int) -> list[tuple[int, str, Any]]:
    """The frames up to a position, without comments."""
    found: list[tuple[int, str, Any]] = []
    while not found or found[-1][0] < position:
        place, kind, data = await anext(stream)
        if place is not None:
            found.append((place, kind, data))
    return found


async def newest(place: Served) -> int:
    return await place.runtime.store.feed_position()


async def test_the_feed_tells_all_runs_in_the_order_of_commits() -> None:
    async with served() as place:
        runs = [await place.start("add", a=number) for number in range(3)]
        for run_id in runs:
            await place.reaches(run_id, "completed")
        told = await page(place)
        assert [one["position"] for one in told["events"]] == list(range(1, len(told["events"]) + 1))
        assert {one["run_id"] for one in told["events"]} == set(runs)
        assert (told["next"], told["more"], told["newest"]) == (len(told["events"]), False, await newest(place))
        for run_id in runs:
            own = (await place.client.get(f"/runs/{run_id}/events")).json()["events"]
            ours = [{k: v for k, v in one.items() if k != "position"} for one in told["events"]]
            assert own == [one for one in ours if one["run_id"] == run_id]


async def test_pages_of_the_feed_follow_each_other() -> None:
    async with served() as place:
        run_id = await place.start("count", numbers=10)
        await place.reaches(run_id, "waiting")
        found: list[int] = []
        after, more = 0, True
        while more:
            told = await page(place, after=after, limit=3)
            found += [one["position"] for one in told["events"]]
            after, more = told["next"], told["more"]
        assert found == list(range(1, await newest(place) + 1))
        assert (await page(place, after=10**9))["events"] == []
        assert (await page(place, headers={"last-event-id": "3"}, after=1))["events"][0]["position"] == 4
        assert (await page(place, after="x"))["events"][0]["position"] == 1


async def test_replay_goes_over_into_live_without_gap_or_repeat() -> None:
    async with served() as place:
        first = await place.start("count", numbers=5)
        await place.reaches(first, "waiting")
        async with followed(place) as stream:
            found = await until(stream, await newest(place))
            second = await place.start("add", a=1)
            await place.reaches(second, "completed")
            found += await until(stream, await newest(place))
        assert [one[0] for one in found] == list(range(1, await newest(place) + 1))
        told = (await page(place))["events"]
        assert [one[2] for one in found] == told
        assert [one[1] for one in found] == [one["kind"] for one in told]


async def test_a_reader_that_comes_again_goes_on_at_its_last_id() -> None:
    async with served() as place:
        run_id = await place.start("count", numbers=5)
        await place.reaches(run_id, "waiting")
        async with followed(place) as stream:
            seen = await until(stream, 3)
        await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        await place.reaches(run_id, "completed")
        async with followed(place, {"last-event-id": str(seen[2][0])}, after=1) as stream:
            rest = await until(stream, await newest(place))
        assert [one[0] for one in rest] == list(range(4, await newest(place) + 1))


async def test_a_filter_moves_the_place_of_its_reader_over_what_it_leaves_out() -> None:
    async with served() as place:
        for number in range(3):
            await place.reaches(await place.start("add", a=number), "completed")
        counting = await place.start("count", numbers=4)
        await place.reaches(counting, "waiting")
        last = await place.start("add", a=1)
        await place.reaches(last, "completed")
        end = await newest(place)
        told = await page(place, workflow="count", kind=["number.seen", "run.completed"], limit=2)
        assert [(one["run_id"], one["kind"]) for one in told["events"]] == [(counting, "number.seen")] * 2
        assert told["more"] is True
        rest = await page(place, workflow="count", kind=["number.seen", "run.completed"], after=told["next"])
        assert [one["payload"] for one in rest["events"]] == [{"number": 2}, {"number": 3}]
        assert (rest["next"], rest["more"]) == (end, False)
        async with followed(place, kind="number.seen") as stream:
            found = await until(stream, end)
            assert [one[1] for one in found] == ["number.seen"] * 4 + [""]
            assert found[-1] == (end, "", None)
            await place.client.post(f"/runs/{counting}/signal", json={"name": "go"})
            await place.reaches(counting, "completed")
            assert all(data is None for _, _, data in await until(stream, await newest(place)))


async def test_a_page_looks_through_a_bounded_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "LOOKED_AT", 6)
    monkeypatch.setattr(feed, "PAGE", 3)
    async with served() as place:
        await place.reaches(await place.start("count", numbers=20), "waiting")
        told = await page(place, kind="nothing.such")
        assert (told["events"], told["next"], told["more"]) == ([], 6, True)
        places = []
        while told["more"]:
            told = await page(place, kind="nothing.such", after=told["next"])
            places.append(told["next"])
        assert places[-1] == await newest(place)


async def test_all_readers_share_one_tail_which_ends_with_the_last_of_them() -> None:
    async with served() as place:
        whole: Feed = place.service.app.state.feed
        reads = 0
        store = place.runtime.store
        read_feed = store.read_feed

        async def counted(*, after: int = 0, limit: int = 1000) -> Any:
            nonlocal reads
            reads += 1
            return await read_feed(after=after, limit=limit)

        async def read(wanted: int) -> list[int]:
            found: list[int] = []
            async with aclosing(whole.follow(0)) as batches:
                async for items in batches:
                    found += [item.position for item in items]
                    if found[-1] >= wanted:
                        break
            return found

        store.read_feed = counted  # type: ignore[method-assign]
        readers = [asyncio.ensure_future(read(60)) for _ in range(50)]
        run_id = await place.start("count", numbers=0)
        await place.reaches(run_id, "waiting")
        while (end := await newest(place)) < 60:
            await place.runtime.signal("other", end, run_id=run_id)
        found = await asyncio.gather(*readers)
        assert all(one == list(range(1, len(one) + 1)) for one in found)
        assert reads <= 4 * end  # the tail's own, whatever the number of readers
        assert whole.readers == 0


async def test_a_slow_reader_falls_behind_the_tail_and_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "KEPT", 8)
    monkeypatch.setattr(feed, "PAGE", 5)
    async with served() as place:
        whole: Feed = place.service.app.state.feed
        run_id = await place.start("count", numbers=0)
        await place.reaches(run_id, "waiting")
        slow, quick = whole.follow(0), whole.follow(0, Wanted(kinds=frozenset(["signal.received"])))
        seen = [item.position for item in await anext(slow)]
        swift = [item.position for item in await anext(quick)]
        for number in range(60):
            await place.runtime.signal("other", number, run_id=run_id)
            while swift[-1] < await newest(place):
                swift += [item.position for item in await anext(quick)]
        end = await newest(place)
        while seen[-1] < end:
            items = await anext(slow)
            assert len(items) <= 5
            seen += [item.position for item in items]
        assert seen == list(range(1, end + 1))
        assert swift == sorted(set(swift))
        await slow.aclose()
        await quick.aclose()


async def test_a_reader_at_any_place_is_told_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "KEPT", 8)
    monkeypatch.setattr(feed, "PAGE", 5)
    async with served() as place:
        whole: Feed = place.service.app.state.feed
        run_id = await place.start("count", numbers=0)
        await place.reaches(run_id, "waiting")
        async with aclosing(whole.follow(0)) as first:
            seen = (await anext(first))[-1].position
            for number in range(40):
                await place.runtime.signal("other", number, run_id=run_id)
            end = await newest(place)
            while seen < end:
                seen = (await anext(first))[-1].position
            assert whole._tail is not None
            assert 8 < whole._tail.floor < end  # some places are behind the tail, some are in it
            for after in range(end):
                async with aclosing(whole.follow(after)) as batches:
                    assert (await anext(batches))[0].position == after + 1


async def test_a_quiet_feed_is_kept_alive_by_comments() -> None:
    async with served(heartbeat_s=0.01) as place, followed(place) as stream:
        assert await anext(stream) == (None, "", None)
        assert await anext(stream) == (None, "", None)


async def test_the_feed_hears_of_what_other_processes_commit(store_path: Path) -> None:
    async with served(SQLiteStore(store_path, durability="process")) as place, followed(place) as stream:
        async with Runtime(SQLiteStore(store_path, durability="process"), workflows=WORKFLOWS) as other:
            handle = await other.start(WORKFLOWS[0], a=1)
            await handle.result()
        found = await until(stream, await newest(place))
        assert {one[2]["run_id"] for one in found} == {handle.id}
        assert found[-1][1] == "run.completed"


async def test_the_feed_ends_with_the_service_and_goes_on_after_it(store_path: Path) -> None:
    async with served(SQLiteStore(store_path, durability="process")) as place:
        run_id = await place.start("count", numbers=3)
        await place.reaches(run_id, "waiting")
        async with followed(place) as stream:
            found = await until(stream, 2)
            place.service.stop()
            found += [(one[0], one[1], one[2]) async for one in stream if one[0] is not None]
        await place.service.stopped()
    async with served(SQLiteStore(store_path, durability="process")) as place:
        await place.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        await place.reaches(run_id, "completed")
        async with followed(place, {"last-event-id": str(found[-1][0])}) as stream:
            found += await until(stream, await newest(place))
        assert [one[0] for one in found] == list(range(1, await newest(place) + 1))


async def test_a_damaged_record_is_told_and_harms_no_other() -> None:
    store = MemoryStore()
    async with served(store) as place:
        bad, good = await place.start("add", a=1), await place.start("add", a=2)
        for run_id in (bad, good):
            await place.reaches(run_id, "completed")
        event = store._runs[bad].events[1]
        event.payload, event._data = b"{", feed_unparsed()
        told = (await page(place))["events"]
        assert [one["position"] for one in told] == list(range(1, await newest(place) + 1))
        [damage] = [one for one in told if one["kind"] == "damage"]
        assert (damage["run_id"], damage["damage"]["code"]) == (bad, "corrupt_record")
        async with followed(place) as stream:
            found = await until(stream, await newest(place))
        assert [one[2] for one in found] == told
        assert [one[1] for one in found].count("damage") == 1


def feed_unparsed() -> object:
    from perdure.core import events

    return events._UNPARSED
