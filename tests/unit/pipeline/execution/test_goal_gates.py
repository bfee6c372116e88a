"""Goal gates: what must have been reached before the exit."""

from __future__ import annotations

import pytest

from perdure.pipeline.outcome import Outcome
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import die, memory, opened, seen
from tests.unit.pipeline.execution.stories import FAIL, Script, ended, ending, pipeline

PARTLY = Outcome("partial_success")


@pytest.mark.clause("gate-jump")
async def test_the_exit_jumps_to_the_retry_target_of_a_gate_that_failed() -> None:
    script = Script(a=[FAIL, Outcome()])
    end = await ended("a [goal_gate=true, retry_target=p]; start -> p -> a -> b -> exit", script)
    assert end.path == ["start", "p", "a", "b", "exit", "p", "a", "b", "exit"]
    assert end.output is not None
    assert end.output["status"] == "success"


@pytest.mark.clause("gate-targets")
@pytest.mark.parametrize(
    ("node", "graph", "target"),
    [
        ("retry_target=p, fallback_retry_target=q", "retry_target=r; fallback_retry_target=s;", "p"),
        ("retry_target=nowhere, fallback_retry_target=q", "retry_target=r; fallback_retry_target=s;", "q"),
        ("fallback_retry_target=q", "retry_target=r;", "q"),
        ("label=A", "retry_target=r; fallback_retry_target=s;", "r"),
        ("label=A", "fallback_retry_target=s;", "s"),
    ],
)
async def test_the_targets_of_the_node_come_before_those_of_the_graph(node: str, graph: str, target: str) -> None:
    body = f"a [goal_gate=true, {node}]; start -> p -> q -> r -> s -> a -> b -> exit"
    end = await ended(body, Script(a=[FAIL, Outcome()]), graph=graph)
    assert end.path[end.path.index("exit") + 1] == target
    assert end.path.count("exit") == 2


@pytest.mark.clause("gate-fails")
async def test_without_a_target_the_run_fails_and_names_the_gate() -> None:
    end = await ended("a [goal_gate=true]; start -> a -> exit", Script(a=FAIL))
    assert end.code == "goal_gate_unsatisfied"
    assert "'a'" in end.reason
    assert end.path == ["start", "a", "exit"]


@pytest.mark.clause("gate-visited")
async def test_a_gate_that_was_never_visited_holds_nobody_up() -> None:
    body = 'a [goal_gate=true]; start -> b; b -> a [condition="outcome=fail"]; b -> exit; a -> exit'
    assert (await ended(body, Script(a=FAIL))).path == ["start", "b", "exit"]


@pytest.mark.clause("gate-satisfied")
@pytest.mark.parametrize("outcome", ["skipped", "retry", "fail"])
async def test_only_success_and_partial_success_satisfy_a_gate(outcome: str) -> None:
    body = "a [goal_gate=true]; start -> a -> exit"
    assert (await ended(body, Script(a=PARTLY))).output is not None
    assert (await ended(body, Script(a={"outcome": outcome}))).code == "goal_gate_unsatisfied"


@pytest.mark.clause("gate-satisfied")
async def test_the_newest_visit_of_a_gate_counts() -> None:
    body = 'a [goal_gate=true]; start -> a -> b; b -> a [condition="again=yes"]; b -> exit'
    script = Script(
        a=[Outcome(), FAIL], b=[Outcome(context_updates={"again": "yes"}), Outcome(context_updates={"again": "no"})]
    )
    assert (await ended(body, script)).code == "goal_gate_unsatisfied"


@pytest.mark.clause("gate-jump")
async def test_several_gates_are_looked_at_in_the_order_of_the_file() -> None:
    body = """a [goal_gate=true, retry_target=a]; b [goal_gate=true, retry_target=b];
              start -> a -> b -> exit"""
    end = await ended(body, Script(a=[FAIL, Outcome()], b=[FAIL, FAIL, Outcome()]))
    assert end.path == ["start", "a", "b", "exit", "a", "b", "exit", "b", "exit"]


@pytest.mark.clause("gate-limit", "ruling-unbounded")
async def test_redirects_of_a_gate_are_bounded() -> None:
    body = "a [goal_gate=true, retry_target=a]; start -> a -> exit"
    end = await ended(body, Script(a=FAIL), graph="goal_gate_limit=2;")
    assert end.code == "goal_gate_limit"
    assert end.path.count("a") == 3
    assert (await ended(body, Script(a=FAIL))).path.count("a") == 21


@pytest.mark.clause("gate-limit")
async def test_each_gate_has_its_own_redirects() -> None:
    body = """a [goal_gate=true, retry_target=a]; b [goal_gate=true, retry_target=b]; start -> a -> b -> exit"""
    script = Script(a=[FAIL, FAIL, Outcome()], b=[FAIL, FAIL, FAIL, FAIL, Outcome()])
    assert (await ended(body, script, graph="goal_gate_limit=2;")).output is not None


@pytest.mark.clause("gate-limit")
async def test_a_limit_of_none_redirects_never() -> None:
    body = "a [goal_gate=true, retry_target=a]; start -> a -> exit"
    assert (await ended(body, Script(a=FAIL), graph="goal_gate_limit=0;")).path == ["start", "a", "exit"]


@pytest.mark.clause("gate-restart", "ruling-gates-resumed")
@pytest.mark.parametrize("passed", [True, False])
async def test_what_a_gate_came_to_holds_over_a_restart(passed: bool) -> None:
    body = """a [goal_gate=true, retry_target=a]; person [shape=hexagon]; start -> a -> person -> exit"""
    script = Script(a=[Outcome() if passed else FAIL, Outcome()])
    store = memory()
    first = await opened(store, pipeline(body, script))
    handle = await first.start("G")
    await seen(handle, "wait.opened")
    await die(first)
    async with witnessed(store, pipeline(body, script)) as second:
        handle = second.run(handle.id)
        await handle.answer("exit")
        if not passed:
            await seen(handle, "wait.opened", 2)
            await handle.answer("exit")
        end = await ending(handle)
    assert end.path == ["start", "a", "person", "exit"] + ([] if passed else ["a", "person", "exit"])
    assert script.nodes() == ["a"] if passed else ["a", "a"]


@pytest.mark.clause("gate-restart")
async def test_redirects_are_counted_over_a_restart() -> None:
    body = "a [goal_gate=true, retry_target=person]; person [shape=hexagon]; start -> person -> a -> exit"
    store, script = memory(), Script(a=FAIL)
    handle_id = ""
    for number in range(1, 4):
        runtime = await opened(store, made := pipeline(body, script, graph="goal_gate_limit=2;"))
        handle = runtime.run(handle_id) if handle_id else await runtime.start(made)
        handle_id = handle.id
        await seen(handle, "wait.opened", number)
        await handle.answer("a")
        await seen(handle, "wait.opened" if number < 3 else "run.failed", number + 1 if number < 3 else 1)
        await die(runtime)
    async with witnessed(store, pipeline(body, script, graph="goal_gate_limit=2;")) as runtime:
        end = await ending(runtime.run(handle_id))
    assert end.code == "goal_gate_limit"
    assert script.nodes() == ["a", "a", "a"]


@pytest.mark.clause("gate-visited")
async def test_a_gate_inside_a_branch_counts_at_the_exit() -> None:
    body = """f [shape=component]; j [shape=tripleoctagon]; a [goal_gate=true, retry_target=f];
              start -> f; f -> a -> j; f -> b -> j; j -> exit"""
    end = await ended(body, Script(a=[FAIL, Outcome()]))
    assert end.path == ["start", "f", "j", "exit", "f", "j", "exit"]
