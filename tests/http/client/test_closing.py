"""Iterators and clients that are closed, left, shared or forked: nothing hangs, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from perdure.client import BlockingClient, BlockingIterator, Client, RunEvent, following
from perdure.core.errors import ClientClosedError, PerdureError, ReplyInvalidError, StateError
from tests.http.client.lines import stranger
from tests.http.client.test_lines import ENDED, NO_MORE, frame, over_a_line
from tests.http.server.served import served

LEFT_OPEN = """
import asyncio, sys
from perdure.client import Client

kept = []

async def main():
    async with Client(sys.argv[1]) as client:
        for events in (client.events(sys.argv[2]), client.live(sys.argv[2]), client.feed()):
            kept.append(events)
            await anext(events)

asyncio.run(main())
"""
LEFT_OPEN_BLOCKING = """
import sys
from perdure.client import BlockingClient

with BlockingClient(sys.argv[1]) as client:
    kept = [client.events(sys.argv[2]), client.feed()]
    for events in kept:
        next(events)
for events in kept:
    events.close()
"""


async def in_a_thread(called: Callable[[], object]) -> object:
    return await asyncio.to_thread(called)


def outcome(called: Callable[[], object]) -> object:
    """What is given, or the code of the error."""
    try:
        return called()
    except PerdureError as error:
        return error.code


@pytest.mark.parametrize("program", [LEFT_OPEN, LEFT_OPEN_BLOCKING])
async def test_a_program_that_ends_with_open_iterators_ends_quietly(program: str) -> None:
    async with served() as service:
        run_id = await service.start("listen")
        await service.reaches(run_id, "waiting")
        command = [sys.executable, "-c", program, service.service.start_url, run_id]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


async def test_an_iterator_is_closed_while_another_thread_waits_for_the_next_one() -> None:
    async with served() as service:
        run_id = await service.start("listen")
        await service.reaches(run_id, "waiting")
        newest = (await service.client.get(f"/runs/{run_id}")).json()["seq"]

        def program() -> list[object]:
            with BlockingClient(service.service.start_url) as client:
                events = client.events(run_id, after=newest - 1)
                next(events)
                found: list[object] = []
                waiting = [
                    threading.Thread(target=lambda: found.append(outcome(lambda: list(events)))) for _ in range(2)
                ]
                for one in waiting:
                    one.start()
                while not takes_turns(events):
                    pass
                events.close()
                for one in waiting:
                    one.join(10)
                assert list(events) == []
                events.close()
                return found

        assert await in_a_thread(program) == [[], []]


def takes_turns(events: BlockingIterator[RunEvent]) -> bool:
    """Whether one thread waits for what comes next, and another one for its turn."""
    waiting = events._turn._waiters
    return events._waiting is not None and bool(waiting)


async def test_threads_that_share_an_iterator_get_each_event_once() -> None:
    async with served() as service:
        run_id = await service.start("count", numbers=60)
        await service.reaches(run_id, "waiting")
        await service.client.post(f"/runs/{run_id}/signal", json={"name": "go"})
        await service.reaches(run_id, "completed")

        def program() -> list[int]:
            seqs: list[int] = []
            with BlockingClient(service.service.start_url) as client:
                events = client.events(run_id)
                threads = [
                    threading.Thread(target=lambda: seqs.extend(event.seq for event in events)) for _ in range(4)
                ]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join(20)
            return seqs

        seqs = await asyncio.to_thread(program)
        assert sorted(seqs) == list(range(1, len(seqs) + 1))
        assert len(seqs) > 60


async def test_an_iterator_outlives_its_client_without_harm() -> None:
    async with served() as service:
        run_id = await service.start("add", a=1)

        def program() -> None:
            with BlockingClient(service.service.start_url) as client, client.events(run_id) as events:
                next(events)
                client.close()
            with pytest.raises(ClientClosedError):
                next(events)

        await in_a_thread(program)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_fork_is_told_that_it_has_no_client() -> None:
    """The thread of the loop stays in the parent, so whoever called in the child would wait for ever."""
    program = (
        "import os, sys\n"
        "from perdure.client import BlockingClient\n"
        "from perdure.core.errors import ClientClosedError\n"
        "with BlockingClient(sys.argv[1]) as client:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        try:\n"
        "            client.health()\n"
        "        except ClientClosedError as error:\n"
        "            client.close()\n"
        "            os._exit(7 if 'process' in error.hint else 8)\n"
        "    _, status = os.waitpid(child, 0)\n"
        "    print(os.waitstatus_to_exitcode(status), bool(client.health()))\n"
    )
    async with served() as service:
        command = [sys.executable, "-c", program, service.service.start_url]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert done.stdout.split() == ["7", "True"], done.stderr


async def test_a_client_is_not_opened_twice() -> None:
    async with served() as service, Client(service.service.start_url) as client:
        with pytest.raises(StateError):
            await client.__aenter__()
        assert await client.health()

        def program() -> None:
            with BlockingClient(service.service.start_url) as blocking:
                with pytest.raises(StateError):
                    blocking.__enter__()
                assert blocking.health()

        await in_a_thread(program)


async def test_cancelled_calls_leave_no_connection_and_swallow_nothing() -> None:
    async with over_a_line() as (service, line, client):
        run_id = await service.start("count", numbers=20)
        await service.reaches(run_id, "waiting")

        async def follows() -> None:
            async for _ in client.events(run_id):
                pass

        for called in (lambda: client.show(run_id), lambda: client.artifacts(run_id), follows):
            for turns in range(1, 40):
                task = asyncio.ensure_future(called())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if not task.done():
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
        assert await client.health()
        async with asyncio.timeout(5):
            await line.at_most(1)  # the one that is kept for the next request


# --- patience ---------------------------------------------------------------------------------------------------------


async def test_a_line_that_is_cut_while_nothing_happens_is_no_line_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy ends what is quiet, before the heartbeat comes: each connection stood, so patience begins anew."""
    monkeypatch.setattr(following, "STEADY_S", 0.15)
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        if "stream=true" not in request:
            writer.write(NO_MORE if "/events" in request else ENDED)
        else:
            opened += 1
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n")
            if opened == 6:
                data = frame(1)
                writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data))
            else:
                await asyncio.wait({asyncio.ensure_future(reader.read())}, timeout=0.2)  # the proxy's patience
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", patience="500ms") as client:
        assert [event.seq async for event in client.events("r")] == [1]
    assert opened == 6
    server.close()


async def test_a_stream_that_ends_at_once_is_given_up() -> None:
    async with stranger(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n") as server:
        client = Client(server.url, patience="300ms")
        async with client:
            with pytest.raises(ReplyInvalidError):
                await anext(client.feed())
