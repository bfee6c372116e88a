"""Fan-outs: branches on clones of the context, up to the fan-in where they meet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from perdure.core.pipeline_errors import PipelineInvalidError
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.stage import HandlerResult, Stage
from tests.unit.engine.evidence import check_journals, witnessed
from tests.unit.engine.staging import Ledger, StageClock, die, journal, memory, opened, quick, seen
from tests.unit.pipeline.execution.stories import FAIL, Ending, Script, ended, ending, pipeline, writes_of

FAN = """f [shape=component{options}]; j [shape=tripleoctagon];
         start -> f; f -> a -> j; f -> b -> j; f -> c -> j; j -> exit"""


def fan(options: str = "") -> str:
    """Three branches of one stage each."""
    return FAN.format(options=f", {options}" if options else "")


def results(end: Ending) -> dict[str, dict[str, Any]]:
    """What the branches came to, by id."""
    return {one["id"]: one for one in end.context["parallel"]["results"]}


def outcomes(end: Ending) -> dict[str, str]:
    """The outcomes of the branches."""
    return {name: one["outcome"] for name, one in results(end).items()}


async def status_after_fan_out(options: str, script: Script) -> str:
    """What the fan-out itself came to."""
    end = await ended(fan(options), script)
    completed = next(event for event in end.events if event.kind == "node.completed" and event.node == "f#1")
    return str(completed.data["output"]["status"])


# --- branches ---------------------------------------------------------------------------------------------------------


@pytest.mark.clause("parallel-branches", "ruling-after-parallel")
async def test_each_edge_is_a_branch_that_runs_once_and_the_run_goes_on_at_the_fan_in() -> None:
    end = await ended(fan(), script := Script())
    assert end.path == ["start", "f", "j", "exit"]
    assert sorted(script.calls) == ["a#1@1", "b#1@1", "c#1@1"]


@pytest.mark.clause("parallel-branches")
async def test_branches_run_at_the_same_time() -> None:
    arrived: list[str] = []
    everybody = asyncio.Event()

    async def meets(stage: Stage) -> HandlerResult:
        arrived.append(stage.id)
        if len(arrived) == 3:
            everybody.set()
        await everybody.wait()
        return Outcome()

    end = await ended(fan(), Script(a=meets, b=meets, c=meets))
    assert set(outcomes(end).values()) == {"success"}


@pytest.mark.clause("parallel-max")
@pytest.mark.parametrize(("options", "most"), [("max_parallel=2", 2), ("max_parallel=1", 1), ("", 4)])
async def test_no_more_branches_run_at_once_than_allowed(options: str, most: int) -> None:
    running: set[str] = set()
    counts: list[int] = []

    async def counted(stage: Stage) -> HandlerResult:
        running.add(stage.id)
        counts.append(len(running))
        for _ in range(20):
            await asyncio.sleep(0)
        running.discard(stage.id)
        return Outcome()

    names = [f"n{number}" for number in range(6)]
    branches = "".join(f"f -> {name} -> j;" for name in names)
    more = f", {options}" if options else ""
    body = f"f [shape=component{more}]; j [shape=tripleoctagon]; start -> f; {branches} j -> exit"
    await ended(body, Script(**dict.fromkeys(names, counted)))
    assert max(counts) == most
    assert len(counts) == 6


@pytest.mark.clause("parallel-clone")
async def test_branches_do_not_see_each_other_and_what_they_write_is_dropped_at_the_join() -> None:
    updates = Outcome(context_updates={"who.am_i": "a", "left": 1, "shared": "mine"})
    body = """f [shape=component]; j [shape=tripleoctagon]; start -> f;
              f -> a -> a2 -> j; f -> b -> b2 -> j; j -> z -> exit"""
    script = Script(a=updates, b=Outcome(context_updates={"who.am_i": "b"}))
    end = await ended(body, script, given={"shared": "given"}, graph="")
    assert script.seen["a2#1@1"]["who"] == {"am_i": "a"}
    assert script.seen["b2#1@1"]["who"] == {"am_i": "b"}
    assert script.seen["a2#1@1"]["shared"] == "mine"
    assert script.seen["b2#1@1"]["shared"] == "given"
    assert "who" not in script.seen["z#1@1"]
    assert end.context["shared"] == "given"
    assert set(end.context) == {"graph", "shared", "outcome", "preferred_label", "parallel"}


@pytest.mark.clause("parallel-results")
async def test_the_results_say_what_each_branch_came_to_wrote_and_left_as_its_score() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; start -> f;
              f -> a -> a2 -> j; f -> b -> j; f -> c -> j; j -> exit"""
    script = Script(
        a=Outcome(context_updates={"score": 1, "found.left": True}),
        a2=Outcome("partial_success", context_updates={"score": 2.5}, output="said"),
        b=FAIL,
        c=Outcome(context_updates={"score": "high"}),
    )
    end = await ended(body, script)
    told = results(end)
    assert list(told) == ["a", "b", "c"]
    assert {set(one) == {"id", "outcome", "output", "context_updates", "score"} for one in told.values()} == {True}
    assert told["a"]["outcome"] == "partial_success"
    assert told["a"]["output"] == "said"
    assert told["a"]["context_updates"]["found.left"] is True
    assert [one["score"] for one in told.values()] == [2.5, 0, 0]
    assert told["b"]["outcome"] == "fail"


@pytest.mark.clause("parallel-results")
async def test_a_score_that_is_no_number_counts_nothing() -> None:
    told = results(await ended(fan(), Script(a=Outcome(context_updates={"score": 7})), given={"score": True}))
    assert [one["score"] for one in told.values()] == [7, 0, 0]


@pytest.mark.clause("parallel-branches")
async def test_a_branch_routes_inside_itself_like_a_run() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; check [shape=diamond]; start -> f;
              f -> a -> check; check -> good [condition="outcome=success"]; check -> bad [condition="outcome=fail"];
              good -> j; bad -> a2 -> j; f -> b -> j; j -> exit"""
    end = await ended(body, script := Script(a=[FAIL, Outcome()]))
    assert sorted(script.nodes()) == ["a", "a2", "b", "bad"]
    assert outcomes(end) == {"a": "success", "b": "success"}


@pytest.mark.clause("parallel-branches", "retry-count")
async def test_stages_of_a_branch_are_retried_and_routed_like_others() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; start -> f; a [max_retries=2, retry_target=r];
              f -> a; a -> j [condition="outcome=success"]; f -> b -> j; f -> r -> j; j -> exit"""
    end = await ended(body, script := Script(a=FAIL))
    assert script.calls.count("a#1@3") == 1
    assert script.nodes().count("r") == 2
    assert outcomes(end)["a"] == "success"


@pytest.mark.clause("parallel-branches", "ruling-no-eligible-edge")
async def test_a_branch_that_finds_no_edge_has_failed() -> None:
    body = fan().replace("f -> a -> j;", 'f -> a; a -> j [condition="outcome=fail"];')
    assert outcomes(await ended(body, Script()))["a"] == "fail"


@pytest.mark.clause("bounds-steps", "bounds-visits", "ruling-unbounded")
async def test_loops_in_a_branch_are_bounded() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; start -> f; f -> a -> a2; a2 -> a [weight=1]; a2 -> j;
              f -> b -> j; j -> exit"""
    end = await ended(body, script := Script(), graph="max_visits=3;")
    assert script.nodes().count("a") == 3
    assert outcomes(end) == {"a": "fail", "b": "success"}
    end = await ended(body, script := Script(), graph="max_steps=20;")
    assert len(script.nodes()) <= 20
    assert end.code == "step_limit"


@pytest.mark.clause("bounds-steps")
async def test_stages_of_branches_count_as_stages_of_the_run() -> None:
    assert (await ended(fan(), Script(), graph="max_steps=7;")).output is not None
    assert (await ended(fan(), Script(), graph="max_steps=6;")).code == "step_limit"


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.clause("parallel-wait-all")
async def test_with_wait_all_a_failure_makes_it_partial() -> None:
    assert await status_after_fan_out("", Script()) == "success"
    assert await status_after_fan_out("join_policy=wait_all", Script(b=FAIL)) == "partial_success"
    assert await status_after_fan_out("", Script(a=FAIL, b=FAIL, c=FAIL)) == "partial_success"
    assert await status_after_fan_out("", Script(a=Outcome("partial_success"))) == "success"
    assert await status_after_fan_out("", Script(a=Outcome("skipped"))) == "success"


@pytest.mark.clause("parallel-k-of-n")
async def test_with_k_of_n_so_many_must_succeed() -> None:
    two = Script(b=FAIL)
    assert await status_after_fan_out("join_policy=k_of_n, quorum=2", two) == "success"
    assert await status_after_fan_out("join_policy=k_of_n, quorum=3", two) == "fail"
    assert await status_after_fan_out("join_policy=k_of_n, quorum=3", Script()) == "success"
    with pytest.raises(PipelineInvalidError):
        await status_after_fan_out("join_policy=k_of_n", two)


@pytest.mark.clause("parallel-first-success")
async def test_with_first_success_the_others_are_cancelled() -> None:
    cancelled: list[str] = []
    ledger = Ledger()

    async def hangs(stage: Stage) -> HandlerResult:
        ledger.note("hangs")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(stage.id)
            raise
        return Outcome()

    async def wins(stage: Stage) -> HandlerResult:
        await ledger.reaches("hangs", 2)
        return Outcome(context_updates={"score": 1})

    end = await ended(fan("join_policy=first_success"), Script(a=hangs, b=wins, c=hangs))
    assert sorted(cancelled) == ["a", "c"]
    assert outcomes(end) == {"a": "skipped", "b": "success", "c": "skipped"}
    assert end.context["parallel"]["fan_in"] == {"best_id": "b", "best_outcome": "success"}


@pytest.mark.clause("parallel-first-success")
async def test_with_first_success_a_failure_does_not_end_the_others() -> None:
    assert await status_after_fan_out("join_policy=first_success", Script(a=FAIL, b=FAIL)) == "success"
    assert await status_after_fan_out("join_policy=first_success", Script(a=FAIL, b=FAIL, c=FAIL)) == "fail"


@pytest.mark.clause("parallel-never-blocks")
@pytest.mark.parametrize("options", ["", "join_policy=first_success", "join_policy=k_of_n, quorum=2"])
async def test_whatever_the_branches_came_to_the_fan_in_is_reached(options: str) -> None:
    end = await ended(fan(options), Script(a=FAIL, b=FAIL, c=FAIL))
    assert end.path == ["start", "f", "j", "exit"]
    assert end.output is not None
    assert end.output["completed_with_failures"]


@pytest.mark.clause("parallel-never-blocks")
async def test_a_fan_out_that_is_retried_runs_its_branches_anew() -> None:
    script = Script(a=[FAIL, Outcome()], b=[FAIL, Outcome()], c=[FAIL, FAIL])
    end = await ended(fan("join_policy=k_of_n, quorum=2, max_retries=1"), script)
    assert sorted(script.calls) == [f"{name}#{visit}@1" for name in "abc" for visit in (1, 2)]
    assert end.path == ["start", "f", "j", "exit"]
    assert outcomes(end) == {"a": "success", "b": "success", "c": "fail"}


@pytest.mark.clause("parallel-branches")
async def test_fan_outs_may_be_nested() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; g [shape=component]; k [shape=tripleoctagon];
              start -> f; f -> a -> g; g -> x -> k; g -> y -> k; k -> z -> j; f -> b -> j; j -> exit"""
    script = Script(x=Outcome(context_updates={"score": 3}), y=FAIL)
    end = await ended(body, script)
    assert sorted(script.calls) == ["a#1@1", "b#1@1", "x#1@1", "y#1@1", "z#1@1"]
    assert script.seen["z#1@1"]["parallel"]["fan_in"]["best_id"] == "x"
    assert outcomes(end) == {"a": "success", "b": "success"}


# --- gates and restarts -----------------------------------------------------------------------------------------------


@pytest.mark.clause("parallel-branches", "human-wait")
async def test_gates_in_branches_are_open_at_the_same_time() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; p [shape=hexagon]; q [shape=hexagon]; start -> f;
              f -> p; p -> a [label="Go"]; p -> j [label="Skip"]; f -> q; q -> b [label="Go"]; q -> j [label="Skip"];
              a -> j; b -> j; j -> exit"""
    made = pipeline(body, script := Script())
    async with witnessed(memory(), made) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened", 2)
        first, second = await runtime.questions(handle.id)
        assert {first.text, second.text} == {"p", "q"}
        for question in (second, first):
            await handle.answer("Go" if question.text == "q" else "Skip", wait_id=question.wait_id)
        end = await ending(handle)
    assert script.nodes() == ["b"]
    assert results(end)["q"]["context_updates"]["human.answers.q"] == "G"
    assert "human" not in end.context


@pytest.mark.clause("parallel-restart")
@pytest.mark.parametrize("policy", ["wait_all", "first_success", "k_of_n"])
async def test_a_restart_in_the_middle_of_every_branch_repeats_nothing(policy: str) -> None:
    branches = "".join(f"f -> a{n} -> b{n}; b{n} -> p{n}; p{n} -> c{n} [label=Go]; c{n} -> j; " for n in range(3))
    people = "".join(f"p{n} [shape=hexagon]; " for n in range(3))
    body = f"""f [shape=component, join_policy={policy}, quorum=2]; j [shape=tripleoctagon];
               {people} start -> f; {branches} j -> exit"""
    store, clock, script = memory(), StageClock(), Script()
    first = await opened(store, made := pipeline(body, script), clock=clock, limits=quick())
    handle = await first.start(made)
    await seen(handle, "wait.opened", 3)
    await die(first)
    second = await opened(store, pipeline(body, script), clock=clock, limits=quick())
    handle = second.run(handle.id)
    one = next(question for question in await second.questions(handle.id) if question.text == "p1")
    await handle.answer("Go", wait_id=one.wait_id)
    if policy != "first_success":
        await seen(handle, "wait.answered")
        await die(second)
        second = await opened(store, pipeline(body, script), clock=clock, limits=quick())
        handle = second.run(handle.id)
        for question in await second.questions(handle.id):
            await handle.answer("Go", wait_id=question.wait_id)
    end = await ending(handle, clock)
    await second.close()
    await check_journals(store)
    expected = [f"{letter}{n}#1@1" for letter in "ab" for n in range(3)]
    expected += ["c1#1@1"] if policy == "first_success" else [f"c{n}#1@1" for n in range(3)]
    assert sorted(script.calls) == sorted(expected)
    won = {"a0": "skipped", "a1": "success", "a2": "skipped"}
    assert outcomes(end) == (won if policy == "first_success" else dict.fromkeys(won, "success"))


@pytest.mark.clause("parallel-restart")
async def test_a_cancelled_branch_stays_cancelled_after_a_restart() -> None:
    """What a loser had come to when another one won is a fact: a replay does not find more of it."""
    body = fan("join_policy=first_success").replace("j -> exit", "j -> p -> exit; p [shape=hexagon]")
    store, script = memory(), Script(a=FAIL)
    first = await opened(store, made := pipeline(body, script))
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    before = writes_of(await journal(handle), "parallel")[-1]
    await die(first)
    async with witnessed(store, pipeline(body, script)) as second:
        handle = second.run(handle.id)
        await handle.answer("exit")
        end = await ending(handle)
    assert before["results"] == end.context["parallel"]["results"]
