"""Rules of section 3: what a run writes is keyed, appended once, and seen as the code has written it so far."""

from __future__ import annotations

import asyncio
import itertools
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from perdure import Done, Flow, Next, Run, RunHandle, Runtime, step, workflow
from perdure.core.errors import InvalidIdError, MergeConflictError, PerdureError, RunFailed, ValueTooLargeError
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import check_journals, recovered, witnessed
from tests.unit.engine.staging import Ledger, die, events_of, journal, kinds, on_disk, opened, reaches, seen

pytestmark = pytest.mark.time_limit(20)


@step(kind="read")
async def look(what: Any = None) -> Any:
    return what


@workflow
async def child(run: Run) -> int:
    return 1


# --- appended once ----------------------------------------------------------------------------------------------------


executions: list[str] = []


@workflow(name="main")
async def everything(run: Run) -> dict[str, Any]:
    """Each call that appends, twice, and a wait behind them."""
    executions.append(run.id)
    found: dict[str, Any] = {}
    for _ in range(2):
        run.state["a"] = run.state.get("a", 0) + 1
        run.state["b"] = {"large": "x" * 70_000}
        del run.state["b"]
        run.emit("told", {"a": run.state["a"]})
        put = run.put(b"bytes", name="file")
        found.setdefault("put", []).append([put.sha256, put.size, put.media_type, put.name])
        found.setdefault("facts", []).append([run.now().isoformat(), run.random(), str(run.uuid()), run.rng().random()])
        found.setdefault("patched", []).append(run.patched("p1"))
        await run.sleep(0)
        found.setdefault("steps", []).append(await run.step(look, 1))
        found.setdefault("children", []).append(await (await run.spawn(child)).result())

        async def branch(number: int) -> int:
            run.state[f"branch {number}"] = number
            run.emit("told.in_a_branch", number)
            return number

        found.setdefault("branches", []).append(await run.map(branch, [1, 2]))
        async with run.branch("named") as named:
            named.state["named"] = 1
    found["go"] = await run.wait_for("go")
    found["state"] = dict(run.state)
    return found


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "sqlite"])
async def test_3_whatever_appends_is_keyed_and_never_appended_twice(disk: bool, tmp_path: Path) -> None:
    store = on_disk(tmp_path / "runs.db") if disk else MemoryStore()
    runtime = await opened(store, everything, child)
    handle: RunHandle[Any] = await runtime.start(everything)
    async for event in handle.events():
        if event.kind == "wait.opened" and event.key == "wait_for.go":
            break
    await reaches(handle, "waiting")
    before = [(event.kind, event.scope, event.key) for event in await journal(handle) if event.key is not None]
    executions.clear()
    for count in range(1, 4):
        await die(runtime)
        runtime = await opened(store, everything, child)
        handle = runtime.run(handle.id)
        await handle.pause()
        await handle.resume()
        await seen(handle, "run.resumed", count)
        await reaches(handle, "waiting")
    await runtime.signal("go", "gone", run_id=handle.id)
    found = await handle.result()
    assert len(executions) == 3, "its code was executed again from the beginning"
    after = [(event.kind, event.scope, event.key) for event in await journal(handle) if event.key is not None]
    assert after[: len(before)] == before
    assert [kind for kind, _, _ in after[len(before) :]] == ["wait.resolved"]
    assert found["state"] == {"a": 2, "branch 1": 1, "branch 2": 2, "named": 1}
    assert found["branches"] == [[1, 2], [1, 2]]
    assert found["facts"][0] != found["facts"][1]
    assert found["patched"] == [True, True]
    await runtime.close()
    await check_journals(store)


async def test_3_facts_are_the_same_live_and_replayed() -> None:
    seen_facts: list[Any] = []

    @workflow
    async def main(run: Run) -> None:
        seen_facts.append([run.now(), run.random(), run.uuid(), run.rng().random(), run.now(), run.patched("p")])
        seen_facts[-1].append(run.put({"a": [1]}))
        await run.wait_for("go")

    async with recovered(MemoryStore(), main, main) as (_, handle):
        await handle.signal("go")
        await handle.result()
    assert seen_facts[0] == seen_facts[1]
    now, number, unique, _, later, _, _ = seen_facts[0]
    assert now <= later
    assert 0 <= number < 1
    assert unique.version == 4
    assert now.tzinfo is not None


async def test_3_each_write_has_the_key_of_its_name_and_occurrence() -> None:
    @workflow
    async def main(run: Run) -> None:
        run.state["a"] = 1
        run.state["b"] = 1
        run.state["a"] = 2
        run.emit("told")
        run.emit("told")
        run.put(b"1")
        run.put(b"2")

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        keys = [event.key for event in await journal(handle) if event.key is not None]
    assert keys == ["state.a", "state.b", "state.a#2", "emit.told", "emit.told#2", "put", "put#2"]


# --- state while code is executed again -------------------------------------------------------------------------------


async def test_3_during_re_execution_state_is_the_base_plus_the_writes_executed_again_so_far() -> None:
    views: list[list[dict[str, Any]]] = []

    @workflow
    async def main(run: Run) -> None:
        mine: list[dict[str, Any]] = []
        views.append(mine)
        mine.append(dict(run.state))
        run.state["a"] = 1
        mine.append(dict(run.state))
        await run.step(look)
        run.state["a"] = 2
        run.state["b"] = 3
        mine.append(dict(run.state))
        del run.state["a"]
        mine.append(dict(run.state))
        await run.wait_for("go")
        mine.append(dict(run.state))

    async with recovered(MemoryStore(), main, main) as (_, handle):
        assert await handle.state() == {"b": 3}
        await handle.signal("go")
        await handle.result()
    assert views[1] == [{}, {"a": 1}, {"a": 2, "b": 3}, {"b": 3}, {"b": 3}]
    assert views[0] == views[1][:4]


async def test_3_a_node_that_is_entered_again_sees_the_state_at_its_entry() -> None:
    """Of a flow: what earlier nodes wrote is there, what the node itself wrote before the crash comes again."""
    views: list[dict[str, Any]] = []
    flow = Flow("flow")

    @flow.node(to=["second"])
    async def first(run: Run) -> Any:
        run.state["first"] = 1
        run.state["both"] = 1
        return Next("second")

    @flow.node
    async def second(run: Run) -> Any:
        views.append(dict(run.state))
        run.state["second"] = 2
        run.state["both"] = 2
        views.append(dict(run.state))
        await run.wait_for("go")
        return Done(dict(run.state))

    async with recovered(MemoryStore(), flow, flow) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == {"first": 1, "both": 2, "second": 2}
    entry, later = {"first": 1, "both": 1}, {"first": 1, "both": 2, "second": 2}
    assert views == [entry, later, entry, later]


async def test_3_what_is_read_from_state_is_a_copy() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        given = {"names": ["a"]}
        run.state["a"] = given
        given["names"].append("changed by the writer")
        mine = run.state["a"]
        mine["names"].append("changed by the reader")
        for value in run.state.values():
            value["names"].append("and again")
        return [run.state["a"], run.state.get("a"), dict(run.state)["a"]]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == [{"names": ["a"]}] * 3
        assert await handle.state() == {"a": {"names": ["a"]}}


async def test_3_state_is_a_mapping() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        state = run.state
        state["b"], state["a"] = 2, 1
        found: list[Any] = [list(state), len(state), "a" in state, "c" in state, state.get("c", 9), state.pop("a")]
        state.update({"d": 4})
        found.append(state.setdefault("e", 5))
        for name in ("a", "missing"):
            try:
                del state[name]
            except KeyError as error:
                found.append(error.args[0])
        state.clear()
        return [*found, dict(state)]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == [["a", "b"], 2, True, False, 9, 1, 5, "a", "missing", {}]


@pytest.mark.parametrize("name", ["", "a/b", "x" * 181, "new\nline", 5])
async def test_3_a_state_key_outside_its_grammar_is_refused(name: Any) -> None:
    @workflow
    async def main(run: Run) -> str:
        try:
            run.state[name] = 1
        except PerdureError as error:
            return error.category
        return "nothing"

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "input"
        assert "state.written" not in await kinds(handle)


async def test_3_every_seq_is_a_checkpoint() -> None:
    @workflow
    async def main(run: Run) -> None:
        for number in range(3):
            run.state["n"] = number
            await run.step(look, number)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        written = await events_of(handle, "state.written")
        for number, event in enumerate(written):
            assert await handle.state(at=event.seq) == {"n": number}
            assert await handle.state(at=event.seq - 1) == ({"n": number - 1} if number else {})
        assert await handle.state() == {"n": 2}


# --- branches ---------------------------------------------------------------------------------------------------------


async def test_3_branches_see_the_base_and_not_each_other() -> None:
    ledger = Ledger()

    @workflow
    async def main(run: Run) -> list[Any]:
        run.state["base"] = 1

        async def branch(number: int) -> dict[str, Any]:
            run.state[f"mine {number}"] = number
            run.state["base seen"] = run.state["base"]
            ledger.note("written")
            await ledger.reaches("written", 2)
            return dict(run.state)

        views = await run.map(branch, [1, 2])
        return [*views, dict(run.state)]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        one, two, joined = await handle.result()
        assert one == {"base": 1, "mine 1": 1, "base seen": 1}
        assert two == {"base": 1, "mine 2": 2, "base seen": 1}
        assert joined == {"base": 1, "mine 1": 1, "mine 2": 2, "base seen": 1}
        assert await handle.state() == joined


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_3_disjoint_writes_merge_whatever_the_finishing_order(order: tuple[int, ...]) -> None:
    done = [asyncio.Event() for _ in range(4)]
    done[3].set()
    turn = {number: place for place, number in enumerate(order)}

    @step(kind="read")
    async def my_turn(number: int) -> None:
        if turn[number] > 0:
            await done[turn[number] - 1].wait()
        done[turn[number]].set()

    @workflow
    async def main(run: Run) -> dict[str, Any]:
        run.state["shared"] = "base"

        async def branch(number: int) -> None:
            run.state[f"k{number}"] = number
            await run.step(my_turn, number)
            run.state["same"] = "the same in all"
            if number == 1:
                del run.state["shared"]

        await run.map(branch, [0, 1, 2])
        return dict(run.state)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == {"k0": 0, "k1": 1, "k2": 2, "same": "the same in all"}
        assert await handle.state() == await handle.result()


CONFLICTS: dict[str, Any] = {
    "two values": (lambda state: state.__setitem__("x", 1), lambda state: state.__setitem__("x", 2)),
    "value and type": (lambda state: state.__setitem__("x", 1), lambda state: state.__setitem__("x", True)),
    "write and delete": (lambda state: state.__setitem__("x", 1), lambda state: state.__delitem__("x")),
}


@pytest.mark.parametrize("how", ["gather", "branch"])
@pytest.mark.parametrize("what", CONFLICTS)
async def test_3_two_branches_that_write_one_key_differently_are_a_typed_conflict(what: str, how: str) -> None:
    """It names the key and the branches, and is the same live and replayed."""
    caught: list[MergeConflictError] = []

    @workflow
    async def main(run: Run) -> list[Any]:
        run.state["x"] = 0

        begun = [asyncio.Event(), asyncio.Event()]

        async def in_branch(number: int, write: Any) -> None:
            async with run.branch(f"b{number}") as branch:
                begun[number].set()
                await begun[1 - number].wait()
                write(branch.state)
                await branch.step(look)

        async def write_here(write: Any) -> None:
            write(run.state)
            await run.step(look)

        try:
            if how == "gather":
                await run.gather(*(write_here(write) for write in CONFLICTS[what]))
            else:
                await asyncio.gather(*(in_branch(i, write) for i, write in enumerate(CONFLICTS[what])))
        except MergeConflictError as error:
            caught.append(error)
        run.state["after"] = run.state.get("x", "deleted")
        await run.wait_for("go")
        return [run.state.get("x", "deleted"), run.state["after"]]

    async with recovered(MemoryStore(), main, main) as (_, handle):
        state = await handle.state()
        await handle.signal("go")
        x, after = await handle.result()
        assert {"x": "deleted"} | state == {"x": x, "after": after}, "outside it is seen as inside"
        assert await handle.state() == state
    assert len(caught) == 2
    for error in caught:
        assert error.code == "merge_conflict"
        assert error.ids == caught[0].ids
        assert error.ids["key"] == "x"
        assert len(error.ids["branches"]) == 2
    if how == "gather":
        assert x == 0, "nothing of the branches is kept"


async def test_3_a_conflict_that_is_caught_leaves_the_state_as_it_was_in_every_later_node() -> None:
    """What recovery folds is what the code saw."""
    flow = Flow("flow")
    crash = asyncio.Event()

    @flow.node(to=["second"])
    async def first(run: Run) -> Any:
        async def write(number: int) -> None:
            run.state["x"] = number

        try:
            await run.map(write, [1, 2])
        except MergeConflictError:
            run.state["caught"] = True
        return Next("second")

    @flow.node
    async def second(run: Run) -> Any:
        await run.wait_for("go")
        crash.set()
        return Done(dict(run.state))

    async with recovered(MemoryStore(), flow, flow) as (_, handle):
        assert await handle.state() == {"caught": True}
        await handle.signal("go")
        assert await handle.result() == {"caught": True}


async def test_3_an_uncaught_conflict_fails_the_run_and_names_key_and_branches() -> None:
    @workflow
    async def main(run: Run) -> None:
        async def write(number: int) -> None:
            run.state["x"] = number

        await run.map(write, [1, 2])

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(RunFailed) as caught:
            await handle.result()
    error = caught.value.ids["error"]
    assert (error["code"], error["details"]["key"]) == ("merge_conflict", "x")
    assert error["details"]["branches"] == ["0/main#1/map[0]", "0/main#1/map[1]"]


async def test_3_writes_of_a_branch_that_failed_are_not_kept() -> None:
    @workflow
    async def main(run: Run) -> dict[str, Any]:
        async def fails(number: int) -> None:
            run.state[f"k{number}"] = number
            await run.step(look)
            if number == 2:
                raise ValueError("as it is meant to")

        try:
            await run.map(fails, [1, 2])
        except ValueError:
            run.state["caught"] = 1
        try:
            async with run.branch("left") as left:
                left.state["left"] = 1
                raise KeyError("left")
        except KeyError:
            run.state["left too"] = 1
        await run.wait_for("go")
        return dict(run.state)

    async with recovered(MemoryStore(), main, main) as (_, handle):
        assert await handle.state() == {"caught": 1, "left too": 1}
        await handle.signal("go")
        assert await handle.result() == {"caught": 1, "left too": 1}


async def test_3_branches_in_branches_merge_inwards_first() -> None:
    @workflow
    async def main(run: Run) -> dict[str, Any]:
        async def outer(number: int) -> None:
            async def inner(letter: str) -> None:
                run.state[f"{number}{letter}"] = run.state["depth"]

            run.state["depth"] = 1
            await run.map(inner, ["a", "b"])
            assert run.state[f"{number}a"] == 1

        await run.map(outer, [1, 2])
        await run.wait_for("go")
        return dict(run.state)

    async with recovered(MemoryStore(), main, main) as (_, handle):
        merged = {"depth": 1, "1a": 1, "1b": 1, "2a": 1, "2b": 1}
        assert await handle.state() == merged
        await handle.signal("go")
        assert await handle.result() == merged


async def test_3_state_of_branches_survives_a_crash_in_their_middle() -> None:
    ledger = Ledger()

    @step(kind="read")
    async def hold(number: int) -> None:
        ledger.note("held")
        if ledger.count("held") <= 2 and number == 2:
            await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> list[Any]:
        run.state["base"] = "base"

        async def branch(number: int) -> str:
            before = run.state["base"]
            run.state[f"k{number}"] = number
            await run.step(hold, number)
            return f"{before} {run.state[f'k{number}']}"

        return [await run.map(branch, [1, 2]), dict(run.state)]

    store = MemoryStore()
    first = await opened(store, main)
    handle: RunHandle[Any] = await first.start(main)
    await ledger.reaches("held", 2)
    await seen(handle, "step.completed")
    assert await handle.state() == {"base": "base"}, "what branches wrote counts from their join on"
    await die(first)
    async with witnessed(store, main) as second:
        handle = second.run(handle.id)
        assert await handle.result() == [["base 1", "base 2"], {"base": "base", "k1": 1, "k2": 2}]


# --- events and artifacts ---------------------------------------------------------------------------------------------


async def test_3_an_event_has_the_payload_and_name_that_were_given() -> None:
    @workflow
    async def main(run: Run) -> list[str]:
        run.emit("order.placed", {"n": 1})
        run.emit("plain")
        refused = []
        for name in ("step.completed", "run.anything", "wait", "", "with space"):
            try:
                run.emit(name)
            except InvalidIdError as error:
                refused.append(error.code)
        try:
            run.emit("large", "x" * (1024 * 1024))
        except ValueTooLargeError as error:
            refused.append(error.code)
        return refused

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == ["invalid_id"] * 5 + ["value_too_large"]
        (placed,) = await events_of(handle, "order.placed")
        (plain,) = await events_of(handle, "plain")
        assert (placed.data, plain.data) == ({"n": 1}, None)


@pytest.mark.parametrize(
    ("profile", "recorded"),
    [
        ("minimal", ["a"]),
        ("normal", ["a", "b"]),
        ("verbose", ["a", "b", "c"]),
        ({"level": "minimal", "events": ["c"]}, ["a", "c"]),
    ],
    ids=["minimal", "normal", "verbose", "own"],
)
async def test_3_the_event_profile_says_which_events_are_recorded(profile: Any, recorded: list[str]) -> None:
    @workflow
    async def main(run: Run) -> None:
        run.emit("a", level="minimal")
        run.emit("b")
        run.emit("c", level="verbose")
        await run.wait_for("go")

    store = MemoryStore()
    first = await opened(store, main)
    handle: RunHandle[Any] = await first.start(main, profile=profile)
    await reaches(handle, "waiting")
    await die(first)
    async with witnessed(store, main) as second:
        handle = second.run(handle.id)
        await handle.signal("go")
        await handle.result()
        assert [event.kind for event in await journal(handle) if event.kind in ("a", "b", "c")] == recorded


async def test_3_an_artifact_is_named_by_its_sha_256_and_read_back() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        data = b"\x00" * 100_000
        put = run.put(data, name="zeros", media_type="application/zeros", kind="log")
        text = run.put("plain text")
        value = run.put({"b": 1, "a": [2]})
        return [
            await run.get(put) == data,
            await run.get(text.sha256),
            await run.get(value),
            [put.sha256, put.size, put.media_type, put.name],
        ]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        same, text, value, put = await handle.result()
        assert (same, text, value) == (True, b"plain text", b'{"a":[2],"b":1}')
        assert put == [sha256(b"\x00" * 100_000).hexdigest(), 100_000, "application/zeros", "zeros"]
        first = (await events_of(handle, "artifact.put"))[0]
        assert first.data["artifact"] == put[0]
        assert (first.data["artifact_kind"], first.data["size"]) == ("log", 100_000)
        assert await runtime.store.get_artifact(put[0]) == b"\x00" * 100_000


async def test_3_an_artifact_that_does_not_exist_is_an_error_of_its_own() -> None:
    @workflow
    async def main(run: Run) -> str:
        try:
            await run.get("0" * 64)
        except PerdureError as error:
            return error.code
        return "nothing"

    async with Runtime(MemoryStore(), workflows=[main]) as runtime:
        assert await (await runtime.start(main)).result() == "artifact_not_found"
