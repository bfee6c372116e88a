"""What branches have in common: gates, visits, bounds and failures, also in fan-outs inside of fan-outs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import Runtime
from perdure.core.errors import DefinitionLoadError, PerdureError
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.stage import Stage
from perdure.pipeline.visits import Visits
from tests.unit.engine.staging import StageClock, memory, quick
from tests.unit.pipeline.execution.stories import FAIL, Script, ended, pipeline

FAN = "P [shape=component]; J [shape=tripleoctagon]; start -> P; J -> exit;"
INNER = "p1 [shape=component]; j1 [shape=tripleoctagon];"


async def keep(stage: Stage) -> Outcome:
    stage.keep("n.txt", f"visit {stage.visit} of {stage.id}")
    return Outcome()


@pytest.mark.clause("parallel-branches")
async def test_fan_outs_that_follow_one_another_in_a_branch_are_all_executed() -> None:
    script = Script()
    body = f"""{FAN} {INNER} p2 [shape=component]; j2 [shape=tripleoctagon];
        P -> p1; p1 -> a -> j1; p1 -> b -> j1; j1 -> p2; p2 -> c -> j2; p2 -> d -> j2; j2 -> J; P -> z -> J"""
    end = await ended(body, script)
    assert sorted(script.nodes()) == ["a", "b", "c", "d", "z"]
    assert {one["id"]: one["outcome"] for one in end.context["parallel"]["results"]} == {
        "p1": "success",
        "z": "success",
    }


@pytest.mark.clause("parallel-branches")
async def test_a_fan_out_in_a_loop_of_a_branch_is_executed_each_time() -> None:
    script = Script(q=[Outcome(preferred_label="again"), Outcome()])
    body = f"""{FAN} {INNER} P -> p1; P -> z -> J; p1 -> a -> j1; p1 -> b -> j1; j1 -> q;
        q -> p1 [label=again, weight=-1]; q -> J"""
    await ended(body, script)
    assert sorted(script.nodes()) == ["a", "a", "b", "b", "q", "q", "z"]


@pytest.mark.clause("gate-visited")
@pytest.mark.parametrize("status", [FAIL, Outcome()], ids=["fails", "succeeds"])
async def test_a_goal_gate_inside_of_a_fan_out_inside_of_a_branch_counts(status: Outcome) -> None:
    body = f"""{FAN} {INNER} a [goal_gate=true]; P -> p1; P -> z -> J; p1 -> a -> j1; p1 -> b -> j1; j1 -> J"""
    end = await ended(body, Script(a=status))
    assert (end.error is not None and end.code == "goal_gate_unsatisfied") == (status is FAIL)


@pytest.mark.clause("gate-visited")
async def test_of_a_gate_that_several_branches_went_through_the_failure_counts_whoever_came_last() -> None:
    async def by_branch(stage: Stage) -> Outcome:
        return FAIL if stage.previous is not None and stage.previous.node == "a" else Outcome()

    body = f"""{FAN} s [goal_gate=true]; P -> a -> s; P -> b -> s; s -> J"""
    for slow in ("a", "b"):

        async def late(stage: Stage) -> Outcome:
            await stage.run.sleep("5s")
            return Outcome()

        end = await ended(body, Script(s=by_branch, **{slow: late}))
        assert end.code == "goal_gate_unsatisfied"


@pytest.mark.clause("failure-routing")
async def test_a_failure_in_a_branch_does_not_lead_out_of_its_fan_out() -> None:
    script = Script(a=FAIL, b=FAIL)
    body = """P [shape=component]; J [shape=tripleoctagon]; start -> plan -> P; J -> exit;
        a [retry_target=plan]; b [retry_target=plan];
        P -> a; P -> b; a -> J [condition="outcome=success"]; b -> J [condition="outcome=success"]"""
    end = await ended(body, script)
    assert script.nodes() == ["plan", "a", "b"]
    assert end.error is not None or end.output is not None


@pytest.mark.clause("failure-routing")
async def test_a_failure_in_a_branch_goes_on_at_its_retry_target_in_the_branch() -> None:
    script = Script(b=[FAIL, Outcome()])
    body = f"""{FAN} b [retry_target=a]; P -> a -> b; P -> z -> J; b -> J [condition="outcome=success"]"""
    await ended(body, script)
    assert [node for node in script.nodes() if node != "z"] == ["a", "b", "a", "b"]


@pytest.mark.clause("bounds-visits")
async def test_a_branch_that_leads_back_into_its_own_fan_out_fails() -> None:
    script = Script(a=FAIL)
    body = """P [shape=component]; J [shape=tripleoctagon]; start -> plan -> P; J -> exit;
        P -> a; P -> b -> J; a -> J [condition="outcome=success"]; a -> plan [condition="outcome=fail"]"""
    end = await ended(body, script)
    assert script.nodes().count("plan") == 2  # once at the top, once in the branch, and then no further
    assert {one["id"]: one["outcome"] for one in end.context["parallel"]["results"]} == {"a": "fail", "b": "success"}


@pytest.mark.clause("bounds-visits")
async def test_visits_in_branches_are_bounded_over_all_executions_of_the_fan_out() -> None:
    script = Script(z=[Outcome(preferred_label="again")] * 6 + [Outcome()])
    body = """P [shape=component]; J [shape=tripleoctagon]; start -> P; a [max_visits=2];
        P -> a -> J; P -> b -> J; J -> z; z -> P [label=again, weight=-1]; z -> exit"""
    await ended(body, script)
    assert script.nodes().count("a") == 2
    assert script.nodes().count("b") == 7


@pytest.mark.clause("ruling-failed-unconditional")
async def test_a_failure_that_was_passed_over_in_a_branch_is_told_at_the_end() -> None:
    end = await ended(f"{FAN} P -> a -> a2 -> J; P -> b -> J", Script(a=FAIL))
    assert end.output is not None
    assert end.output["completed_with_failures"]


# --- visits -----------------------------------------------------------------------------------------------------------


@pytest.mark.clause("artifact-paths")
async def test_each_visit_has_a_number_of_its_own_in_branches_and_over_restarts() -> None:
    script = Script(s=keep, e=[Outcome(preferred_label="again"), Outcome()])
    body = """P [shape=component]; J [shape=tripleoctagon]; start -> P; P -> a -> s; P -> b -> s; s -> J; J -> e;
        e -> P [label=again, loop_restart=true]; e -> exit [weight=1]"""
    end = await ended(body, script)
    kept = [name for name in end.files() if name.startswith("s/") and name.endswith("n.txt")]
    assert sorted(kept) == [f"s/visit-{number}/n.txt" for number in (1, 2, 3, 4)]


def test_branches_that_can_come_to_one_node_take_turns_with_its_numbers() -> None:
    top = Visits({"s": 3})
    branches = [Visits(parent=top, shared=frozenset("s"), place=place, of=2) for place in (0, 1)]
    assert [branches[1].enter("s"), branches[0].enter("s"), branches[1].enter("s")] == [5, 4, 7]
    assert [branch.taken("s") for branch in branches] == [1, 4]
    assert [branches[0].enter("own"), branches[0].enter("own")] == [1, 2]
    inner = Visits(parent=branches[0], shared=frozenset("s"), place=1, of=2)
    assert inner.enter("s") == 8
    assert inner.made("s") == 5


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.clause("outcome-fields")
@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["NaN", "a set", "an object"])
@pytest.mark.parametrize("place", ["start -> a; a -> exit", f"{FAN} P -> a -> J; P -> b -> J"], ids=["top", "branch"])
async def test_an_update_that_cannot_be_recorded_is_a_failed_outcome(place: str, value: Any) -> None:
    end = await ended(place, Script(a=Outcome(context_updates={"x": value})))
    assert end.output is not None
    assert end.output["completed_with_failures"]
    assert "x" not in end.context


@pytest.mark.clause("outcome-fields")
async def test_an_update_that_is_nested_too_deep_is_a_failed_outcome() -> None:
    deep: Any = []
    for _ in range(62):
        deep = [deep]
    end = await ended("start -> a; a -> exit", Script(a=Outcome(context_updates={"x": deep})))
    assert end.output is not None
    assert end.output["completed_with_failures"]


def test_the_handler_of_each_stage_belongs_to_the_definition() -> None:
    body = 'start -> a; a -> exit; a [type="deploy"]'
    script = Script()
    handlers = script.handlers()
    without = pipeline(body, handlers=handlers).compile().fingerprint

    @handlers("deploy")
    async def deploy(stage: Stage) -> Outcome:
        return Outcome()

    assert pipeline(body, handlers=handlers).compile().fingerprint != without


def test_a_graph_whose_attributes_cannot_be_mirrored_is_refused() -> None:
    with pytest.raises(PerdureError, match=r"foo\.bar"):
        pipeline("start -> exit", graph='foo="a"; foo.bar="b";')


@pytest.mark.parametrize("files", [{"S": "S"}, {"S": "B", "B": "S"}], ids=["itself", "its child's child"])
def test_a_pipeline_that_is_its_own_child_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    for name, child in files.items():
        (tmp_path / f"{name}.dot").write_text(
            f'digraph {name} {{ stack.child_dotfile="{child}.dot"; start; exit; m [shape=house]; start -> m -> exit }}'
        )
    made = Pipeline.load(tmp_path / "S.dot")
    with pytest.raises(DefinitionLoadError, match="its own child"):
        Runtime(memory(), workflows=[made])


async def test_where_commands_run_and_whether_models_are_simulated_is_a_fact() -> None:
    made = pipeline("start -> a; a -> exit")
    clock = StageClock()
    async with Runtime(memory(), workflows=[made], clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        await handle.result()
        facts = [event async for event in handle.events(follow=False) if event.kind == "step.completed"]
    assert [event.key for event in facts] == ["look_around"]
    assert set(facts[0].data["result"]) == {"directory", "simulated"}


@pytest.mark.clause("outcome-fields")
async def test_a_preferred_label_of_blanks_prefers_nothing() -> None:
    script = Script(a=Outcome(preferred_label="  "))
    await ended("start -> a; a -> b; a -> c [weight=5]; b -> exit; c -> exit", script)
    assert script.nodes() == ["a", "c"]


@pytest.mark.clause("retry-count")
async def test_a_node_that_says_no_retries_has_none_under_a_preset() -> None:
    script = Script(a=FAIL, b=FAIL)
    await ended("start -> a -> b -> exit; a [max_retries=0]", script, retry="linear")
    assert script.nodes() == ["a", "b", "b", "b"]


# --- who loses --------------------------------------------------------------------------------------------------------


@pytest.mark.clause("parallel-first-success")
async def test_a_once_command_in_flight_is_ended_when_another_branch_has_won() -> None:
    body = """P [shape=component, join_policy=first_success]; J [shape=tripleoctagon]; start -> P; J -> exit;
        a [shape=parallelogram, effect=once, tool_command="sleep 300"]; b [shape=parallelogram, tool_command="true"];
        P -> a -> J; P -> b -> J"""
    made = pipeline(body)
    async with Runtime(memory(), workflows=[made], limits=quick()) as runtime:
        handle = await runtime.start(made)
        output: Any = await handle.result()
        facts = [event async for event in handle.events(follow=False) if event.kind == "step.completed"]
    assert [one["outcome"] for one in output["context"]["parallel"]["results"]] == ["skipped", "success"]
    assert [event.data["result"]["cancelled"] for event in facts if event.key == "tool"] in (
        [False, True],
        [True, False],
    )


@pytest.mark.clause("parallel-first-success")
async def test_the_child_of_a_branch_that_lost_is_cancelled(tmp_path: Path) -> None:
    (tmp_path / "child.dot").write_text("digraph child { start; exit; g [shape=hexagon]; start -> g -> exit }")
    (tmp_path / "top.dot").write_text(
        """digraph top { stack.child_dotfile="child.dot"; start; exit;
        P [shape=component, join_policy=first_success]; J [shape=tripleoctagon]; start -> P; J -> exit;
        m [shape=house, manager.poll_interval=60s]; b [shape=hexagon]; P -> m -> J; P -> b -> J }"""
    )
    made = Pipeline.load(tmp_path / "top.dot")
    async with Runtime(memory(), workflows=[made], limits=quick()) as runtime:
        handle = await runtime.start(made)
        asked: set[str] = set()
        async for entry in runtime.events():
            event = entry.event
            if event.kind == "wait.opened" and event.data["wait"] == "question":
                asked.add(event.run_id)
            if len(asked) == 2:
                break
        await handle.answer((await runtime.questions(handle.id))[0].choices[0])
        await handle.result()
        (child,) = asked - {handle.id}
        async for event in runtime.run(child).events():
            if event.kind == "run.cancelled":
                break
        assert await runtime.run(child).status() == "cancelled"
