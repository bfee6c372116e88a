"""What a sender may cost: heads, bodies, JSON, pages, rates and time are bounded, and the next request is served."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import AsyncIterator

import pytest

from perdure.server.admission.rates import Buckets, Rate
from tests.http.server.served import JSON, Served, served

HEAD_S = 0.4
PATIENCE_S = 10.0
"""After so long the connection of a test that expects it to be closed was not."""


def head(path: str = "/runs", *, method: str = "GET", more: bytes = b"", place: Served | None = None) -> bytes:
    token = (
        b"authorization: Bearer %s\r\n" % place.keys.token.encode()
        if place and place.keys and place.keys.token
        else b""
    )
    return b"%s %s HTTP/1.1\r\nhost: localhost\r\n%s%s" % (method.encode(), path.encode(), token, more)


async def until_closed(place: Served, *parts: bytes, pause_s: float = 0.0) -> tuple[bytes, float]:
    """Send parts one after the other until the other side closes; what came back, and after how long."""
    reader, writer = await asyncio.open_connection(place.service.host, place.service.port)
    began_s = time.monotonic()

    async def send() -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    sending = asyncio.ensure_future(send())
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()
    return answer, time.monotonic() - began_s


async def still_serves(place: Served) -> None:
    run_id = await place.start("add", a=1)
    await place.reaches(run_id, "completed")


# --- heads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bomb",
    [
        b"x: " + b"a" * 40_000 + b"\r\n\r\n",
        b"x: " + b"a" * 4_000_000 + b"\r\n\r\n",
        b"".join(b"x%d: 1\r\n" % number for number in range(120)) + b"\r\n",
        b"".join(b"x%d: 1\r\n" % number for number in range(100_000)) + b"\r\n",
        b"cookie: " + b"a=b; " * 10_000 + b"\r\n\r\n",
    ],
    ids=["long", "endless", "many", "very many", "cookies"],
)
async def test_a_head_that_is_too_long_is_refused(bomb: bytes) -> None:
    async with served() as place:
        try:
            answer, _ = await until_closed(place, head(place=place, more=bomb))
            assert answer.split()[1] == b"431"
            assert b"x-content-type-options: nosniff" in answer
        except ConnectionError:
            pass  # cut while it was still sending, which is as good
        await still_serves(place)


async def test_an_address_that_is_too_long_is_refused() -> None:
    async with served() as place:
        answer, _ = await until_closed(place, head("/runs/" + "a" * 40_000, place=place, more=b"\r\n"))
        assert answer.split()[1] == b"431"
        await still_serves(place)


GARBAGE = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /runs HTTP/9.9\r\nconnection: close\r\n\r\n",
    b"GET /runs HTTP/1.1\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nhost: localhost\r\nx y: 1\r\n\r\n",
    b"GET /runs HTTP/1.1\r\nhost: localhost\r\n folded\r\nconnection: close\r\n\r\n",
    b"GET /ru\xffns HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"POST /runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"POST /runs HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
    b"POST /runs HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


async def test_what_is_no_request_is_refused_in_the_services_own_form() -> None:
    async with served(head_timeout_s=HEAD_S) as place:
        for garbage in GARBAGE:
            answer, _ = await until_closed(place, garbage)
            assert answer.split()[1][:1] == b"4", garbage
            assert b"content-security-policy: default-src 'none'" in answer, garbage
        await still_serves(place)


async def test_garbage_behind_a_request_closes_the_connection_and_nothing_else() -> None:
    async with served(head_timeout_s=HEAD_S) as place:
        answer, _ = await until_closed(place, head("/healthz", more=b"\r\n") + b"\x00garbage\r\n\r\n")
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"400"]
        await still_serves(place)


async def test_requests_one_behind_the_other_are_answered_in_order() -> None:
    async with served(head_timeout_s=HEAD_S) as place:
        last = head("/nothing", place=place, more=b"connection: close\r\n\r\n")
        answer, _ = await until_closed(place, head("/healthz", more=b"\r\n") * 20 + last)
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200"] * 20 + [b"404"]
        assert answer.endswith(b'{"error":"not found"}')


async def test_a_head_that_never_ends_is_cut_off_however_it_drips() -> None:
    async with served(head_timeout_s=HEAD_S) as place:
        for parts in ((), (b"GET /runs HTT",), tuple(bytes([byte]) for byte in head(more=b"x: y\r\n" * 100))):
            answer, took_s = await until_closed(place, *parts, pause_s=0.05)
            assert answer.split()[1] == b"408"
            assert HEAD_S * 0.9 <= took_s < HEAD_S * 5
        await still_serves(place)


async def test_a_second_head_that_never_ends_is_cut_off_too() -> None:
    async with served(head_timeout_s=HEAD_S) as place:
        drip = tuple(bytes([byte]) for byte in head(more=b"x: y\r\n" * 100))
        answer, took_s = await until_closed(place, head("/healthz", more=b"\r\n"), *drip, pause_s=0.05)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"HTTP/1.1 408" in answer
        assert took_s < HEAD_S * 5


async def test_a_stream_is_not_cut_off_by_what_bounds_heads_and_bodies() -> None:
    async with served(head_timeout_s=0.2, body_timeout_s=0.2, heartbeat_s=0.1) as place:
        run_id = await place.start("listen")
        async with place.client.stream("GET", f"/runs/{run_id}/events?stream=true") as stream:
            beats = 0
            async for line in stream.aiter_lines():
                beats += line.startswith(":")
                if beats == 8:
                    break


async def test_many_idle_connections_keep_nobody_out_and_are_closed() -> None:
    async with served(head_timeout_s=2.0) as place:
        idle = [await asyncio.open_connection(place.service.host, place.service.port) for _ in range(200)]
        await still_serves(place)
        async with asyncio.timeout(PATIENCE_S):
            for reader, writer in idle:
                assert (await reader.read()).split()[1] == b"408"
                writer.close()


# --- bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with served(body_timeout_s=HEAD_S) as place:
        for more in (b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"):
            send = head(method="POST", place=place, more=b"content-type: application/json\r\n" + more)
            answer, took_s = await until_closed(place, send)
            assert answer.split()[1] == b"408"
            assert took_s < HEAD_S * 5
        await still_serves(place)


async def test_a_body_without_end_is_cut_off() -> None:
    async with served() as place:
        send = head(
            method="POST", place=place, more=b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            answer, _ = await until_closed(place, send, *[chunk] * 100_000)
            assert answer.split()[1] == b"413"
        except ConnectionError:
            pass  # cut while it was still sending, after the answer
        await still_serves(place)


async def test_a_body_that_is_longer_than_it_says_is_another_request() -> None:
    async with served() as place:
        body = b'{"workflow":"listen"}'
        send = head(
            method="POST",
            place=place,
            more=b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % (len(body)),
        )
        answer, _ = await until_closed(place, send + body + b'{"workflow":"listen"}\r\n\r\n')
        assert answer.startswith(b"HTTP/1.1 201")
        assert len((await place.client.get("/runs")).json()["runs"]) == 1


@pytest.mark.parametrize("path", ["/runs", "/pipelines", "/pipelines/none/cancel", "/runs/none/answer"])
async def test_a_packed_body_is_not_unpacked(path: str) -> None:
    async with served() as place:
        bomb = gzip.compress(b" " * 50_000_000)
        answer = await place.client.post(path, content=bomb, headers=JSON | {"content-encoding": "gzip"})
        assert answer.status_code in (404, 415)
        assert (answer.status_code == 404) == ("none" in path and path.startswith("/pipelines"))


STRANGE = [
    b'{"workflow":"keep","input":{"text":' + b"[" * 63 + b"]" * 63 + b"}}",
    b'{"workflow":"keep","input":' + b"[" * 70 + b"]" * 70 + b"}",
    b'{"workflow":"keep","input":{' + b",".join(b'"k%d":1' % number for number in range(80_000)) + b"}}",
    b'{"workflow":"add","input":{"a":' + b"9" * 100_000 + b"}}",
    b'{"workflow":"add","input":{"a":1e999999}}',
    b'{"workflow":"add","input":{"a":NaN}}',
    b'{"workflow":"add","input":{"a":-Infinity}}',
    b'{"workflow":"keep","input":{"text":"\\ud800"}}',
    b'{"workflow":"keep","input":{"\\ud800":"x"}}',
    b'{"workflow":"\\ud800"}',
    b'{"workflow":"keep","tags":["\\ud800"]}',
    b'{"workflow":"keep","id":"\\ud800"}',
    b'{"workflow":"keep","input":{"text":"\xed\xa0\x80"}}',
    b'\xff\xfe{\x00"\x00',
    b'{"workflow":"keep","tags":[' + b",".join([b'"t"'] * 200_000) + b"]}",
    b"null",
    b"[]",
    b'"text"',
    b"0",
]


async def test_strange_json_is_refused_and_harms_nothing() -> None:
    async with served() as place:
        for body in STRANGE:
            for path in ("/runs", "/pipelines", "/answer", "/run"):
                about, began_s = f"{path} {body[:60]!r}", time.monotonic()
                answer = await place.client.post(path, content=body, headers=JSON)
                assert answer.status_code in (400, 404, 422), f"{about}: {answer.status_code} {answer.text[:200]}"
                assert time.monotonic() - began_s < 5, about
                assert len(answer.content) < 20_000, about  # the answer is no echo of the bomb
        assert (await place.client.get("/runs")).json()["runs"] == []
        await still_serves(place)


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_a_page_is_bounded() -> None:
    async with served() as place:
        run_id = await place.start("listen")
        for path in ("/runs", "/events", "/waits", f"/runs/{run_id}/events", f"/runs/{run_id}/journal"):
            for limit in ("0", "-1", "1001", "1e9", "9" * 30, "x", ""):
                answer = await place.client.get(path, params={"limit": limit})
                assert answer.status_code == 422, f"{path} {limit}"


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_a_key_that_asks_too_often_is_told_when_to_come_again() -> None:
    async with served(rate=Rate(3, "h")) as place:
        assert place.keys is not None
        other = place.keys.add("other", ["runs:read"])
        mine = [await place.client.get("/runs") for _ in range(5)]
        assert [answer.status_code for answer in mine] == [200, 200, 200, 429, 429]
        assert 1000 < int(mine[-1].headers["retry-after"]) <= 1200
        assert mine[-1].json()["error"] == "too many requests"
        assert mine[-1].headers["x-content-type-options"] == "nosniff"
        others = await place.plain.get("/runs", headers={"authorization": f"Bearer {other}"})
        assert others.status_code == 200  # the bucket is each key's own
        assert (await place.plain.get("/healthz")).status_code == 200


async def test_a_rate_holds_where_nobody_is_asked_for_a_key() -> None:
    async with served(open_to_all=True, rate=Rate(2, "h")) as place:
        assert [(await place.plain.get("/runs")).status_code for _ in range(3)] == [200, 200, 429]


def test_a_bucket_fills_again() -> None:
    now_s = [0.0]
    buckets, rate = Buckets(lambda: now_s[0]), Rate.parse("10/s")
    assert [buckets.take("a", rate) for _ in range(11)] == [0.0] * 10 + [pytest.approx(0.1)]
    now_s[0] = 0.1
    assert buckets.take("a", rate) == 0.0
    assert buckets.take("a", rate) > 0
    now_s[0] = 1e6
    assert [buckets.take("a", rate) > 0 for _ in range(11)] == [False] * 10 + [True]


@pytest.mark.parametrize("text", ["", "10", "0/s", "-1/s", "1/d", "1 /s", "1.5/s", "١/s", "9" * 20 + "/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="is no rate"):
        Rate.parse(text)


# --- websockets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_token", [False, True])
async def test_a_websocket_is_asked_for_its_key_as_any_request(with_token: bool) -> None:
    async with served() as place:
        token = place.keys.token if place.keys and with_token else "pd_wrong"
        said = [message async for message in opened(place, str(token))]
        assert [message["type"] for message in said] == ["websocket.close"]
        assert (said[0]["code"] == 1008) != with_token  # with a key it comes to the router, which has no such route


async def opened(place: Served, token: str) -> AsyncIterator[dict[str, object]]:
    said: list[dict[str, object]] = []
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "websocket", "path": "/runs", "raw_path": b"/runs", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        said.append(message)

    await place.service.app(scope | {"root_path": "", "subprotocols": []}, receive, send)
    for message in said:
        yield message
