"""Rules of section 2: scopes, step keys, idempotency keys, fingerprints and the input that a repeat sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from perdure import Backoff, Done, Flow, Next, Run, Runtime, current_step, idempotent, step, workflow
from perdure.core import ids
from perdure.core.canonical import canonical
from perdure.core.errors import InvalidIdError, RunFailed, ScopeInUseError
from perdure.engine import step_call
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import check_journals, recovered, witnessed
from tests.unit.engine.staging import Ledger, StageClock, die, events_of, kinds, on_disk, opened, reaches, seen

pytestmark = pytest.mark.time_limit(20)


@step(kind="read")
async def look(what: Any = None) -> Any:
    return what


async def places(handle: Any, *wanted: str) -> list[tuple[str | None, str | None]]:
    """Scope and key of the events of some kinds."""
    return [(event.scope, event.key) for event in await events_of(handle, *(wanted or ("step.completed",)))]


# --- scopes and keys --------------------------------------------------------------------------------------------------


async def test_2_scope_is_generation_node_visit_and_branch_keys() -> None:
    @workflow
    async def main(run: Run, again: bool = True) -> None:
        await run.step(look, 1)

        async def inner(item: int) -> None:
            await run.step(look, item)
            await run.gather(run.step(look, "deep"))

        await run.map(inner, [10, 20], key="items")
        async with run.branch("left") as left:
            await left.step(look, 2)
        if again:
            await run.continue_as(again=False)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        found = await places(handle)
    expected = []
    for generation in ("0", "1"):
        root = f"{generation}/main#1"
        expected += [(root, "look"), (f"{root}/branch.left", "look")]
        for item in ("items[0]", "items[1]"):
            expected += [(f"{root}/{item}", "look"), (f"{root}/{item}/gather[0]", "look")]
    assert sorted(found) == sorted(expected)


async def test_2_each_visit_of_a_node_has_a_scope_of_its_own() -> None:
    flow = Flow("cycle")

    @flow.node(to=["spin"])
    async def spin(run: Run) -> Any:
        rounds = run.state.get("rounds", 0) + 1
        run.state["rounds"] = rounds
        await run.step(look, rounds)
        return Done(rounds) if rounds == 3 else Next("spin")

    async with witnessed(MemoryStore(), flow) as runtime:
        handle = await runtime.start(flow)
        assert await handle.result() == 3
        assert await places(handle) == [("0/spin#1", "look"), ("0/spin#2", "look"), ("0/spin#3", "look")]


async def test_2_a_nodes_attempt_is_not_part_of_its_scope() -> None:
    ledger = Ledger()

    @step(kind="read")
    async def stays() -> None:
        ledger.note("stays")
        if ledger.count("stays") == 1:
            await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.step(look, 1), await run.step(stays), await run.step(look, 2)]

    store = MemoryStore()
    first = await opened(store, main)
    handle: Any = await first.start(main)
    await seen(handle, "step.completed")
    await ledger.reaches("stays")
    await die(first)
    async with witnessed(store, main) as second:
        handle = second.run(handle.id)
        assert await handle.result() == [1, None, 2]
        assert [event.data["attempt"] for event in await events_of(handle, "node.entered")] == [1, 2]
        assert await places(handle) == [("0/main#1", "look"), ("0/main#1", "stays"), ("0/main#1", "look#2")]


async def test_2_a_key_is_the_functions_name_and_its_occurrence_or_key() -> None:
    @step(kind="read", name="named")
    async def function(what: int) -> int:
        return what

    @workflow
    async def main(run: Run) -> None:
        await run.step(look, 1)
        await run.step(look, 1)
        await run.step(function, 1)
        await run.step(look, 1, key="mine")
        await run.step(look.keyed("also mine"), 1)
        await run.step(look.options(key="and this"), 1)
        await run.step(look, 1)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        assert [key for _, key in await places(handle)] == [
            "look",
            "look#2",
            "named",
            "mine",
            "also mine",
            "and this",
            "look#3",
        ]


async def test_2_a_key_outside_its_grammar_is_refused_before_anything_is_written() -> None:
    @workflow
    async def main(run: Run) -> list[str]:
        refused = []
        for key in ("a/b", "", "x" * 201, "new\nline"):
            try:
                await run.step(look, 1, key=key)
            except InvalidIdError as error:
                refused.append(error.code)
        return refused

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == ["invalid_id"] * 4
        assert await places(handle) == []


# --- a scope is sequential --------------------------------------------------------------------------------------------

WHILE_OPEN: dict[str, Callable[[Run], Any]] = {
    "step": lambda run: run.step(look),
    "ask": lambda run: run.ask("?"),
    "wait_for": lambda run: run.wait_for("go"),
    "sleep": lambda run: run.sleep(1),
    "spawn": lambda run: run.spawn("main"),
    "gather": lambda run: run.gather(),
    "map": lambda run: run.map(look, [1]),
    "now": lambda run: run.now(),
    "random": lambda run: run.random(),
    "uuid": lambda run: run.uuid(),
    "emit": lambda run: run.emit("told", 1),
    "put": lambda run: run.put(b"bytes"),
    "state write": lambda run: run.state.__setitem__("a", 1),
    "state delete": lambda run: run.state.__delitem__("b"),
    "patched": lambda run: run.patched("p"),
}


@pytest.mark.parametrize("name", WHILE_OPEN)
async def test_2_a_call_while_another_tasks_call_is_open_in_the_scope_is_refused(name: str) -> None:
    go = asyncio.Event()

    @step(kind="read")
    async def long() -> str:
        await go.wait()
        return "long"

    @workflow
    async def main(run: Run) -> list[str]:
        run.state["b"] = 1
        task = asyncio.ensure_future(run.step(long))
        await asyncio.sleep(0)
        try:
            value = WHILE_OPEN[name](run)
            if isinstance(value, Awaitable):
                await value
            code = "nothing"
        except ScopeInUseError as error:
            code = error.code
        go.set()
        return [code, await task]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == ["scope_in_use", "long"]
        assert await kinds(handle) == [
            "run.started",
            "node.entered",
            "state.written",
            "step.completed",
            "node.completed",
            "run.completed",
        ]


async def test_2_gather_map_and_branch_make_scopes_for_concurrent_work() -> None:
    began: set[int] = set()
    both = asyncio.Event()

    @step(kind="read")
    async def meet(number: int) -> int:
        began.add(number)
        if len(began) == 2:
            both.set()
        await both.wait()
        return number

    @workflow
    async def main(run: Run) -> list[Any]:
        async def in_branch(name: str, number: int) -> int:
            async with run.branch(name) as branch:
                return await branch.step(meet, number)

        found = [await run.gather(run.step(meet, 1), run.step(meet, 2))]
        began.clear(), both.clear()
        found += [await run.map(meet, [3, 4])]
        began.clear(), both.clear()
        found += [list(await asyncio.gather(in_branch("left", 5), in_branch("right", 6)))]
        return found

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main)).result() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("first", "second"),
    [("mine", "mine"), ("look", None), (None, "look"), ("look#2", "twice")],
    ids=["explicit twice", "explicit then derived", "derived then explicit", "explicit occurrence"],
)
async def test_2_a_key_used_twice_is_refused(first: str | None, second: str | None) -> None:
    @workflow
    async def main(run: Run) -> str:
        await run.step(look, 1, key=first)
        if second == "twice":
            await run.step(look, 2)
        try:
            await run.step(look, 3, key=None if second == "twice" else second)
        except ScopeInUseError as error:
            return error.code
        return "nothing"

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "scope_in_use"
        found = await places(handle)
        assert len(set(found)) == len(found)


async def test_2_an_explicit_key_may_be_used_again_in_another_scope() -> None:
    @workflow
    async def main(run: Run) -> list[int]:
        await run.step(look, 0, key="mine")
        return await run.map(lambda item: run.step(look, item, key="mine"), [1, 2])

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main)).result() == [1, 2]


# --- idempotency keys -------------------------------------------------------------------------------------------------


async def key_of(run_id: str, given: Any, *, explicit: str | None = None) -> str:
    """The idempotency key that a step's function sees."""
    seen: list[str] = []

    @step(kind="idempotent")
    async def act(what: Any) -> None:
        seen.append(current_step().idempotency_key)

    @workflow
    async def main(run: Run, what: Any) -> None:
        await run.step(act, what, key=explicit)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main, given, id=run_id)
        await handle.result()
        (intent,) = await events_of(handle, "step.intended")
        assert seen == [intent.data["idempotency_key"]]
    return seen[0]


async def test_2_the_idempotency_key_is_of_run_scope_and_key_never_of_the_input() -> None:
    first = await key_of("r1", {"a": 1})
    assert first == await key_of("r1", "something else")
    assert first == sha256(b"r1\x000/main#1\x00act").hexdigest()[:40]
    assert len({first, await key_of("r2", {"a": 1}), await key_of("r1", {"a": 1}, explicit="other")}) == 3


async def test_2_the_idempotency_key_is_read_from_the_intent_ever_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may derive other keys; a step that has begun keeps its own, over attempts and crashes."""
    ledger = Ledger()

    @step(kind="idempotent", retries=1, backoff=Backoff(initial_s=0.0))
    async def act() -> str:
        ledger.note(current_step().idempotency_key)
        if len(ledger.lines) == 1:
            raise ConnectionError("try again")
        if len(ledger.lines) == 2:
            await asyncio.get_running_loop().create_future()
        return current_step().idempotency_key

    @workflow
    async def main(run: Run) -> str:
        return await run.step(act)

    store = MemoryStore()
    first = await opened(store, main)
    handle: Any = await first.start(main, id="r1")
    while len(ledger.lines) < 2:
        await ledger.reaches(ids.idempotency_key("r1", "0/main#1", "act"), len(ledger.lines) + 1)
    await die(first)
    monkeypatch.setattr(step_call, "idempotency_key", lambda *_: "a key of another version")
    async with witnessed(store, main) as second:
        handle = second.run("r1")
        assert await handle.result() == ids.idempotency_key("r1", "0/main#1", "act")
        intents = await events_of(handle, "step.intended")
    assert {intent.data["idempotency_key"] for intent in intents} == set(ledger.lines)
    assert len(set(ledger.lines)) == 1
    assert len(ledger.lines) == 3


@pytest.mark.parametrize("late", [False, True])
async def test_2_after_its_window_a_repeat_of_an_idempotent_step_counts_as_once(late: bool) -> None:
    """The other side forgets the key after a day: a crash in the middle is repeated before that, and in doubt after."""
    ledger = Ledger()
    clock = StageClock()

    @step(kind=idempotent(window="24h"))
    async def act() -> int:
        ledger.note("act")
        if ledger.count("act") == 1:
            await asyncio.get_running_loop().create_future()
        return ledger.count("act")

    @workflow
    async def main(run: Run) -> int:
        return await run.step(act)

    store = MemoryStore()
    first = await opened(store, main, clock=clock)
    handle: Any = await first.start(main)
    await ledger.reaches("act")
    (intent,) = await events_of(handle, "step.intended")
    assert intent.data["until_ms"] == clock.now_ms() + 24 * 3600 * 1000
    await die(first)
    await clock.advance("25h" if late else "23h")
    async with witnessed(store, main, clock=clock) as second:
        handle = second.run(handle.id)
        if not late:
            assert await handle.result() == 2
            return
        await reaches(handle, "waiting")
        assert ledger.count("act") == 1
        assert [question.kind for question in await second.questions()] == ["doubt"]
        await second.resolve(handle.id, "done", value=7)
        assert await handle.result() == 7


@pytest.mark.parametrize("crash", [False, True])
async def test_2_a_retry_that_falls_behind_the_window_counts_as_once(crash: bool) -> None:
    ledger = Ledger()
    clock = StageClock()

    @step(kind=idempotent(window="1h"), retries=5, backoff=Backoff(initial_s=7200.0, max_s=7200.0, jitter=0.0))
    async def act() -> int:
        ledger.note("act")
        raise ConnectionError("no answer")

    @workflow
    async def main(run: Run) -> int:
        return await run.step(act)

    store = MemoryStore()
    runtime = await opened(store, main, clock=clock)
    handle: Any = await runtime.start(main)
    await ledger.reaches("act")
    await clock.settle()
    if crash:
        await die(runtime)
        runtime = await opened(store, main, clock=clock)
        handle = runtime.run(handle.id)
        await clock.settle()
    await clock.advance("3h")
    assert ledger.lines == ["act"], "it would be the first try for all that the other side knows"
    assert [question.kind for question in await runtime.questions()] == ["doubt"]
    await runtime.resolve(handle.id, "fail")
    with pytest.raises(RunFailed):
        await handle.result()
    await runtime.close()
    await check_journals(store)


# --- inputs -----------------------------------------------------------------------------------------------------------


@step(kind="read")
async def with_defaults(topic: str, size: int = 3, *, loud: bool = False) -> str:
    return f"{topic} {size} {loud}"


async def test_2_facts_and_intents_keep_the_input_and_its_fingerprint_before_defaults() -> None:
    @step(kind="idempotent")
    async def act(topic: str, size: int = 3) -> None: ...

    @workflow
    async def main(run: Run) -> None:
        await run.step(with_defaults, "ä", loud=True)
        await run.step(act, topic="b")

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        (fact, _) = await events_of(handle, "step.completed")
        (intent,) = await events_of(handle, "step.intended")
    assert fact.data["input"] == {"loud": True, "topic": "ä"}
    assert fact.data["fingerprint"] == sha256(canonical({"loud": True, "topic": "ä"})).hexdigest()
    assert intent.data["input"] == {"topic": "b"}
    assert intent.data["fingerprint"] == sha256(b'{"topic":"b"}').hexdigest()


async def test_2_the_fingerprint_is_of_the_rfc_8785_form() -> None:
    """`1.0` is written `1`, members stand in the order of their UTF-16 units, and no spaces do."""

    @step(kind="read")
    async def take(numbers: list[float], names: dict[str, int]) -> None: ...

    @workflow
    async def main(run: Run) -> None:
        await run.step(take, [1.0, 1e21, -0.0], {"\ufb33": 1, "\U0001f600": 2, "a": 3})

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        (fact,) = await events_of(handle, "step.completed")
    exact = '{"names":{"a":3,"\U0001f600":2,"\ufb33":1},"numbers":[1,1e+21,0]}'.encode()
    assert fact.data["fingerprint"] == sha256(exact).hexdigest()


@pytest.mark.parametrize("disk", [False, True])
async def test_2_todays_defaults_do_not_count(disk: bool, tmp_path: Path) -> None:
    @step(kind="read", name="with_defaults")
    async def with_other_defaults(topic: str, size: int = 99, *, loud: bool = True) -> str:
        raise AssertionError("it is recorded")

    def version(called: Any) -> Any:
        @workflow(name="main")
        async def main(run: Run) -> str:
            found = await run.step(called, "tea")
            await run.wait_for("go")
            return found

        return main

    store = on_disk(tmp_path / "runs.db") if disk else MemoryStore()
    async with recovered(store, version(with_defaults), version(with_other_defaults)) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == "tea 3 False"


async def test_2_a_repeat_sends_the_recorded_input_whatever_the_function_did_to_it() -> None:
    seen: list[Any] = []

    @step(kind="idempotent", retries=2, backoff=Backoff(initial_s=0.0))
    async def act(names: list[str]) -> list[str]:
        seen.append(list(names))
        names.append("spoilt")
        if len(seen) < 3:
            raise ConnectionError("try again")
        return names

    @workflow
    async def main(run: Run) -> Any:
        mine = ["a"]
        found = await run.step(act, mine)
        return [mine, found]

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main)).result() == [["a"], ["a", "spoilt"]]
    assert seen == [["a"], ["a"], ["a"]]


async def test_2_a_repeat_after_a_crash_sends_the_input_that_the_intent_holds() -> None:
    """What the journal holds goes out, also where the fingerprint of what is asked now is the same."""
    store = MemoryStore()
    ledger = Ledger()

    @step(kind="idempotent")
    async def act(number: float, data: bytes) -> str:
        ledger.note(repr((number, len(data))))
        if len(ledger.lines) == 1:
            await asyncio.get_running_loop().create_future()
        return "done"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(act, 1, b"x" * 100_000)

    first = await opened(store, main)
    handle: Any = await first.start(main)
    await ledger.reaches("(1.0, 100000)")
    await die(first)
    async with witnessed(store, main) as second:
        assert await second.run(handle.id).result() == "done"
    assert ledger.lines == ["(1.0, 100000)"] * 2


async def test_2_an_argument_is_seen_as_it_is_recorded() -> None:
    """An `int` for a `float` is a float live, as it is after a crash."""
    seen: list[str] = []

    @step(kind="pure")
    def half(number: float) -> float:
        seen.append(repr(number))
        return number / 2

    @workflow
    async def main(run: Run) -> float:
        return await run.step(half, 4)

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main)).result() == 2.0
    assert seen == ["4.0"]


# --- starting again ---------------------------------------------------------------------------------------------------


async def outcome_of_second_start(first: tuple[Any, dict[str, Any]], second: tuple[Any, dict[str, Any]]) -> str:
    store = MemoryStore()
    async with Runtime(store, execute=False) as runtime:
        await runtime.start(first[0], id="r1", **first[1])
    async with Runtime(store, execute=False) as runtime:
        try:
            handle: Any = await runtime.start(second[0], id="r1", **second[1])
            outcome = handle.id
        except Exception as error:
            outcome = error.code  # type: ignore[attr-defined]
        assert await kinds(runtime.run("r1")) == ["run.started"]
    await check_journals(store)
    return outcome


def named(name: str, version: str = "1", default: int = 5) -> Any:
    @workflow(name=name, version=version)
    async def main(run: Run, a: Any, b: int = default) -> None: ...

    return main


async def test_2_the_same_workflow_name_and_raw_input_is_the_same_run() -> None:
    assert await outcome_of_second_start((named("w"), {"a": {"x": [1]}}), (named("w"), {"a": {"x": [1]}})) == "r1"


@pytest.mark.parametrize("other", [named("w", version="2"), named("w", default=6)], ids=["version", "defaults"])
async def test_2_version_and_defaults_do_not_count(other: Any) -> None:
    assert await outcome_of_second_start((named("w"), {"a": 1}), (other, {"a": 1})) == "r1"


@pytest.mark.parametrize(
    ("workflow_name", "given"),
    [
        ("other", {"a": 1}),
        ("w", {"a": 2}),
        ("w", {"a": True}),
        ("w", {"a": "1"}),
        ("w", {"a": 1, "b": 5}),
    ],
    ids=["workflow", "value", "type", "text", "a default that is given"],
)
async def test_2_anything_else_under_that_id_is_a_conflict(workflow_name: str, given: dict[str, Any]) -> None:
    assert await outcome_of_second_start((named("w"), {"a": 1}), (named(workflow_name), given)) == "run_conflict"


async def test_2_a_large_input_is_the_same_run_too() -> None:
    large = {"a": ["x" * 100_000, 1]}
    assert await outcome_of_second_start((named("w"), large), (named("w"), large)) == "r1"
    other = {"a": ["x" * 100_000, True]}
    assert await outcome_of_second_start((named("w"), large), (named("w"), other)) == "run_conflict"


async def test_2_after_the_input_was_erased_every_input_conflicts() -> None:
    store = MemoryStore()
    async with Runtime(store, execute=False) as runtime:
        await runtime.start(named("w"), 1, id="r1")
        store._runs["r1"].events[0].payload = None
        store._runs["r1"].events[0]._data = None
        for given in (1, 2):
            with pytest.raises(Exception, match="taken by another") as caught:
                await runtime.start(named("w"), given, id="r1")
            assert caught.value.code == "run_conflict"  # type: ignore[attr-defined]


async def test_2_starting_again_gives_the_outcome_of_the_run_that_ended() -> None:
    ledger = Ledger()

    @workflow
    async def main(run: Run, a: int) -> int:
        ledger.note("ran")
        return a

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main, 1, id="r1")).result() == 1
        assert await (await runtime.start(main, 1, id="r1")).result() == 1
    assert ledger.lines == ["ran"]


def test_2_orjson_and_the_fingerprint_agree_on_what_a_value_is() -> None:
    """The recorded input, read back and written again, has the recorded fingerprint."""
    data = look.dump_input(look.bind(({"z": [1.5, None, True], "a": "é"},), {}))
    assert canonical(orjson.loads(data)) == data
