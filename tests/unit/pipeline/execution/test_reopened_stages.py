"""A retry of a pipeline that failed executes the stage again that ended it, and does nothing again that was done."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from perdure import RunHandle, Runtime, step
from perdure.core.errors import NotReopenableError
from perdure.model.errors import ModelUnauthorizedError
from perdure.model.request import ModelRequest
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.handlers import Handlers, handler
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.stage import HandlerResult, Stage
from perdure.pipeline.views import checkpoint_of, context_of, ending_of
from tests.unit.engine.evidence import check_journals, witnessed
from tests.unit.engine.staging import Ledger, StageClock, die, events_of, journal, memory, opened, quick, seen
from tests.unit.pipeline.execution.stories import FAIL, FOR_GOOD, Ending, Script, ending, path_of, pipeline

pytestmark = pytest.mark.time_limit(40)

ON = 'start -> a -> b; b -> exit [condition="outcome=success"]'


async def again(handle: RunHandle[Any], clock: StageClock | None = None) -> Ending:
    """Retry a run, and wait for its next end."""
    await handle.retry()
    return await ending(handle, clock)


def called(name: str, then: str = "true") -> str:
    """A command that leaves a line, and then does something."""
    return f'[shape=parallelogram, tool_command="echo $PERDURE_ATTEMPT >> {name}; {then}", '


def lines(path: Path) -> int:
    """How often a command was run."""
    return len(path.read_text().splitlines()) if path.exists() else 0


# --- which stages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read", "idempotent", "once"])
@pytest.mark.parametrize(
    ("then", "attributes"), [("test -f mended", ""), ("test -f mended || sleep 20", "timeout=300ms, ")]
)
async def test_a_command_that_failed_is_run_again_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, then: str, attributes: str
) -> None:
    monkeypatch.chdir(tmp_path)
    made = pipeline(f"a {called('a')} effect=once]; b {called('b', then)} {attributes}effect={kind}]; {ON}")
    async with witnessed(memory(), made, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle)).code == "stage_failed"
        assert (await again(handle)).code == "stage_failed", "its cause is still there"
        (tmp_path / "mended").touch()
        end = await again(handle)
    assert end.context["tool"]["exit_code"] == 0
    assert end.output is not None
    assert not end.output["completed_with_failures"]
    assert (lines(tmp_path / "a"), lines(tmp_path / "b")) == (1, 3)


async def test_a_model_that_could_not_be_asked_is_asked_again() -> None:
    asked: list[str] = []

    async def model(request: ModelRequest) -> str:
        asked.append(str(request.messages[-1].content))
        if asked.count("B") == 1 and asked[-1] == "B":
            raise ModelUnauthorizedError("the key has expired")
        return "fine"

    made = pipeline(f"a [prompt=A]; b [prompt=B]; {ON}", model=model)
    async with witnessed(memory(), made, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle)).code == "stage_failed"
        end = await again(handle)
        assert end.context["last_response"] == "fine"
        assert end.files()["b/visit-1/response.md"]
    assert asked == ["A", "B", "B"]


async def test_an_answer_of_a_model_that_says_fail_is_asked_for_again() -> None:
    answers = iter(["ok", '{"outcome": "fail", "failure_reason": "no"}', "ok"])

    async def model(request: ModelRequest) -> str:
        return next(answers)

    made = pipeline(f"a [prompt=A]; b [prompt=B]; {ON}", model=model)
    async with witnessed(memory(), made, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert "no" in (await ending(handle)).reason
        assert (await again(handle)).context["outcome"] == "success"


@pytest.mark.parametrize("how", ["declined", "late"])
async def test_a_gate_that_failed_is_asked_again_under_another_id(how: str) -> None:
    clock = StageClock()
    made = pipeline(f"p [shape=hexagon{', human.timeout=1h' if how == 'late' else ''}]; start -> p -> exit")
    async with witnessed(memory(), made, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        first = await seen(handle, "wait.opened")
        if how == "declined":
            await handle.answer(False)
        assert (await ending(handle, clock)).code == "stage_failed"
        await handle.retry()
        second = await seen(handle, "wait.opened", 2)
        assert second.data["wait_id"] != first.data["wait_id"]
        assert second.data["question"] == first.data["question"]
        await handle.answer("exit", wait_id=second.data["wait_id"])
        end = await ending(handle, clock)
    assert end.context["human"]["answers"]["p"] == "E"


@pytest.mark.parametrize("actions", ["wait", "observe,wait,steer"])
@pytest.mark.parametrize("cycles", [3, 1000])
async def test_a_child_that_failed_or_took_too_long_is_spawned_anew(tmp_path: Path, actions: str, cycles: int) -> None:
    own, clock, children = Handlers(handler), StageClock(), list[str]()

    @own("told")
    async def follow(stage: Stage) -> HandlerResult:
        """The first child fails in the end, and takes longer than three cycles; the second one does not."""
        if stage.run.id not in children:
            children.append(stage.run.id)
        first = children[0] == stage.run.id
        await stage.run.sleep("100s" if first else "40s")
        return FAIL if first else Outcome()

    (tmp_path / "child.dot").write_text(
        'digraph Child { start; exit; c [type=told]; start -> c; c -> exit [condition="outcome=success"] }'
    )
    (tmp_path / "parent.dot").write_text(
        f"""digraph Parent {{ stack.child_dotfile="child.dot"; start; exit;
            loop [shape=house, manager.poll_interval=30s, manager.max_cycles={cycles}, manager.actions="{actions}"];
            start -> loop; loop -> exit [condition="outcome=success"] }}"""
    )
    made = Pipeline.load(tmp_path / "parent.dot", handlers=own)
    async with witnessed(memory(), made, *made.children, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle, clock)).code == "stage_failed"
        end = await again(handle, clock)
        spawned = [event.data["child"] for event in await events_of(handle, "child.spawned")]
    assert end.context["stack"]["child"]["outcome"] == "success"
    assert spawned == children
    assert len(spawned) == 2


async def test_an_exception_of_a_handler_is_met_again_only_by_what_was_not_done() -> None:
    """What the handler has done before is a fact; the code behind it is executed again."""
    ledger, own = Ledger(), Handlers(handler)

    @step(kind="once")
    async def charge() -> str:
        ledger.note("charge")
        return "paid"

    @step(kind="idempotent")
    async def ship() -> str:
        ledger.note("ship")
        if ledger.count("ship") == 1:
            raise ConnectionError("no carrier")
        return "sent"

    @own("shop")
    async def shop(stage: Stage) -> HandlerResult:
        paid = await stage.run.step(charge)
        stage.run.emit("paid", {"how": paid})
        sent = await stage.run.step(ship)
        if ledger.count("crash") < 1:
            ledger.note("crash")
            raise ValueError("a defect of the code")
        return Outcome(context_updates={"sent": sent})

    made = pipeline('s [type=shop]; start -> s; s -> exit [condition="outcome=success"]', handlers=own)
    async with witnessed(memory(), made, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert "no carrier" in (await ending(handle)).reason
        assert "a defect" in (await again(handle)).reason
        end = await again(handle)
    assert end.context["sent"] == "sent"
    assert (ledger.count("charge"), ledger.count("ship")) == (1, 2)
    assert len([event for event in end.events if event.kind == "paid"]) == 1


# --- attempts, visits, views ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "executed"),
    [(FAIL, ["b#1@1", "b#1@2", "b#1@3"]), (FOR_GOOD, ["b#1@1"])],
    ids=["used up", "for good"],
)
async def test_a_stage_that_is_executed_again_has_all_its_attempts(outcome: Outcome, executed: list[str]) -> None:
    clock, script = StageClock(), Script(b=outcome)
    made = pipeline(f"a; b [max_retries=2]; {ON}", script)
    async with witnessed(memory(), made, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        for round_ in range(3):
            await ending(handle, clock)
            last = int(executed[-1][-1])
            first = 1 + round_ * (last - 1)
            assert script.calls[-last:] == [f"b#1@{first + number}" for number in range(last)]
            assert len(script.calls) == 1 + last * (round_ + 1)
            await handle.retry()
        end = await ending(handle, clock)
    delays = [event.data["delay_ms"] for event in end.events if event.kind == "stage.failed"]
    assert all(100 <= delay <= 300 for delay in delays[::2]), "the backoff begins anew, too"
    assert all(200 <= delay <= 600 for delay in delays[1::2])
    ids = [event.data["idempotency_key"] for event in end.events if event.kind == "step.intended"]
    assert len(set(ids)) == 1 + (1 + 4 * 2 if len(executed) == 3 else 1)


async def test_a_retry_puts_back_all_that_the_failed_visit_changed() -> None:
    """The state after the retry is what it would be had the visit not ended: also the visits before it stand."""
    clock = StageClock()
    go_round = Outcome(context_updates={"a": {"n": 1}, "kept": "yes"})
    failed = Outcome("fail", context_updates={"a": {"n": 2}, "stale": "no"}, retryable=False)
    script = Script(a=[go_round, failed, Outcome(context_updates={"a": {"n": 3}})])
    made = pipeline(
        'start -> a; a -> b [condition="context.kept=yes && context.a.n=1"]; b -> a; '
        'a -> exit [condition="context.a.n=3"]',
        script,
    )
    async with witnessed(memory(), made, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        await ending(handle, clock)
        state = await handle.fold()
        assert (context_of(state)["a"], context_of(state)["stale"]) == ({"n": 2}, "no")
        assert (ending_of(state)["status"], checkpoint_of(state)["current_node"]) == ("fail", "a")
        await handle.retry()
        reopened = await seen(handle, "run.reopened")
        before = await handle.fold(at=reopened.seq)
        assert (context_of(before)["a"], "stale" in context_of(before)) == ({"n": 1}, False)
        assert checkpoint_of(before)["visits"] == {"start": 1, "a": 1, "b": 1}
        assert checkpoint_of(before)["completed_nodes"] == ["start", "a", "b"]
        assert checkpoint_of(before)["current_node"] == "b"
        assert before.status == "running"
        end = await ending(handle, clock)
    assert (end.context["a"], "stale" in end.context, end.context["kept"]) == ({"n": 3}, False, "yes")
    assert script.calls == ["a#1@1", "b#1@1", "a#2@1", "a#2@1"]
    assert script.seen["a#2@1"]["a"] == {"n": 1}


async def test_an_unsatisfied_goal_gate_is_what_is_executed_again() -> None:
    clock, script = StageClock(), Script(g=[FAIL, FAIL, Outcome()])
    made = pipeline("g [goal_gate=true]; start -> a -> g -> b -> exit", script)
    async with witnessed(memory(), made, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle, clock)).code == "goal_gate_unsatisfied"
        assert (await again(handle, clock)).code == "goal_gate_unsatisfied"
        end = await again(handle, clock)
    assert end.output is not None
    assert script.nodes() == ["a", "g", "b", "g", "b", "g", "b"]
    assert path_of(end.events).count("exit") == 3


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "graph", "code"),
    [
        ('start -> a; a -> exit [condition="outcome=fail"]', "", "no_eligible_edge"),
        ("start -> a -> b -> a; a -> exit [weight=-1]", "max_steps=5;", "step_limit"),
        ("a [max_visits=2]; start -> a -> b -> a; a -> exit [weight=-1]", "", "visit_limit"),
        ("f [shape=component]; j [shape=tripleoctagon]; start -> f -> bad -> j; f -> worse -> j; "
         'j -> exit [condition="outcome=success"]', "", "stage_failed"),
        ('d [shape=diamond]; start -> bad -> d; d -> exit [condition="outcome=success"]', "", "stage_failed"),
        ("bad [goal_gate=true]; f [shape=component]; j [shape=tripleoctagon]; start -> f; f -> bad -> j; "
         "f -> a -> j -> exit",
         "", "goal_gate_unsatisfied"),
    ],
    ids=["no edge", "steps", "visits", "every branch", "passed on", "gate in a branch"],
)  # fmt: skip
async def test_what_would_come_to_the_same_is_not_opened_again(body: str, graph: str, code: str) -> None:
    clock = StageClock()
    made = pipeline(body, Script(bad=FAIL, worse=FAIL), graph=graph)
    async with witnessed(memory(), made, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle, clock)).code == code
        with pytest.raises(NotReopenableError, match=code) as refusal:
            await handle.retry()
        assert refusal.value.hint
        assert (await journal(handle))[-1].kind == "run.failed"


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_failure_that_a_handler_made_of_several_steps_is_nobodys_to_do_again(steps: int) -> None:
    ledger, own = Ledger(), Handlers(handler)

    @step(kind="once")
    async def look(number: int) -> int:
        ledger.note(f"look {number}")
        return ledger.count(f"look {number}")

    @own("looks")
    async def looks(stage: Stage) -> HandlerResult:
        found = [await stage.run.step(look, number) for number in range(steps)]
        return Outcome("success" if max(found) > 1 else "fail")

    made = pipeline('s [type=looks]; start -> s; s -> exit [condition="outcome=success"]', handlers=own)
    async with witnessed(memory(), made, limits=quick()) as runtime:
        handle = await runtime.start(made)
        assert (await ending(handle)).code == "stage_failed"
        if steps == 1:
            assert (await again(handle)).output is not None
        else:
            with pytest.raises(NotReopenableError):
                await handle.retry()
    assert ledger.lines == (["look 0", "look 0"] if steps == 1 else ["look 0", "look 1"])


# --- crashes ----------------------------------------------------------------------------------------------------------


async def _dies_behind(handle: RunHandle[Any], runtime: Runtime, behind: int) -> bool:
    """Let the worker die when so many events stand behind the retry; whether it did before the end."""
    async for event in handle.events():
        if event.kind == "run.reopened":
            first = event.seq
            break
    async for event in handle.events(after=first):
        if event.kind in ("run.completed", "run.failed"):
            return False
        if event.seq >= first + behind:
            await die(runtime)
            return True
    return False


async def _answer_doubts(runtime: Runtime, handle: RunHandle[Any], ledger: Ledger, before: Counter[str]) -> None:
    """A person who can look says of each step in doubt whether it was done since."""
    async for event in handle.events():
        if event.kind == "wait.opened" and event.data.get("subject"):
            name = str(event.node).partition("#")[0]
            done = ledger.count(name) > before[name]
            await runtime.resolve(handle.id, "done" if done else "not_done", value=True if done else None)


async def test_a_worker_that_dies_anywhere_in_the_stage_that_is_executed_again_does_nothing_twice() -> None:
    behind, died = 0, True
    while died:
        ledger, store = Ledger(), memory()
        made = charging(ledger)
        runtime = await opened(store, made, limits=quick())
        handle = await runtime.start(made, id="r1")
        assert (await ending(handle)).code == "stage_failed"
        before = Counter({name: ledger.count(name) for name in "abc"})
        await handle.retry()
        died = await _dies_behind(handle, runtime, behind)
        if died:
            runtime = await opened(store, made, limits=quick())
            handle = runtime.run("r1")
        person = asyncio.ensure_future(_answer_doubts(runtime, handle, ledger, before))
        end = await ending(handle)
        person.cancel()
        assert {name: ledger.count(name) for name in "abc"} == {"a": 1, "b": 2, "c": 1}, f"died behind {behind}"
        assert end.context["charged"] == {"a": True, "b": True, "c": True}
        await runtime.close()
        await check_journals(store)
        behind += 1
    assert behind > 8


def charging(ledger: Ledger) -> Pipeline:
    """Three stages of which each charges once; the second is declined the first time."""
    own = Handlers(handler)

    @step(kind="once")
    async def charge(name: str) -> bool:
        ledger.note(name)
        return (name, ledger.count(name)) != ("b", 1)

    @own("charge")
    async def charges(stage: Stage) -> HandlerResult:
        charged = await stage.run.step(charge, stage.id)
        return Outcome("success" if charged else "fail", context_updates={f"charged.{stage.id}": charged})

    body = 'a [type=charge]; b [type=charge]; c [type=charge]; start -> a -> b; b -> c [condition="outcome=success"]'
    return pipeline(f"{body}; c -> exit", handlers=own)
