"""Rules of section 2: `continue_as` stays in the same run, and recovery reads from there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Done, Flow, Next, Run, Runtime, step, workflow
from perdure.core.errors import InputTypeError, RunParkedError, StateError
from perdure.core.events import Event
from perdure.core.ids import child_run_id
from perdure.store.memory import MemoryStore
from perdure.testing.delegate import DelegatingStore
from tests.unit.engine.evidence import HeldStore, KeptOpen, check_journals, recovered, witnessed
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    journal,
    kinds,
    on_disk,
    opened,
    reaches,
    seen,
)

pytestmark = pytest.mark.time_limit(20)


@step(kind="read")
async def look(what: Any = None) -> Any:
    return what


@workflow
async def sleeper(run: Run) -> str:
    return await run.wait_for("wake")


class WatchedStore(DelegatingStore):
    """Notes from where runs are read."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.read_after: list[int] = []

    async def read(self, run_id: str, *, after: int = 0, until: int | None = None, limit: int = 100_000) -> list[Event]:
        self.read_after.append(after)
        return await super().read(run_id, after=after, until=until, limit=limit)


@workflow
async def counts(run: Run, number: int, last: int = 3) -> dict[str, Any]:
    """Counts up, a generation for each number."""
    run.state["numbers"] = [*run.state.get("numbers", []), number]
    run.state["temporary"] = number
    if number > 0:
        del run.state["temporary"]
    assert run.generation == number
    assert dict(run.input) == {"number": number} | ({"last": last} if "last" in run.input else {})
    await run.step(look, number)
    if number < last:
        await run.continue_as(number + 1, last)
    return dict(run.state)


async def test_2_continue_as_stays_in_the_same_run_as_a_new_generation() -> None:
    async with witnessed(MemoryStore(), counts) as runtime:
        handle = await runtime.start(counts, 0, id="r1")
        assert await handle.result() == {"numbers": [0, 1, 2, 3]}
        continued = await events_of(handle, "run.continued")
        assert [event.data["generation"] for event in continued] == [1, 2, 3]
        assert [event.data["input"] for event in continued] == [{"last": 3, "number": n} for n in (1, 2, 3)]
        assert [event.scope for event in await events_of(handle, "step.completed")] == [
            f"{generation}/main#1" for generation in range(4)
        ]
        assert [row.run_id for row in await runtime.runs()] == ["r1"]


async def test_2_the_state_is_carried_as_it_is() -> None:
    async with witnessed(MemoryStore(), counts) as runtime:
        handle = await runtime.start(counts, 0)
        await handle.result()
        states = [event.data["state"] for event in await events_of(handle, "run.continued")]
        assert states == [
            {"numbers": [0], "temporary": 0},
            {"numbers": [0, 1]},
            {"numbers": [0, 1, 2]},
        ]
        assert await handle.state(at=1) == {}


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "sqlite"])
async def test_2_recovery_reads_from_the_newest_generation(disk: bool, tmp_path: Path) -> None:
    @workflow(name="main")
    async def main(run: Run, number: int) -> Any:
        run.state["numbers"] = [*run.state.get("numbers", []), number]
        for _ in range(10):
            await run.step(look, number)
        if number < 3:
            await run.continue_as(number + 1)
        return [await run.wait_for("go"), dict(run.state)]

    store = WatchedStore(on_disk(tmp_path / "runs.db") if disk else MemoryStore())
    async with recovered(store, main, main, number=0) as (runtime, handle):
        base = (await events_of(handle, "run.continued"))[-1].seq
        assert (await runtime.run(handle.id).row()).base_seq == base
        store.read_after.clear()
        await handle.signal("go", "gone")
        await reaches(handle, "completed")
        assert store.read_after != []
        assert min(store.read_after) == base - 1
        assert await handle.result() == ["gone", {"numbers": [0, 1, 2, 3]}]
        assert (await handle.fold(at=base - 1)).generation == 2
        await handle.verify()


async def test_2_a_crash_right_after_continue_as_goes_on_in_the_new_generation() -> None:
    inner = MemoryStore()
    held = HeldStore(inner)
    first = await opened(held, counts)
    held.hold()
    starting = asyncio.ensure_future(first.start(counts, 0, 1, id="r1"))
    await held.until_held("run.continued")
    held.let_pass(hold_next=True)
    await starting
    await held.held()  # the new generation has begun, and nothing of it is durable
    held.let_pass()
    await die(first)
    async with witnessed(inner, counts) as second:
        assert await second.run("r1").result() == {"numbers": [0, 1]}


async def test_2_unread_signals_are_carried_in_order() -> None:
    @workflow
    async def main(run: Run, number: int = 0) -> list[Any]:
        if number == 0:
            await run.wait_for("go")
            await run.continue_as(1)
        found = [await run.wait_for("a", match="k")]
        found += [await run.wait_for("a") for _ in range(2)]
        return [*found, await run.wait_for("empty")]

    async def send(runtime: Runtime, run_id: str) -> None:
        for value, match in ((1, None), ({"b": [2]}, "other"), (3, "k")):
            await runtime.signal("a", value, run_id=run_id, match=match)
        await runtime.signal("empty", run_id=run_id, sender_id="s1")
        await runtime.signal("never", "read", run_id=run_id)
        await runtime.signal("go", run_id=run_id)

    for crash in (False, True):
        store = MemoryStore()
        first = await opened(store, main)
        handle: Any = await first.start(main)
        await send(first, handle.id)
        if crash:
            await seen(handle, "run.continued")
            await die(first)
            first = await opened(store, main)
            handle = first.run(handle.id)
        assert await handle.result() == [3, 1, {"b": [2]}, None]
        received = {event.data["name"]: event.seq for event in await events_of(handle, "signal.received")}
        (ended,) = await events_of(handle, "run.completed")
        assert ended.data["unread_signals"] == [{"name": "never", "seq": received["never"]}]
        await first.close()
        await check_journals(store)


@pytest.mark.parametrize("crash", [False, True])
async def test_2_live_children_are_carried(crash: bool) -> None:
    """They are cancelled with the run, and listed at its end."""

    @workflow
    async def main(run: Run, number: int = 0) -> str:
        if number == 0:
            await run.spawn(sleeper, key="one")
            await run.spawn(sleeper, key="two")
            await run.continue_as(1)
        return await run.wait_for("go")

    for ending in ("completed", "cancelled"):
        store = MemoryStore()
        runtime = await opened(store, main, sleeper)
        handle: Any = await runtime.start(main, id="p1")
        await seen(handle, "run.continued")
        await reaches(handle, "waiting")
        if crash:
            await die(runtime)
            runtime = await opened(store, main, sleeper)
            handle = runtime.run("p1")
        children = [child_run_id("p1", "0/main#1", key) for key in ("one", "two")]
        await (handle.cancel() if ending == "cancelled" else handle.signal("go", "gone"))
        await reaches(handle, ending)
        (ended,) = await events_of(handle, f"run.{ending}")
        assert ended.data["live_children"] == children
        if ending == "cancelled":
            for young in children:
                await reaches(runtime.run(young), "cancelled")
        assert [await runtime.run(young).status() for young in children] == [
            "cancelled" if ending == "cancelled" else "waiting"
        ] * 2
        await runtime.close()
        await check_journals(store)


async def test_2_continue_as_is_a_barrier_and_leaves_no_open_wait() -> None:
    @workflow
    async def main(run: Run, number: int = 0) -> list[Any]:
        run.emit("told", number)
        await run.step(look, number)
        if number == 0:
            await run.ask("Well?", timeout="1ms", default="no")
            await run.continue_as(1)
        return [question.wait_id for question in await runtime.questions()]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == []
        (continued,) = await events_of(handle, "run.continued")
        before = [event.kind for event in await journal(handle) if event.seq < continued.seq]
        assert before.count("step.completed") == 1
        assert before.count("told") == 1
        assert continued.data["waits"] == []


@pytest.mark.parametrize("command", ["pause", "cancel"])
async def test_2_continue_as_is_decided_again_when_a_command_came_before_it(command: str) -> None:
    inner = MemoryStore()
    held = HeldStore(inner)
    async with Runtime(KeptOpen(inner), execute=False) as outside, Runtime(held, workflows=[counts]) as runtime:
        held.hold()
        starting = asyncio.ensure_future(runtime.start(counts, 0, 1, id="r1"))
        await held.until_held("run.continued")
        await getattr(outside, command)("r1")
        held.let_pass()
        handle: Any = await starting
        await reaches(handle, "paused" if command == "pause" else "cancelled")
        assert "run.continued" not in await kinds(handle)
        if command == "pause":
            await outside.unpause("r1")
            runtime.worker.wake()
            assert await handle.result() == {"numbers": [0, 1]}
    await check_journals(inner)


async def test_2_a_signal_that_came_just_before_continue_as_is_carried() -> None:
    @workflow
    async def main(run: Run, number: int = 0) -> Any:
        if number == 0:
            await run.continue_as(1)
        return await run.wait_for("go")

    inner = MemoryStore()
    held = HeldStore(inner)
    async with Runtime(KeptOpen(inner), execute=False) as outside, Runtime(held, workflows=[main]) as runtime:
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("run.continued")
        await outside.signal("go", "just in time", run_id="r1")
        held.let_pass()
        handle: Any = await starting
        assert await handle.result() == "just in time"
        (continued,) = await events_of(handle, "run.continued")
        assert (await handle.row()).base_seq == continued.seq, "the seq that it got in the end"
    await check_journals(inner)


async def test_2_large_values_are_carried_by_reference() -> None:
    """State that did not change is not written again, however often the run is continued."""
    large = "x" * 200_000

    @workflow
    async def main(run: Run, text: str, number: int = 0) -> list[Any]:
        if number == 0:
            run.state["large"] = large
        if number < 3:
            await run.continue_as(text, number + 1)
        await run.wait_for("go")
        return [run.state["large"] == large, text == large]

    store = MemoryStore()
    async with recovered(store, main, main, text=large) as (_, handle):
        sizes = [len(event.payload or b"") for event in await events_of(handle, "run.continued")]
        assert max(sizes) < 3000
        assert len(store._artifacts) == 1
        await handle.signal("go")
        assert await handle.result() == [True, True]
        assert (await handle.state())["large"] == large


async def test_2_continue_as_is_for_the_run_as_a_whole() -> None:
    caught: list[str] = []

    @workflow
    async def main(run: Run, number: int = 0) -> str:
        async def branch() -> None:
            try:
                await run.continue_as(1)
            except StateError as error:
                caught.append(error.code)

        await run.gather(branch())
        try:
            await run.continue_as("one")  # type: ignore[arg-type]
        except Exception as error:
            caught.append(error.code)  # type: ignore[attr-defined]
        return "done"

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "done"
        assert caught == ["wrong_state", "value_refused"] or caught == ["wrong_state", InputTypeError.code]
        assert "run.continued" not in await kinds(handle)


async def test_2_what_was_not_asked_for_before_continue_as_is_drift() -> None:
    ledger = Ledger()

    @step(kind="idempotent")
    async def act() -> None:
        ledger.note("act")

    @workflow(name="main")
    async def old(run: Run, number: int = 0) -> None:
        await run.step(act)
        await run.wait_for("go")

    @workflow(name="main")
    async def new(run: Run, number: int = 0) -> None:
        if number == 0:
            await run.continue_as(1)

    async with recovered(MemoryStore(), old, new) as (_, handle):
        await handle.signal("go")
        with pytest.raises(RunParkedError, match=r"act, wait_for\.go is recorded"):
            await handle.result()


async def test_2_now_never_goes_backwards_over_generations_and_restarts() -> None:
    clock = StageClock()

    @workflow
    async def main(run: Run, before: str = "") -> bool:
        now = run.now().isoformat()
        if not before:
            clock._now_ms -= 3_600_000  # somebody set the clock back
            await run.continue_as(now)
        await run.wait_for("go")
        return before <= now <= run.now().isoformat()

    store = MemoryStore()
    first = await opened(store, main, clock=clock)
    handle: Any = await first.start(main)
    await seen(handle, "run.continued")
    await reaches(handle, "waiting")
    await die(first)
    async with witnessed(store, main, clock=clock) as second:
        await second.signal("go", run_id=handle.id)
        assert await second.run(handle.id).result() is True


async def test_2_a_flow_may_continue_as_too() -> None:
    flow = Flow("rounds", input={"number": int}, output=list)

    @flow.node(to=["finish"])
    async def begin(run: Run) -> Any:
        run.state["seen"] = [*run.state.get("seen", []), run.input["number"]]
        return Next("finish", output=run.input["number"])

    @flow.node
    async def finish(run: Run) -> Any:
        if run.outputs["begin"] < 2:
            await run.continue_as(run.outputs["begin"] + 1)
        return Done(run.state["seen"])

    async with witnessed(MemoryStore(), flow) as runtime:
        handle: Any = await runtime.start(flow, 0)
        assert await handle.result() == [0, 1, 2]
        assert [event.node for event in await events_of(handle, "node.entered")] == ["begin#1", "finish#1"] * 3
