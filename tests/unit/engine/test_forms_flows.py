"""Flows through the engine: cycles, nodes that say where to go, effects as data."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Backoff, Done, Effect, Fail, Flow, Next, Run, StepFailed, effect, step, workflow
from perdure.core.errors import FlowError, RunFailed
from perdure.workflow import effects
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
    seen,
)

pytestmark = pytest.mark.time_limit(20)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def counting_flow(ledger: Ledger, upto: int) -> Flow:
    """A cycle: count, and look whether it is enough."""
    flow = Flow("count", input={"begin": int}, output=int)

    @step(kind="idempotent")
    async def send(number: int) -> int:
        ledger.note(f"send {number}")
        return number

    @flow.node(next="check")
    async def count(run: Run) -> None:
        number = run.state.get("number", run.input["begin"]) + 1
        run.state["number"] = await run.step(send, number)

    @flow.node(to=["count"])
    async def check(run: Run) -> Any:
        return Done(run.state["number"]) if run.state["number"] >= upto else Next("count")

    return flow


async def test_a_cycle_goes_round_until_it_says_done(ledger: Ledger) -> None:
    flow = counting_flow(ledger, 10)
    async with running(memory(), flow) as runtime:
        handle = await runtime.start(flow, begin=3)
        assert await handle.result() == 10
        entered = [event.node for event in await events_of(handle, "node.entered")]
        assert entered == [f"{name}#{visit}" for visit in range(1, 8) for name in ("count", "check")]
        assert await handle.state() == {"number": 10}
    assert ledger.lines == [f"send {number}" for number in range(4, 11)]


async def test_a_cycle_goes_on_in_the_same_visit_after_a_crash(ledger: Ledger) -> None:
    store = memory()
    flow = Flow("hangs", input={"begin": int})

    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("send")
        if ledger.count("send") == 1:
            await Ledger().reaches("never")

    @flow.node(next="look")
    async def count(run: Run) -> None:
        run.state["number"] = run.state.get("number", run.input["begin"]) + 1

    @flow.node(to=["count"])
    async def look(run: Run) -> Any:
        if run.state["number"] == 3:
            await run.step(send)
        return Done(run.state["number"]) if run.state["number"] == 5 else Next("count")

    first = await opened(store, flow)
    await first.start(flow, begin=0, id="r1")
    await ledger.reaches("send")
    await die(first)
    async with running(store, flow) as second:
        handle = second.run("r1")
        assert await handle.result() == 5
        entered = [(event.node, event.data["attempt"]) for event in await events_of(handle, "node.entered")]
        assert entered[4:8] == [("count#3", 1), ("look#3", 1), ("look#3", 2), ("count#4", 1)]
    assert ledger.count("send") == 2


async def test_a_long_cycle_keeps_no_records_of_the_visits_behind_it() -> None:
    flow = Flow("long")

    @step(kind="read")
    async def look() -> int:
        return 1

    @flow.node
    async def turn(run: Run) -> Any:
        run.state["n"] = run.state.get("n", 0) + await run.step(look)
        return Done(run.state["n"]) if run.state["n"] == 500 else Next("turn")

    async with running(memory(), flow) as runtime:
        handle = await runtime.start(flow)
        assert await handle.result() == 500
        state = await handle.fold()
        assert len(state.scopes) <= 1


async def test_a_node_may_say_another_next_than_it_declares_and_may_wait() -> None:
    flow = Flow("ways")

    @flow.node(next="no")
    async def ask(run: Run) -> Any:
        answer = await run.ask("Which way?", choices=["left", "right", "on"])
        return Next(answer) if answer != "on" else None

    @flow.node
    async def left(run: Run) -> Done:
        return Done("went left")

    @flow.node
    async def right(run: Run) -> Fail:
        return Fail("fell", code="cliff", details={"metres": 30})

    @flow.node
    async def no(run: Run) -> Done:
        return Done("went on")

    async with running(memory(), flow) as runtime:
        handles = {}
        for answer in ("left", "on", "right"):
            handle = handles[answer] = await runtime.start(flow)
            await reaches(handle, "waiting")
            await handle.answer(answer)
        assert await handles["left"].result() == "went left"
        assert await handles["on"].result() == "went on"
        with pytest.raises(RunFailed) as raised:
            await handles["right"].result()
        error = raised.value.ids["error"]
        assert (error["code"], error["details"]) == ("cliff", {"metres": 30})


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Next("nowhere"), "unknown_node"),
        (Next("a", "b"), "no_next"),
        (Next("hidden"), "undeclared_node"),
        ("text", "bad_outcome"),
        (Effect("nonsense", {}), "unknown_effect"),
        (Effect("sleep", {}), "effect_params"),
    ],
)
async def test_a_node_that_says_nonsense_fails_the_run_with_a_code(outcome: Any, code: str) -> None:
    flow = Flow("wrong")

    @flow.node(to=["a"])
    async def first(run: Run) -> Any:
        return outcome

    @flow.node
    async def a(run: Run) -> Done:
        return Done(None)

    @flow.node
    async def hidden(run: Run) -> Done:
        return Done(None)

    async with running(memory(), flow) as runtime:
        handle = await runtime.start(flow)
        with pytest.raises(RunFailed) as raised:
            await handle.result()
        assert raised.value.ids["error"]["code"] in (code, "no_next")
        assert "step.intended" not in await kinds(handle)


async def test_an_invalid_flow_is_refused_before_any_event() -> None:
    flow = Flow("broken")

    @flow.node(next="nowhere")
    async def first(run: Run) -> None: ...

    async with running(memory()) as runtime:
        with pytest.raises(FlowError):
            await runtime.start(flow)
        assert await runtime.runs() == []


async def test_effects_as_data_are_done_kept_and_followed(ledger: Ledger) -> None:
    clock = StageClock()

    @step(kind="once")
    async def publish(text: str, loud: bool = False) -> str:
        ledger.note("publish")
        return text.upper() if loud else text

    @workflow
    async def child(run: Run, number: int) -> int:
        return number * 2

    flow = Flow("effects", entry="ask")
    flow.effect("ask", Effect("ask", {"text": "Publish?", "kind": "confirm"}, save_as="answer", next="wait"))
    flow.effect("wait", Effect("wait_for", {"signal": "price", "match": "tea"}, save_as="price"), next="sleep")
    flow.effect("sleep", Effect("sleep", {"duration": "1h"}), next="publish")
    flow.effect(
        "publish",
        Effect("step", {"step": publish, "args": {"text": "tea", "loud": True}}, save_as="text", next="spawn"),
    )
    flow.effect("spawn", Effect("spawn", {"workflow": child, "input": [21]}, save_as="child", next="emit"))
    flow.effect("emit", Effect("emit", {"name": "app.done", "payload": {"n": 1}}, next="put"))
    flow.effect("put", Effect("put", {"value": "bytes"}, save_as="artifact", next="dynamic"))

    @flow.node
    async def dynamic(run: Run) -> Effect:
        return Effect("step", {"step": publish, "args": [run.state["text"]]}, save_as="again", next="end")

    @flow.node
    async def end(run: Run) -> Done:
        return Done(dict(run.state))

    async with running(memory(), flow, child, clock=clock) as runtime:
        handle = await runtime.start(flow)
        await reaches(handle, "waiting")
        await handle.answer("yes")
        await reaches(handle, "waiting")
        await handle.signal("price", 3, match="coffee")
        await handle.signal("price", 4, match="tea")
        await clock.advance("2h")
        result = await handle.result()
        assert len(result.pop("artifact")) == 64
        assert result == {"answer": True, "price": 4, "text": "TEA", "child": 42, "again": "TEA"}
        assert "app.done" in await kinds(handle)
    assert ledger.count("publish") == 2


async def test_a_own_kind_of_effect_is_done_through_the_run_and_survives_a_crash(ledger: Ledger) -> None:
    store = memory()

    @step(kind="idempotent")
    async def post(url: str, body: dict[str, Any]) -> str:
        ledger.note("post")
        return f"{url}: {body['n']}"

    @effect("test_forms_flows.http_post")
    async def http_post(run: Run, url: str, *, body: Any, confirm: bool = False) -> Any:
        if confirm:
            await run.wait_for("confirmed")
        return await run.step(post, url, body)

    try:
        flow = Flow("own")
        flow.effect(
            "first", Effect("test_forms_flows.http_post", {"url": "a", "body": {"n": 1}}, save_as="one", next="second")
        )
        flow.effect(
            "second",
            Effect("test_forms_flows.http_post", {"url": "b", "body": {"n": 2}, "confirm": True}, "two", "end"),
        )

        @flow.node
        async def end(run: Run) -> Done:
            return Done([run.state["one"], run.state["two"]])

        first = await opened(store, flow)
        await reaches(await first.start(flow, id="r1"), "waiting")
        await die(first)
        async with running(store, flow) as second:
            await second.run("r1").signal("confirmed")
            assert await second.run("r1").result() == ["a: 1", "b: 2"]
    finally:
        del effects._kinds["test_forms_flows.http_post"]
    assert ledger.count("post") == 2


async def test_a_sync_node_uses_the_blocking_face(ledger: Ledger) -> None:
    flow = Flow("sync")

    @step(kind="read")
    async def look() -> int:
        return 4

    @flow.node(next="end")
    def first(run: Any) -> None:
        run.state["seen"] = run.step(look)

    @flow.node
    def end(run: Any) -> Done:
        return Done(run.state["seen"] + 1)

    async with running(memory(), flow) as runtime:
        assert await (await runtime.start(flow)).result() == 5


async def test_a_failed_node_is_entered_again_by_a_retry_and_keeps_what_it_did(ledger: Ledger) -> None:
    flow = Flow("retried")

    @step(kind="once")
    async def pay() -> str:
        ledger.note("pay")
        return "receipt"

    @step(kind="idempotent", backoff=Backoff(initial_s=0.0))
    async def send() -> None:
        ledger.note("send")
        if ledger.count("send") == 1:
            raise ConnectionError("down")

    @flow.node(next="second")
    async def first(run: Run) -> None:
        ledger.note("first")
        run.state["order"] = 7

    @flow.node
    async def second(run: Run) -> Done:
        run.state["receipt"] = await run.step(pay)
        await run.step(send)
        return Done(dict(run.state))

    async with running(memory(), flow) as runtime:
        handle = await runtime.start(flow)
        with pytest.raises(RunFailed):
            await handle.result()
        await handle.retry()
        assert await handle.result() == {"order": 7, "receipt": "receipt"}
    assert (ledger.count("first"), ledger.count("pay"), ledger.count("send")) == (1, 1, 2)


async def test_a_failure_caught_in_a_node_goes_where_the_node_says() -> None:
    flow = Flow("caught")

    @step(kind="read")
    async def look() -> None:
        raise ValueError("no")

    @flow.node(to=["again", "end"])
    async def first(run: Run) -> Any:
        try:
            await run.step(look)
        except StepFailed:
            return Next("again")
        return Next("end")

    @flow.node
    async def again(run: Run) -> Done:
        return Done("caught")

    @flow.node
    async def end(run: Run) -> Done:
        return Done("seen")

    async with running(memory(), flow) as runtime:
        assert await (await runtime.start(flow)).result() == "caught"


async def test_a_flow_continues_as_a_new_generation_on_disk(store_path: Any, ledger: Ledger) -> None:
    flow = Flow("endless", input={"number": int})

    @flow.node
    async def turn(run: Run) -> Done:
        ledger.note("turn")
        if run.input["number"] < 5:
            await run.continue_as(number=run.input["number"] + 1)
        return Done(run.generation)

    async with running(on_disk(store_path), flow, limits=quick()) as runtime:
        handle = await runtime.start(flow, number=0)
        assert await handle.result() == 5
        await seen(handle, "run.completed")
    assert ledger.count("turn") == 6
