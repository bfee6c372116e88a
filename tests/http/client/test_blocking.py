"""The blocking face: from a thread, from several, and closed while others wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from perdure.client import BlockingClient
from perdure.core.errors import ClientClosedError, InputError, RunFailed, RunNotFoundError
from tests.http.client.lines import answer, stranger
from tests.http.server.served import served

T = TypeVar("T")


async def in_a_thread(called: Callable[[], T]) -> T:
    return await asyncio.to_thread(called)


async def test_a_program_without_a_loop() -> None:
    async with served() as service:
        url = service.service.start_url

        def program() -> list[str]:
            with BlockingClient(url) as client:
                run = client.start("add", {"a": 1})
                assert client.result(run.run_id, timeout="20s") == 2
                assert client.show(run.run_id).status == "completed"
                assert [row.run_id for row in client.runs()] == [run.run_id]
                assert client.questions() == []
                with pytest.raises(RunNotFoundError):
                    client.show("no")
                with pytest.raises(RunFailed):
                    client.result(client.start("fails").run_id)
                with pytest.raises(RunNotFoundError):
                    next(client.events("no"))
                with pytest.raises(InputError):
                    client.start("add", {"a": "x"})
                assert "token" not in repr(client)
                return [event.kind for event in client.events(run.run_id)]

        kinds = await in_a_thread(program)
        assert (kinds[0], kinds[-1]) == ("run.started", "run.completed")


async def test_iterators_block_until_something_comes() -> None:
    async with served() as service:
        url = service.service.start_url

        def program() -> list[str]:
            with BlockingClient(url) as client:
                run = client.start("listen")
                found = []
                for event in client.events(run.run_id):
                    found.append(event.kind)
                    if event.kind == "wait.opened":
                        client.signal("go", run_id=run.run_id)
                return found

        assert (await in_a_thread(program))[-1] == "run.completed"


async def test_several_threads_share_one_client() -> None:
    async with served() as service:
        url = service.service.start_url

        def program() -> list[object]:
            with BlockingClient(url) as client, ThreadPoolExecutor(8) as threads:

                def one(number: int) -> object:
                    run = client.start("add", {"a": number})
                    kinds = [event.kind for event in client.events(run.run_id)]
                    assert kinds[-1] == "run.completed"
                    return client.result(run.run_id)

                return list(threads.map(one, range(24)))

        assert await in_a_thread(program) == [number + 1 for number in range(24)]


async def test_an_iterator_that_is_left_early_is_closed() -> None:
    async with served() as service:
        url = service.service.start_url

        def program() -> None:
            with BlockingClient(url) as client:
                run = client.start("listen")
                with client.events(run.run_id) as events:
                    assert next(events).seq == 1
                with pytest.raises(StopIteration):
                    next(events)
                for event in client.events(run.run_id):
                    assert event.seq == 1
                    break

        threads = threading.active_count()
        await in_a_thread(program)
        assert [one for one in threading.enumerate() if "perdure-client" in one.name] == []
        assert threading.active_count() <= threads + 1  # the thread of this test


async def test_closing_ends_what_other_threads_wait_for() -> None:
    async with served() as service:
        client = BlockingClient(service.service.start_url)
        client.__enter__()
        run = await in_a_thread(lambda: client.start("listen"))
        await service.reaches(run.run_id, "waiting")
        began = threading.Event()

        def waits() -> str:
            events = client.events(run.run_id)
            next(events)
            began.set()
            try:
                for _ in events:
                    pass
            except ClientClosedError as error:
                return error.code
            return "ended"

        waiting = [asyncio.ensure_future(in_a_thread(waits))]
        waiting.append(asyncio.ensure_future(in_a_thread(lambda: _code_of(lambda: client.result(run.run_id)))))
        await in_a_thread(began.wait)
        await in_a_thread(client.close)
        assert await asyncio.gather(*waiting) == ["client_closed", "client_closed"]
        with pytest.raises(ClientClosedError):
            await in_a_thread(client.health)
        client.close()


async def test_closing_does_not_wait_for_another_attempt() -> None:
    async with stranger(answer(503, {"error": "later"}, retry_after="20")) as server:
        client = BlockingClient(server.url, patience="60s")
        client.__enter__()
        waiting = asyncio.ensure_future(in_a_thread(lambda: _code_of(client.health)))
        async with asyncio.timeout(10):
            await server.was_asked.wait()
            await in_a_thread(client.close)
            assert await waiting == "client_closed"
        assert len(server.heard) == 1


def _code_of(called: Callable[[], object]) -> str:
    try:
        called()
    except ClientClosedError as error:
        return error.code
    return "ended"
