"""Rules of section 2: drift, in all its forms. Changed code is noticed, named and parked; no effect happens again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from perdure import Done, Flow, Run, Secret, current_step, step, workflow
from perdure.core.errors import RunParkedError
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import check_journals, recovered, witnessed
from tests.unit.engine.staging import Ledger, die, events_of, journal, kinds, on_disk, opened, reaches, seen

pytestmark = pytest.mark.time_limit(20)

Body = Callable[[Run], Awaitable[Any]]
ledger = Ledger()


@pytest.fixture(autouse=True)
def _fresh_ledger() -> None:
    global ledger
    ledger = Ledger()


@step(kind="pure")
def compute(what: Any = None) -> Any:
    return what


@step(kind="read")
async def look(what: Any = None) -> Any:
    return what


@step(kind="idempotent")
async def act(what: Any = None) -> Any:
    ledger.note(f"act {what}")
    return what


@step(kind="once")
async def other_act(what: Any = None) -> Any:
    ledger.note(f"other {what}")
    return what


@workflow
async def child(run: Run, number: int = 0) -> int:
    return number


@workflow
async def other_child(run: Run, number: int = 0) -> int:
    return number


def main(body: Body, *, then: Body | None = None) -> Any:
    """A workflow that does something, waits for a signal, and does what follows."""

    @workflow(name="main")
    async def made(run: Run) -> Any:
        found = await body(run)
        await run.wait_for("go")
        return await then(run) if then is not None else found

    return made


def ends(body: Body) -> Any:
    """A workflow that only does something."""

    @workflow(name="main")
    async def made(run: Run) -> Any:
        return await body(run)

    return made


async def parked(old: Any, new: Any, store: Any = None) -> dict[str, Any]:
    """How a run is parked that began under the old code and is opened under the new."""
    done = list(ledger.lines)
    async with recovered(store or MemoryStore(), old, new) as (runtime, handle):
        done = list(ledger.lines)
        await handle.signal("go")
        with pytest.raises(RunParkedError) as caught:
            await handle.result()
        assert caught.value.ids["reason"] == "drift"
        (paused,) = await events_of(handle, "run.paused")
        assert (await handle.row()).reason == "drift"
        questions = [question for question in await runtime.questions() if question.kind == "doubt"]
        assert questions == []
    assert ledger.lines == done, "no effect happened under the changed code"
    assert "perdure resume" in paused.data["detail"]["what_to_do"]
    detail: dict[str, Any] = paused.data["detail"] | {"message": paused.data["message"]}
    return detail


async def goes_on(old: Any, new: Any) -> Any:
    """The result of a run that began under the old code and ended under the new."""
    async with recovered(MemoryStore(), old, new) as (_, handle):
        await handle.signal("go")
        return await handle.result()


def call(called: Any, *args: Any, **options: Any) -> Body:
    return lambda run: run.step(called, *args, **options)


async def both(run: Run, *bodies: Body) -> list[Any]:
    return [await body(run) for body in bodies]


def in_turn(*bodies: Body) -> Body:
    return lambda run: both(run, *bodies)


# --- another input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", [compute, look, act, other_act], ids=["pure", "read", "idempotent", "once"])
@pytest.mark.parametrize("disk", [False, True], ids=["memory", "sqlite"])
async def test_2_recorded_key_with_another_input_is_drift(called: Any, disk: bool, tmp_path: Path) -> None:
    store = on_disk(tmp_path / "runs.db") if disk else MemoryStore()
    old, new = {"a": [1, {"b": "old"}]}, {"a": [1, {"b": "new"}]}
    detail = await parked(main(call(called, old)), main(call(called, new)), store)
    assert detail["step"] == called.name
    assert detail["scope"] == "0/main#1"
    assert detail["recorded"] == {"what": old}
    assert detail["asked"] == {"what": new}
    assert detail["path"] == "$.what.a[1].b"
    assert "another input" in detail["message"]
    assert "$.what.a[1].b" in detail["message"]


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (1, True, "$.what"),
        (1, "1", "$.what"),
        ([1, 2], [1], "$.what[1]"),
        ({"a": 1}, {"b": 1}, "$.what.a"),
        (None, {}, "$.what"),
    ],
)
async def test_2_any_other_input_is_drift(old: Any, new: Any, path: str) -> None:
    detail = await parked(main(call(look, old)), main(call(look, new)))
    assert detail["path"] == path


async def test_2_an_argument_that_is_given_now_and_was_a_default_is_another_input() -> None:
    detail = await parked(main(call(look)), main(call(look, None)))
    assert (detail["recorded"], detail["asked"]) == ({}, {"what": None})


async def test_2_a_large_recorded_input_is_named_by_its_path() -> None:
    old, new = {"text": "x" * 100_000, "n": 1}, {"text": "x" * 100_000, "n": 2}
    detail = await parked(main(call(act, old)), main(call(act, new)))
    assert detail["path"] == "$.what.n"
    assert len(str(detail["recorded"])) < 10_000


async def test_2_an_effect_in_flight_that_is_asked_with_another_input_is_drift() -> None:
    """The crash came between intent and fact: the other input is not sent under the recorded key."""

    @step(kind="idempotent", name="act")
    async def hangs(what: Any) -> None:
        ledger.note(f"act {what}")
        await asyncio.get_running_loop().create_future()

    store = MemoryStore()
    old, new = ends(call(hangs, 1)), ends(call(hangs, 2))
    first = await opened(store, old)
    handle: Any = await first.start(old)
    await ledger.reaches("act 1")
    await die(first)
    async with witnessed(store, new) as second:
        handle = second.run(handle.id)
        with pytest.raises(RunParkedError):
            await handle.result()
        (paused,) = await events_of(handle, "run.paused")
    assert (paused.data["detail"]["recorded"], paused.data["detail"]["asked"]) == ({"what": 1}, {"what": 2})
    assert ledger.lines == ["act 1"]


def ask(text: str, **options: Any) -> Body:
    async def body(run: Run) -> Any:
        return await run.ask(text, timeout="1d", default="no answer", key="question", **options)

    return body


async def test_2_a_recorded_wait_that_asks_something_else_is_drift() -> None:
    store = MemoryStore()
    old, new = ends(ask("Old?")), ends(ask("New?"))
    first = await opened(store, old)
    handle: Any = await first.start(old)
    await reaches(handle, "waiting")
    await die(first)
    async with witnessed(store, new) as second:
        handle = second.run(handle.id)
        await handle.answer("me")
        with pytest.raises(RunParkedError):
            await handle.result()
        (paused,) = await events_of(handle, "run.paused")
    detail = paused.data["detail"]
    assert (detail["step"], detail["path"]) == ("question", "$.text")
    assert (detail["recorded"]["text"], detail["asked"]["text"]) == ("Old?", "New?")


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        (lambda run: run.spawn(child, 1, key="c"), lambda run: run.spawn(child, 2, key="c"), "$.input.number"),
        (lambda run: run.spawn(child, 1, key="c"), lambda run: run.spawn(other_child, 1, key="c"), "$.workflow"),
    ],
    ids=["input", "workflow"],
)
async def test_2_a_recorded_child_with_another_input_is_drift(old: Body, new: Body, path: str) -> None:
    detail = await parked(main(old), main(new))
    assert (detail["step"], detail["path"]) == ("c", path)
    assert detail["recorded"]["workflow"] == "child"


def write(value: Any) -> Body:
    async def body(run: Run) -> None:
        run.state["a"] = value

    return body


def delete() -> Body:
    async def body(run: Run) -> None:
        del run.state["a"]

    return body


def emit(value: Any) -> Body:
    async def body(run: Run) -> None:
        run.emit("told", value)

    return body


def put(value: bytes) -> Body:
    async def body(run: Run) -> None:
        run.put(value)

    return body


@pytest.mark.parametrize(
    ("old", "new", "recorded", "asked", "path"),
    [
        (write({"x": 1}), write({"x": 2}), {"x": 1}, {"x": 2}, "$.x"),
        (write(None), in_turn(write(1)), None, 1, "$"),
        (emit({"x": [1]}), emit({"x": [2]}), {"x": [1]}, {"x": [2]}, "$.x[0]"),
    ],
    ids=["state", "state from null", "emit"],
)
async def test_2_a_recorded_write_or_event_with_another_value_is_drift(
    old: Body, new: Body, recorded: Any, asked: Any, path: str
) -> None:
    detail = await parked(main(old), main(new))
    assert (detail["recorded"], detail["asked"], detail["path"]) == (recorded, asked, path)


async def test_2_a_deletion_is_not_the_writing_of_null() -> None:
    detail = await parked(main(in_turn(write(1), delete())), main(in_turn(write(1), write(None))))
    assert detail["step"] == "state.a#2"


async def test_2_recorded_bytes_that_are_put_otherwise_are_drift() -> None:
    detail = await parked(main(put(b"old")), main(put(b"new")))
    assert detail["step"] == "put"
    assert detail["recorded"] != detail["asked"]


async def test_2_a_recorded_join_of_another_size_is_drift() -> None:
    def items(count: int) -> Body:
        return lambda run: run.map(look, list(range(count)))

    detail = await parked(main(items(2)), main(items(3)))
    assert (detail["step"], detail["recorded"], detail["asked"]) == ("map", {"count": 2}, {"count": 3})


async def test_2_another_kind_of_call_under_a_recorded_key_is_drift() -> None:
    detail = await parked(
        main(call(act, 1, key="k")), main(lambda run: run.wait_for("other", key="k", timeout="1ms", default=None))
    )
    assert "was recorded as step and is now wait" in detail["message"]


# --- a value that no longer validates ---------------------------------------------------------------------------------


async def test_2_a_recorded_result_that_no_longer_validates_is_drift() -> None:
    @step(kind="read", name="typed")
    async def old() -> dict[str, Any]:
        return {"sizes": [1, 2, "three"]}

    @step(kind="read", name="typed")
    async def new() -> dict[str, list[int]]:
        raise AssertionError("it is recorded")

    detail = await parked(main(call(old)), main(call(new)))
    assert (detail["step"], detail["path"]) == ("typed", "$.sizes[2]")
    assert "no longer fits" in detail["message"]


async def test_2_the_recorded_input_of_an_effect_that_no_longer_validates_is_drift() -> None:
    """A secret's label stands in the recorded number: it is not sent, and nor is the secret that is not recorded."""

    @step(kind="read")
    async def reveal(secret: Secret) -> int:
        return len(current_step().reveal(secret))

    @step(kind="idempotent", name="act")
    async def hangs(pin: int) -> None:
        ledger.note("act")
        await asyncio.get_running_loop().create_future()

    @workflow(name="main")
    async def careless(run: Run) -> None:
        await run.step(reveal, Secret("env:PIN"))
        await run.step(hangs, 73911073)

    store = MemoryStore()
    first = await opened(store, careless, environ={"PIN": "73911073"})
    handle: Any = await first.start(careless)
    await ledger.reaches("act")
    await die(first)
    async with witnessed(store, careless) as second:
        handle = second.run(handle.id)
        with pytest.raises(RunParkedError, match="the recorded input of act"):
            await handle.result()
        for event in await journal(handle):
            assert b"73911073" not in event.payload
    assert ledger.lines == ["act"]


async def test_2_the_recorded_input_of_the_run_that_no_longer_validates_is_drift() -> None:
    @workflow(name="main")
    async def old(run: Run, size: Any) -> None:
        await run.wait_for("go")

    @workflow(name="main")
    async def new(run: Run, size: int) -> None:
        raise AssertionError("it is not to be called")

    async with recovered(MemoryStore(), old, new, size={"n": "five"}) as (_, handle):
        await handle.signal("go")
        with pytest.raises(RunParkedError, match="no longer fits") as caught:
            await handle.result()
        assert caught.value.ids["reason"] == "drift"


async def test_2_the_recorded_outcome_of_a_child_that_no_longer_validates_is_drift() -> None:
    def version(output: Any) -> Any:
        async def made(run: Run) -> output:
            return "text"

        made.__annotations__ = {"run": Run, "return": output}
        return workflow(name="child")(made)

    def parent(definition: Any) -> Any:
        async def body(run: Run) -> Any:
            return await (await run.spawn(definition)).result()

        return main(body)

    detail = await parked(parent(version(Any)), parent(version(int)))
    assert "no longer fits" in detail["message"]
    assert detail["step"].startswith("child.")


# --- not asked for again ----------------------------------------------------------------------------------------------

BINDING: dict[str, Body] = {
    "effect": call(act, 1),
    "once": call(other_act, 1),
    "wait": lambda run: run.wait_for("early", timeout="1ms", default=1),
    "timer": lambda run: run.sleep("1ms"),
    "child": lambda run: run.spawn(child, 1),
}
STARTS: dict[str, Body] = {
    "effect": call(act, 2, key="new"),
    "wait": lambda run: run.wait_for("new", timeout="1ms", default=None),
    "child": lambda run: run.spawn(child, 2, key="new"),
}


async def nothing(run: Run) -> None: ...


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("recorded", BINDING)
async def test_2_what_was_not_asked_for_before_something_new_starts_is_drift(recorded: str, start: str) -> None:
    """Removed, or the new one inserted before it: neither happens again, nor does the new one start."""
    removed = await parked(main(BINDING[recorded]), main(STARTS[start]))
    assert "was not asked for again before" in removed["message"]
    assert removed["asked"] in ("new", "wait_for.new")
    inserted = await parked(main(BINDING[recorded]), main(in_turn(STARTS[start], BINDING[recorded])))
    assert inserted["missing"][0] == removed["missing"][0]


@pytest.mark.parametrize("recorded", BINDING)
async def test_2_what_was_not_asked_for_before_the_scope_ends_is_drift(recorded: str) -> None:
    detail = await parked(main(BINDING[recorded]), ends(nothing))
    assert "before the scope ended" in detail["message"]
    assert detail["missing"][0].startswith(("act", "other_act", "wait_for.early", "sleep", "spawn.child"))


async def test_2_a_renamed_effect_is_never_done_again() -> None:
    detail = await parked(main(call(act, 1)), main(call(act, 1, key="renamed")))
    assert (detail["missing"], detail["asked"]) == (["act", "wait_for.go"], "renamed")


async def test_2_effects_in_another_order_with_the_same_names_are_drift() -> None:
    old = main(in_turn(call(act, 1), call(act, 2)))
    detail = await parked(old, main(in_turn(call(act, 2), call(act, 1))))
    assert detail["step"] == "act"


async def test_2_a_flow_is_held_to_it_in_each_visit() -> None:
    def flow(key: str) -> Flow:
        made = Flow("flow")

        @made.node
        async def only(run: Run) -> Any:
            await run.step(act, 1, key=key)
            await run.wait_for("go")
            return Done(1)

        return made

    detail = await parked(flow("old"), flow("new"))
    assert detail["scope"] == "0/only#1"


# --- branches ---------------------------------------------------------------------------------------------------------


def mapped(*items: int, key: str = "items", called: Any = act) -> Body:
    return lambda run: run.map(called, items, key=key)


def branched(name: str, body: Body) -> Body:
    async def made(run: Run) -> Any:
        async with run.branch(name) as branch:
            return await body(branch)

    return made


def gathered(*bodies: Body) -> Body:
    return lambda run: run.gather(*(body(run) for body in bodies))


def deep(body: Body) -> Body:
    return gathered(gathered(body))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (mapped(1, 2), mapped(1, 2, key="renamed")),
        (mapped(1, 2), gathered(call(act, 1), call(act, 2))),
        (mapped(1, 2), in_turn(call(act, 1, key="new"))),
        (mapped(1, 2), nothing),
        (branched("left", call(act, 1)), branched("right", call(act, 1))),
        (branched("left", call(act, 1)), nothing),
        (branched("left", call(act, 1)), call(act, 1)),
        (gathered(call(act, 1)), branched("left", call(act, 1))),
        (deep(call(act, 1)), gathered(call(act, 1))),
        (deep(call(act, 1)), gathered(gathered(nothing))),
        (call(act, 1), gathered(call(act, 1))),
    ],
    ids=[
        "map renamed",
        "map to gather",
        "map to step",
        "map removed",
        "branch renamed",
        "branch removed",
        "branch to step",
        "gather to branch",
        "deep to gather",
        "deep removed",
        "step to gather",
    ],
)
async def test_2_effects_of_branches_are_never_done_again(old: Body, new: Body) -> None:
    detail = await parked(main(old), main(new))
    assert "was not asked for again" in detail["message"]


async def test_2_an_effect_that_is_inserted_into_a_branch_behind_which_the_run_is_is_drift() -> None:
    """The parent has gone on: its later wait is recorded, so nothing new may start in a branch before that."""
    detail = await parked(main(gathered(call(look, 1))), main(gathered(in_turn(call(look, 1), call(act, 1)))))
    assert detail["missing"] == ["wait_for.go"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_2_branches_that_a_crash_stopped_half_way_go_on(order: tuple[int, int]) -> None:
    """One branch has done its effect, the other has not begun its own: neither is drift, whichever is quicker."""
    go = {number: asyncio.Event() for number in (0, 1, 10, 11)}

    @step(kind="read")
    async def hold(number: int) -> None:
        await go[number].wait()

    @workflow(name="main")
    async def both_ways(run: Run) -> Any:
        async def strand(number: int) -> Any:
            await run.step(hold, number)
            return await run.step(act, number)

        async def in_branch(number: int) -> Any:
            async with run.branch(f"b{number}") as branch:
                await branch.step(hold, 10 + number)
                return await branch.step(act, 10 + number)

        return [
            await run.map(strand, [0, 1]),
            list(await asyncio.gather(in_branch(0), in_branch(1))),
        ]

    store = MemoryStore()
    first = await opened(store, both_ways)
    handle: Any = await first.start(both_ways)
    go[order[0]].set()
    await ledger.reaches(f"act {order[0]}")
    await seen(handle, "step.completed", 2)
    await die(first)
    second = await opened(store, both_ways)
    handle = second.run(handle.id)
    go[order[1]].set()
    go[10 + order[0]].set()
    await ledger.reaches(f"act {10 + order[0]}")
    await seen(handle, "step.completed", 6)
    await die(second)
    go[10 + order[1]].set()
    async with witnessed(store, both_ways) as third:
        handle = third.run(handle.id)
        assert await handle.result() == [[0, 1], [10, 11]]
    assert sorted(ledger.lines) == ["act 0", "act 1", "act 10", "act 11"]


# --- what is free -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", [compute, look], ids=["pure", "read"])
async def test_2_unrecorded_pure_and_read_steps_may_be_inserted_freely(called: Any) -> None:
    old = main(in_turn(call(act, 1)))
    new = main(in_turn(call(called, "before", key="x"), call(act, 1), call(called, "after", key="y")))
    assert await goes_on(old, new) == ["before", 1, "after"]
    assert ledger.lines == ["act 1"]


async def test_2_recorded_pure_and_read_steps_may_be_removed_freely() -> None:
    old = main(in_turn(call(compute, 1), call(look, 2), call(act, 3)))
    assert await goes_on(old, main(in_turn(call(act, 3)))) == [3]


async def test_2_inserted_reads_are_facts_from_then_on() -> None:
    looked = []

    @step(kind="read")
    async def inserted() -> int:
        looked.append(1)
        return len(looked)

    old = main(call(act, 1))
    new = main(in_turn(call(inserted), call(act, 1)), then=lambda run: run.wait_for("end"))
    store = MemoryStore()
    async with recovered(store, old, new) as (_, handle):
        await handle.signal("go")
        await seen(handle, "wait.opened", 2)
        await reaches(handle, "waiting")
    async with witnessed(store, new) as runtime:
        handle = runtime.run(handle.id)
        await handle.signal("end", "ended")
        assert await handle.result() == "ended"
    assert looked == [1]


# --- what parking means -----------------------------------------------------------------------------------------------


async def test_2_drift_parks_the_run_and_the_old_code_goes_on_with_it() -> None:
    old, new = main(call(act, 1)), main(call(act, 2))
    store = MemoryStore()
    async with recovered(store, old, new) as (runtime, handle):
        await handle.signal("go")
        with pytest.raises(RunParkedError, match=r"act in 0/main#1 was recorded with another input"):
            await handle.result()
        await handle.resume()
        await seen(handle, "run.paused", 2)
        assert await handle.status() == "paused", "the same code drifts again"
        for way_out in ("run.now()", "key=", "run.patched", "resume"):
            assert way_out in (await handle.fold()).detail["what_to_do"]
        assert await runtime.questions() == []
    async with witnessed(store, old) as runtime:
        handle = runtime.run(handle.id)
        await handle.resume()
        assert await handle.result() == 1
    assert ledger.lines == ["act 1"]


async def test_2_code_that_catches_exceptions_does_not_go_on_behind_drift() -> None:
    async def careless(run: Run) -> str:
        try:
            await run.step(act, 2)
        except Exception:
            ledger.note("caught")
        await run.step(other_act, 2)
        return "went on"

    await parked(main(call(act, 1)), main(careless))
    assert "caught" not in ledger.lines


async def test_2_drift_in_one_branch_stops_the_others() -> None:
    async def two(run: Run, first: int) -> Any:
        async def second() -> Any:
            await run.step(look)
            return await run.step(other_act, first)

        return await run.gather(run.step(act, first), second())

    await parked(main(lambda run: two(run, 1)), main(lambda run: two(run, 2)))


async def test_2_a_definition_of_another_structure_is_parked_as_definition_changed() -> None:
    @workflow(name="main")
    async def other(run: Run, new_parameter: int = 1) -> None: ...

    async with recovered(MemoryStore(), main(call(act, 1)), other) as (_, handle):
        await handle.signal("go")
        with pytest.raises(RunParkedError) as caught:
            await handle.result()
        assert caught.value.ids["reason"] == "definition_changed"
    assert ledger.lines == ["act 1"]


# --- patched ----------------------------------------------------------------------------------------------------------


def patched(before: Body, new: Body, after: Body = nothing) -> Body:
    """The author's way to insert an effect: only runs that have not gone past here do it."""

    async def body(run: Run) -> list[Any]:
        found = [await before(run)]
        if run.patched("p1"):
            found.append(await new(run))
        return [*found, await after(run)]

    return body


async def test_2_patched_is_true_when_nothing_recorded_in_its_scope_is_still_unasked() -> None:
    new = ends(patched(call(act, 1), call(other_act, 2)))
    async with witnessed(MemoryStore(), new) as runtime:
        handle: Any = await runtime.start(new)
        assert await handle.result() == [1, 2, None]
        (fact,) = await events_of(handle, "patch.decided")
        assert (fact.data["patch"], fact.data["active"]) == ("p1", True)


async def test_2_patched_is_false_where_the_old_code_ran_past() -> None:
    old = main(in_turn(call(act, 1), call(act, 3)))
    new = main(patched(call(act, 1), call(other_act, 2), call(act, 3)))
    assert await goes_on(old, new) == [1, 3]
    assert ledger.lines == ["act 1", "act 3"]


async def test_2_patched_looks_at_reads_too() -> None:
    """A recorded read behind it is enough: the old code ran past."""
    old = main(in_turn(call(act, 1), call(look, 3)))
    new = main(patched(call(act, 1), call(other_act, 2), call(look, 3)))
    assert await goes_on(old, new) == [1, 3]


async def test_2_patched_looks_into_branches_that_were_not_begun_again() -> None:
    old = main(in_turn(call(act, 1), mapped(5, called=look)))
    new = main(patched(call(act, 1), call(other_act, 2), mapped(5, called=look)))
    assert await goes_on(old, new) == [1, [5]]


@pytest.mark.parametrize("active", [True, False])
async def test_2_the_answer_of_patched_is_a_fact(active: bool) -> None:
    """It stays as it was first given, also when later everything recorded has been asked for."""
    store = MemoryStore()
    new = main(patched(call(act, 1), call(other_act, 2)), then=lambda run: run.wait_for("end"))
    old = main(patched(call(act, 1), nothing)) if active else main(call(act, 1))
    if active:
        async with witnessed(store, new) as runtime:
            handle: Any = await runtime.start(new)
            await handle.signal("go")
            await seen(handle, "wait.opened", 2)
            await reaches(handle, "waiting")
    else:
        async with recovered(store, old, new) as (_, handle):
            await handle.signal("go")
            await seen(handle, "wait.opened", 2)
            await reaches(handle, "waiting")
    async with witnessed(store, new) as runtime:
        handle = runtime.run(handle.id)
        await handle.signal("end", "ended")
        assert await handle.result() == "ended"
        decided = await events_of(handle, "patch.decided")
        assert [event.data["active"] for event in decided] == [active]
    assert ledger.lines == (["act 1", "other 2"] if active else ["act 1"])


async def test_2_patched_gives_one_answer_however_often_it_is_asked() -> None:
    async def body(run: Run) -> list[bool]:
        found = [run.patched("p1")]
        await run.step(act, 1)
        return [*found, run.patched("p1"), run.patched("p2")]

    new = ends(body)
    async with witnessed(MemoryStore(), new) as runtime:
        handle: Any = await runtime.start(new)
        assert await handle.result() == [True, True, True]
        assert len(await events_of(handle, "patch.decided")) == 2
        assert "run.paused" not in await kinds(handle)


async def test_2_a_store_that_held_drift_is_sound() -> None:
    """The journals of parked runs are checked like all others."""
    store = MemoryStore()
    await parked(main(call(act, 1)), main(call(act, 2)), store)
    await check_journals(store)
