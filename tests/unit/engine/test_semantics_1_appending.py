"""Rules of section 1: who may append, in which order, and what happens when somebody else was quicker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure import Run, Runtime, step, workflow
from perdure.core.errors import PerdureError, WaitClosedError
from perdure.core.events import Draft, Head
from perdure.journal.chain import genesis
from perdure.store.memory import MemoryStore
from perdure.store.port import Append, NewRun, Outcome
from perdure.store.writer import Writer
from tests.unit.engine.evidence import HeldStore, KeptOpen, check_journals, witnessed
from tests.unit.engine.staging import Ledger, StageClock, events_of, journal, kinds, on_disk, reaches

pytestmark = pytest.mark.time_limit(20)


@asynccontextmanager
async def two_faces(
    *workflows: Any, disk: Path | None = None, **options: Any
) -> AsyncIterator[tuple[Runtime, HeldStore, Runtime]]:
    """A runtime that executes, on a store whose commits can be held up, and one that only commands, on the same."""
    inner = MemoryStore() if disk is None else on_disk(disk / "runs.db")
    held = HeldStore(inner)
    async with (
        Runtime(KeptOpen(inner) if disk is None else on_disk(disk / "runs.db"), execute=False) as outside,
        Runtime(held, workflows=workflows, **options) as runtime,
    ):
        try:
            yield runtime, held, outside
        finally:
            held.let_pass()
    await inner.close()
    await check_journals(inner)


def effect(ledger: Ledger, name: str = "effect") -> Any:
    @step(kind="idempotent", name=name)
    async def happen() -> str:
        ledger.note(name)
        return name

    return happen


# --- epochs and heads -------------------------------------------------------------------------------------------------


async def test_1_execution_is_appended_under_the_leases_epoch_and_commands_without_one() -> None:
    @step(kind="read")
    async def look() -> int:
        return 1

    @workflow
    async def main(run: Run) -> Any:
        await run.step(look)
        return await run.ask("Well?")

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main, actor="person:ada")
        await reaches(handle, "waiting")
        await handle.answer("yes", actor="person:bob")
        await handle.result()
        events = await journal(handle)
    by_kind = {event.kind: event for event in events}
    assert (by_kind["run.started"].epoch, by_kind["run.started"].actor) == (0, "person:ada")
    assert (by_kind["wait.answered"].epoch, by_kind["wait.answered"].actor) == (0, "person:bob")
    executed = [event for event in events if event.kind not in ("run.started", "wait.answered")]
    assert {event.epoch for event in executed} == {1}
    assert {event.actor for event in executed} == {f"worker:{runtime.worker_id}"}


@pytest.mark.parametrize("on_file", [False, True], ids=["memory", "sqlite"])
async def test_1_head_moved_under_ones_own_epoch_is_not_fenced(on_file: bool, tmp_path: Path) -> None:
    """The executor folds the tail; facts already in hand are chained behind it."""

    @step(kind="read")
    async def look() -> int:
        return 7

    @workflow
    async def main(run: Run) -> list[Any]:
        return [await run.step(look), await run.wait_for("go")]

    async with two_faces(main, disk=tmp_path if on_file else None) as (runtime, held, outside):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("step.completed")
        await outside.signal("go", "early", run_id="r1")
        held.let_pass()
        handle = await starting
        assert await handle.result() == [7, "early"]
        found = await kinds(handle)
        assert found.index("signal.received") < found.index("step.completed")
        assert {event.epoch for event in await events_of(handle, "step.completed", "run.completed")} == {1}
        assert runtime.worker.recovered == 0


@pytest.mark.parametrize("command", ["pause", "cancel"])
async def test_1_a_start_is_decided_again_when_a_command_came_before_it(command: str) -> None:
    ledger = Ledger()
    happen = effect(ledger)

    @workflow
    async def main(run: Run) -> str:
        return await run.step(happen)

    async with two_faces(main) as (runtime, held, outside):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("step.intended")
        await getattr(outside, command)("r1")
        held.let_pass()
        handle = await starting
        await reaches(handle, "paused" if command == "pause" else "cancelled")
        assert ledger.lines == []
        assert "step.intended" not in await kinds(handle)
        if command == "pause":
            await outside.unpause("r1")
            runtime.worker.wake()
            assert await handle.result() == "effect"
            assert ledger.lines == ["effect"]


@pytest.mark.parametrize("command", ["pause", "cancel"])
async def test_1_a_spawn_is_decided_again_when_a_command_came_before_it(command: str) -> None:
    @workflow
    async def child(run: Run) -> None: ...

    @workflow
    async def main(run: Run) -> None:
        await (await run.spawn(child)).result()

    async with two_faces(main, child) as (runtime, held, outside):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("child.spawned")
        await getattr(outside, command)("r1")
        held.let_pass()
        handle = await starting
        await reaches(handle, "paused" if command == "pause" else "cancelled")
        assert "child.spawned" not in await kinds(handle)
        assert [row.run_id for row in await runtime.runs()] == ["r1"]


async def test_1_an_ending_is_decided_again_when_a_cancel_came_before_it() -> None:
    @workflow
    async def main(run: Run) -> str:
        return "done"

    async with two_faces(main) as (runtime, held, outside):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("run.completed")
        await outside.cancel("r1", reason="too late?")
        held.let_pass()
        handle = await starting
        await reaches(handle, "cancelled")
        assert [kind for kind in await kinds(handle) if kind.startswith("run.")] == [
            "run.started",
            "run.cancel_requested",
            "run.cancelled",
        ]


async def test_1_an_ending_lists_a_signal_that_came_just_before_it() -> None:
    @workflow
    async def main(run: Run) -> str:
        return "done"

    async with two_faces(main) as (runtime, held, outside):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("run.completed")
        await outside.signal("late", run_id="r1")
        held.let_pass()
        handle = await starting
        assert await handle.result() == "done"
        (ended,) = await events_of(handle, "run.completed")
        (signal,) = await events_of(handle, "signal.received")
        assert ended.data["unread_signals"] == [{"name": "late", "seq": signal.seq}]


async def test_1_a_timeout_against_an_answer_the_lower_seq_wins() -> None:
    @workflow
    async def main(run: Run) -> Any:
        return await run.ask("Well?", choices=["a", "b"], timeout="5s", default="b")

    clock = StageClock()
    async with two_faces(main, clock=clock) as (runtime, held, outside):
        handle = await runtime.start(main, id="r1")
        await reaches(handle, "waiting")
        held.hold()
        advancing = asyncio.ensure_future(clock.advance("2m"))
        assert await held.held() == ["wait.resolved"]
        await outside.answer("r1", "a")
        held.let_pass()
        assert await handle.result() == "a"
        assert "wait.resolved" not in await kinds(handle)
        await advancing

        late = await runtime.start(main, id="r2")
        await reaches(late, "waiting")
        (opened,) = await events_of(late, "wait.opened")
        await clock.advance("2m")
        assert await late.result() == "b"
        with pytest.raises(PerdureError):
            await outside.answer("r2", "a", wait_id=opened.data["wait_id"])
        assert "wait.answered" not in await kinds(late)


async def test_1_an_answer_after_the_timeout_is_refused_while_the_run_goes_on() -> None:
    @workflow
    async def main(run: Run) -> Any:
        first = await run.ask("Well?", choices=["a", "b"], timeout="1m", default="b")
        return [first, await run.ask("And?")]

    clock = StageClock()
    async with witnessed(MemoryStore(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        (opened,) = await events_of(handle, "wait.opened")
        await clock.advance("2m")
        before = await journal(handle)
        with pytest.raises(WaitClosedError):
            await handle.answer("a", wait_id=opened.data["wait_id"])
        assert len(await journal(handle)) == len(before)


async def test_1_a_wait_that_opens_and_times_out_in_one_commit_survives_a_moved_head() -> None:
    """Its resolution is decided again while its opening is not committed yet: it is not taken for closed."""

    @workflow
    async def main(run: Run) -> Any:
        run.emit("before")
        await run.sleep("1s")
        return "awake"

    clock = StageClock()
    async with two_faces(main, clock=clock) as (runtime, held, outside):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("wait.opened")
        (timer,) = [timer for timer in clock._timers if not timer.cancelled]
        clock._jump(timer)
        await outside.signal("noise", run_id="r1")
        held.let_pass(hold_next=True)
        assert {"wait.opened", "wait.resolved"} <= set(await held.held())
        await outside.signal("noise", run_id="r1")
        held.let_pass()
        handle = await starting
        assert await handle.result() == "awake"


async def test_1_a_worker_that_lost_the_run_appends_nothing_more() -> None:
    ledger = Ledger()
    go = asyncio.Event()

    @step(kind="read")
    async def look() -> str:
        ledger.note("looking")
        await go.wait()
        return "seen"

    @workflow
    async def main(run: Run) -> str:
        try:
            found = await run.step(look)
            run.emit("seen")
            await run.step(effect(ledger))
        except BaseException as error:
            ledger.note(type(error).__name__)
            raise
        return found

    async with two_faces(main) as (runtime, _, outside):
        handle = await runtime.start(main)
        await ledger.reaches("looking")
        lease = outside.worker.lease
        claimed = await outside.store.claim_run(lease, handle.id, steal=True)
        assert claimed is not None
        assert claimed.row.epoch == 2
        before = await kinds(handle)
        go.set()
        await ledger.reaches("CancelledError")
        assert await kinds(handle) == before
        assert "effect" not in ledger.lines
        await outside.store.release(lease, [handle.id])
        runtime.worker.wake()
        assert await handle.result() == "seen"
        assert {event.epoch for event in await events_of(handle, "run.completed")} == {3}


@pytest.mark.parametrize("on_file", [False, True], ids=["memory", "sqlite"])
async def test_1_seq_and_hashes_are_assigned_when_many_append_at_once(on_file: bool, tmp_path: Path) -> None:
    @workflow
    async def main(run: Run) -> list[int]:
        return [await run.wait_for("number") for _ in range(40)]

    async with two_faces(main, disk=tmp_path if on_file else None) as (runtime, _, outside):
        handle = await runtime.start(main)
        senders = [(runtime if i % 2 else outside).signal("number", i, run_id=handle.id) for i in range(40)]
        await asyncio.gather(*senders)
        assert sorted(await handle.result()) == list(range(40))
        assert [event.seq for event in await journal(handle)] == list(range(1, len(await journal(handle)) + 1))
        await handle.verify()


# --- the writer -------------------------------------------------------------------------------------------------------


class OneAppend:
    """A source with one append."""

    def __init__(self, append: Append, order: list[str]) -> None:
        self.append: Append | None = append
        self.order = order
        self.outcome: Outcome | None = None

    def take(self) -> Append | None:
        append, self.append = self.append, None
        if append is not None:
            self.order.append(append.run_id)
        return append

    def settled(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def lost(self, error: PerdureError) -> None:
        self.outcome = error


def beginning(run_id: str) -> Append:
    draft = Draft("noted", b"{}", bytes(16), 0)
    return Append(run_id, [draft], Head(0, genesis(run_id)), create=NewRun("w", "1", 0))


async def test_1_the_writer_is_first_in_first_out_over_runs() -> None:
    store = MemoryStore()
    await store.open()
    held = HeldStore(store)
    writer = Writer(held)
    order: list[str] = []
    names = [f"r{i}" for i in range(20)]
    held.hold()
    for name in names:
        writer.submit(OneAppend(beginning(name), order))
    await held.held()
    later = [f"s{i}" for i in range(20)]
    for name in later:
        writer.submit(OneAppend(beginning(name), order))
    held.let_pass()
    await writer.drained()
    assert order == names + later
    assert [event.event.run_id for event in await store.read_feed()] == order
    assert writer.commits == 2


async def test_1_refusal_of_one_runs_append_never_fails_its_neighbours() -> None:
    store = MemoryStore()
    await store.open()
    store.append([beginning("taken"), beginning("moved")])
    draft = Draft("noted", b"{}", bytes(16), 0)
    sources = [
        OneAppend(beginning("first"), []),
        OneAppend(beginning("taken"), []),
        OneAppend(Append("moved", [draft], Head(0, genesis("moved"))), []),
        OneAppend(Append("moved", [draft], Head(1, bytes(32)), epoch=9, owner="w1"), []),
        OneAppend(beginning("last"), []),
    ]
    writer = Writer(store)
    for source in sources:
        writer.submit(source)
    await writer.drained()
    assert writer.commits == 1
    assert [type(source.outcome).__name__ for source in sources] == [
        "Appended",
        "RunConflictError",
        "HeadMovedError",
        "FencedError",
        "Appended",
    ]


async def test_1_background_commits_start_when_the_writer_is_idle_not_by_a_timer() -> None:
    go = asyncio.Event()
    seen = asyncio.Event()

    @step(kind="read")
    async def look() -> int:
        return 1

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)
        seen.set()
        await go.wait()

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await seen.wait()
        loop: Any = asyncio.get_running_loop()
        timers = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
        for _ in range(5):
            await asyncio.sleep(0)
        assert timers == [] or min(timers) > loop.time()
        assert (await kinds(handle))[-1] == "step.completed"
        go.set()
        await handle.result()


async def test_1_a_costly_read_may_ask_to_be_committed_at_once() -> None:
    ledger = Ledger()

    @step(kind="read", commit="now")
    async def costly() -> int:
        return 1

    @step(kind="read")
    async def cheap() -> int:
        return 1

    @workflow
    async def main(run: Run) -> None:
        for called in (cheap, costly):
            await run.step(called)
            ledger.note(f"{called.name}: {runtime.worker.executions[run.id].log.backlog} not durable")

    async with witnessed(MemoryStore(), main) as runtime:
        await (await runtime.start(main)).result()
    assert ledger.lines[1] == "costly: 0 not durable"
    assert ledger.lines[0] != "cheap: 0 not durable"


async def test_1_a_chain_of_effects_costs_one_commit_each() -> None:
    """Fact *n* and intent *n+1* share it."""

    @step(kind="idempotent")
    async def act(number: int) -> int:
        return number

    @step(kind="read")
    async def look(number: int) -> int:
        return number

    @workflow
    async def main(run: Run, count: int) -> None:
        for number in range(count):
            await run.step(look, number)
            await run.step(act, number)

    async with witnessed(MemoryStore(), main) as runtime:
        commits = []
        for count in (10, 50):
            before = (await runtime.stats())["commits"]
            await (await runtime.start(main, count)).result()
            commits.append((await runtime.stats())["commits"] - before)
    assert commits[1] - commits[0] == 40
    assert commits[0] <= 10 + 3  # the start, and the end


async def test_1_before_means_earlier_in_the_journal_work_in_progress_is_not_awaited() -> None:
    ledger = Ledger()
    go = asyncio.Event()

    @step(kind="read")
    async def slow() -> str:
        ledger.note("slow began")
        await go.wait()
        return "slow"

    @step(kind="read")
    async def quick_look() -> str:
        return "quick"

    happen = effect(ledger)

    @workflow
    async def main(run: Run) -> list[str]:
        async def second() -> str:
            await run.step(quick_look)
            await ledger.reaches("slow began")
            return await run.step(happen)

        return await run.gather(run.step(slow), second())

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await ledger.reaches("effect")
        intent = (await events_of(handle, "step.intended"))[0]
        before = [event for event in await journal(handle) if event.seq < intent.seq]
        assert "quick_look" in [event.key for event in before], "what stands before is durable with the intent"
        assert "slow" not in [event.key for event in await journal(handle)]
        go.set()
        assert await handle.result() == ["slow", "effect"]


# --- nothing is observable before it is durable -----------------------------------------------------------------------


async def test_1_no_effect_begins_before_all_before_it_and_its_intent_are_durable() -> None:
    ledger = Ledger()
    happen = effect(ledger)

    @step(kind="read")
    async def look() -> int:
        ledger.note("look")
        return 1

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)
        run.state["found"] = 1
        await run.step(happen)

    async with two_faces(main) as (runtime, held, _):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("step.intended")
        for _ in range(20):
            await asyncio.sleep(0)
        assert ledger.lines == ["look"], "reading waits for nothing, the effect for its commit"
        held.let_pass(hold_next=True)
        await ledger.reaches("effect")
        committed = [draft.kind for batch in held.commits for append in batch for draft in append.drafts]
        assert {"step.completed", "state.written", "step.intended"} <= set(committed)
        held.let_pass()
        await (await starting).result()


async def test_1_nobody_sees_an_event_before_it_is_durable() -> None:
    told: list[tuple[str, str]] = []

    @workflow
    async def main(run: Run) -> str:
        run.state["a"] = 1
        run.emit("told", {"a": 1})
        if await run.ask("Well?") == "yes":
            run.state["a"] = 2
        return "done"

    async with two_faces(main) as (runtime, held, _):
        runtime.on_waiting(lambda run_id: told.append((run_id, "waiting")))
        runtime.on_ended(lambda run_id, status: told.append((run_id, status)))
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        assert await held.held() == ["run.started"]
        assert not starting.done()
        assert await runtime.runs() == []
        held.let_pass(hold_next=True)
        handle = await starting
        feed = runtime.events()
        assert (await anext(feed)).event.kind == "run.started"
        following = asyncio.ensure_future(anext(feed))
        await held.until_held("run.suspended")
        shown = [event.kind for event in await runtime.store.read("r1")]
        assert "run.suspended" not in shown
        assert await handle.status() != "waiting"
        assert told == []
        if "wait.opened" not in shown:
            assert await runtime.questions() == []
        if "state.written" not in shown:
            assert await handle.state() == {}
        held.let_pass()
        assert (await following).event.kind == "node.entered"
        await reaches(handle, "waiting")
        assert told == [("r1", "waiting")]
        assert await handle.state() == {"a": 1}

        held.hold()
        answering = asyncio.ensure_future(handle.answer("yes"))
        await held.held()
        assert not answering.done()
        assert len(await runtime.questions()) == 1, "the answer is not there yet"
        held.let_pass(hold_next=True)
        await answering
        result = asyncio.ensure_future(handle.result())
        await held.until_held("run.completed")
        assert not result.done()
        assert await handle.status() != "completed"
        assert told == [("r1", "waiting")]
        held.let_pass()
        assert await result == "done"
        assert told == [("r1", "waiting"), ("r1", "completed")]


async def test_1_no_child_begins_before_its_spawn_is_durable() -> None:
    ledger = Ledger()

    @workflow
    async def child(run: Run) -> str:
        ledger.note("child")
        return "child"

    @workflow
    async def main(run: Run) -> str:
        return await (await run.spawn(child)).result()

    async with two_faces(main, child) as (runtime, held, _):
        held.hold()
        starting = asyncio.ensure_future(runtime.start(main, id="r1"))
        await held.until_held("child.spawned")
        for _ in range(20):
            await asyncio.sleep(0)
        assert ledger.lines == []
        assert len(await runtime.runs()) == 1
        held.let_pass()
        assert await (await starting).result() == "child"


async def test_1_another_run_never_sees_the_outcome_of_a_child_before_it_is_durable() -> None:
    @workflow
    async def child(run: Run) -> str:
        await run.wait_for("go")
        return "grown"

    @workflow
    async def main(run: Run) -> str:
        return await (await run.spawn(child)).result()

    async with two_faces(main, child) as (runtime, held, _):
        handle = await runtime.start(main, id="r1")
        await reaches(handle, "waiting")
        (young,) = [row.run_id for row in await runtime.runs() if row.run_id != "r1"]
        await reaches(runtime.run(young), "waiting")
        held.hold()
        signalling = asyncio.ensure_future(runtime.signal("go", run_id=young))
        await held.until_held("run.completed")
        await signalling
        for _ in range(20):
            await asyncio.sleep(0)
        assert "child.settled" not in await kinds(handle)
        held.let_pass()
        assert await handle.result() == "grown"
        (ended,) = await events_of(runtime.run(young), "run.completed")
        (settled,) = await events_of(handle, "child.settled")
        assert settled.data["child_seq"] == ended.seq
