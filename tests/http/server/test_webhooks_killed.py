"""Webhooks over kills and restarts of the service, and with several services on one store: nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from perdure import Runtime
from perdure.store.sqlite import SQLiteStore
from tests.http.server.receivers import OK, Got, Receiver, hook, receiver
from tests.http.server.served import WORKFLOWS, add

ROOT = Path(__file__).parents[3]
QUICK: dict[str, Any] = {"schedule_s": [0.05] * 100, "jitter": 0.0, "notice_s": 0.05, "save_s": 0.0}


class ServiceProcess:
    """A service in a process of its own, and a client that has its token."""

    def __init__(self, process: asyncio.subprocess.Process, client: httpx2.AsyncClient) -> None:
        self._process = process
        self.client = client

    async def start(self, workflow: str, **given: Any) -> str:
        """Start a run, and give its id."""
        answer = await self.client.post("/runs", json={"workflow": workflow, "input": given})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["run_id"])

    async def delivers(self) -> bool:
        """Whether it is the one that delivers."""
        return "\nperdure_webhooks 1\n" in (await self.client.get("/metrics")).text

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._process.kill()
        await self._process.wait()

    def told_to_stop(self) -> None:
        """SIGTERM."""
        self._process.send_signal(signal.SIGTERM)

    async def listens_no_more(self) -> None:
        """Wait until nobody can connect."""
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.client.get("/healthz", headers={"connection": "close"})
                except httpx2.TransportError:
                    return

    async def ended(self) -> int:
        """Wait for its end; gives its return code."""
        async with asyncio.timeout(20):
            return await self._process.wait()


@asynccontextmanager
async def service(path: Path, **settings: Any) -> AsyncIterator[ServiceProcess]:
    """A service over a store; it is killed at the end if it still runs."""
    program = (sys.executable, "-m", "tests.http.server.webhook_program", str(path), json.dumps(QUICK | settings))
    process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            url, _, token = (await process.stdout.readline()).decode().strip().partition("/#token=")
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield ServiceProcess(process, client)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_one_delivers(*places: ServiceProcess) -> list[bool]:
    async with asyncio.timeout(20):
        while True:
            delivering = [await place.delivers() for place in places]
            if any(delivering):
                return delivering
            await asyncio.sleep(0.01)


def ids_of(there: Receiver, run_id: str) -> list[str]:
    return [one.id for one in there.got if one.run_id == run_id]


async def test_a_message_whose_answer_a_kill_cut_off_comes_again_with_the_same_id(store_path: Path) -> None:
    answers: list[str | None] = [None]
    async with receiver(lambda _: answers[0]) as there:
        async with service(store_path) as place:
            await hook(place.client, there)
            run_id = await place.start("add", a=1)
            await there.has_got(1)
            await place.kill()
        answers[0] = OK
        async with service(store_path) as place:
            first, second = await there.has_got(2)
            assert first.run_id == run_id
            assert (first.id, first.body) == (second.id, second.body)
            later = await place.start("add", a=2)
            await there.has_got(3)
        assert Counter(one.run_id for one in there.got) == {run_id: 2, later: 1}


async def test_a_kill_before_the_place_was_written_repeats_messages_and_loses_none(store_path: Path) -> None:
    async with receiver() as there:
        async with service(store_path, save_s=1000) as place:  # the place is written once
            await hook(place.client, there)
            run_ids = []
            for number in range(5):
                run_ids.append(await place.start("add", a=number))
                await there.has_got(number + 1)
            await place.kill()
        async with service(store_path):
            await there.has(lambda got: Counter(one.run_id for one in got)[run_ids[-1]] == 2)
        assert {one.run_id for one in there.got} == set(run_ids)
        for run_id in run_ids:
            assert len(set(ids_of(there, run_id))) == 1


async def test_a_restart_tells_of_what_happened_while_the_service_was_down(store_path: Path) -> None:
    async with receiver() as there:
        async with service(store_path) as place:
            await hook(place.client, there)
            run_ids = [await place.start("add", a=1)]
            await there.has_got(1)
            await place.kill()
        async with Runtime(SQLiteStore(store_path, durability="process"), workflows=WORKFLOWS) as runtime:
            for number in range(30):  # more than one page of the feed
                handle = await runtime.start(add, a=number)
                await handle.result()
                run_ids.append(handle.id)
        async with service(store_path) as place:
            await there.has(lambda got: {one.run_id for one in got} == set(run_ids))
            assert len(there.got) <= len(run_ids) + 1
        kept = [path for path in Path(f"{store_path}.server").iterdir() if path.name.startswith("webhook")]
        assert len(kept) == 4
        assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


async def test_runs_and_kills_in_any_order_lose_no_message(store_path: Path) -> None:
    refused: set[str] = set()

    def says(got: Got) -> str:
        if got.id not in refused:
            refused.add(got.id)
            return "500 Internal Server Error"
        return OK

    run_ids: list[str] = []
    async with receiver(says) as there:
        async with service(store_path) as place:
            await hook(place.client, there)
        for _ in range(2):
            async with service(store_path) as place:
                for number in range(10):
                    run_ids.append(await place.start("add", a=number))
                await place.kill()
        async with service(store_path):
            await there.has(lambda got: {one.run_id for one in got if one.id in refused} == set(run_ids))
            await there.has(lambda got: all(count > 1 for count in Counter(one.id for one in got).values()))
        assert len({one.id for one in there.got}) == len(run_ids) == 20


async def test_a_service_that_is_told_to_stop_lets_a_message_in_flight_end(store_path: Path) -> None:
    async with receiver(lambda _: None) as there:
        async with service(store_path, drain_s=20) as place:
            await hook(place.client, there)
            first = await place.start("add", a=1)
            await there.has_got(1)
            place.told_to_stop()
            await place.listens_no_more()
            there.answer_those_who_wait()
            assert await place.ended() == 0
        there.says = lambda _: OK
        async with service(store_path) as place:
            second = await place.start("add", a=2)
            await there.has_got(2)
        assert [one.run_id for one in there.got] == [first, second]


async def test_of_two_services_on_one_store_one_delivers_and_the_other_takes_over(store_path: Path) -> None:
    async with receiver() as there, service(store_path) as one, service(store_path) as other:
        endpoint = await hook(one.client, there)
        assert sorted(await until_one_delivers(one, other)) == [False, True]
        run_ids = [await place.start("add", a=number) for number in range(10) for place in (one, other)]
        await there.has_got(20)
        assert Counter(got.run_id for got in there.got) == dict.fromkeys(run_ids, 1)
        by_one = await one.delivers()
        first, second = (one, other) if by_one else (other, one)
        assert not await second.delivers()
        # The one that does not deliver changes endpoints, too, and shows how they stand.
        assert (await second.client.get(f"/webhooks/{endpoint}")).json()["delivery"]["cursor"] > 0
        rotated = await second.client.post(f"/webhooks/{endpoint}/rotate", json={"keep_s": 0})
        there.secrets.append(rotated.json()["secret"])
        await first.kill()
        last = await second.start("add", a=1)
        await there.has(lambda got: last in {each.run_id for each in got})
        assert await until_one_delivers(second) == [True]
