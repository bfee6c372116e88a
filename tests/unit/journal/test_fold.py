"""The fold: one reading of a journal, whoever asks and wherever it begins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Backoff, Run, RunHandle, Runtime, StepFailed, step, workflow
from perdure.core.events import Event
from perdure.core.kinds import KINDS
from perdure.journal import decide
from perdure.journal.fold import fold, fold_all
from perdure.journal.state import RunState
from perdure.store.memory import MemoryStore

pytestmark = pytest.mark.time_limit(20)


@step(kind="read", retries=1, backoff=Backoff(initial_s=0.0))
async def look(what: Any = None) -> Any:
    if what == "fail":
        raise ValueError("as it is meant to")
    return what


@step(kind="once")
async def lose() -> None:
    raise ConnectionError("no answer")


@workflow
async def child(run: Run, number: int) -> int:
    return number


@workflow
async def busy(run: Run, round: int = 0) -> str:
    """A bit of everything, in two generations."""
    run.state["round"] = round
    run.state["gone"] = 1
    del run.state["gone"]
    run.emit("told", round)
    run.put(b"bytes")
    run.patched("p")
    run.now()
    try:
        await run.step(look, "fail")
    except StepFailed:
        run.state["caught"] = True

    async def branch(number: int) -> None:
        run.state[f"k{number}"] = number
        await run.step(look, number)

    await run.map(branch, [1, 2])
    await (await run.spawn(child, 1)).result()
    await run.spawn(child, 2, key="never taken")
    await run.ask("Well?", timeout="1ms", default="no")
    await run.wait_for("go")
    if round == 0:
        await run.continue_as(1)
    try:
        await run.step(lose)
    except StepFailed:
        run.state["lost"] = True
    await run.wait_for("end")
    return "done"


async def a_journal() -> list[Event]:
    async with Runtime(MemoryStore(), workflows=[child]) as runtime:
        handle: RunHandle[Any] = await runtime.start(busy, id="r1", tags=["t"])
        await handle.signal("go", sender_id="s1", command_id="c1")
        await handle.signal("unread", 1)
        await handle.signal("go", 2, sender_id="s2")
        async for event in handle.events():
            if event.kind == "wait.opened" and event.data.get("subject"):
                break
        await handle.pause(command_id="c2")
        await handle.resume()
        await runtime.resolve("r1", "fail", command_id="c3")
        await handle.signal("end")
        await handle.result()
        return [event async for event in handle.events(follow=False)]


async def test_folding_in_parts_is_folding_at_once() -> None:
    events = await a_journal()
    whole = fold_all("r1", events)
    for place in range(len(events) + 1):
        state = fold_all("r1", events[:place])
        assert state.seq == place
        again = fold_all("r1", events[place:], state)
        assert again is state
        assert again.to_dict() == whole.to_dict()
        assert shown(again) == shown(whole)


def shown(state: RunState) -> dict[str, Any]:
    """What recovery and commands need of a state."""
    return {
        "context": state.context,
        "signals": {
            name: [event.data.get("payload") for event in queue] for name, queue in state.signals.items() if queue
        },
        "senders": set(state.senders),
        "commands": {command_id: event.kind for command_id, event in state.commands.items()},
        "children": {child_id: one.settled is not None for child_id, one in state.children.items()},
        "waits": [wait.wait_id for wait in state.open_waits()],
        "unread": state.unread_signals(),
        "live": state.live_children(),
        "visits": state.visits,
        "active": state.active,
        "generation": state.generation,
        "records": {
            scope: {key: (record.what, record.fact is not None, record.attempt) for key, record in records.items()}
            for scope, records in state.scopes.items()
        },
    }


async def test_folding_from_the_newest_generation_gives_the_same_state() -> None:
    events = await a_journal()
    (base,) = [event.seq for event in events if event.kind == "run.continued"]
    for end in range(base, len(events) + 1):
        from_start = shown(fold_all("r1", events[:end]))
        from_base = shown(fold_all("r1", events[base - 1 : end]))
        assert from_base == from_start, f"at seq {end}"
    assert fold_all("r1", events[base - 1 :]).to_dict() | {"steps": 0} == fold_all("r1", events).to_dict() | {
        "steps": 0
    }


async def test_a_fold_reads_and_does_not_change_the_events() -> None:
    events = await a_journal()
    payloads = [event.payload for event in events]
    fold_all("r1", events)
    first = shown(fold_all("r1", events))
    assert shown(fold_all("r1", events)) == first
    assert [event.payload for event in events] == payloads


async def test_each_kind_that_the_engine_appended_here_is_listed() -> None:
    events = await a_journal()
    assert {event.kind for event in events} - set(KINDS) == {"told"}
    assert len({event.kind for event in events}) > 20


def some_event(kind: str, payload: bytes, *, seq: int = 1) -> Event:
    return Event("r1", seq, kind, 1_000, "main#1", "0/main#1", "k", "someone", 1, b"{}", bytes(16), payload)


@given(st.text(min_size=1).filter(lambda kind: kind not in KINDS), st.binary())
def test_a_fold_never_fails_on_kinds_that_it_does_not_know(kind: str, payload: bytes) -> None:
    state = fold(RunState("r1"), some_event(kind, payload))
    assert (state.seq, state.status, state.last_ms) == (1, "pending", 1_000)


@pytest.mark.parametrize("kind", ["payload.erased", "bookmark.set", "head.signed"])
def test_kinds_of_later_rooms_only_move_the_seq(kind: str) -> None:
    state = RunState("r1")
    before = shown(state)
    fold(state, some_event(kind, b'{"seq":1,"fields":[]}', seq=7))
    assert state.seq == 7
    assert shown(state) == before


async def test_what_a_fold_says_of_a_run_at_each_seq() -> None:
    events = await a_journal()
    statuses: list[str] = []
    state = RunState("r1")
    for event in events:
        fold(state, event)
        if not statuses or statuses[-1] != state.status:
            statuses.append(state.status)
    assert statuses[0] == "pending"
    assert statuses[-1] == "completed"
    assert {"running", "waiting", "paused"} <= set(statuses)
    assert state.outcome() == {"output": "done"}
    assert state.context == {"round": 1, "caught": True, "k1": 1, "k2": 2, "lost": True}
    assert state.unread_signals() == [{"name": "unread", "seq": next(e.seq for e in events if "unread" in str(e.data))}]


@workflow
async def asking(run: Run) -> str:
    return str(await run.ask("Well?"))


@pytest.mark.parametrize(("end", "status"), [(1, "pending"), (3, "running"), (4, "waiting"), (5, "paused")])
async def test_a_cancel_that_was_asked_for_stands_alike_in_fold_and_index(end: int, status: str) -> None:
    """Until its end the run is running, or pending if nothing of it was: it waits for nobody any more."""
    async with Runtime(MemoryStore()) as runtime:
        handle: RunHandle[Any] = await runtime.start(asking, id="r1")
        async for event in handle.events():
            if event.kind == "run.suspended":
                break
        await handle.pause()
        state = fold_all("r1", [event async for event in handle.events(follow=False)][:end])
    assert state.status == status
    [cancel] = decide.cancel(state, "enough", None)
    assert cancel.change is not None
    event = Event("r1", end + 1, cancel.kind, 0, None, None, None, "person", None, b"", b"", b'{"reason":"enough"}')
    assert fold(state, event).status == cancel.change.status == ("pending" if status == "pending" else "running")
