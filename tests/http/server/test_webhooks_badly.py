"""Webhooks to receivers that behave badly, and over a data directory that does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure.server.webhooks import sender
from perdure.server.webhooks.names import THREAD
from perdure.store.sqlite import SQLiteStore
from tests.http.server.receivers import hook, receiver
from tests.http.server.served import served
from tests.http.server.test_webhooks import QUICK, settled

CERTIFICATE = Path(__file__).with_name("localhost.pem")
PATIENT = replace(QUICK, schedule_s=(30.0,))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"


@asynccontextmanager
async def raw_receiver(*answers: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[str]]]:
    """A server that answers each message with the next of these bytes, then closes; an answer that ends with `…` is not
    closed. Gives its port, and the ids of the messages that came."""
    got: list[str] = []
    waiting: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        said = answers[min(len(got), len(answers) - 1)]
        got.append(headers["webhook-id"])
        writer.write(said.removesuffix("…".encode()))
        if said.endswith("…".encode()):
            await reader.read()
        writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(asyncio.ensure_future(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"content-length: 100\r\n\r\nfewer than these",
        HEAD + b"transfer-encoding: chunked\r\n\r\nno chunk",
        HEAD + b"content-length: 100\r\n\r\n" + "it hangs…".encode(),
        HEAD + b"content-length: 200000\r\n\r\n" + b"x" * 200_000,
        HEAD + b"\r\nuntil it is closed",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
    ids=["cut off", "broken", "hanging", "huge", "without a length", "empty"],
)
async def test_a_message_is_accepted_by_the_status_whatever_becomes_of_the_body(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "READ_S", 0.1)
    async with served(webhooks=QUICK) as place, raw_receiver(said) as (port, got):
        made = await place.client.post("/webhooks", json={"url": f"http://127.0.0.1:{port}/"})
        await place.start("add", a=1)
        shown = await settled(place, made.json()["id"], lambda one: one["delivery"]["delivered"] == 1)
        assert (shown["delivery"]["failed"], shown["delivery"]["pending"], len(got)) == (0, 0, 1)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nno end", b"nonsense\r\n\r\n", b"HTTP/1.1 999\r\n\r\n"])
async def test_what_is_no_answer_accepts_nothing(said: bytes) -> None:
    ok = HEAD + b"content-length: 0\r\n\r\n"
    async with served(webhooks=QUICK) as place, raw_receiver(said, ok) as (port, got):
        made = await place.client.post("/webhooks", json={"url": f"http://127.0.0.1:{port}/"})
        await place.start("add", a=1)
        shown = await settled(place, made.json()["id"], lambda one: one["delivery"]["delivered"] == 1)
        assert shown["delivery"]["failed"] == 1
        assert got == [got[0]] * 2


# --- what cannot be reached -------------------------------------------------------------------------------------------


def own_certificate() -> ssl.SSLContext:
    """A server's certificate that nobody has signed but itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_nothing_goes_to_a_receiver_whose_certificate_is_not_known() -> None:
    async with (
        served(webhooks=PATIENT) as place,
        raw_receiver(HEAD + b"\r\n", context=own_certificate()) as (port, got),
    ):
        made = await place.client.post("/webhooks", json={"url": f"https://localhost:{port}/"})
        await place.start("add", a=1)
        shown = await settled(place, made.json()["id"], lambda one: one["delivery"]["failed"] == 1)
        assert "certificate" in shown["delivery"]["last_error"]["error"]
        assert got == []


async def test_an_authority_of_ones_own_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    async with (
        served(webhooks=PATIENT) as place,
        raw_receiver(HEAD + b"content-length: 0\r\n\r\n", context=own_certificate()) as (port, got),
    ):
        made = await place.client.post("/webhooks", json={"url": f"https://localhost:{port}/"})
        await place.start("add", a=1)
        await settled(place, made.json()["id"], lambda one: one["delivery"]["delivered"] == 1)
        assert len(got) == 1


async def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with served(webhooks=PATIENT) as place:
        made = await place.client.post("/webhooks", json={"url": "https://receiver.example/"})
        await place.start("add", a=1)
        shown = await settled(place, made.json()["id"], lambda one: one["delivery"]["failed"] == 1)
        assert shown["delivery"]["last_error"]["error"] == "its name is not known"


async def test_name_servers_that_do_not_answer_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads that the loop lends to everybody stay free, and the service can end."""
    free, looked_up = threading.Event(), socket.getaddrinfo

    def hanging(host: Any, *given: Any, **more: Any) -> Any:
        if host == "silent.example":
            free.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return looked_up(host, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        async with served(webhooks=replace(PATIENT, timeout_s=0.2)) as place, receiver() as there:
            made = await place.client.post("/webhooks", json={"url": "https://silent.example/"})
            await hook(place.client, there)
            for number in range(40):
                await place.start("add", a=number)
            await there.has_got(40)
            await settled(place, made.json()["id"], lambda one: one["delivery"]["failed"] >= 40)
            began_s = time.monotonic()
            await asyncio.gather(*(asyncio.to_thread(int) for _ in range(20)))
            assert time.monotonic() - began_s < 5
            assert len([one for one in threading.enumerate() if one.name == THREAD]) == 1
    finally:
        free.set()


async def test_a_name_with_a_dead_address_is_reached_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = socket.getaddrinfo

    def two(host: Any, *given: Any, **more: Any) -> Any:
        if host == "localhost":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in ("127.0.0.2", "127.0.0.1")]
        return looked_up(host, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    async with served(webhooks=PATIENT) as place, receiver() as there:
        there_by_name = replace_host(there.url)
        made = await place.client.post("/webhooks", json={"url": there_by_name})
        there.secrets.append(made.json()["secret"])
        await place.start("add", a=1)
        [got] = await there.has_got(1)
        assert got.asked.headers["host"] == f"localhost:{there.port}"


def replace_host(url: str) -> str:
    return url.replace("127.0.0.1", "localhost")


# --- a data directory that behaves badly ------------------------------------------------------------------------------


def in_the_way(folder: Path, name: str) -> Path:
    """What keeps this process from replacing a file, as a full disk would: it cannot write the new one beside it."""
    path = folder / f".{name}.{os.getpid()}.new"
    path.mkdir()
    return path


async def test_a_disk_that_cannot_be_written_is_no_fault_of_the_request(store_path: Path) -> None:
    folder = Path(f"{store_path}.server")
    async with served(SQLiteStore(store_path)) as place, receiver() as there:
        endpoint = await hook(place.client, there)
        before = (await place.client.get("/webhooks")).json()["webhooks"]
        path = in_the_way(folder, "webhooks.json")
        for request in (
            place.client.post("/webhooks", json={"url": there.url}),
            place.client.patch(f"/webhooks/{endpoint}", json={"enabled": False}),
            place.client.post(f"/webhooks/{endpoint}/rotate"),
            place.client.delete(f"/webhooks/{endpoint}"),
        ):
            answer = await request
            assert (answer.status_code, answer.json()["code"]) == (503, "webhooks_unusable")
        assert (await place.client.get("/webhooks")).json()["webhooks"] == before
        path.rmdir()
        assert (await place.client.patch(f"/webhooks/{endpoint}", json={"enabled": False})).status_code == 200


async def test_a_file_that_is_damaged_while_the_service_runs_is_told_and_stops_nothing(store_path: Path) -> None:
    path = Path(f"{store_path}.server") / "webhooks.json"
    async with served(SQLiteStore(store_path), webhooks=QUICK) as place, receiver() as there:
        endpoint = await hook(place.client, there)
        whole = path.read_bytes()
        path.write_text("{")
        answer = await place.client.get("/webhooks")
        assert (answer.status_code, answer.json()["code"]) == (503, "webhooks_unusable")
        await place.start("add", a=1)
        await there.has_got(1)
        assert (await place.client.post("/runs", json={"workflow": "add", "input": {"a": 2}})).status_code == 201
        await there.has_got(2)
        path.write_bytes(whole)
        assert (await place.client.get(f"/webhooks/{endpoint}")).json()["enabled"]


async def test_a_place_that_cannot_be_written_is_told_once_and_written_later(
    store_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.server.webhooks.delivery.AGAIN_S", 0.02)
    folder = Path(f"{store_path}.server")
    async with served(SQLiteStore(store_path), webhooks=QUICK) as place, receiver() as there:
        endpoint = await hook(place.client, there)
        name = f"webhook-{endpoint}.json"
        with caplog.at_level(logging.WARNING, "perdure.server.webhooks"):
            path = in_the_way(folder, name)
            run_ids = [await place.start("add", a=number) for number in range(10)]
            await there.has_got(10)
            await until(lambda: "cannot be written" in caplog.text)
            await asyncio.sleep(0.2)  # it is tried again and again
            assert caplog.text.count("cannot be written") == 1
            path.rmdir()
            await until(
                lambda: (folder / name).exists() and json.loads((folder / name).read_bytes())["delivered"] == 10
            )
        assert {one.run_id for one in there.got} == set(run_ids)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what only the file system, or the log, tells."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_damaged_place_of_one_endpoint_harms_no_other(store_path: Path) -> None:
    """One that cannot even be read is not taken for a new one: its endpoint waits, and the others are delivered to."""
    async with receiver() as one, receiver() as other:
        async with served(SQLiteStore(store_path), webhooks=QUICK) as place:
            first = await hook(place.client, one)
            await hook(place.client, other)
        path = Path(f"{store_path}.server") / f"webhook-{first}.json"
        path.unlink(missing_ok=True)
        path.mkdir()
        async with served(SQLiteStore(store_path), webhooks=QUICK) as place:
            run_id = await place.start("add", a=1)
            await other.has_got(1)
            assert one.got == []
            path.rmdir()
            await one.has_got(1)
        assert (one.got[0].run_id, other.got[0].run_id) == (run_id, run_id)
