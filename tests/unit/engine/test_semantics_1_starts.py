"""Rules of section 1: what its caller gives up, a start or a command, has happened or not, and nothing between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Run, RunHandle, Runtime, workflow
from perdure.core.errors import RunNotFoundError, StoreWriteError
from perdure.store.memory import MemoryStore
from perdure.store.port import Claimed, Lease
from tests.unit.engine.evidence import FailingStore, HeldStore, KeptOpen, check_journals, once_at
from tests.unit.engine.staging import events_of, kinds, quick, reaches, seen, until

pytestmark = pytest.mark.time_limit(20)


@workflow
async def short(run: Run) -> str:
    return "done"


class AskedStore(HeldStore):
    """Says when it has been asked for one run."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.asked = asyncio.Event()

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        self.asked.set()
        return await super().claim_run(lease, run_id, steal=steal)


@pytest.mark.parametrize("turns", [0, 1, 2, 50])
@pytest.mark.parametrize("room", [True, False], ids=["room", "full"])
async def test_1_a_start_that_its_caller_cancels_is_a_run_or_none(turns: int, room: bool) -> None:
    """If it is one, it is executed; and the same start again is the same run."""

    @workflow
    async def occupies(run: Run) -> None:
        await run.wait_for("never")

    inner = MemoryStore()
    held = AskedStore(inner)
    async with Runtime(held, workflows=[short, occupies], limits=quick(concurrency=1)) as runtime:
        if not room:
            await reaches(await runtime.start(occupies, id="r0"), "waiting")
        held.hold()
        starting = asyncio.ensure_future(runtime.start(short, id="r1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        if not room:
            await until(lambda: not runtime.worker.executions)
        elif turns:
            await held.asked.wait()  # the worker has looked for it, too early
        held.let_pass()
        if turns:
            assert await result_of(runtime, "r1") == "done"
        else:
            with pytest.raises(RunNotFoundError):
                await runtime.run("r1").row()
        handle = await runtime.start(short, id="r1")
        assert await handle.result() == "done"
        assert (await kinds(handle)).count("run.started") == 1
    await check_journals(inner)


async def result_of(runtime: Runtime, run_id: str) -> Any:
    with runtime.hub.watch(None) as grown:
        while await runtime.store.get_run(run_id) is None:
            grown.clear()
            await grown.wait()
    return await runtime.run(run_id).result()


async def test_1_a_start_that_was_cancelled_and_never_committed_can_be_made_again() -> None:
    inner = MemoryStore()
    failing = FailingStore(inner)
    failing.fail = once_at("run.started", StoreWriteError("no space left"))
    held = HeldStore(failing)
    async with Runtime(held, workflows=[short]) as runtime:
        held.hold()
        starting = asyncio.ensure_future(runtime.start(short, id="r1"))
        await held.held()
        starting.cancel()
        held.let_pass()
        with pytest.raises(asyncio.CancelledError):
            await starting
        with pytest.raises(RunNotFoundError):
            await runtime.run("r1").row()
        assert await (await runtime.start(short, id="r1")).result() == "done"
        await until(lambda: runtime.worker.held() == [])
    await check_journals(inner)


@workflow
async def asks(run: Run) -> list[Any]:
    return [await run.ask("Well?"), await run.wait_for("price")]


async def send(handle: RunHandle[Any], command_id: str) -> None:
    if command_id == "c1":
        await handle.answer("yes", command_id=command_id)
    else:
        await handle.signal("price", 7, command_id=command_id)


@pytest.mark.parametrize("turns", [0, 1, 2, 50])
@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "let go of"])
async def test_1_a_command_that_its_caller_cancels_is_heard_of_if_it_was_taken(turns: int, in_memory: bool) -> None:
    inner = MemoryStore()
    held = HeldStore(inner)
    async with Runtime(held, workflows=[asks], limits=quick(linger_s=60.0 if in_memory else 0.01)) as runtime:
        handle = await runtime.start(asks)
        await reaches(handle, "waiting")
        if not in_memory:
            await until(lambda: not runtime.worker.held())
        for command_id in ("c1", "c2"):
            held.hold()
            sending = asyncio.ensure_future(send(handle, command_id))
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns > 2:
                await held.held()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            held.let_pass()
            if turns <= 2:  # its caller cannot know, and sends it again
                await send(handle, command_id)
            await seen(handle, "wait.opened", 2)
        assert await handle.result() == ["yes", 7]
        commands = await events_of(handle, "wait.answered", "signal.received")
        assert [event.data["command_id"] for event in commands] == ["c1", "c2"]
    await check_journals(inner)


async def test_1_a_tick_of_a_run_that_a_cancel_ends_just_then_says_so() -> None:
    """The cancel is heard of when the tick has begun, and the run is over before it goes on."""
    inner = MemoryStore()
    async with Runtime(KeptOpen(inner), workflows=[asks]) as runtime:
        handle = await runtime.start(asks, id="r1", caller_owned=True)
        await runtime.tick("r1")
        task = runtime._owned_tasks["r1"]
        log = runtime._owned["r1"].log
        caught_up = log.caught_up

        async def caught_up_and_over() -> None:
            await handle.cancel()
            await caught_up()
            await asyncio.wait({task})

        log.caught_up = caught_up_and_over  # type: ignore[method-assign]
        assert (await runtime.tick("r1")).status == "cancelled"
    await check_journals(inner)
