"""The service is killed and started again, and the client goes on: no event is missed or repeated, no run doubled."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure.client import Client
from tests.http.client.killable import killable
from tests.http.client.lines import line_to


async def test_events_go_on_over_a_kill_of_the_service(tmp_path: Path) -> None:
    async with killable(tmp_path / "runs.db") as service, Client(service.url) as client:
        run = await client.start("count", {"numbers": 30})
        seen: list[int] = []
        result = asyncio.ensure_future(client.result(run.run_id))
        async for event in client.events(run.run_id):
            seen.append(event.seq)
            if event.kind == "wait.opened":
                await service.kill()
                await service.start()
                await client.signal("go", run_id=run.run_id)
        assert seen == list(range(1, len(seen) + 1))
        assert event.kind == "run.completed"
        assert await result == 30
        assert [one.seq async for one in client.events(run.run_id)] == seen
        assert (await client.verify(run.run_id)).records == len(seen)


async def test_events_go_on_over_a_stop_of_the_service(tmp_path: Path) -> None:
    """A service that stops ends its streams as one whose run has ended does."""
    async with killable(tmp_path / "runs.db") as service, Client(service.url) as client:
        run = await client.start("listen")
        feed = client.feed(kinds=["run.completed"])
        found = asyncio.ensure_future(anext(feed))
        kinds: list[str] = []
        async for event in client.events(run.run_id):
            kinds.append(event.kind)
            if event.kind == "wait.opened":
                await service.stop()
                await service.start()
                await client.signal("go", run_id=run.run_id)
        assert kinds[-1] == "run.completed"
        assert (await found).run_id == run.run_id
        await feed.aclose()


async def test_starts_in_the_middle_of_kills_are_one_run_each(tmp_path: Path) -> None:
    """Whatever instant the service is killed at, each start is one run, and all of them end."""
    async with killable(tmp_path / "runs.db") as service, Client(service.url) as client:

        async def start(number: int) -> str:
            return (await client.start("add", {"a": number}, tags=["counted"])).run_id

        started: list[asyncio.Future[str]] = []
        for kill in range(2):
            some = [asyncio.ensure_future(start(100 * kill + number)) for number in range(12)]
            started += some
            await asyncio.wait(some, return_when=asyncio.FIRST_COMPLETED)  # the others are on their way
            await service.kill()
            await service.start()
        ids = await asyncio.gather(*started)
        assert sorted(ids) == sorted([row.run_id async for row in client.runs(tags=["counted"])])
        results = await asyncio.gather(*(client.result(run_id) for run_id in ids))
        assert results == [100 * kill + number + 1 for kill in range(2) for number in range(12)]


async def test_a_start_that_was_committed_before_the_kill_is_not_a_second_run(tmp_path: Path) -> None:
    """The service commits the run, its answer is cut, it is killed, and the client comes again to the next one."""
    async with killable(tmp_path / "runs.db") as service, line_to(service.port) as line:
        cut = asyncio.Event()

        def cuts(passed: int) -> bool:
            cut.set()
            return not up

        up, line.cuts = False, cuts
        async with Client(f"{line.url}/#{service.url.partition('#')[2]}") as client:
            starting = asyncio.ensure_future(client.start("listen"))
            await cut.wait()
            await service.kill()
            await service.start()
            up = True
            run = await starting
            assert len(line.requests) > 1
            assert [row.run_id async for row in client.runs()] == [run.run_id]
