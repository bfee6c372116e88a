"""Workers that die in the middle of work: by chance, by their own run, and on SIGTERM."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.core.errors import RunParkedError
from perdure.store.sqlite import SQLiteStore
from tests.process import jobs
from tests.process.workers import World, world_in
from tests.unit.engine.staging import events_of, reaches, seen

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as world:
        yield world


def effects(world: World, run_id: str) -> list[int]:
    """The numbers of a chain's effects, in the order in which they happened."""
    lines = [line.split() for line in world.ledger()]
    return [int(words[2]) for words in lines if words[0] in ("charge", "post") and words[1] == run_id]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_chain_of_effects_survives_kill_9_at_any_instant(world: World, seed: int) -> None:
    chance, count, kills = random.Random(seed), 60, 0
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.chain, count, id="r1")
        while (target := len(effects(world, "r1")) + chance.randrange(1, 12)) < count:
            worker = world.worker(crash_budget=1000)
            while len(effects(world, "r1")) < target:
                time.sleep(chance.random() * 0.002)  # the instant is what chance decides
            worker.kill()
            kills += 1
        world.worker(crash_budget=1000)
        assert await handle.result() == sum(range(count))
        await handle.verify()
        assert (await handle.state())["done"] == count - 1
    happened = effects(world, "r1")
    assert kills >= 4
    # Each effect began only when the one before it was durable, so nothing behind the newest is ever done again.
    assert happened == sorted(happened)
    assert set(happened) == set(range(count))
    assert len(happened) <= count + kills
    counts = world.counts()
    assert {counts[f"charge r1 {number}"] for number in range(2, count, 3)} == {1}


@pytest.mark.parametrize("workflow", ["poisoned", "deadly_code", "deadly_after_an_answer"])
async def test_a_run_that_kills_its_worker_is_parked_and_takes_no_other_with_it(world: World, workflow: str) -> None:
    async with world.clerk() as clerk:
        deadly = await clerk.start(getattr(jobs, workflow), id="deadly")
        innocents = [await clerk.start(jobs.innocent, id=f"i{number}") for number in range(4)]
        if workflow == "deadly_after_an_answer":
            await deadly.signal("go")
        deaths = 0
        while await deadly.status() != "paused":
            worker = world.worker(said_ready=False, crash_budget=2)
            while await deadly.status() != "paused" and worker._process.poll() is None:
                time.sleep(0.005)  # it dies or it parks the run
            if worker._process.poll() is not None:
                assert worker.ended() == -signal.SIGKILL
                deaths += 1
            assert deaths <= 5
        with pytest.raises(RunParkedError) as raised:
            await deadly.result()
        assert raised.value.ids["reason"] == "crash_budget_spent"
        assert deaths >= 3  # its budget is 2
        world.make("innocents may go")
        for handle in innocents:
            assert await handle.result() == "done"
            assert len(await events_of(handle, "node.interrupted")) <= 2
    counts = world.counts()
    assert {counts[f"post i{number} 1"] for number in range(4)} == {1}


async def test_sigterm_is_recorded_on_receipt_and_what_dies_after_it_counts_against_nobody(world: World) -> None:
    worker = world.worker(drain_grace_s=60.0)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "send", id="r1")
        worker.says("at go-")
        worker.signal(signal.SIGTERM)
        while not any(row.draining for row in await clerk.store.workers()):
            time.sleep(0.005)  # another process writes it
        late = await clerk.start(jobs.shared, id="late")
        worker.kill()  # in its grace
        second = world.worker(crash_budget=0)
        second.says("at go-")
        world.make(f"go-{second.pid}")
        await handle.result()
        (closed,) = await events_of(handle, "node.interrupted")
        assert closed.data["counted"] is False
        assert await late.result() == "done"


async def test_sigterm_lets_the_step_in_flight_end_and_then_the_process(world: World) -> None:
    worker = world.worker(drain_grace_s=60.0)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "pay", id="r1")
        waiting = await clerk.start(jobs.waits, id="r2")
        await reaches(waiting, "waiting")
        worker.says("at go-")
        worker.signal(signal.SIGTERM)
        while not any(row.draining for row in await clerk.store.workers()):
            time.sleep(0.005)  # another process writes it
        world.make(f"go-{worker.pid}")
        worker.says("drained")
        assert worker.ended() == 0
        assert len(await events_of(handle, "step.completed")) == 1
        assert all(row.worker_id == clerk.worker_id for row in await clerk.store.workers())
        world.worker()
        assert "pay by" in await handle.result()
        await waiting.signal("go", 1)
        assert await waiting.result() == 1
    assert [line.split()[0] for line in world.ledger()].count("pay") == 1


async def test_the_locks_and_rows_of_dead_workers_are_cleared_away(world: World) -> None:
    for _ in range(3):
        world.worker().kill()
    last = world.worker()
    async with world.clerk() as clerk:
        await (await clerk.start(jobs.shared)).result()
        alive = [row for row in await clerk.store.workers() if row.alive]
        assert {row.pid for row in alive} >= {last.pid}
        assert len(await clerk.store.workers()) <= 3
        assert isinstance(clerk.store, SQLiteStore)
        locks = list(Path(f"{clerk.store.path}.workers").iterdir())
        assert len(locks) <= 3


async def test_a_timer_that_came_due_while_every_worker_was_dead_fires_once(world: World) -> None:
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.shared, id="r1")
        world.worker().kill()
        world.worker()
        assert await handle.result() == "done"
        assert len(await events_of(handle, "wait.resolved")) == 1
        await seen(handle, "run.completed")
