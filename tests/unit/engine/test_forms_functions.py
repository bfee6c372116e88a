"""Function workflows through the engine: asynchronous ones, and synchronous ones with the blocking face."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from perdure import BlockingRun, Portal, Run, Runtime, StepFailed, step, workflow
from perdure.core.errors import (
    ChildFailed,
    InputTypeError,
    RunFailed,
    StateError,
    UnknownWorkflowError,
    ValueRefusedError,
)
from perdure.store.port import Store
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    kinds,
    memory,
    on_disk,
    opened,
    quick,
    reaches,
    running,
)

pytestmark = pytest.mark.time_limit(20)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, store_path: Path) -> Store:
    return memory() if request.param == "memory" else on_disk(store_path)


@dataclass
class Order:
    item: str
    amount: int


# --- asynchronous -----------------------------------------------------------------------------------------------------


async def test_a_function_takes_typed_input_and_gives_typed_output(store: Store) -> None:
    @workflow
    async def main(run: Run, order: Order, *, at: datetime, factor: int = 2) -> Order:
        assert isinstance(order, Order)
        assert at.tzinfo is not None
        return Order(order.item, order.amount * factor)

    async with running(store, main) as runtime:
        handle = await runtime.start(main, Order("tea", 3), at=datetime.fromisoformat("2030-01-01T00:00:00+00:00"))
        assert await handle.result() == Order("tea", 6)
        at = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
        named = await runtime.start("main", order=Order("tea", 1), at=at, factor=5)
        assert await named.result() == Order("tea", 5)


async def test_wrong_input_is_refused_before_anything_is_written() -> None:
    @workflow
    async def main(run: Run, order: Order) -> None: ...

    async with running(memory(), main) as runtime:
        wrong: list[dict[str, Any]] = [{}, {"order": 5}, {"order": {"item": 1}}, {"order": Order("tea", 1), "other": 1}]
        for arguments in wrong:
            with pytest.raises((InputTypeError, ValueRefusedError)):
                await runtime.start(main, **arguments)
        with pytest.raises(UnknownWorkflowError):
            await runtime.start("nobody")
        assert await runtime.runs() == []


async def test_everything_a_run_offers_in_one_workflow_and_the_same_again_after_a_crash(
    store: Store, ledger: Ledger, store_path: Path
) -> None:
    @step(kind="pure")
    def double(number: int) -> int:
        ledger.lines.append("double")
        return number * 2

    @step(kind="idempotent")
    async def send(text: str) -> str:
        ledger.note("send")
        return f"sent {text}"

    found: list[dict[str, Any]] = []

    @workflow
    async def main(run: Run, topic: str) -> dict[str, Any]:
        seen = {
            "now": run.now().isoformat(),
            "random": run.random(),
            "uuid": str(run.uuid()),
            "rng": run.rng().random(),
            "double": await run.step(double, 4),
            "send": await run.step(send, topic),
            "map": await run.map(double, [1, 2, 3], limit=2),
            "put": run.put({"a": 1}).sha256,
        }
        run.state["topic"] = topic
        run.emit("app.noted", {"topic": topic})
        async with run.branch("left") as left:
            left.state["left"] = await left.step(double, 5)
        seen["state"] = dict(run.state)
        found.append(dict(seen))
        seen["signal"] = await run.wait_for("go")
        return seen

    first = await opened(store, main)
    handle = await first.start(main, topic="tea", id="r1")
    await reaches(handle, "waiting")
    await die(first)
    again = store if store.url.startswith("memory") else on_disk(store_path)
    async with running(again, main) as second:
        handle = second.run("r1")
        await handle.signal("go", 1)
        result = await handle.result()
        await handle.verify()
    assert found[0] == found[1]
    assert result == found[0] | {"signal": 1}
    assert found[0]["state"] == {"left": 10, "topic": "tea"}
    assert (ledger.count("double"), ledger.count("send")) == (5, 1)


# --- synchronous ------------------------------------------------------------------------------------------------------


async def test_a_sync_function_uses_the_blocking_face(store: Store, ledger: Ledger) -> None:
    threads: set[str] = set()

    @step(kind="idempotent")
    async def send(text: str) -> str:
        ledger.note("send")
        return f"sent {text}"

    @step(kind="read")
    def look(number: int) -> int:
        return number

    @workflow
    async def child(run: Run, number: int) -> int:
        return number + 1

    @workflow
    def main(run: BlockingRun, topic: str) -> dict[str, Any]:
        threads.add(threading.current_thread().name)
        assert run.id == "r1"
        run.state["topic"] = topic
        run.state["gone"] = 1
        del run.state["gone"]
        spawned = run.spawn(child, 4)
        return {
            "step": run.step(send, topic),
            "map": run.map(look, [1, 2, 3]),
            "ask": run.ask("Go on?", kind="confirm"),
            "signal": run.wait_for("go"),
            "child": spawned.result(),
            "state": {name: run.state[name] for name in run.state},
            "get": run.state.get("gone", "none"),
            "now": run.now().year > 2000,
            "has": "topic" in run.state,
            "len": len(run.state),
        }

    async with running(store, main, child) as runtime:
        handle = await runtime.start(main, "tea", id="r1")
        await reaches(handle, "waiting")
        await handle.answer("yes")
        await handle.signal("go", {"price": 3})
        assert await handle.result() == {
            "step": "sent tea",
            "map": [1, 2, 3],
            "ask": True,
            "signal": {"price": 3},
            "child": 5,
            "state": {"topic": "tea"},
            "get": "none",
            "now": True,
            "has": True,
            "len": 1,
        }
    assert "MainThread" not in threads
    assert ledger.count("send") == 1


async def test_a_sync_function_goes_on_after_a_crash(store: Store, ledger: Ledger, store_path: Path) -> None:
    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        return number

    @workflow
    def main(run: BlockingRun) -> list[Any]:
        return [run.step(send, 1), run.wait_for("go"), run.step(send, 2)]

    first = await opened(store, main)
    await reaches(await first.start(main, id="r1"), "waiting")
    await die(first)
    again = store if store.url.startswith("memory") else on_disk(store_path)
    async with running(again, main) as second:
        await second.run("r1").signal("go", "now")
        assert await second.run("r1").result() == [1, "now", 2]
    assert sorted(ledger.lines) == ["send 1", "send 2"]


async def test_a_sync_functions_exceptions_are_those_of_the_asynchronous_face(ledger: Ledger) -> None:
    @step(kind="read")
    async def fails() -> None:
        raise ValueError("no")

    @workflow
    async def child(run: Run) -> None:
        raise KeyError("child")

    @workflow
    def main(run: BlockingRun) -> list[str]:
        caught = []
        try:
            run.step(fails)
        except StepFailed as error:
            caught.append(error.error_type)
        try:
            run.spawn(child).result()
        except ChildFailed as error:
            caught.append(error.error_type)
        return caught

    @workflow
    def falls(run: BlockingRun) -> None:
        run.step(fails)

    async with running(memory(), main, child, falls) as runtime:
        assert await (await runtime.start(main)).result() == ["ValueError", "KeyError"]
        with pytest.raises(RunFailed, match="no"):
            await (await runtime.start(falls)).result()


async def test_a_sync_workflow_that_waits_long_gives_its_thread_back(ledger: Ledger) -> None:
    clock, unwound = StageClock(), threading.Event()

    @workflow
    def main(run: BlockingRun) -> str:
        try:
            run.sleep("30d")
        finally:
            ledger.lines.append("unwound")
            unwound.set()
        return "awake"

    async with running(memory(), main, clock=clock, limits=quick(linger_s=5.0)) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await clock.advance("1m")
        assert runtime.worker.executions == {}
        await asyncio.to_thread(unwound.wait)
        assert ledger.lines == ["unwound"]
        await clock.advance("31d")
        assert await handle.result() == "awake"
    assert ledger.lines == ["unwound", "unwound"]


async def test_a_drain_does_not_wait_for_a_sync_workflow_that_waits(ledger: Ledger) -> None:
    store = memory()

    @workflow
    def main(run: BlockingRun) -> Any:
        return run.wait_for("go")

    async with running(store, main, limits=quick(drain_grace_s=60.0)) as runtime:
        await reaches(await runtime.start(main, id="r1"), "waiting")
    async with running(store, main) as second:
        await second.run("r1").signal("go", 1)
        assert await second.run("r1").result() == 1


async def test_a_sync_workflow_is_paused_and_goes_on(ledger: Ledger) -> None:
    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        return number

    @workflow
    def main(run: BlockingRun) -> list[int]:
        first = run.step(send, 1)
        run.wait_for("go")
        return [first, run.step(send, 2)]

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        await handle.pause()
        await reaches(handle, "paused")
        await handle.signal("go")
        await handle.resume()
        assert await handle.result() == [1, 2]
    assert ledger.lines == ["send 1", "send 2"]


def test_a_program_without_an_event_loop_uses_a_portal(store_path: Path) -> None:
    @workflow
    async def main(run: Run, number: int) -> int:
        await run.wait_for("go")
        return number + 1

    with Portal() as portal:
        runtime = portal.enter(Runtime(on_disk(store_path), workflows=[main]))
        handle = portal.call(runtime.start, main, 4)
        portal.call(handle.signal, "go")
        assert portal.call(handle.result) == 5
        assert "run.completed" in portal.call(kinds, handle)
        with pytest.raises(UnknownWorkflowError):
            portal.call(runtime.start, "nobody")


async def test_the_blocking_face_is_refused_inside_the_event_loop() -> None:
    faces: list[BlockingRun] = []

    @workflow
    def main(run: BlockingRun) -> Any:
        faces.append(run)
        return run.wait_for("go")

    async with running(memory(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        with pytest.raises(StateError, match="event loop"):
            faces[0].now()
        await handle.signal("go", 1)
        assert await handle.result() == 1
        assert len(await events_of(handle, "step.completed")) == 0
