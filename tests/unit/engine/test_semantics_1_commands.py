"""Rules of section 1: commands and their resends, signals, children, and what a failed append means."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, RunHandle, Runtime, step, workflow
from perdure.core.errors import (
    CommandConflictError,
    OutcomeUnknownError,
    PerdureError,
    RunEndedError,
    RunFailed,
    SignalBacklogError,
    StoreReadError,
    StoreWriteError,
)
from perdure.core.events import NEVER
from perdure.core.ids import child_run_id
from perdure.journal import decide
from perdure.store.memory import MemoryStore
from perdure.testing.delegate import DelegatingStore
from tests.unit.engine.evidence import FailingStore, check_journals, once_at, witnessed
from tests.unit.engine.staging import Ledger, die, events_of, journal, kinds, on_disk, opened, reaches, seen

pytestmark = pytest.mark.time_limit(20)


@workflow
async def asks(run: Run) -> Any:
    return await run.ask("Well?", choices=["yes", "no"])


@workflow
async def fails(run: Run) -> None:
    raise ValueError("as it is meant to")


@workflow
async def collects(run: Run, count: int) -> list[Any]:
    return [await run.wait_for("item") for _ in range(count)]


@workflow
async def generations(run: Run, number: int) -> int:
    """Goes on as new generations until somebody says stop."""
    said = await run.wait_for("say")
    if said == "stop":
        return number
    await run.continue_as(number + 1)


# --- commands ---------------------------------------------------------------------------------------------------------

COMMANDS: dict[str, Callable[[RunHandle[Any], str], Any]] = {
    "wait.answered": lambda handle, command_id: handle.answer("yes", command_id=command_id),
    "signal.received": lambda handle, command_id: handle.signal("hello", command_id=command_id),
    "run.cancel_requested": lambda handle, command_id: handle.cancel(command_id=command_id),
    "run.paused": lambda handle, command_id: handle.pause(command_id=command_id),
    "run.resumed": lambda handle, command_id: handle.resume(command_id=command_id),
}


@pytest.mark.parametrize("kind", COMMANDS)
async def test_1_a_resend_of_a_command_is_recognised(kind: str) -> None:
    async with witnessed(MemoryStore(), asks) as runtime:
        handle = await runtime.start(asks)
        await reaches(handle, "waiting")
        if kind == "run.resumed":
            await handle.pause()
        await COMMANDS[kind](handle, "c1")
        await COMMANDS[kind](handle, "c1")
        await COMMANDS[kind](handle, "c1")
        found = await events_of(handle, kind)
        assert [event.data["command_id"] for event in found] == ["c1"]
        assert found[0].epoch == 0


async def test_1_a_resend_of_a_retry_is_recognised() -> None:
    async with witnessed(MemoryStore(), fails) as runtime:
        handle = await runtime.start(fails)
        await reaches(handle, "failed")
        await handle.retry(command_id="c1")
        with pytest.raises(RunFailed):
            await handle.result()
        await handle.retry(command_id="c1")
        assert len(await events_of(handle, "run.reopened")) == 1


SAID: dict[str, tuple[Callable[[RunHandle[Any]], Any], Callable[[RunHandle[Any]], Any]]] = {
    "answer": (
        lambda handle: handle.answer("yes", command_id="c1"),
        lambda handle: handle.answer("no", command_id="c1"),
    ),
    "payload": (
        lambda handle: handle.signal("hello", {"a": 1}, command_id="c1"),
        lambda handle: handle.signal("hello", {"a": 2}, command_id="c1"),
    ),
    "name": (
        lambda handle: handle.signal("hello", command_id="c1"),
        lambda handle: handle.signal("goodbye", command_id="c1"),
    ),
}


@pytest.mark.parametrize("what", SAID)
async def test_1_a_resend_that_says_something_else_is_refused(what: str) -> None:
    first, other = SAID[what]
    async with witnessed(MemoryStore(), asks) as runtime:
        handle = await runtime.start(asks)
        await reaches(handle, "waiting")
        await first(handle)
        await first(handle)
        before = await kinds(handle)
        with pytest.raises(CommandConflictError, match=what):
            await other(handle)
        assert await kinds(handle) == before


async def test_1_a_large_signal_is_recognised_when_it_is_sent_again() -> None:
    async with witnessed(MemoryStore(), asks) as runtime:
        handle = await runtime.start(asks)
        await reaches(handle, "waiting")
        await handle.signal("hello", "x" * 200_000, command_id="c1")
        await handle.signal("hello", "x" * 200_000, command_id="c1")
        assert len(await events_of(handle, "signal.received")) == 1


async def test_1_a_command_id_is_for_one_command() -> None:
    async with witnessed(MemoryStore(), asks) as runtime:
        handle = await runtime.start(asks)
        await reaches(handle, "waiting")
        await handle.pause(command_id="c1")
        before = await kinds(handle)
        with pytest.raises(CommandConflictError):
            await handle.signal("hello", command_id="c1")
        assert await kinds(handle) == before


@pytest.mark.parametrize("restart", [False, True])
async def test_1_a_resend_is_recognised_after_continue_as(restart: bool) -> None:
    store = MemoryStore()
    runtime = await opened(store, generations)
    handle: RunHandle[Any] = await runtime.start(generations, 1)
    await handle.signal("say", "on", command_id="c1")
    await seen(handle, "run.suspended", 2)
    if restart:
        await die(runtime)
        runtime = await opened(store, generations)
        handle = runtime.run(handle.id)
    await handle.signal("say", "on", command_id="c1")
    with pytest.raises(CommandConflictError):
        await handle.pause(command_id="c1")
    await handle.signal("say", "stop", command_id="c2")
    assert await handle.result() == 2
    assert len(await events_of(handle, "signal.received")) == 2
    await runtime.close()
    await check_journals(store)


async def test_1_commands_of_many_at_once_are_all_decided_on_what_stands_before_them() -> None:
    """Of forty answers one is taken; the others are refused, and nothing of them is written."""
    async with witnessed(MemoryStore(), asks) as runtime:
        handle = await runtime.start(asks)
        await reaches(handle, "waiting")
        answers = [handle.answer(("yes", "no")[i % 2]) for i in range(40)]
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        assert len([outcome for outcome in outcomes if outcome is None]) == 1
        assert all(isinstance(outcome, PerdureError) for outcome in outcomes if outcome is not None)
        assert len(await events_of(handle, "wait.answered")) == 1
        assert await handle.result() == (await events_of(handle, "wait.answered"))[0].data["answer"]


# --- signals ----------------------------------------------------------------------------------------------------------


async def test_1_signals_are_kept_in_order_per_name() -> None:
    @workflow
    async def main(run: Run) -> list[Any]:
        found = [await run.wait_for("late")]
        found += [await run.wait_for("a") for _ in range(3)]
        return found + [await run.wait_for("b") for _ in range(2)]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        for name, value in (("a", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 5), ("late", 0)):
            await handle.signal(name, value)
        assert await handle.result() == [0, 1, 3, 4, 2, 5]


async def test_1_a_signal_has_a_senders_id_for_deduplication() -> None:
    async with witnessed(MemoryStore(), collects) as runtime:
        handle = await runtime.start(collects, 2)
        for value in ("first", "again", "and again"):
            await handle.signal("item", value, sender_id="s1")
        await handle.signal("item", "second", sender_id="s2")
        assert await handle.result() == ["first", "second"]
        assert len(await events_of(handle, "signal.received")) == 2


@pytest.mark.parametrize("restart", [False, True])
async def test_1_a_senders_id_is_recognised_after_continue_as(restart: bool) -> None:
    store = MemoryStore()
    runtime = await opened(store, generations)
    handle: RunHandle[Any] = await runtime.start(generations, 1)
    await handle.signal("say", "on", sender_id="s1")
    await seen(handle, "run.suspended", 2)
    if restart:
        await die(runtime)
        runtime = await opened(store, generations)
        handle = runtime.run(handle.id)
    await handle.signal("say", "on", sender_id="s1")
    await handle.signal("say", "stop", sender_id="s2")
    assert await handle.result() == 2
    await runtime.close()
    await check_journals(store)


async def test_1_unread_signals_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MOST_SIGNALS", 5)

    @workflow
    async def main(run: Run) -> list[Any]:
        await run.wait_for("go")
        return [await run.wait_for("item") for _ in range(5)]

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        for number in range(5):
            await handle.signal("item", number)
        before = await kinds(handle)
        with pytest.raises(SignalBacklogError) as caught:
            await handle.signal("item", 5)
        assert caught.value.retryable
        assert await kinds(handle) == before
        monkeypatch.setattr(decide, "MOST_SIGNALS", 6)
        await handle.signal("go")
        assert await handle.result() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ending", ["completed", "failed", "cancelled"])
async def test_1_what_was_never_read_is_listed_at_the_end(ending: str) -> None:
    @workflow
    async def main(run: Run) -> None:
        await run.wait_for("go")
        if ending == "failed":
            raise ValueError("as it is meant to")

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.signal("b", 1)
        await handle.signal("a", 2)
        await handle.signal("b", 3)
        await (handle.cancel() if ending == "cancelled" else handle.signal("go"))
        await reaches(handle, ending)
        (ended,) = await events_of(handle, f"run.{ending}")
        received = [event for event in await events_of(handle, "signal.received") if event.data["name"] != "go"]
        assert ended.data["unread_signals"] == [{"name": event.data["name"], "seq": event.seq} for event in received]
        assert [event.data["name"] for event in received] == ["b", "a", "b"]


async def test_1_a_signal_to_an_ended_run_is_refused_and_nothing_is_written() -> None:
    async with witnessed(MemoryStore(), collects) as runtime:
        handle = await runtime.start(collects, 0)
        await handle.result()
        before = await kinds(handle)
        with pytest.raises(RunEndedError):
            await handle.signal("item")
        assert await kinds(handle) == before


# --- children ---------------------------------------------------------------------------------------------------------


@workflow
async def child(run: Run, number: int) -> int:
    if number < 0:
        await run.wait_for("grow")
    return number * 2


@workflow
async def parent(run: Run, number: int = 1) -> list[int]:
    first = await run.spawn(child, number)
    second = await run.spawn(child, 2, key="the other")
    return [await first.result(), await second.result()]


async def test_1_a_childs_id_derives_from_parent_scope_and_key() -> None:
    async with witnessed(MemoryStore(), parent, child) as runtime:
        handle = await runtime.start(parent, id="p1")
        assert await handle.result() == [2, 4]
        spawned = [event.data["child"] for event in await events_of(handle, "child.spawned")]
    assert spawned == [child_run_id("p1", "0/main#1", "spawn.child"), child_run_id("p1", "0/main#1", "the other")]


@pytest.mark.parametrize("what", ["fail", "lose"])
async def test_1_a_spawn_is_repeated_without_a_second_child(what: str) -> None:
    """The commit that starts the child fails, or is done and its answer lost, after the spawn is durable."""
    store = FailingStore(MemoryStore())
    caught: list[BaseException] = []

    @workflow(name="parent")
    async def spawns(run: Run) -> int:
        try:
            return await (await run.spawn(child, 3)).result()
        except Exception as error:
            caught.append(error)
            raise

    async with Runtime(store, workflows=[child]) as runtime:
        handle = await runtime.start(spawns, id="p1")

        def at_the_childs_start(kinds: list[str]) -> PerdureError | None:
            if "run.started" not in kinds:
                return None
            setattr(store, what, lambda kinds: None)
            return StoreWriteError("the disk is full") if what == "fail" else OutcomeUnknownError("no answer")

        setattr(store, what, at_the_childs_start)
        assert await handle.result() == 6
        assert caught == [], "the code never hears of it"
        assert len(await runtime.runs()) == 2
        assert len(await events_of(handle, "child.spawned")) == 1
        assert runtime.worker.recovered > 0
    await check_journals(store.inner)


async def test_1_a_child_settles_in_its_own_journal_and_marks_the_parent_due() -> None:
    store = MemoryStore()
    async with Runtime(store, workflows=[parent, child]) as runtime:
        handle: RunHandle[Any] = await runtime.start(parent, -1, id="p1")
        await reaches(handle, "waiting")
    young = child_run_id("p1", "0/main#1", "spawn.child")
    async with Runtime(store, workflows=[child]) as runtime:
        before = await runtime.run("p1").row()
        assert before.due_ms == NEVER
        await runtime.signal("grow", run_id=young)
        assert await runtime.run(young).result() == -2
        row = await runtime.run("p1").row()
        assert (row.due_ms, row.status) == (0, "waiting"), "due in the child's terminal transaction"
        assert len(await events_of(runtime.run("p1"), "child.settled")) == 0, "only its executor appends that"
    async with witnessed(store, parent, child) as runtime:
        handle = runtime.run("p1")
        assert await handle.result() == [-2, 4]
        settled = await events_of(handle, "child.settled")
        assert (settled[0].data["child"], settled[0].data["status"]) == (young, "completed")
        assert {event.actor for event in settled} == {f"worker:{runtime.worker_id}"}


# --- failed appends ---------------------------------------------------------------------------------------------------


@step(kind="read")
async def look() -> int:
    return 1


CALLS: dict[str, Callable[[Run], Any]] = {
    "step": lambda run: run.step(look),
    "ask": lambda run: run.ask("?"),
    "wait_for": lambda run: run.wait_for("go"),
    "sleep": lambda run: run.sleep(0),
    "spawn": lambda run: run.spawn(child, 1),
    "gather": lambda run: run.gather(),
    "map": lambda run: run.map(look, []),
    "branch": lambda run: run.branch("b").__aenter__(),
    "now": lambda run: run.now(),
    "random": lambda run: run.random(),
    "uuid": lambda run: run.uuid(),
    "rng": lambda run: run.rng(),
    "emit": lambda run: run.emit("told"),
    "put": lambda run: run.put(b"bytes"),
    "get": lambda run: run.get("0" * 64),
    "state write": lambda run: run.state.__setitem__("a", 1),
    "state delete": lambda run: run.state.__delitem__("b"),
    "patched": lambda run: run.patched("p"),
    "continue_as": lambda run: run.continue_as(),
}


async def told_by(call: Callable[[Run], Any], run: Run) -> str:
    """What a call raises, in one word."""
    try:
        value = call(run)
        if inspect.isawaitable(value):
            await value
    except Exception as error:
        return f"the exception {error!r}"
    except BaseException as error:
        return type(error).__name__
    return "nothing"


@pytest.mark.parametrize("disk", [False, True])
async def test_1_a_failed_append_abandons_that_execution(disk: bool, tmp_path: Path) -> None:
    """Every later call on that `Run` raises a `BaseException`; the run is recovered from the store."""
    inner = on_disk(tmp_path / "runs.db") if disk else MemoryStore()
    store = FailingStore(inner)
    ledger = Ledger()
    found: dict[str, str] = {}

    @step(kind="idempotent")
    async def act() -> str:
        ledger.note("act")
        return "done"

    @workflow
    async def main(run: Run) -> Any:
        run.state["b"] = 1
        await run.step(look)
        try:
            return await run.step(act)
        except BaseException as error:
            found["the call that failed"] = "BaseException" if not isinstance(error, Exception) else repr(error)
            for name, call in CALLS.items():
                found[name] = await told_by(call, run)
            raise

    store.fail = once_at("step.intended", StoreWriteError("the disk is full"))
    async with Runtime(store, workflows=[main, child]) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "done"
        assert ledger.lines == ["act"]
        assert runtime.worker.recovered == 1
    assert found == {"the call that failed": "BaseException"} | dict.fromkeys(CALLS, "RunAbandoned")
    await inner.close()
    await check_journals(inner)


async def test_1_a_failed_append_abandons_a_blocking_workflow_too() -> None:
    store = FailingStore(MemoryStore())
    found: list[Any] = []

    @workflow
    def main(run: Any) -> Any:
        for _ in range(2):
            try:
                return run.step(look_now)
            except Exception as error:
                found.append(error)
            except BaseException as error:
                found.append(type(error))
        return run.step(look_now)

    @step(kind="read", commit="now")
    def look_now() -> int:
        return 1

    store.fail = once_at("step.completed", StoreWriteError("the disk is full"))
    async with Runtime(store, workflows=[main]) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == 1
    assert [kind for kind in found if not isinstance(kind, type) or issubclass(kind, Exception)] == []
    assert found != []
    await check_journals(store.inner)


async def test_1_a_failed_commit_of_a_costly_read_abandons_it() -> None:
    store = FailingStore(MemoryStore())
    found: list[str] = []

    @step(kind="read", commit="now")
    async def costly() -> int:
        return 1

    @workflow
    async def main(run: Run) -> int:
        try:
            return await run.step(costly)
        except Exception as error:
            found.append(repr(error))
            return -1

    store.fail = once_at("step.completed", StoreWriteError("the disk is full"))
    async with Runtime(store, workflows=[main]) as runtime:
        assert await (await runtime.start(main)).result() == 1
    assert found == []
    await check_journals(store.inner)


async def test_1_a_step_that_will_not_be_cancelled_is_abandoned_with_its_run() -> None:
    """It swallows the cancellation and returns; the code behind it does not go on all the same."""
    store = FailingStore(MemoryStore())
    began = asyncio.Event()
    found: list[str] = []

    @step(kind="read", commit="now")
    async def stubborn() -> int:
        if began.is_set():
            return 2
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return 1

    @workflow
    async def main(run: Run) -> int:
        run.emit("before")
        try:
            return await run.step(stubborn)
        except Exception as error:
            found.append(repr(error))
            return -1

    store.fail = once_at("before", StoreWriteError("the disk is full"))
    async with Runtime(store, workflows=[main]) as runtime:
        assert await (await runtime.start(main)).result() == 2
    assert began.is_set()
    assert found == []
    await check_journals(store.inner)


@pytest.mark.parametrize("kind", ["node.entered", "wait.opened", "child.spawned", "run.completed"])
async def test_1_a_run_goes_on_after_a_failed_append_wherever_it_was(kind: str) -> None:
    store = FailingStore(MemoryStore())

    @workflow
    async def main(run: Run) -> list[Any]:
        grown = await (await run.spawn(child, 1)).result()
        return [grown, await run.wait_for("go"), await run.step(look)]

    store.fail = once_at(kind, StoreWriteError("the disk is full"))
    async with Runtime(store, workflows=[main, child]) as runtime:
        handle = await runtime.start(main)
        with suppress(OutcomeUnknownError):  # it may share the commit that fails
            await handle.signal("go", "gone", command_id="c1")
        await handle.signal("go", "gone", command_id="c1")
        assert await handle.result() == [2, "gone", 1]
        assert len(await runtime.runs()) == 2
    await check_journals(store.inner)


class UnreadableStore(DelegatingStore):
    """Reads of an artifact, or of a run, fail once when told."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.fail_artifact = 0
        self.fail_run = ""
        self.failures = 0

    async def get_artifact(self, sha256: str) -> bytes:
        if self.fail_artifact > 0:
            self.fail_artifact -= 1
            raise StoreReadError("the disk cannot be read")
        return await super().get_artifact(sha256)

    async def get_run(self, run_id: str) -> Any:
        if self.fail_run == run_id and self.failures > 0:
            self.failures -= 1
            raise StoreReadError("the disk cannot be read")
        return await super().get_run(run_id)


async def test_1_a_store_that_cannot_be_read_is_no_failure_of_the_run() -> None:
    """A replay needs an artifact that cannot be read just now: the run is recovered later, its code hears nothing."""
    store = UnreadableStore(MemoryStore())
    caught: list[Exception] = []

    @step(kind="read")
    async def large() -> str:
        return "x" * 100_000

    @workflow
    async def main(run: Run) -> int:
        try:
            found = await run.step(large)
        except Exception as error:
            caught.append(error)
            raise
        await run.wait_for("go")
        return len(found)

    first = await opened(store, main)
    handle: RunHandle[Any] = await first.start(main)
    await reaches(handle, "waiting")
    await die(first)
    async with Runtime(store, workflows=[main]) as runtime:
        store.fail_artifact = 1
        await runtime.signal("go", run_id=handle.id)
        assert await runtime.run(handle.id).result() == 100_000
        assert store.fail_artifact == 0
    assert caught == []
    await check_journals(store.inner)


async def test_1_a_child_whose_end_cannot_be_read_just_now_is_settled_later() -> None:
    store = UnreadableStore(MemoryStore())
    async with Runtime(store, workflows=[parent, child]) as runtime:
        handle = await runtime.start(parent, -1, id="p1")
        young = child_run_id("p1", "0/main#1", "spawn.child")
        await reaches(handle, "waiting")
        await reaches(runtime.run(young), "waiting")
        await runtime.signal("grow", run_id=young)
        store.fail_run, store.failures = young, 3
        assert await handle.result() == [-2, 4]
        assert store.failures == 0
    await check_journals(store.inner)


# --- outcome unknown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["fail", "lose"])
async def test_1_to_an_outside_caller_an_unconfirmed_commit_is_outcome_unknown(what: str) -> None:
    """Never failure: it may have happened. The same command with the same id is safe to send again."""
    store = FailingStore(MemoryStore())
    async with Runtime(store, workflows=[collects]) as runtime:
        setattr(store, what, once_at("run.started", StoreWriteError("the disk is full")))
        with pytest.raises(OutcomeUnknownError):
            await runtime.start(collects, 2, id="r1")
        handle = await runtime.start(collects, 2, id="r1")
        setattr(store, what, once_at("signal.received", StoreWriteError("the disk is full")))
        with pytest.raises(OutcomeUnknownError):
            await handle.signal("item", 1, command_id="c1")
        await handle.signal("item", 1, command_id="c1")
        await handle.signal("item", 2, command_id="c2")
        assert await handle.result() == [1, 2]
        assert len(await runtime.runs()) == 1
        assert len(await events_of(handle, "signal.received")) == 2
    await check_journals(store.inner)


async def test_1_a_commit_whose_answer_was_lost_is_not_appended_twice() -> None:
    """The executor is told that its commit failed, though it happened: it recovers from what the store holds."""
    store = FailingStore(MemoryStore())
    ledger = Ledger()

    @step(kind="once")
    async def act(number: int) -> int:
        ledger.note(f"act {number}")
        return number

    @workflow
    async def main(run: Run) -> list[int]:
        return [await run.step(act, number) for number in range(3)]

    lost: list[list[str]] = []

    def lose_the_second_fact(kinds: list[str]) -> PerdureError | None:
        if "step.completed" in kinds and not lost:
            lost.append(kinds)
            return OutcomeUnknownError("the connection was lost")
        return None

    store.lose = lose_the_second_fact
    async with Runtime(store, workflows=[main]) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        events = await journal(handle)
        assert lost == [["step.completed", "step.intended"]]
        assert [(event.kind, event.key) for event in events if event.kind == "step.completed"] == [
            ("step.completed", "act")
        ]
        assert ledger.lines == ["act 0"], "whether the second was begun is not known: it is in doubt, not repeated"
        await runtime.resolve(handle.id, "not_done")
        assert await handle.result() == [0, 1, 2]
        assert ledger.lines == ["act 0", "act 1", "act 2"]
    await check_journals(store.inner)
