"""Several worker processes on one SQLite file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.store.port import RunFilter
from tests.process import jobs
from tests.process.workers import World, world_in
from tests.unit.engine.staging import events_of, seen

pytestmark = pytest.mark.time_limit(60)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as world:
        yield world


async def test_two_workers_share_100_runs_and_each_is_executed_once(world: World) -> None:
    (world.directory / "start").unlink()
    async with world.clerk() as clerk:
        for number in range(100):
            await clerk.start(jobs.shared, id=f"r{number:03}")
        workers = [world.worker(concurrency=5), world.worker(concurrency=5)]
        while len(world.ledger()) < 10:
            time.sleep(0.005)  # other processes write it
        world.make("start")
        for number in range(100):
            assert await clerk.run(f"r{number:03}").result() == "done"
        rows = await clerk.runs(RunFilter(limit=1000))
        assert {row.status for row in rows} == {"completed"}
    counts = world.counts()
    assert {counts[f"post r{number:03} {effect}"] for number in range(100) for effect in (0, 1)} == {1}
    begun = [line.split() for line in world.ledger() if line.startswith("begun")]
    assert len({run_id for _, run_id, _ in begun}) == len(begun) == 100
    assert {int(pid) for _, _, pid in begun} == {worker.pid for worker in workers}


async def test_a_command_from_another_process_reaches_the_worker_that_executes_the_run(world: World) -> None:
    worker = world.worker()
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.waits, id="r1")
        await seen(handle, "run.suspended")
        begun = time.monotonic()
        await handle.signal("go", {"price": 3})
        assert await handle.result() == {"price": 3}
        assert time.monotonic() - begun < 2.0
        (suspended,) = await events_of(handle, "run.suspended")
        assert suspended.epoch == 1
    worker.kill()


async def test_runs_of_a_killed_worker_are_free_at_once_for_a_living_one(world: World) -> None:
    """The kernel drops the dead one's file lock; nobody waits for its lease of a minute."""
    deadly = world.worker(lease_s=60.0)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "send", id="r1")
        deadly.says("at go-")
        living = world.worker(lease_s=60.0)
        killed_ms = time.time() * 1000
        deadly.kill()
        interrupted = await seen(handle, "node.interrupted")
        assert interrupted.time_ms - killed_ms < 1000
        world.make(f"go-{living.pid}")
        assert f"by {living.pid}" in await handle.result()


async def test_after_kill_9_a_restarted_worker_goes_on_within_a_second(world: World) -> None:
    async with world.clerk() as clerk:
        for number in range(20):
            await clerk.start(jobs.waits, id=f"w{number}")
        handle = await clerk.start(jobs.one_step, "send", id="r1")
        first = world.worker(lease_s=60.0)
        first.says("at go-")
        first.kill()
        second = world.worker(said_ready=False, lease_s=60.0)
        (_, _, begun_s) = second.says("ready")
        interrupted = await seen(handle, "node.interrupted")
        assert interrupted.time_ms - float(begun_s) * 1000 < 1000  # counted from its first line of code
        world.make(f"go-{second.pid}")
        await handle.result()


async def test_a_worker_that_has_not_loaded_a_workflow_leaves_it_to_one_that_has(world: World) -> None:
    from perdure import Run, workflow

    @workflow
    async def elsewhere(run: Run) -> str:
        return "done here"

    world.worker()
    async with world.clerk() as clerk:
        await clerk.start(elsewhere, id="r1")
        assert await (await clerk.start(jobs.shared, id="r2")).result() == "done"
        assert await clerk.run("r1").status() == "pending"
    from perdure import Runtime

    async with Runtime(f"sqlite:///{world.path}", workflows=[elsewhere]) as runtime:
        assert await runtime.run("r1").result() == "done here"
