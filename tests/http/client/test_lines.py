"""Bad lines and bad servers: what is sent again and what is not, and how long the client has patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from perdure.client import Client
from perdure.core.errors import (
    CorruptRecordError,
    EventTooLargeError,
    InputError,
    NotAuthorisedError,
    NotPermittedError,
    PerdureError,
    ReplyInvalidError,
    RunNotFoundError,
    ServerUnreachableError,
    ServiceBusyError,
    ServiceFaultError,
    StoreReadOnlyError,
)
from perdure.server import KeyRing
from perdure.server.responses import error_body
from tests.http.client.lines import CUT, SILENT, Line, answer, line_to, stranger, stream
from tests.http.server.served import Served, served

STARTED = answer(201, {"run_id": "r", "status": "pending"})
CANARY = "pd_canary-47"


@asynccontextmanager
async def over_a_line(heartbeat: str = "45s", **settings: Any) -> AsyncIterator[tuple[Served, Line, Client]]:
    """A service, a line to it, and a client that uses the line."""
    async with served(**settings) as service, line_to(service.service.port) as line:
        token = service.service.start_url.partition("#")[2]
        async with Client(f"{line.url}/#{token}", heartbeat=heartbeat) as client:
            yield service, line, client


def at_first(times: int) -> Any:
    """Cuts so many answers before their first byte."""
    left = times

    def cuts(passed: int) -> bool:
        nonlocal left
        if passed == 0:
            left -= 1
        return passed == 0 and left >= 0

    return cuts


# --- what is sent again -----------------------------------------------------------------------------------------------


async def test_a_start_whose_answers_are_lost_is_one_run() -> None:
    async with over_a_line() as (_, line, client):
        line.cuts = at_first(3)
        run = await client.start("add", {"a": 1})
        assert line.requests == ["POST /runs"] * 4
        assert [row.run_id async for row in client.runs()] == [run.run_id]
        line.cuts = at_first(2)
        named = await client.start("add", {"a": 1}, id="named")
        assert named.run_id == "named"
        assert len([row async for row in client.runs()]) == 2


async def test_a_signal_whose_answer_is_lost_is_one_signal() -> None:
    async with over_a_line() as (service, line, client):
        run = await client.start("listen")
        await service.reaches(run.run_id, "waiting")
        line.cuts = at_first(2)
        await client.signal("other", 1, run_id=run.run_id)
        received = [one async for one in client.events(run.run_id, follow=False) if one.kind == "signal.received"]
        assert len(received) == 1


async def test_each_command_has_a_key_of_its_own_and_keeps_it() -> None:
    async with stranger(answer(503, {"error": "later"}), CUT, STARTED) as server, Client(server.url) as client:
        await client.start("w")
        await client.start("w")
        await client.start("w", id="named")
        await client.start("w", idempotency_key="mine")
        keys = [one.headers.get("idempotency-key") for one in server.heard]
        assert len(set(keys[:3])) == 1
        assert keys[0] != keys[3]
        assert keys[4:] == [None, "mine"]
        assert all(one.body == server.heard[0].body for one in server.heard[:4])
        assert server.heard[4].json()["id"] == "named"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_busy_service_is_asked_again(status: int) -> None:
    async with stranger(answer(status, {"error": "later"}), answer(200, {"status": "ok"})) as server:
        async with Client(server.url) as client:
            assert await client.health()
        assert len(server.heard) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500, 501])
async def test_a_refusal_is_not_asked_again(status: int) -> None:
    async with stranger(answer(status, {"error": "no"}), STARTED) as server, Client(server.url) as client:
        with pytest.raises(PerdureError) as caught:
            await client.start("w")
        assert caught.value.message == "no"
        assert len(server.heard) == 1


async def test_what_will_not_change_is_not_asked_again() -> None:
    refused = answer(503, error_body(StoreReadOnlyError("it may only be read")))
    async with stranger(refused, STARTED) as server, Client(server.url) as client:
        with pytest.raises(StoreReadOnlyError):
            await client.start("w")
        assert len(server.heard) == 1


async def test_the_service_says_how_long_to_wait() -> None:
    busy = answer(429, {"error": "later"}, retry_after="1")
    async with stranger(busy, answer(200, {"status": "ok"})) as server, Client(server.url) as client:
        await client.health()
        assert server.times[1] - server.times[0] >= 1
    async with stranger(answer(503, {"error": "later"}, retry_after="3600")) as server:
        async with Client(server.url, patience="5s") as client:
            async with asyncio.timeout(4):
                with pytest.raises(ServiceBusyError) as caught:
                    await client.health()
        assert caught.value.message == "later"
        assert len(server.heard) == 1, "an hour is beyond its patience, so it does not even begin to wait"


async def test_patience_ends() -> None:
    async with stranger(CUT) as server:
        async with Client(server.url, patience="500ms") as client:
            async with asyncio.timeout(3):
                with pytest.raises(ServerUnreachableError) as caught:
                    await client.health()
        assert len(server.heard) > 1
    assert caught.value.ids == {"server": server.url}
    assert caught.value.retryable
    async with Client(server.url, patience=0) as client:  # nobody listens there any more
        with pytest.raises(ServerUnreachableError):
            await client.health()


async def test_a_silent_server_is_not_waited_for() -> None:
    async with stranger(SILENT, answer(200, {"status": "ok"})) as server:
        async with Client(server.url, timeout="200ms") as client:
            assert await client.health()
        assert len(server.heard) == 2


# --- answers that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        answer(200, b"<html>", content_type="text/html"),
        answer(200, []),
        answer(200, {"state": "ok"}),
        answer(200, {"status": 5}),
        answer(302, b"", location="http://127.0.0.1:1/healthz"),
        answer(307, b"", location="/elsewhere"),
        answer(304, b""),
    ],
)
async def test_what_is_no_answer_of_the_service_is_refused(told: bytes) -> None:
    async with stranger(told) as server, Client(server.url, token=CANARY) as client:
        with pytest.raises(ReplyInvalidError) as caught:
            await client.health()
        assert len(server.heard) == 1, "a redirect is not followed"
        assert CANARY not in str(caught.value.to_dict())


async def test_an_answer_that_is_cut_off_is_asked_for_again() -> None:
    whole = answer(200, {"status": "ok"})
    async with stranger(whole[:-4], whole) as server, Client(server.url) as client:
        assert await client.health()
        assert len(server.heard) == 2


async def test_an_artifact_with_another_hash_is_refused() -> None:
    name = "0" * 64
    async with stranger(answer(200, b"other")) as server, Client(server.url) as client:
        with pytest.raises(CorruptRecordError):
            await client.artifact("r", name)
        with pytest.raises(CorruptRecordError):
            await client.artifact("r", name, range=(0, 3))
    moved = answer(206, b"oth", content_range="bytes 1-3/5")
    async with stranger(moved) as server, Client(server.url) as client:
        with pytest.raises(ReplyInvalidError):
            await client.artifact("r", name, range=(0, 3))


async def test_a_range_is_asked_for_again_too() -> None:
    busy, part = answer(503, {"error": "later"}), answer(206, b"oth", content_range="bytes 0-2/5")
    async with stranger(busy, part) as server, Client(server.url) as client:
        assert await client.artifact("r", "0" * 64, range=(0, 3)) == b"oth"
    async with stranger(busy) as server, Client(server.url, patience=0) as client:
        with pytest.raises(ServiceBusyError):
            await client.artifact("r", "0" * 64, range=(0, 3))


# --- who asks ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_token_is_told_and_not_shown() -> None:
    ring = KeyRing.fresh()
    narrow = ring.add("reader", ["runs:read"])
    async with served(keys=ring) as service:
        for token in (None, CANARY):
            async with Client(service.service.url, token=token) as client:
                assert await client.health()
                for called in (client.start("add", {"a": 1}), client.show("r"), anext(client.events("r"))):
                    with pytest.raises(NotAuthorisedError) as caught:
                        await called
                    assert CANARY not in str(caught.value.to_dict())
        async with Client(service.service.url, token=narrow) as client:
            with pytest.raises(RunNotFoundError):
                await client.show("r")
            with pytest.raises(NotPermittedError) as refused:
                await client.start("add", {"a": 1})
            assert refused.value.ids["scope"] == "runs:write"
            assert narrow not in str(refused.value.to_dict())


async def test_the_token_goes_to_the_service_alone() -> None:
    async with stranger(answer(200, {"status": "ok"})) as other:
        away = answer(302, b"", location=f"{other.url}/healthz")
        async with stranger(away) as server, Client(f"{server.url}/#token={CANARY}") as client:
            with pytest.raises(ReplyInvalidError):
                await client.health()
            assert server.heard[0].headers["authorization"] == f"Bearer {CANARY}"
            assert CANARY not in server.heard[0].target
        assert other.heard == []


async def test_no_proxy_sees_what_goes_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async with stranger(answer(200, {"status": "ok"})) as proxy, stranger(answer(200, {"status": "ok"})) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with Client(server.url, token=CANARY) as client:
            assert await client.health()
        assert (len(proxy.heard), len(server.heard)) == (0, 1)
        async with Client("http://runs.example", token=CANARY) as client:
            assert await client.health()
        assert proxy.heard[0].target == "http://runs.example/healthz"


# --- streams ----------------------------------------------------------------------------------------------------------


def frame(seq: int, **more: Any) -> bytes:
    data = {"run_id": "r", "seq": seq, "time_ms": 0, "kind": "x.seen", "actor": "", "epoch": 0} | more
    return b"id: %d\nevent: x.seen\ndata: %s\n\n" % (seq, orjson.dumps(data))


ENDED = answer(
    200,
    {
        "run_id": "r",
        "workflow": "w",
        "version": "1",
        "status": "completed",
        "created_ms": 1,
        "updated_ms": 1,
    },
)
NO_MORE = answer(200, {"events": [], "more": False})


async def seqs_of(client: Client) -> list[int]:
    return [event.seq async for event in client.events("r")]


async def test_a_stream_comes_again_at_its_last_id() -> None:
    running, cut_off = ENDED.replace(b"completed", b"waiting__"), stream(frame(1), frame(2), frame(3)[:-1])
    async with stranger(cut_off, running, stream(frame(3)), running, CUT, stream(frame(4)), ENDED, NO_MORE) as server:
        async with Client(server.url) as client:
            assert await seqs_of(client) == [1, 2, 3, 4]
        asked = [one for one in server.heard if one.headers["accept"] == "text/event-stream"]
        assert [one.headers["last-event-id"] for one in asked] == ["0", "2", "3", "3"]


async def test_repeats_and_gaps_of_a_stream_are_not_passed_on() -> None:
    async with stranger(
        stream(frame(1), frame(1), frame(2), frame(4)), stream(frame(2), frame(3), frame(4)), ENDED, NO_MORE
    ) as server:
        async with Client(server.url) as client:
            assert await seqs_of(client) == [1, 2, 3, 4]
        assert server.heard[1].headers["last-event-id"] == "2"


async def test_a_stream_that_always_leaves_something_out_is_given_up() -> None:
    async with stranger(stream(frame(2))) as server, Client(server.url, patience="300ms") as client:
        with pytest.raises(ReplyInvalidError):
            await seqs_of(client)


async def test_a_run_that_ended_with_the_stream_is_read_to_its_end() -> None:
    """The service stopped just when the run ended: the stream is over, and events are left."""
    event = frame(2).partition(b"data: ")[2].strip()
    more = answer(200, b'{"events": [%s], "more": false}' % event)
    answers = (stream(frame(1)), ENDED, more, stream(frame(2)), ENDED, NO_MORE)
    async with stranger(*answers) as server, Client(server.url) as client:
        assert await seqs_of(client) == [1, 2]


async def test_a_silent_stream_is_taken_for_lost() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    quiet = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "stream=true" in request and "last-event-id: 0" in request:
            writer.write(head + frame(1))
            await reader.read()  # until the client has had enough
            quiet.set()
        elif "stream=true" in request:
            writer.write(head + frame(2))
        elif "/events" in request:
            writer.write(NO_MORE)
        else:
            writer.write(ENDED)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heartbeat="200ms") as client:
        assert await seqs_of(client) == [1, 2]
    assert quiet.is_set()
    server.close()


async def test_a_heartbeat_keeps_a_stream() -> None:
    async with over_a_line("1s", heartbeat_s=0.05) as (service, line, client):
        run = await client.start("listen")
        await service.reaches(run.run_id, "waiting")
        seq = (await client.show(run.run_id)).seq or 0
        events = client.events(run.run_id, after=seq)
        following = asyncio.ensure_future(anext(events))
        await asyncio.wait({following}, timeout=2.5)  # heartbeats alone
        assert not following.done()
        await client.signal("go", run_id=run.run_id)
        assert (await following).kind == "signal.received"
        await events.aclose()
        assert len([one for one in line.requests if "stream=true" in one]) == 1


async def test_events_over_a_line_that_is_cut_again_and_again() -> None:
    async with over_a_line() as (service, line, client):
        run = await client.start("count", {"numbers": 200})
        await service.reaches(run.run_id, "waiting")
        line.cuts = lambda passed: passed > 12_000
        followed = asyncio.ensure_future(_all(client, run.run_id))
        await client.signal("go", run_id=run.run_id)
        events = await followed
        assert len([one for one in line.requests if "events" in one]) > 3
        assert events == await _all(client, run.run_id)
        assert [event[0] for event in events] == list(range(1, len(events) + 1))
        assert events[-1][1] == "run.completed"


async def _all(client: Client, run_id: str) -> list[tuple[int, str]]:
    return [(event.seq, event.kind) async for event in client.events(run_id)]


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (answer(500, {"error": "internal error"}), ServiceFaultError),
        (answer(200, {"events": []}), ReplyInvalidError),
        (stream(b"id: x\ndata: {}\n\n"), ReplyInvalidError),
        (stream(b"id: 1\ndata: {\n\n"), ReplyInvalidError),
        (stream(b"id: 1\ndata: []\n\n"), ReplyInvalidError),
        (stream(b"id: 1\ndata: {}\n\n"), ReplyInvalidError),
        (answer(401, {"error": "no"}), NotAuthorisedError),
        (answer(302, b"", location="/x"), ReplyInvalidError),
        (answer(400, {"error": "no"}), InputError),
    ],
)
async def test_a_stream_that_is_none_is_refused(told: bytes, kind: type[PerdureError]) -> None:
    async with stranger(told) as server, Client(server.url) as client:
        with pytest.raises(kind):
            await seqs_of(client)
        assert len(server.heard) == 1


async def test_an_event_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.client.following.MOST_EVENT_BYTES", 1000)
    async with stranger(stream(b"data: " + b"x" * 2000)) as server, Client(server.url) as client:
        with pytest.raises(EventTooLargeError):
            await seqs_of(client)


async def test_an_answer_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.client.transport.MOST_REPLY_BYTES", 1000)
    async with stranger(answer(200, {"status": "x" * 2000})) as server, Client(server.url) as client:
        with pytest.raises(ReplyInvalidError):
            await client.health()


async def test_places_without_events_are_kept() -> None:
    """Of a feed of which only some events are wanted, the newest place counts all the same."""
    event = frame(3, position=3)
    async with stranger(stream(event, b"id: 90\n\n"), stream(b"id: 95\n\n", frame(99, position=99))) as server:
        async with Client(server.url) as client:
            feed = client.feed(kinds=["x.seen"])
            assert (await anext(feed)).position == 3
            assert (await anext(feed)).position == 99
            await feed.aclose()
        assert server.heard[1].headers["last-event-id"] == "90"
        assert "kind=x.seen" in server.heard[1].target


# --- nothing is left behind -------------------------------------------------------------------------------------------


async def test_an_iterator_that_is_closed_early_leaves_nothing() -> None:
    async with over_a_line() as (_, line, client):
        run = await client.start("listen")
        before = asyncio.all_tasks()
        for iterate in (client.events, client.live):
            events = iterate(run.run_id)
            await anext(events)
            await events.aclose()
        feed = client.feed()
        await anext(feed)
        await feed.aclose()
        async for _ in client.events(run.run_id):
            break
        await asyncio.sleep(0.05)  # the loop closes what was forgotten
        client_tasks = {task for task in asyncio.all_tasks() - before if "perdure/client" in repr(task)}
        assert client_tasks == set()
        async with asyncio.timeout(5):
            await line.at_most(1)  # the one that is kept for the next request


async def test_closing_the_client_ends_its_iterators() -> None:
    async with served() as service:
        client = Client(service.service.start_url, patience=0)
        async with client:
            run = await client.start("listen")
            await service.reaches(run.run_id, "waiting")
            idle, waiting = client.events(run.run_id), asyncio.ensure_future(_all(client, run.run_id))
            await anext(idle)
            await asyncio.sleep(0.1)  # the other one waits for what does not come
        async with asyncio.timeout(10):
            with pytest.raises(PerdureError) as caught:
                await waiting
            assert caught.value.code == "client_closed"
            with pytest.raises(PerdureError) as same:
                async for _ in idle:
                    pass
            assert same.value.code == "client_closed"


async def test_a_cancelled_call_is_cancelled_at_once() -> None:
    async with stranger(SILENT) as server, Client(server.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.health()
    async with stranger(CUT) as server, Client(server.url) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.health()
