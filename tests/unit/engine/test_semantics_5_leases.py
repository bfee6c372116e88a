"""Rules of section 5: whose a run is, the caller's own loop, and timers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perdure import Limits, Run, Runtime, step, workflow
from perdure.core.errors import InputError, RunCancelled, RunEndedError, StateError, WaitClosedError, WaitNotFoundError
from perdure.core.events import NEVER
from perdure.engine.ports import SystemClock
from perdure.store.port import Store
from perdure.testing.delegate import DelegatingStore
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    journal,
    kinds,
    memory,
    on_disk,
    opened,
    quick,
    reaches,
    running,
    seen,
)

pytestmark = pytest.mark.time_limit(20)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def turns(count: int = 300) -> None:
    """Let everything that is ready have its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


# --- leases -----------------------------------------------------------------------------------------------------------


async def test_the_lease_belongs_to_the_worker_and_not_to_each_run(store_path: Path) -> None:
    """However many runs it owns, renewing is one row of the worker's."""

    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")

    async with running(on_disk(store_path), main, limits=quick(linger_s=60.0)) as runtime:
        handles = [await runtime.start(main) for _ in range(20)]
        for handle in handles:
            await reaches(handle, "waiting")
        (before,) = await runtime.store.workers()
        rows = [await handle.row() for handle in handles]
        assert {row.owner for row in rows} == {runtime.worker_id}
        await asyncio.to_thread(runtime.worker.lease.renew)
        (after,) = await runtime.store.workers()
        assert after.lease_end_ms > before.lease_end_ms
        assert [await handle.row() for handle in handles] == rows


async def test_the_heartbeat_has_a_thread_of_its_own_and_survives_a_busy_event_loop(store_path: Path) -> None:
    @workflow
    async def main(run: Run) -> str:
        time.sleep(0.6)  # a workflow's code that blocks the loop for longer than the lease
        return "done"

    async with running(on_disk(store_path), main, limits=Limits(lease_s=0.3)) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "done"
        assert {event.epoch for event in (await journal(handle))[1:]} == {1}
        assert runtime.worker.lease.valid()


async def test_a_worker_whose_lease_ended_for_a_while_takes_its_runs_up_again(store_path: Path, ledger: Ledger) -> None:
    """A machine that slept: nobody else was there, so the runs are still its own, and they go on."""
    clock = StageClock()

    @step(kind="idempotent")
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") == 1:
            await asyncio.get_running_loop().create_future()
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    store = on_disk(store_path, boot_clock=clock.boot_ms)
    async with running(store, main, limits=quick(lease_s=0.3)) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("send")
        clock._now_ms += 3_600_000
        assert await handle.result() == "sent"
        assert "node.interrupted" not in await kinds(handle)  # it was not a crash
    assert ledger.count("send") == 2


# --- what a worker claims ---------------------------------------------------------------------------------------------


async def test_a_worker_claims_only_runs_of_workflows_that_it_has_loaded(ledger: Ledger) -> None:
    store = memory()

    @workflow
    async def known(run: Run) -> str:
        return "done"

    @workflow
    async def unknown(run: Run) -> str:
        return "done"

    async with running(store, execute=False) as clerk:
        await clerk.start(known, id="k")
        await clerk.start(unknown, id="u")
    async with running(store, known) as worker:
        assert await worker.run("k").result() == "done"
        await turns()
        row = await worker.run("u").row()
        assert (row.status, row.owner) == ("pending", None)
        assert await kinds(worker.run("u")) == ["run.started"]
        worker.register(unknown)  # and takes up what is due as soon as it has
        assert await worker.run("u").result() == "done"


async def test_an_orphan_of_a_workflow_that_nobody_has_loaded_is_left_alone(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("send")
        await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    @workflow
    async def other(run: Run) -> str:
        return "done"

    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("send")
    await die(first)
    async with running(store, other) as second:
        assert await (await second.start(other)).result() == "done"
        await turns()
        assert (await kinds(second.run("r1")))[-1] == "step.intended"


async def test_a_run_whose_loop_the_caller_owns_is_never_claimed_by_a_worker(ledger: Ledger) -> None:
    store = memory()

    @workflow
    async def main(run: Run) -> str:
        ledger.note("begun")
        return str(await run.wait_for("go"))

    async with running(store, main) as runtime:
        handle = await runtime.start(main, id="r1", caller_owned=True)
        await turns()
        assert await handle.status() == "pending"
        await runtime.tick("r1")
        await handle.signal("go", 1)
    async with running(store, main) as second:
        await turns()
        assert ledger.count("begun") == 1
        assert (await second.run("r1").row()).due_ms in (0, NEVER)
        await second.tick("r1", max_steps=5)
        assert await second.run("r1").result() == "1"
        assert ledger.count("begun") == 2


# --- the caller's own loop --------------------------------------------------------------------------------------------


async def test_tick_does_at_most_so_many_steps_and_what_it_did_is_durable(ledger: Ledger) -> None:
    store = memory()

    @step(kind="read")
    async def look(number: int) -> int:
        ledger.note("look")
        return number

    @workflow
    async def main(run: Run) -> int:
        return sum([await run.step(look, number) for number in range(5)])

    first = await opened(store, main)
    await first.start(main, id="r1", caller_owned=True)
    assert ledger.count("look") == 0
    for done in (1, 2):
        tick = await first.tick("r1")
        assert (tick.status, tick.ended, ledger.count("look")) == ("running", False, done)
    await die(first)
    async with running(store, main) as second:
        await second.tick("r1", max_steps=2)
        assert ledger.count("look") == 4  # what was done before is not done again
        tick = await second.tick("r1", max_steps=2)
        assert (tick.status, tick.ended) == ("completed", True)
        assert await second.run("r1").result() == 10
        before = await kinds(second.run("r1"))
        assert (await second.tick("r1")).ended
        assert await kinds(second.run("r1")) == before
    assert ledger.count("look") == 5


async def test_what_a_tick_did_not_use_is_not_kept_for_later(ledger: Ledger) -> None:
    @step(kind="read")
    async def look() -> None:
        ledger.note("look")

    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")
        await run.step(look)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main, caller_owned=True)
        await runtime.tick(handle.id, max_steps=50)
        await handle.signal("go")
        await turns()
        assert ledger.count("look") == 0
        await runtime.tick(handle.id, max_steps=50)
        assert ledger.count("look") == 1
        assert await handle.status() == "completed"


async def test_resume_settles_a_question_or_a_signal_by_its_key() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.ask("Go on?", kind="confirm"), await run.wait_for("price")]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main, caller_owned=True)
        tick = await runtime.tick(handle.id)
        assert (tick.status, len(tick.waits)) == ("waiting", 1)
        with pytest.raises(WaitNotFoundError):
            await runtime.resume(handle.id, "nonsense", True)
        await runtime.resume(handle.id, tick.waits[0], True)
        with pytest.raises(WaitClosedError):
            await runtime.resume(handle.id, tick.waits[0], True)
        tick = await runtime.tick(handle.id)
        await runtime.resume(handle.id, tick.waits[0], 12.5)
        tick = await runtime.tick(handle.id)
        assert tick.ended
        assert await handle.result() == [True, 12.5]


async def test_tick_refuses_a_run_that_belongs_to_workers_or_to_another_process(store_path: Path) -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")

    async with running(on_disk(store_path), main) as runtime, running(on_disk(store_path), main) as other:
        with pytest.raises(StateError, match="belongs to workers"):
            await runtime.tick((await runtime.start(main)).id)
        handle = await runtime.start(main, caller_owned=True)
        with pytest.raises(InputError):
            await runtime.tick(handle.id, max_steps=0)
        await runtime.tick(handle.id)
        with pytest.raises(StateError, match="another process"):
            await other.tick(handle.id)


async def test_commands_reach_a_run_whose_loop_the_caller_owns(ledger: Ledger) -> None:
    @step(kind="read")
    async def look() -> None:
        ledger.note("look")

    @workflow
    async def main(run: Run) -> None:
        for _ in range(3):
            await run.step(look)

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main, caller_owned=True)
        await runtime.tick(handle.id)
        await handle.pause()
        assert (await runtime.tick(handle.id)).status == "paused"
        assert ledger.count("look") == 1
        await handle.resume()
        await turns()
        assert ledger.count("look") == 1  # only a tick goes on with it
        await runtime.tick(handle.id)
        assert ledger.count("look") == 2
        await handle.cancel()
        assert (await runtime.tick(handle.id)).ended
        with pytest.raises(RunCancelled):
            await handle.result()
        with pytest.raises(RunEndedError):
            await handle.pause()


class Counting(DelegatingStore):
    """How often a store is called, and how many events it hands out."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()

    async def read(self, run_id: str, **options: Any) -> Any:
        events = await super().read(run_id, **options)
        self.calls["read"] += 1
        self.calls["events read"] += len(events)
        return events

    def append(self, batch: Any, *, in_place: bool = True) -> Any:
        self.calls["append"] += 1
        self.calls["events appended"] += sum(len(one.drafts) for one in batch)
        return super().append(batch, in_place=in_place)

    async def get_run(self, run_id: str) -> Any:
        self.calls["get_run"] += 1
        return await super().get_run(run_id)

    async def open_waits(self, **options: Any) -> Any:
        self.calls["open_waits"] += 1
        return await super().open_waits(**options)

    async def claim_run(self, lease: Any, run_id: str, *, steal: bool = False) -> Any:
        self.calls["claim_run"] += 1
        return await super().claim_run(lease, run_id, steal=steal)

    async def head(self, run_id: str) -> Any:
        self.calls["head"] += 1
        return await super().head(run_id)


@pytest.mark.parametrize("kind", ["read", "idempotent"])
async def test_tick_1_stays_flat_in_cost(kind: str) -> None:
    """Counted in what it asks of the store: the thousandth tick asks for what the tenth did."""

    @step(kind=kind)  # type: ignore[call-overload]
    async def act(number: int) -> int:
        return number

    @workflow
    async def main(run: Run) -> None:
        for number in range(2000):
            await run.step(act, number)

    store = Counting(memory())
    async with running(store, main) as runtime:
        handle = await runtime.start(main, caller_owned=True)
        costs = []
        for _ in range(1000):
            before = store.calls.copy()
            await runtime.tick(handle.id)
            costs.append(store.calls - before)
        assert costs[999] == costs[9]
        assert costs[9]["events read"] == 0
        assert costs[9]["append"] <= 2
        assert sum(costs[9].values()) <= 8


# --- timers -----------------------------------------------------------------------------------------------------------


async def test_a_timer_never_fires_before_its_instant(ledger: Ledger) -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run) -> None:
        await run.sleep("10s")
        ledger.note(str(clock.passed_ms))

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance(9.999)
        assert ledger.lines == []
        await clock.advance(0.001)
        await handle.result()
    assert ledger.lines == ["10000"]


async def test_a_timer_fires_once_and_at_its_first_instant_also_over_restarts(ledger: Ledger) -> None:
    clock, store = StageClock(), memory()

    @workflow
    async def main(run: Run) -> None:
        await run.sleep("1h")
        ledger.note(str(clock.passed_ms))
        await run.wait_for("go")

    first = await opened(store, main, clock=clock)
    await reaches(await first.start(main, id="r1"), "waiting")
    await clock.advance("40m")
    await die(first)
    second = await opened(store, main, clock=clock)
    await clock.advance("19m")
    assert ledger.lines == []
    await clock.advance("1m")
    await reaches(second.run("r1"), "waiting")
    assert ledger.lines == [str(3_600_000)]
    await die(second)
    async with running(store, main, clock=clock) as third:
        await clock.advance("2h")
        assert len(await events_of(third.run("r1"), "wait.resolved")) == 1


async def test_a_timer_that_came_due_while_nobody_was_there_fires_at_the_next_start(ledger: Ledger) -> None:
    clock, store = StageClock(), memory()

    @workflow
    async def main(run: Run) -> str:
        await run.sleep("1h")
        return "awake"

    async with running(store, main, clock=clock) as first:
        await reaches(await first.start(main, id="r1"), "waiting")
    await clock.advance("3d")
    async with running(store, main, clock=clock) as second:
        assert await second.run("r1").result() == "awake"


async def test_a_waiting_run_needs_no_worker_and_no_memory(ledger: Ledger) -> None:
    """After a while it is let go of, and taken up again when its time comes."""
    clock = StageClock()

    @workflow
    async def main(run: Run) -> str:
        ledger.note("begun")
        await run.sleep("30d")
        return "awake"

    async with running(memory(), main, clock=clock, limits=Limits(linger_s=5.0)) as runtime:
        handle = await runtime.start(main)
        await clock.advance("1m")
        assert (await handle.row()).owner is None
        assert runtime.worker.executions == {}
        await clock.advance("30d")
        assert await handle.result() == "awake"
    assert ledger.count("begun") == 2


class Jumping(SystemClock):
    """The machine's clock, which somebody sets forward or back."""

    set_by_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.set_by_ms


@pytest.mark.parametrize("set_by_ms", [86_400_000, 0])
async def test_within_one_process_a_timer_never_fires_before_its_duration_has_passed(set_by_ms: int) -> None:
    """Also when the wall clock is set forward meanwhile."""
    clock = Jumping()
    passed = []

    @workflow
    async def main(run: Run) -> None:
        for number in range(20):
            begun = time.monotonic()
            if number == 0:
                asyncio.get_running_loop().call_soon(setattr, clock, "set_by_ms", set_by_ms)
                await run.sleep(0.2)
                passed.append(time.monotonic() - begun - 0.2)
            else:
                await run.sleep(0.005)
                passed.append(time.monotonic() - begun - 0.005)

    async with running(memory(), main, clock=clock) as runtime:
        await (await runtime.start(main)).result()
    assert min(passed) >= 0


async def test_a_wall_clock_that_is_set_back_delays_a_timer() -> None:
    clock = Jumping()
    fired = asyncio.Event()
    clock.call_at(clock.now_ms() + 30, fired.set)
    clock.set_by_ms = -200
    begun = time.monotonic()
    await fired.wait()
    assert time.monotonic() - begun >= 0.2


async def test_timers_wake_in_the_order_of_their_instants() -> None:
    clock, ledger = StageClock(), Ledger()

    @workflow
    async def main(run: Run, delay_s: int) -> None:
        await run.sleep(delay_s)
        ledger.note(str(delay_s))

    async with running(memory(), main, clock=clock, limits=quick()) as runtime:
        handles = [await runtime.start(main, delay_s) for delay_s in (30, 10, 20, 40)]
        for handle in handles:
            await reaches(handle, "waiting")
        await clock.advance(60)
        for handle in handles:
            await handle.result()
    assert ledger.lines == ["10", "20", "30", "40"]


async def test_two_runtimes_of_one_store_hear_of_each_others_runs(store_path: Path) -> None:
    @workflow
    async def main(run: Run) -> Any:
        return await run.wait_for("go")

    async with running(on_disk(store_path), main) as worker, running(on_disk(store_path), execute=False) as clerk:
        handle = await worker.start(main, id="r1")
        await reaches(handle, "waiting")
        other: Runtime = clerk
        await other.signal("go", 5, run_id="r1")
        assert await handle.result() == 5
        assert await other.run("r1").result() == 5
        assert "wait.resolved" in await kinds(other.run("r1"))
        await seen(other.run("r1"), "run.completed")
