"""Plans through the engine: in sequence and side by side, what is skipped, what merges, where a retry goes on."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from perdure import Fail, Plan, Run, step
from perdure.core.errors import DefinitionError, PlanError, RunCancelled, RunFailed
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


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def order_of(handle: Any) -> list[str]:
    """The states in the order in which they were entered."""
    return [event.node.rpartition("#")[0] for event in await events_of(handle, "node.entered")]


# --- sequential -------------------------------------------------------------------------------------------------------


async def test_in_sequence_states_run_one_at_a_time_after_what_they_depend_on() -> None:
    plan = Plan("sequence", output="a.b.last")

    @plan.state("a.b.last", kind="pure", inputs={"left": "a.b.left", "right": "a.b.right"})
    def last(left: int, right: int) -> int:
        return left + right

    @plan.state("a.b.left", kind="pure", inputs={"base": "a.b.base"})
    def left(base: int, factor: int) -> int:
        return base * factor

    @plan.state("a.b.right", inputs={})
    async def right(run: Run) -> int:
        run.state["right"] = True
        return int(run.outputs["a.b.left"]) + 1

    @plan.state("a.b.base", kind="read")
    async def base() -> int:
        return 5

    plan.states[2].after = ("a.b.left",)
    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan, factor=3)
        assert await handle.result() == 31
        assert await order_of(handle) == ["a.b.base", "a.b.left", "a.b.right", "a.b.last"]
        assert await handle.state() == {"right": True}


async def test_without_a_named_output_the_run_gives_those_of_the_last_states() -> None:
    plan = Plan("sinks", mode="fan_out")
    plan.state("a.b.first", step(kind="pure", name="first")(lambda: 1))
    plan.state("a.b.second", step(kind="pure", name="second")(lambda: 2), after=["a.b.first"])
    plan.state("a.b.third", step(kind="pure", name="third")(lambda: 3), after=["a.b.first"])
    async with running(memory(), plan) as runtime:
        assert await (await runtime.start(plan)).result() == {"a.b.second": 2, "a.b.third": 3}


async def test_in_sequence_each_state_sees_all_that_was_written_before() -> None:
    plan = Plan("writes", output="a.b.c")

    @plan.state("a.b.a")
    async def a(run: Run) -> None:
        run.state["key"] = "a"

    @plan.state("a.b.b")
    async def b(run: Run) -> None:
        run.state["key"] += "b"

    @plan.state("a.b.c")
    async def c(run: Run) -> str:
        return str(run.state["key"])

    async with running(memory(), plan) as runtime:
        assert await (await runtime.start(plan)).result() == "ab"


async def test_a_plan_goes_on_after_a_crash_where_it_was(ledger: Ledger) -> None:
    store = memory()
    plan = Plan("crash")

    def send(name: str) -> Any:
        @step(kind="once", name=name)
        async def one() -> str:
            ledger.note(name)
            if name == "b" and ledger.count("b") == 1:
                await Ledger().reaches("never")
            return name

        return one

    for before, name in itertools.pairwise(["", "a", "b", "c"]):
        plan.state(f"x.y.{name}", send(name), after=[f"x.y.{before}"] if before else [])
    first = await opened(store, plan)
    await first.start(plan, id="r1")
    await ledger.reaches("b")
    await die(first)
    async with running(store, plan) as second:
        handle = second.run("r1")
        await reaches(handle, "waiting")
        await second.resolve("r1", "done", value="b!")
        assert await handle.result() == {"x.y.c": "c"}
    assert ledger.lines == ["a", "b", "c"]


async def test_an_invalid_plan_is_refused_before_any_event() -> None:
    plan = Plan("broken")
    plan.state("a.b.c", step(kind="pure", name="c")(lambda: 1), after=["a.b.missing"])
    async with running(memory()) as runtime:
        with pytest.raises(PlanError):
            await runtime.start(plan)
        assert await runtime.runs() == []


# --- side by side -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 10])
async def test_side_by_side_there_are_never_more_states_than_the_limit(limit: int, ledger: Ledger) -> None:
    plan = Plan("wide", mode="fan_out", limit=limit)
    active = 0
    most = 0

    def work(number: int) -> Any:
        @step(kind="read", name=f"work{number}")
        async def one() -> int:
            nonlocal active, most
            active += 1
            most = max(most, active)
            for _ in range(20):
                await asyncio.sleep(0)
            active -= 1
            return number

        return one

    for number in range(12):
        plan.state(f"a.b.s{number}", work(number))
    async with running(memory(), plan) as runtime:
        result = await (await runtime.start(plan)).result()
    assert result == {f"a.b.s{number}": number for number in range(12)}
    assert most == min(limit, 12)


async def test_side_by_side_a_state_begins_as_soon_as_what_it_depends_on_is_done(ledger: Ledger) -> None:
    plan = Plan("early", mode="fan_out")
    go_on = asyncio.Event()

    @plan.state("a.b.slow")
    async def slow(run: Run) -> None:
        await go_on.wait()

    @plan.state("a.b.quick")
    async def first(run: Run) -> None: ...

    @plan.state("a.b.next", after=["a.b.quick"])
    async def after(run: Run) -> None:
        ledger.note("next")
        go_on.set()

    async with running(memory(), plan) as runtime:
        await (await runtime.start(plan)).result()
    assert ledger.lines == ["next"]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
async def test_disjoint_writes_merge_whatever_the_finishing_order(order: tuple[str, ...]) -> None:
    """Each branch starts from the same base."""
    plan = Plan("merge", mode="fan_out", output="p.q.end")
    turns = {name: asyncio.Event() for name in "abc"}
    turns[order[0]].set()

    def writer(name: str) -> Any:
        async def write(run: Run) -> None:
            await turns[name].wait()
            assert sorted(run.state) == ["base"]
            run.state[name] = name.upper()
            run.state["same"] = "agreed"
            place = order.index(name)
            if place < 2:
                turns[order[place + 1]].set()

        return write

    @plan.state("p.q.base")
    async def base(run: Run) -> None:
        run.state["base"] = 1

    for name in "abc":
        plan.state(f"p.q.{name}", writer(name), after=["p.q.base"])

    @plan.state("p.q.end", after=[f"p.q.{name}" for name in "abc"])
    async def end(run: Run) -> dict[str, Any]:
        return dict(run.state)

    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan)
        merged = {"base": 1, "a": "A", "b": "B", "c": "C", "same": "agreed"}
        assert await handle.result() == merged
        assert await handle.state() == merged


async def test_two_branches_that_write_one_key_differently_end_in_a_conflict_that_names_key_and_branches() -> None:
    plan = Plan("conflict", mode="fan_out")

    def writer(value: int) -> Any:
        async def write(run: Run) -> None:
            run.state["winner"] = value
            run.state["other"] = 1

        return write

    plan.state("a.b.left", writer(1))
    plan.state("a.b.right", writer(2))
    plan.state("a.b.third", writer(1))
    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan)
        with pytest.raises(RunFailed) as raised:
            await handle.result()
        error = raised.value.ids["error"]
        assert error["code"] == "merge_conflict"
        assert error["details"]["key"] == "winner"
        assert "a.b.right" in error["details"]["branches"]
        assert len(error["details"]["branches"]) == 2


async def test_a_state_that_overwrites_what_it_has_seen_is_no_conflict() -> None:
    plan = Plan("chain", mode="fan_out", output="a.b.end")

    @plan.state("a.b.first")
    async def first(run: Run) -> None:
        run.state["key"] = 1

    @plan.state("a.b.second", after=["a.b.first"])
    async def second(run: Run) -> None:
        run.state["key"] = 2

    @plan.state("a.b.beside")
    async def beside(run: Run) -> None:
        run.state["beside"] = 1

    @plan.state("a.b.end", after=["a.b.second", "a.b.beside"])
    async def end(run: Run) -> dict[str, Any]:
        return dict(run.state)

    async with running(memory(), plan) as runtime:
        assert await (await runtime.start(plan)).result() == {"key": 2, "beside": 1}


async def test_when_one_state_fails_the_others_are_ended_and_a_once_step_is_let_to_end(ledger: Ledger) -> None:
    plan = Plan("failing", mode="fan_out")
    go_on = asyncio.Event()

    @step(kind="once")
    async def pay() -> str:
        ledger.note("pay")
        await go_on.wait()
        return "receipt"

    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("send")
        try:
            await Ledger().reaches("never")
        finally:
            ledger.note("send ended")

    plan.state("a.b.pay", pay)
    plan.state("a.b.send", send)

    @plan.state("a.b.fails")
    async def fails(run: Run) -> Fail:
        await ledger.reaches("pay")
        await ledger.reaches("send")
        return Fail("no luck", code="luck")

    @plan.state("a.b.never", after=["a.b.fails"])
    async def never(run: Run) -> None:
        ledger.note("never")

    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan)
        await ledger.reaches("send ended")
        assert await handle.status() == "running"
        go_on.set()
        with pytest.raises(RunFailed, match="no luck"):
            await handle.result()
        assert [event.data["result"] for event in await events_of(handle, "step.completed")] == ["receipt"]
    assert "never" not in ledger.lines


async def test_a_fan_out_goes_on_after_a_crash_and_its_branches_see_what_they_saw(
    store_path: Any, ledger: Ledger
) -> None:
    plan = Plan("crash", mode="fan_out", output="a.b.end")
    bases: list[dict[str, Any]] = []

    @step(kind="idempotent")
    async def send(name: str) -> str:
        ledger.note(name)
        if name == "left" and ledger.count("left") == 1:
            await Ledger().reaches("never")
        return name

    @plan.state("a.b.base")
    async def base(run: Run) -> None:
        run.state["base"] = 1

    @plan.state("a.b.left", after=["a.b.base"])
    async def left(run: Run) -> None:
        bases.append(dict(run.state))
        run.state["left"] = await run.step(send, "left")

    @plan.state("a.b.right", after=["a.b.base"])
    async def right(run: Run) -> None:
        run.state["right"] = await run.step(send, "right")

    @plan.state("a.b.end", after=["a.b.left", "a.b.right"])
    async def end(run: Run) -> dict[str, Any]:
        return dict(run.state)

    first = await opened(on_disk(store_path), plan)
    handle = await first.start(plan, id="r1")
    await ledger.reaches("left")
    await seen(handle, "node.completed", 2)
    await die(first)
    async with running(on_disk(store_path), plan) as second:
        assert await second.run("r1").result() == {"base": 1, "left": "left", "right": "right"}
    assert bases == [{"base": 1}, {"base": 1}]
    assert (ledger.count("left"), ledger.count("right")) == (2, 1)


async def test_branches_of_a_plan_wait_side_by_side_and_the_run_is_let_go_of_meanwhile() -> None:
    plan = Plan("waits", mode="fan_out")

    @plan.state("a.b.ask")
    async def ask(run: Run) -> Any:
        return await run.ask("Go on?", kind="confirm")

    @plan.state("a.b.signal")
    async def signal(run: Run) -> Any:
        return await run.wait_for("price")

    async with running(memory(), plan, limits=quick(linger_s=0.02)) as runtime:
        handle = await runtime.start(plan)
        await reaches(handle, "waiting")
        await until(lambda: handle.id not in runtime.worker.executions)
        await handle.signal("price", 4)
        await reaches(handle, "waiting")
        await handle.answer(True)
        assert await handle.result() == {"a.b.ask": True, "a.b.signal": 4}


async def test_a_fan_out_is_cancelled_as_a_whole() -> None:
    plan = Plan("cancelled", mode="fan_out")

    @plan.state("a.b.one")
    async def one(run: Run) -> None:
        await run.wait_for("never")

    @plan.state("a.b.two")
    async def two(run: Run) -> None:
        await run.sleep("30d")

    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan)
        await reaches(handle, "waiting")
        await handle.cancel()
        with pytest.raises(RunCancelled):
            await handle.result()


# --- skip tags --------------------------------------------------------------------------------------------------------


def tagged(ledger: Ledger, **options: Any) -> Plan:
    plan = Plan("tagged", output="a.b.last", **options)

    @plan.state("a.b.base", tags=["always"])
    async def base(run: Run) -> int:
        ledger.note("base")
        return 1

    @plan.state("a.b.lint", after=["a.b.base"], tags=["slow", "check"])
    async def lint(run: Run) -> int:
        ledger.note("lint")
        return 2

    @plan.state("a.b.test", after=["a.b.base"], tags=["check"])
    async def check(run: Run) -> int:
        ledger.note("test")
        return 3

    @plan.state("a.b.last", after=["a.b.lint", "a.b.test"])
    async def last(run: Run) -> list[Any]:
        return [run.outputs["a.b.lint"], run.outputs["a.b.test"]]

    return plan


@pytest.mark.parametrize("mode", ["sequential", "fan_out"])
async def test_states_with_a_skip_tag_are_skipped_and_what_depends_on_them_finds_none(
    mode: str, ledger: Ledger
) -> None:
    plan = tagged(ledger, mode=mode, skip_tags=["slow"])
    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan)
        assert await handle.result() == [None, 3]
        assert [event.node for event in await events_of(handle, "node.skipped")] == ["a.b.lint#1"]
        more = await runtime.start(plan, skip_tags=["check"])
        assert await more.result() == [None, None]
    assert (ledger.count("lint"), ledger.count("test"), ledger.count("base")) == (0, 1, 2)


async def test_skip_tags_are_pinned_at_the_start(ledger: Ledger) -> None:
    store = memory()
    plan = tagged(ledger)
    async with running(store, plan, execute=False) as clerk:
        await clerk.start(plan, id="r1", skip_tags=["slow"])
    async with running(store, plan) as runtime:
        assert await runtime.run("r1").result() == [None, 3]


async def test_a_skip_tag_that_no_state_bears_is_refused(ledger: Ledger) -> None:
    plan = tagged(ledger)
    async with running(memory(), plan) as runtime:
        with pytest.raises(DefinitionError):
            await runtime.start(plan, skip_tags=["sloww"])
        assert await runtime.runs() == []


# --- recovery hints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recovery", "again"),
    [
        ("latest", {"base": 1, "other": 1, "pay": 1, "send": 2}),
        ("latest_successful", {"base": 1, "other": 1, "pay": 2, "send": 2}),
        ("earliest", {"base": 2, "other": 1, "pay": 2, "send": 2}),
    ],
)
async def test_a_retry_goes_on_where_the_state_that_failed_says(
    recovery: str, again: dict[str, int], ledger: Ledger
) -> None:
    plan = Plan("hints", mode="fan_out", output="a.b.last")

    def effect(name: str) -> Any:
        @step(kind="idempotent", name=name)
        async def one() -> str:
            ledger.note(name)
            if name == "send" and ledger.count("send") == 1:
                raise ConnectionError("down")
            return f"{name}{ledger.count(name)}"

        return one

    plan.state("a.b.other", effect("other"))

    @plan.state("a.b.base")
    async def base(run: Run) -> str:
        run.state["base"] = await run.step(effect("base"))
        return str(run.state["base"])

    @plan.state("a.b.work", after=["a.b.base", "a.b.other"][:1], recovery=recovery)  # type: ignore[arg-type]
    async def work(run: Run) -> list[str]:
        await seen_other.wait()
        return [run.state["base"], await run.step(effect("pay")), await run.step(effect("send"))]

    @plan.state("a.b.last", after=["a.b.work", "a.b.other"])
    async def last(run: Run) -> list[str]:
        return [*run.outputs["a.b.work"], run.outputs["a.b.other"]]

    seen_other = asyncio.Event()
    async with running(memory(), plan) as runtime:
        handle = await runtime.start(plan)
        await seen(handle, "node.completed", 2)
        seen_other.set()
        with pytest.raises(RunFailed):
            await handle.result()
        await handle.retry()
        result = await handle.result()
        assert {name: ledger.count(name) for name in again} == again
        assert result == [f"base{again['base']}", f"pay{again['pay']}", "send2", "other1"]
        assert await handle.state() == {"base": f"base{again['base']}"}
        assert "step.completed" in await kinds(handle)
        await handle.verify()
