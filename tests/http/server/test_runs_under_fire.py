"""Many runs over HTTP while the service is killed again and again: nothing is lost, and nothing happens twice.

A short campaign is part of every test run; `PERDURE_SOAK=1` makes it 10,000 runs and 12 kills.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from perdure.journal.chain import check
from perdure.store.port import RunFilter
from perdure.store.sqlite import SQLiteStore
from tests.http.server.event_reader import EventReader, Streamed
from tests.http.server.killed_service import Caller, KilledService, Reached

SOAK = os.environ.get("PERDURE_SOAK", "") not in ("", "0")
RUNS, KILLS = (10_000, 12) if SOAK else (500, 3)
CONNECTIONS = 8


class Campaign:
    """Senders that start runs over a service that is killed.

    Args:
        service: that is asked.
        runs: how many.

    Attributes:
        ids: of the runs, by number, as the service told them.
        accepted: counts the starts that were answered.
        completed: counts the runs whose end the feed of events told.
    """

    def __init__(self, service: KilledService, runs: int) -> None:
        self._service = service
        self._runs = runs
        self._numbers = iter(range(runs))
        self.ids: dict[int, str] = {}
        self.resent = 0
        self.accepted, self.completed = Reached(), Reached()

    async def send(self) -> None:
        """Start runs over one connection until none is left. Each is sent until it is answered, under one key."""
        call = Caller(self._service)
        for number in self._numbers:
            body = {"workflow": "order", "input": {"number": number}, "tags": ["campaign"]}
            status, told = await call("POST", "/runs", body, idempotency_key=f"order-{number}")
            assert status == 201, told
            self.ids[number] = told["run_id"]
            self.accepted.one_more()
        self.resent += call.resent
        call.close()

    def told(self, one: Streamed) -> None:
        """Hear of an event."""
        if one.event == "run.completed":
            self.completed.one_more()

    async def kill(self, kills: int) -> None:
        """Kill the service again and again while runs are started, and while they end."""
        for number in range(1, kills + 1):
            await self.accepted.at(number * self._runs // (kills + 1))
            await self._service.kill()


@pytest.mark.time_limit(1200 if SOAK else 45)
async def test_no_run_is_lost_and_no_effect_happens_twice_over_kills(tmp_path: Path) -> None:
    began_s = time.monotonic()
    async with KilledService(tmp_path) as service:
        campaign = Campaign(service, RUNS)
        feed = EventReader(service.address, "/events", service.token, "position", seen=campaign.told)
        follow = asyncio.ensure_future(feed.to_end())
        senders = [asyncio.ensure_future(campaign.send()) for _ in range(CONNECTIONS)]
        await asyncio.gather(campaign.kill(KILLS), *senders)
        await campaign.completed.at(RUNS, follow)
        assert (service.kills, feed.connections) == (KILLS, KILLS + 1)
        assert campaign.resent > 0, "no kill ever cut a request"
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
        await service.stop()
    recovered = await nothing_is_lost(service.path, campaign)
    lines = (tmp_path / "ledger").read_text().splitlines()
    assert Counter(int(line) for line in lines) == Counter(range(RUNS))
    print(
        f"{RUNS} runs, {KILLS} kills, {campaign.resent} requests sent again, {recovered} runs interrupted, "
        f"{len(feed.found)} events read, {time.monotonic() - began_s:.0f} s"
    )


async def nothing_is_lost(path: Path, campaign: Campaign) -> int:
    """Every run is there once, completed, with a whole chain; gives how many a kill interrupted."""
    store = SQLiteStore(path)
    await store.open()
    try:
        assert await store.count_runs() == {"completed": RUNS}
        found: set[str] = set()
        before: tuple[int, str] | None = None
        interrupted = 0
        while rows := await store.list_runs(RunFilter(tags=("campaign",), before=before, limit=1000)):
            before = rows[-1].created_ms, rows[-1].run_id
            for row in rows:
                events = await store.read(row.run_id)
                check(row.run_id, events)
                kinds = [event.kind for event in events]
                assert kinds.count("run.started") == kinds.count("run.completed") == kinds.count("step.completed") == 1
                interrupted += "node.interrupted" in kinds
                found.add(row.run_id)
        assert found == set(campaign.ids.values())
        assert len(campaign.ids) == RUNS
    finally:
        await store.close()
    return interrupted
