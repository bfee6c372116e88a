"""What a parent sees of a child that goes on: its status, a wait with an end, a signal to it; and other small things
that pipelines ask of a run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure import Flow, Next, Run, RunHandle, Runtime, workflow
from perdure.core.errors import AnswerRefusedError, ChildFailed, InputError, WaitTimeout
from perdure.store.memory import MemoryStore
from perdure.testing.clock import VirtualClock
from tests.unit.engine.staging import die, opened, running


@workflow
async def child(run: Run) -> str:
    run.state["mood"] = "curious"
    told = await run.wait_for("steer")
    if told == "fail":
        raise ValueError("as told")
    return f"went {told}"


@workflow
async def watcher(run: Run, told: str, looks: int = 2) -> list[Any]:
    one = await run.spawn(child)
    seen: list[Any] = []
    for _ in range(looks):
        try:
            await one.result(timeout="10s")
        except WaitTimeout:
            status = await one.status()
            seen.append([status.status, status.node, status.state])
    sent = await one.signal("steer", told)
    try:
        seen.append(await one.result())
    except ChildFailed as error:
        seen.append(error.message)
    return [*seen, sent, await one.signal("steer", "too late")]


async def waits(handle: RunHandle[Any]) -> None:
    """Return once the run has asked or waits for a signal."""
    async for event in handle.events():
        if event.kind == "wait.opened":
            return


SEEN = ["waiting", "main", {"mood": "curious"}]


async def test_a_parent_looks_at_a_child_and_sends_it_a_signal() -> None:
    clock = VirtualClock()
    async with Runtime(MemoryStore(), workflows=[child, watcher], clock=clock) as runtime:
        handle = await runtime.start(watcher, told="left")
        await clock.advance("25s")
        assert await handle.result() == [SEEN, SEEN, "went left", True, False]


async def test_what_a_parent_saw_of_a_child_is_a_fact() -> None:
    store = MemoryStore()
    clock = VirtualClock()
    first = Runtime(store, workflows=[child, watcher], clock=clock)
    await first.open()
    handle = await first.start(watcher, told="right", id="parent")
    await clock.advance("15s")
    before = [event.kind async for event in handle.events(follow=False)]
    await die(first)
    async with Runtime(store, workflows=[child, watcher], clock=clock) as second:
        await clock.advance("25s")
        assert await second.run("parent").result() == [SEEN, SEEN, "went right", True, False]
        after = [event async for event in second.run("parent").events(follow=False)]
    assert [event.kind for event in after[: len(before)]] == before
    looks = [event for event in after if event.kind == "step.completed" and "look_at_child" in (event.key or "")]
    assert len(looks) == 2


async def test_a_child_that_ends_in_time_is_not_waited_for_any_longer() -> None:
    @workflow
    async def quick(run: Run) -> str:
        return "done"

    @workflow
    async def parent(run: Run) -> str:
        return str(await (await run.spawn(quick)).result(timeout="1h"))

    async with Runtime(MemoryStore(), workflows=[quick, parent]) as runtime:
        assert await (await runtime.start(parent)).result() == "done"


async def test_a_childs_failure_reaches_a_parent_that_waits_with_an_end() -> None:
    clock = VirtualClock()
    async with Runtime(MemoryStore(), workflows=[child, watcher], clock=clock) as runtime:
        handle = await runtime.start(watcher, told="fail", looks=0)
        found = await handle.result()
    assert "as told" in found[0]
    assert found[1:] == [True, False]


@pytest.mark.parametrize(("answered", "chosen"), [("y", "Yes, go"), ("Yes, go", "Yes, go"), ("n", "No")])
async def test_a_choice_may_be_named_by_its_key(answered: str, chosen: str) -> None:
    @workflow
    async def asks(run: Run) -> str:
        return str(await run.ask("Go?", choices=["Yes, go", "No"], keys=["y", "n"]))

    async with Runtime(MemoryStore(), workflows=[asks]) as runtime:
        handle = await runtime.start(asks)
        await waits(handle)
        with pytest.raises(AnswerRefusedError):
            await handle.answer("x")
        await handle.answer(answered)
        assert await handle.result() == chosen


async def test_several_choices_may_be_named_by_their_keys() -> None:
    @workflow
    async def asks(run: Run) -> list[str]:
        return list(await run.ask("Which?", choices=["one", "two", "three"], keys=["1", "2", "3"], kind="multiple"))

    async with Runtime(MemoryStore(), workflows=[asks]) as runtime:
        handle = await runtime.start(asks)
        await waits(handle)
        await handle.answer(["3", "one"])
        assert await handle.result() == ["three", "one"]


@pytest.mark.parametrize("keys", [["y"], ["y", "y"], ["y", "yes"]])
async def test_keys_that_do_not_tell_choices_apart_are_refused(keys: list[str]) -> None:
    @workflow
    async def asks(run: Run) -> str:
        try:
            await run.ask("Go?", choices=["yes", "no"], keys=keys)
        except InputError as error:
            return error.code
        return "accepted"

    async with Runtime(MemoryStore(), workflows=[asks]) as runtime:
        assert await (await runtime.start(asks)).result() == "invalid_input"


async def test_code_knows_its_node_and_its_visit_and_what_came_before() -> None:
    flow = Flow("around", entry="first")

    @flow.node(next="second")
    async def first(run: Run) -> Next:
        run.state["told"] = [run.node, run.visit, run.previous_node, dict(run.visits)]
        return Next("second")

    @flow.node(next="first")
    async def second(run: Run) -> Any:
        from perdure import Done

        told = run.state["told"]
        if run.visit == 1:
            return Next("first")
        return Done([told, [run.node, run.visit, run.previous_node]])

    async with Runtime(MemoryStore(), workflows=[flow]) as runtime:
        found = await (await runtime.start(flow)).result()
    assert found == [["first", 2, "second", {"first": 2, "second": 1}], ["second", 2, "first"]]


async def test_several_keys_of_the_state_are_one_record_and_come_back_after_a_crash() -> None:
    store = MemoryStore()
    gate = asyncio.Event()

    @workflow
    async def writes(run: Run) -> dict[str, Any]:
        run.state["a"] = 0
        run.state.write({"a": 1, "b": {"c": [2]}, "big": "x" * 100_000})
        run.state.write({"d": 3})
        run.state.write({})
        if not gate.is_set():
            await run.wait_for("go")
        return {name: len(value) if name == "big" else value for name, value in run.state.items()}

    first = await opened(store, writes)
    handle = await first.start(writes, id="w")
    await waits(handle)
    await die(first)
    async with running(store, writes) as second:
        await second.run("w").signal("go")
        assert await second.run("w").result() == {"a": 1, "b": {"c": [2]}, "big": 100_000, "d": 3}
        events = [event async for event in second.run("w").events(follow=False)]
        state = await second.run("w").state()
    assert [event.data.get("name", "several") for event in events if event.kind == "state.written"] == [
        "a",
        "several",
        "d",
    ]
    assert state["d"] == 3


async def test_the_children_of_a_definition_are_registered_with_it() -> None:
    class Family:
        name, version, children = "family", "1", (child,)

        def compile(self) -> Any:
            return renamed.compile()

    @workflow(name="family")
    async def renamed(run: Run) -> str:
        return "here"

    async with Runtime(MemoryStore(), workflows=[Family()]) as runtime:
        assert runtime.registry.names() == ["child", "family"]
