"""A worker that is stopped past its lease inside a step, and woken again: a zombie.

Real processes, SIGSTOP and SIGCONT. What it appends then is refused, its late result is dropped, and each `once` effect
happened at most once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import RunHandle
from perdure.core.events import Event
from tests.process import jobs
from tests.process.workers import World, world_in
from tests.unit.engine.staging import events_of, journal, seen

pytestmark = pytest.mark.time_limit(60)
LEASE_S = 0.6


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as world:
        yield world


def one_executor_at_a_time(events: list[Event]) -> None:
    """No event of an earlier epoch stands behind one of a later epoch."""
    epochs = [event.epoch for event in events if event.actor.startswith("worker:") and event.epoch]
    assert epochs == sorted(epochs)


async def verified(handle: RunHandle[str]) -> list[Event]:
    """The journal, whose chain holds and whose executors did not overlap."""
    await handle.verify()
    events = await journal(handle)
    one_executor_at_a_time(events)
    return events


async def test_a_stopped_worker_is_fenced_and_its_once_effect_is_in_doubt_and_not_repeated(world: World) -> None:
    zombie = world.worker(lease_s=LEASE_S)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "pay", id="r1")
        zombie.says("at go-")
        zombie.stop()
        stopped_s = time.monotonic()
        other = world.worker(lease_s=LEASE_S)
        interrupted = await seen(handle, "node.interrupted")
        assert time.monotonic() - stopped_s >= LEASE_S * 0.5  # not before its lease has ended: it is not dead
        assert interrupted.data["counted"]
        await seen(handle, "run.suspended")
        (question,) = await clerk.questions("r1")
        assert question.kind == "doubt"

        before = await journal(handle)
        world.make(f"go-{zombie.pid}")  # the step of the zombie ends as soon as it runs again
        zombie.wake()
        other.kill()
        await clerk.start(jobs.shared, id="later")  # only the zombie can do it: it is a worker like any other again
        assert await clerk.run("later").result() == "done"
        after = await journal(handle)
        assert [event.header for event in after[: len(before)]] == [event.header for event in before]
        assert "step.completed" not in [event.kind for event in after]
        await clerk.resolve("r1", "done", value="paid, the bank says")
        assert await handle.result() == "paid, the bank says"
        events = await verified(handle)
        assert [event.kind for event in events].count("step.completed") == 1
    assert [line.split()[0] for line in world.ledger()].count("pay") == 1


async def test_a_stopped_workers_idempotent_effect_is_repeated_by_another_and_its_own_result_is_refused(
    world: World,
) -> None:
    zombie = world.worker(lease_s=LEASE_S)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "send", id="r1")
        zombie.says("at go-")
        zombie.stop()
        other = world.worker(lease_s=LEASE_S)
        other.says("at go-")
        world.make(f"go-{zombie.pid}")
        zombie.wake()
        await clerk.start(jobs.shared, id="later")
        await clerk.run("later").result()
        assert "step.completed" not in [event.kind for event in await journal(handle)]
        world.make(f"go-{other.pid}")
        result = await handle.result()
        events = await verified(handle)
        (first, second) = [event for event in events if event.kind == "step.intended"]
        assert result == f"send by {other.pid} under epoch {second.epoch}"
        assert first.data["idempotency_key"] == second.data["idempotency_key"]
        assert second.epoch > first.epoch
    assert [line.split()[0] for line in world.ledger()].count("send") == 2


async def test_the_probe_of_another_worker_waits_for_the_lease_and_the_timeout_of_the_stopped_one(
    world: World,
) -> None:
    zombie = world.worker(lease_s=LEASE_S)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "pay_probed", id="r1")
        zombie.says("at go-")
        zombie.stop()
        world.worker(lease_s=LEASE_S)
        doubted = await seen(handle, "step.doubted")
        resolved = await seen(handle, "step.resolved")
        assert resolved.data["by"] == "probe"
        assert resolved.time_ms - doubted.time_ms >= 990  # the step's timeout is 1 s
        assert await handle.result() == "found by the probe"
        world.make(f"go-{zombie.pid}")
        zombie.wake()
        await clerk.start(jobs.shared, id="later")
        await clerk.run("later").result()
        events = await verified(handle)
        assert events[-1].kind == "run.completed"
    assert [line.split()[0] for line in world.ledger()].count("pay_probed") == 1


async def test_a_worker_that_was_alone_takes_its_run_up_again_when_it_is_woken(world: World) -> None:
    worker = world.worker(lease_s=LEASE_S)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "send", id="r1")
        waiting = await clerk.start(jobs.waits, id="r2")
        await seen(waiting, "run.suspended")
        worker.says("at go-")
        worker.stop()
        until_s = time.monotonic() + LEASE_S * 1.5
        while time.monotonic() < until_s:
            time.sleep(0.05)  # the lease must end, and nothing but time ends it
        world.make(f"go-{worker.pid}")
        worker.wake()
        assert f"send by {worker.pid}" in await handle.result()
        assert await events_of(handle, "node.interrupted") == []
        await waiting.signal("go", 5)
        assert await waiting.result() == 5
        await verified(handle)


async def test_a_worker_stopped_for_less_than_its_lease_keeps_its_runs(world: World) -> None:
    worker = world.worker(lease_s=30.0)
    async with world.clerk() as clerk:
        handle = await clerk.start(jobs.one_step, "pay", id="r1")
        worker.says("at go-")
        worker.stop()
        world.worker(lease_s=30.0)
        await (await clerk.start(jobs.shared, id="later")).result()  # the other one has looked for work
        world.make(f"go-{worker.pid}")
        worker.wake()
        assert "under epoch 1" in await handle.result()
    assert [line.split()[0] for line in world.ledger()].count("pay") == 1
