"""Rules of section 5: what a crash means for a run, whose budget it costs, and who is resumed first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Backoff, Done, Flow, Next, NotDone, Plan, Run, Runtime, step, workflow
from perdure.core.errors import RunParkedError
from perdure.store.memory import MemoryStore
from perdure.store.port import Store
from perdure.testing.delegate import DelegatingStore
from tests.unit.engine.staging import (
    Ledger,
    die,
    events_of,
    kinds,
    memory,
    on_disk,
    opened,
    quick,
    reaches,
    running,
    seen,
    until,
)

pytestmark = pytest.mark.time_limit(20)


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def crash_in(store: Store, main: Any, ledger: Ledger, line: str, run_id: str = "r1", **options: Any) -> None:
    """A worker takes the run up, gets to where it notes `line`, and dies."""
    before = ledger.count(line)
    runtime = await opened(store, main, **options)
    await ledger.reaches(line, before + 1)
    await die(runtime)


async def interrupted(runtime: Runtime, run_id: str = "r1") -> list[bool]:
    """For each attempt that was closed: whether it counted."""
    return [event.data["counted"] for event in await events_of(runtime.run(run_id), "node.interrupted")]


# --- attempts of nodes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_orphaned_attempt_is_closed_at_recovery(kind: str, ledger: Ledger, store_path: Path) -> None:
    shared = memory()

    def store() -> Store:
        return shared if kind == "memory" else on_disk(store_path)

    @step(kind="idempotent")
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") == 1:
            await for_ever()
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    first = await opened(store(), main)
    await first.start(main, id="r1")
    await ledger.reaches("send")
    await die(first)
    async with running(store(), main) as second:
        handle = second.run("r1")
        assert await handle.result() == "sent"
        (closed,) = await events_of(handle, "node.interrupted")
        assert closed.node == "main#1"
        assert closed.data == {"attempt": 1, "counted": True, "cause": "worker lost", "worker": first.worker_id}
        assert [event.data["attempt"] for event in await events_of(handle, "node.entered")] == [1, 2]
        assert second.worker.recovered == 1


async def test_a_crash_while_a_run_waits_interrupts_nothing(ledger: Ledger) -> None:
    store = memory()

    @workflow
    async def main(run: Run) -> Any:
        return await run.wait_for("go")

    first = await opened(store, main)
    await reaches(await first.start(main, id="r1"), "waiting")
    await die(first)
    async with running(store, main) as second:
        handle = second.run("r1")
        await handle.signal("go", 7)
        assert await handle.result() == 7
        assert await interrupted(second) == []
        assert {event.data["attempt"] for event in await events_of(handle, "node.entered")} == {1}


async def test_committed_facts_are_not_asked_for_again_after_a_crash(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        if number == 3 and ledger.count("send 3") == 1:
            await for_ever()
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        return [await run.step(send, number) for number in range(5)]

    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("send 3")
    await die(first)
    async with running(store, main) as second:
        assert await second.run("r1").result() == [0, 1, 2, 3, 4]
    assert [ledger.count(f"send {number}") for number in range(5)] == [1, 1, 1, 2, 1]


# --- the crash budget -------------------------------------------------------------------------------------------------


def poisonous(ledger: Ledger) -> Any:
    @step(kind="idempotent")
    async def poison() -> None:
        ledger.note("poison")
        await for_ever()

    @workflow(name="main")
    async def main(run: Run) -> None:
        await run.step(poison)

    return main


async def test_a_spent_crash_budget_parks_the_run_and_never_fails_it(ledger: Ledger) -> None:
    store, main, limits = memory(), poisonous(ledger), quick(crash_budget=3)
    first = await opened(store, main, limits=limits)
    await first.start(main, id="r1")
    await ledger.reaches("poison")
    await die(first)
    for _ in range(3):
        await crash_in(store, main, ledger, "poison", limits=limits)
    async with running(store, main, limits=limits) as last:
        handle = last.run("r1")
        with pytest.raises(RunParkedError) as raised:
            await handle.result()
        assert raised.value.ids["reason"] == "crash_budget_spent"
        assert (await handle.row()).status == "paused"
        assert await interrupted(last) == [True] * 4
        assert ledger.count("poison") == 4


async def test_a_parked_run_that_is_resumed_has_its_whole_budget_again(ledger: Ledger) -> None:
    store, main, limits = memory(), poisonous(ledger), quick(crash_budget=1)
    first = await opened(store, main, limits=limits)
    await first.start(main, id="r1")
    await ledger.reaches("poison")
    await die(first)
    await crash_in(store, main, ledger, "poison", limits=limits)
    async with running(store, main, limits=limits) as third:
        await seen(third.run("r1"), "run.paused")
        await third.unpause("r1")
        await ledger.reaches("poison", 3)
        await die_in(third)
    await crash_in(store, main, ledger, "poison", limits=limits)  # one more crash is within the budget
    async with running(store, main, limits=limits) as last:
        await seen(last.run("r1"), "run.paused", 2)


async def die_in(runtime: Runtime) -> None:
    """As `die`, inside `async with`."""
    await die(runtime)
    runtime._open = False


FACTS = ("step", "state", "delete", "emit", "put", "now", "patched", "wait", "child", "join", "branch", "node")


@pytest.mark.parametrize("fact", [*FACTS, "nothing"])
async def test_any_new_durable_fact_resets_the_count(fact: str, ledger: Ledger) -> None:
    """A second crash in a row is one too many here, and between each crash and the next lies one fact of some kind."""

    @step(kind="read")
    async def look() -> int:
        return 1

    @workflow
    async def child(run: Run) -> int:
        return 1

    async def something(run: Run, number: int) -> None:
        if fact == "step":
            await run.step(look)
        elif fact == "state":
            run.state["n"] = number
        elif fact == "delete":
            run.state["n"] = number
            del run.state["n"]
        elif fact == "emit":
            run.emit("app.noted", number)
        elif fact == "put":
            run.put(b"bytes")
        elif fact == "now":
            run.now()
        elif fact == "patched":
            run.patched(f"patch{number}")
        elif fact == "wait":
            await run.sleep(0)
        elif fact == "child":
            await run.spawn(child)
        elif fact == "join":
            await run.gather()
        elif fact == "branch":
            async with run.branch(f"b{number}"):
                pass

    async def perhaps_hang(number: int) -> None:
        ledger.note(f"at {number}")
        if ledger.count(f"at {number}") == 1:
            await for_ever()

    flow = Flow("main")

    @flow.node
    async def work(run: Run) -> Any:
        if fact == "node":
            visit = int(run._root.node.rpartition("#")[2])
            await perhaps_hang(visit - 1)
            return Next("work" if visit < 4 else "end")
        for number in range(4):
            await something(run, number)
            await perhaps_hang(number)
        return Next("end")

    @flow.node
    async def end(run: Run) -> Done:
        return Done("done")

    store, limits = memory(), quick(crash_budget=1)
    runtime = await opened(store, flow, child, limits=limits)
    await runtime.start(flow, id="r1")
    for number in range(2 if fact == "nothing" else 4):
        await ledger.reaches(f"at {number}")
        await runtime.worker.executions["r1"].log.barrier()
        await die(runtime)
        runtime = await opened(store, flow, child, limits=limits)
    if fact == "nothing":
        assert (await seen(runtime.run("r1"), "run.paused")).data["reason"] == "crash_budget_spent"
    else:
        assert await runtime.run("r1").result() == "done"
        assert await interrupted(runtime) == [True] * 4
    await runtime.close()


async def test_an_attempt_that_failed_is_no_fact(ledger: Ledger) -> None:
    """Retries must not hide a run that kills its worker again and again."""
    store, limits = memory(), quick(crash_budget=2)

    @step(kind="idempotent", retries=100, backoff=Backoff(initial_s=0.0))
    async def send() -> None:
        ledger.note("send")
        if ledger.count("send") % 2:
            raise ValueError("try again")
        ledger.note("stuck")
        await for_ever()

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    first = await opened(store, main, limits=limits)
    await first.start(main, id="r1")
    await ledger.reaches("stuck")
    await die(first)
    for _ in range(2):
        await crash_in(store, main, ledger, "stuck", limits=limits)
    async with running(store, main, limits=limits) as last:
        assert (await seen(last.run("r1"), "run.paused")).data["reason"] == "crash_budget_spent"


@pytest.mark.parametrize("policy", ["retry", "probe"])
async def test_a_doubt_that_policy_resolves_is_no_fact(policy: str, ledger: Ledger) -> None:
    store, limits = memory(), quick(crash_budget=2)

    async def probe() -> Any:
        return NotDone

    options: dict[str, Any] = {"in_doubt": "retry"} if policy == "retry" else {"probe": probe}

    @step(kind="once", timeout="1h", **options)
    async def pay() -> None:
        ledger.note("stuck")
        await for_ever()

    @workflow
    async def main(run: Run) -> None:
        await run.step(pay)

    first = await opened(store, main, limits=limits)
    await first.start(main, id="r1")
    await ledger.reaches("stuck")
    await die(first)
    for _ in range(2):
        await crash_in(store, main, ledger, "stuck", limits=limits)
    async with running(store, main, limits=limits) as last:
        assert (await seen(last.run("r1"), "run.paused")).data["reason"] == "crash_budget_spent"
    assert ledger.count("stuck") == 3


async def test_a_crash_that_interrupts_several_branches_counts_once(ledger: Ledger) -> None:
    store, limits = memory(), quick(crash_budget=1)
    plan = Plan("main", mode="fan_out")

    @step(kind="idempotent")
    async def send(which: str) -> None:
        ledger.note(which)
        if ledger.count(which) == 1:
            await for_ever()

    @plan.state("a.b.left")
    async def left(run: Run) -> None:
        await run.step(send, "left")

    @plan.state("a.b.right")
    async def right(run: Run) -> None:
        await run.step(send, "right")

    first = await opened(store, plan, limits=limits)
    await first.start(plan, id="r1")
    await ledger.reaches("left")
    await ledger.reaches("right")
    await die(first)
    async with running(store, plan, limits=limits) as second:
        await second.run("r1").result()
        assert await interrupted(second) == [True, True]


# --- suspects ---------------------------------------------------------------------------------------------------------


async def test_suspects_are_resumed_one_at_a_time_until_they_make_progress(ledger: Ledger) -> None:
    store = memory()
    let_go: dict[str, asyncio.Event] = {f"r{number}": asyncio.Event() for number in range(4)}

    @step(kind="idempotent")
    async def first_step(run_id: str) -> None:
        ledger.note(run_id)
        ledger.note("any")
        await let_go[run_id].wait()

    @step(kind="idempotent")
    async def second_step(run_id: str) -> None:
        ledger.note("second")
        await let_go["all"].wait()

    @workflow
    async def main(run: Run) -> str:
        await run.step(first_step, run.id)
        await run.step(second_step, run.id)
        return run.id

    first = await opened(store, main)
    for run_id in let_go:
        await first.start(main, id=run_id)
    await ledger.reaches("any", 4)
    await die(first)
    let_go["all"] = asyncio.Event()
    async with running(store, main) as second:
        for resumed in range(1, 5):
            await ledger.reaches("any", 4 + resumed)
            for _ in range(500):
                await asyncio.sleep(0)
            assert ledger.count("any") == 4 + resumed  # nobody else has begun
            current = ledger.lines[-2]
            let_go[current].set()  # its fact is progress; what comes after may go on beside the next suspect
        await ledger.reaches("second", 4)
        let_go["all"].set()
        assert {await second.run(run_id).result() for run_id in list(let_go)[:4]} == set(list(let_go)[:4])


async def test_a_suspect_that_lives_long_without_progress_lets_the_others_go_on(ledger: Ledger) -> None:
    store = memory()
    hangs = asyncio.Event()

    @step(kind="idempotent")
    async def work(run_id: str) -> None:
        ledger.note(run_id)
        if ledger.count("died") == 0 or run_id == "r0":
            await hangs.wait()

    @workflow
    async def main(run: Run) -> str:
        await run.step(work, run.id)
        return run.id

    first = await opened(store, main)
    for run_id in ("r0", "r1", "r2"):
        await first.start(main, id=run_id)
        await ledger.reaches(run_id, 1)
    await die(first)
    ledger.note("died")
    async with running(store, main, limits=quick(suspect_turn_s=0.05)) as second:
        assert [await second.run(run_id).result() for run_id in ("r1", "r2")] == ["r1", "r2"]
        hangs.set()
        assert await second.run("r0").result() == "r0"


async def test_a_run_that_kills_its_worker_spends_its_own_budget_and_not_its_neighbours(ledger: Ledger) -> None:
    store, limits = memory(), quick(crash_budget=3)

    @step(kind="idempotent")
    async def work(run_id: str) -> None:
        ledger.note(run_id)
        if run_id == "poison" or ledger.count("poison") < 1 or ledger.count(run_id) == 1:
            await for_ever()

    @workflow
    async def main(run: Run) -> str:
        await run.step(work, run.id)
        return "done"

    runtime = await opened(store, main, limits=limits)
    innocents = [f"innocent{number}" for number in range(5)]
    for run_id in [*innocents[:3], "poison", *innocents[3:]]:
        await runtime.start(main, id=run_id)
    for run_id in [*innocents, "poison"]:
        await ledger.reaches(run_id)
    for crash in range(1, 5):
        await ledger.reaches("poison", crash)
        await die(runtime)
        runtime = await opened(store, main, limits=limits)
    assert (await seen(runtime.run("poison"), "run.paused")).data["reason"] == "crash_budget_spent"
    for run_id in innocents:
        assert await runtime.run(run_id).result() == "done"
        assert await interrupted(runtime, run_id) == [True]
    assert await interrupted(runtime, "poison") == [True] * 4
    await runtime.close()


async def test_runs_that_were_not_in_flight_do_not_wait_behind_suspects(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def work(run_id: str) -> None:
        ledger.note(run_id)
        if run_id == "suspect":
            await for_ever()

    @workflow
    async def main(run: Run) -> str:
        await run.step(work, run.id)
        return "done"

    @workflow
    async def waits(run: Run) -> Any:
        return await run.wait_for("go")

    first = await opened(store, main, waits)
    await first.start(main, id="suspect")
    await reaches(await first.start(waits, id="waiter"), "waiting")
    await ledger.reaches("suspect")
    await die(first)
    async with running(store, execute=False) as clerk:
        await clerk.start(main, id="fresh")
    async with running(store, main, waits, limits=quick()) as second:
        await ledger.reaches("suspect", 2)
        assert await second.run("fresh").result() == "done"
        await second.run("waiter").signal("go", 1)
        assert await second.run("waiter").result() == 1


# --- drain ------------------------------------------------------------------------------------------------------------


async def test_a_drain_is_recorded_durably_on_receipt(ledger: Ledger) -> None:
    store = memory()
    main = poisonous(ledger)
    async with running(store, main, limits=quick(drain_grace_s=0.5)) as runtime:
        await runtime.start(main, id="r1")
        await ledger.reaches("poison")
        draining = asyncio.ensure_future(runtime.drain())
        while not (await store.workers())[0].draining:
            assert not draining.done()
            await asyncio.sleep(0.001)
        assert not draining.done()
        await draining


async def test_what_dies_after_a_drain_was_received_counts_against_nobody(ledger: Ledger) -> None:
    store, main, limits = memory(), poisonous(ledger), quick(crash_budget=0, drain_grace_s=30.0)
    first = await opened(store, main, limits=limits)
    for number in range(3):
        await first.start(main, id=f"r{number}")
    await ledger.reaches("poison", 3)
    draining = asyncio.ensure_future(first.drain())
    while not (await store.workers())[0].draining:  # noqa: ASYNC110  (no event announces it)
        await asyncio.sleep(0.001)
    await die(first)
    await draining
    async with running(store, main, limits=quick(drain_grace_s=0.05)) as second:
        await ledger.reaches("poison", 6)  # all at once: they are no suspects either
        for number in range(3):
            assert await interrupted(second, f"r{number}") == [False]


async def test_a_drain_lets_steps_end_within_their_grace_and_closes_what_it_leaves(ledger: Ledger) -> None:
    store, go_on = memory(), asyncio.Event()

    @step(kind="idempotent")
    async def quick_one() -> str:
        ledger.note("quick")
        await go_on.wait()
        return "ended"

    @step(kind="idempotent")
    async def slow_one() -> str:
        ledger.note("slow")
        if ledger.count("slow") == 1:
            await for_ever()
        return "again"

    @workflow
    async def main(run: Run) -> list[str]:
        return await run.gather(run.step(quick_one), run.step(slow_one))

    async with running(store, main, limits=quick(drain_grace_s=1.0)) as runtime:
        await runtime.start(main, id="r1")
        await ledger.reaches("slow")
        draining = asyncio.ensure_future(runtime.drain())
        await until(lambda: runtime.worker._closing)
        go_on.set()
        await draining
        (closed,) = await events_of(runtime.run("r1"), "node.interrupted")
        assert (closed.data["counted"], closed.data["cause"]) == (False, "drain")
        assert (await runtime.run("r1").row()).owner is None
        late = await runtime.start(main, id="r2")  # it is kept for another worker
        assert (await late.row()).status == "pending"
    async with running(store, main) as second:
        assert await second.run("r1").result() == ["ended", "again"]
        assert ledger.count("quick") == 2  # once for each run
        await second.run("r2").result()


class Held(DelegatingStore):
    """A store whose reads of journals wait until they are let through."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def read(self, run_id: str, **options: Any) -> Any:
        self.asked.set()
        await self.go_on.wait()
        return await super().read(run_id, **options)


async def test_a_drain_in_the_middle_of_a_recovery_does_not_begin_the_run(ledger: Ledger) -> None:
    inner: MemoryStore = memory()
    main = poisonous(ledger)
    first = await opened(inner, main)
    await first.start(main, id="r1")
    await ledger.reaches("poison")
    await die(first)
    store = Held(inner)
    async with running(store, main, limits=quick()) as second:
        await store.asked.wait()
        draining = asyncio.ensure_future(second.drain())
        await until(lambda: second.worker._closing)
        store.go_on.set()
        await draining
        assert ledger.count("poison") == 1
        row = await second.run("r1").row()
        assert row.owner is None


async def test_a_drain_ends_a_paused_run_whose_step_does_not_end(ledger: Ledger) -> None:
    """A pause waits for the step in flight as long as it takes; a drain does not."""
    store, main = memory(), poisonous(ledger)
    async with running(store, main, limits=quick()) as runtime:
        handle = await runtime.start(main, id="r1")
        await ledger.reaches("poison")
        await handle.pause()
        await seen(handle, "run.paused")
        await runtime.drain()
        assert await handle.status() == "paused"
        assert "step.completed" not in await kinds(handle)
