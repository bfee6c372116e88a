"""Workflows written as a dependency graph of states."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from perdure.core.errors import DefinitionError, InvalidIdError, MergeConflictError, PlanError
from perdure.core.policies import idempotent
from perdure.workflow.graph import Done, Enter, Fail, Next, Outcome, Progress
from perdure.workflow.plan import Plan
from perdure.workflow.steps import step
from tests.unit.workflow.fake_run import FakeRun

A, B, C, D = "m.s.a", "m.s.b", "m.s.c", "m.s.d"


@dataclass
class Options:
    repo: str
    depth: int = 1


async def code(run: FakeRun) -> int:
    """Compute."""
    return 7


@step(kind="read", retries=2)
async def fetch(repo: str, depth: int = 3) -> list[str]:
    """Fetch."""
    return [repo, str(depth)]


def problems(plan: Plan) -> list[tuple[str, tuple[str, ...]]]:
    with pytest.raises(PlanError) as caught:
        plan.compile()
    assert caught.value.code == "invalid_plan"
    assert caught.value.category == "definition"
    assert caught.value.problems == plan.problems()
    return [(problem.code, problem.subject) for problem in caught.value.problems]


def of(*states: str, **options: Any) -> Plan:
    plan = Plan("example", **options)
    for state in states:
        plan.state(state, code)
    return plan


async def outcome(plan: Plan, state: str, run: FakeRun | None = None) -> Outcome:
    return await plan.compile().nodes[state].handler(run or FakeRun())


# --- running states ---------------------------------------------------------------------------------------------------


async def test_code_takes_the_run_and_returns_the_output() -> None:
    assert await outcome(of(A), A) == Next(output=7)


async def test_synchronous_code_runs_in_a_thread() -> None:
    plan = Plan("example")
    plan.state(A, lambda run: run.threads)
    assert plan.compile().nodes[A].blocking
    assert await outcome(plan, A) == Next(output=1)


async def test_a_step_is_filled_from_the_input() -> None:
    plan = Plan("example", input=Options)
    plan.state(A, fetch)
    run = FakeRun(plan.compile().load_input({"repo": "r"}))
    assert await outcome(plan, A, run) == Next(output=["r", "1"])
    assert run.calls == [("step", ("fetch",), {"repo": "r", "depth": 1})]
    node = plan.compile().nodes[A]
    assert (node.kind, node.step, node.blocking) == ("read", "fetch", False)
    assert node.output.dump(["r"]) == b'["r"]'


async def test_a_parameter_without_input_keeps_the_default_of_the_function() -> None:
    plan = Plan("example", input={"repo": str})
    plan.state(A, fetch)
    assert await outcome(plan, A, FakeRun({"repo": "r"})) == Next(output=["r", "3"])


async def test_a_step_is_filled_from_outputs_which_come_before() -> None:
    plan = Plan("example")
    plan.state(B, lambda lines, repo: [repo, *lines], kind="pure", inputs={"lines": A})
    plan.state(A, fetch)
    graph = plan.compile()
    assert graph.route(Progress()) == Enter((A,))
    assert graph.describe()["edges"] == [{"from": A, "to": B}]
    run = FakeRun({"repo": "r"}, outputs={A: ["x"]})
    assert await outcome(plan, B, run) == Next(output=["r", "x"])
    assert run.calls[0][1] == ("b",), "a lambda's step is named after its state"


async def test_the_output_of_a_skipped_state_is_none() -> None:
    plan = Plan("example")
    plan.state(A, code, tags=["slow"])
    plan.state(B, lambda a: a, kind="pure", inputs={"a": A})
    assert await outcome(plan, B, FakeRun(outputs={A: None})) == Next(output=None)


async def test_code_may_fail_the_run() -> None:
    plan = Plan("example")
    plan.state(A, lambda run: Fail("no", code="mine"))
    assert await outcome(plan, A) == Fail("no", code="mine")


@pytest.mark.parametrize("value", [Next(A), Done(1)])
async def test_code_says_nothing_about_the_way(value: Outcome) -> None:
    plan = Plan("example")
    plan.state(A, lambda run: value)
    failed = await outcome(plan, A)
    assert isinstance(failed, Fail)
    assert failed.code == "bad_outcome"


def test_the_decorator_leaves_the_function_as_it_is() -> None:
    plan = Plan("example")

    @plan.state(A, kind="once", timeout="5s", retries=1)
    def publish(text: str) -> str:
        return text

    assert publish("x") == "x"
    node = plan.compile().nodes[A]
    assert (node.kind, node.step) == ("once", "publish")
    assert plan.module == __name__


def test_a_kind_with_a_window() -> None:
    plan = Plan("example")
    plan.state(A, lambda: 1, kind=idempotent(window="24h"))
    assert plan.compile().nodes[A].kind == "idempotent"


# --- the graph --------------------------------------------------------------------------------------------------------


def diamond(**options: Any) -> Plan:
    plan = Plan("example", **options)
    plan.state(A, code)
    plan.state(B, code, after=[A], tags=["slow"])
    plan.state(C, code, after=A)
    plan.state(D, code, after=[B, C], recovery="earliest")
    return plan


def test_a_plan_runs_in_sequence_unless_it_fans_out() -> None:
    assert diamond(limit=9).compile().concurrency == 1
    graph = diamond(mode="fan_out", limit=2).compile()
    assert (graph.form, graph.concurrency) == ("plan", 2)
    assert graph is not diamond(mode="fan_out", limit=2).compile()


def test_without_a_declared_input_the_parameters_of_its_steps_are_the_input() -> None:
    plan = Plan("example")
    plan.state(A, fetch)
    plan.state(B, lambda depth: depth, kind="pure")
    graph = plan.compile()
    assert graph.inputs.names == ("repo", "depth")
    assert graph.input_schema()["required"] == ["repo", "depth"], "required by one state is required"
    assert graph.input_schema()["properties"]["depth"] == {"type": "integer"}
    assert graph.load_input({"repo": "r", "depth": 1}) == {"repo": "r", "depth": 1}


def test_an_inferred_default_stays_with_the_function() -> None:
    plan = Plan("example")
    plan.state(A, fetch)
    assert plan.compile().bind((), {"repo": "r"}) == {"repo": "r"}
    assert plan.compile().load_input({"repo": "r"}) == {"repo": "r"}


def test_states_merge_by_the_edges() -> None:
    graph = diamond(mode="fan_out").compile()
    writes = {A: {"x": 1}, C: {"y": 2}, B: {"x": 3}}
    assert graph.view(A, {"base": 0}, {}) == {"base": 0}
    assert graph.view(C, {"base": 0}, {A: writes[A], B: writes[B]}) == {"base": 0, "x": 1}
    assert graph.view(D, {"base": 0}, writes) == {"base": 0, "x": 3, "y": 2}
    with pytest.raises(MergeConflictError) as caught:
        graph.view(D, {}, {B: {"x": 3}, C: {"x": 4}})
    assert caught.value.ids == {"key": "x", "branches": [B, C]}
    assert diamond().compile().view(D, {}, {C: {"x": 4}, B: {"x": 3}}) == {"x": 4}, "in sequence the later one wins"


def test_a_plan_can_be_drawn() -> None:
    shape = diamond(skip_tags=["slow"]).to_dict()
    assert shape["problems"] == []
    assert shape["nodes"][1] == {"name": B, "tags": ["slow"], "description": "Compute."}
    assert [edge["from"] + ">" + edge["to"] for edge in shape["edges"]] == [
        f"{A}>{B}",
        f"{A}>{C}",
        f"{B}>{D}",
        f"{C}>{D}",
    ]
    assert shape["states"][3] == {"id": D, "after": [B, C], "tags": [], "recovery": "earliest"}
    assert shape["skip_tags"] == ["slow"]


def test_an_invalid_plan_can_be_drawn_with_its_problems() -> None:
    shape = of("x").to_dict()
    assert [problem["code"] for problem in shape["problems"]] == ["state_id_invalid"]
    assert shape["states"][0]["id"] == "x"


def variants() -> Iterator[Plan]:
    yield diamond()
    yield diamond(version="2")
    yield diamond(mode="fan_out")
    yield diamond(output=A)
    yield of(A, B, C, D)
    tagged = diamond()
    tagged.states[0].tags = ("t",)
    yield tagged
    kinds = diamond()
    kinds.states[0].fn = fetch
    yield kinds


def test_the_fingerprint_changes_with_every_part_of_the_structure() -> None:
    prints = [plan.compile().fingerprint for plan in variants()]
    assert len(set(prints)) == len(prints)
    assert diamond(limit=2).compile().fingerprint == diamond().compile().fingerprint


def test_a_state_that_comes_too_late() -> None:
    plan = of(A)
    plan.compile()
    with pytest.raises(DefinitionError, match="in use already"):
        plan.state(B, code)


# --- skip tags --------------------------------------------------------------------------------------------------------


def test_skip_tags_of_the_plan_and_of_the_start_are_joined() -> None:
    plan = Plan("example", skip_tags=["slow"])
    plan.state(A, code, tags=["slow", "net"])
    assert plan.compile().resolve_skip_tags() == ("slow",)
    assert plan.compile().resolve_skip_tags(["net"]) == ("net", "slow")


def test_skip_tags_are_checked_at_the_start() -> None:
    with pytest.raises(PlanError) as caught:
        diamond().compile().resolve_skip_tags(["slow", "fast", "a,b"])
    assert [(problem.code, problem.subject) for problem in caught.value.problems] == [
        ("tag_dangling", ("fast",)),
        ("tag_invalid", ("a,b",)),
    ]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_empty_plan() -> None:
    assert problems(Plan("example")) == [("plan_empty", ())]


@pytest.mark.parametrize("mode", ["parallel", "", None])
def test_an_unknown_mode(mode: Any) -> None:
    assert problems(of(A, mode=mode)) == [("mode_invalid", ())]


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "4", None])
def test_a_limit_that_is_none(limit: Any) -> None:
    assert problems(of(A, limit=limit)) == [("limit_invalid", ())]


@pytest.mark.parametrize(
    "id",
    [
        "a",
        "a.b",
        "a.b.c.d",
        "A.b.c",
        "a..c",
        "a.b.1",
        "a.b._c",
        "a.b.c\n",
        "a.b.ç",
        "a.b." + "c" * 64,
        "a-b.c.d",
        " a.b.c",
    ],
)
def test_ids_outside_the_grammar(id: str) -> None:
    assert problems(of(id)) == [("state_id_invalid", (id,))]


def test_an_id_that_is_no_text() -> None:
    assert problems(of(7)) == [("state_id_invalid", ("7",))]  # type: ignore[arg-type]


def test_the_longest_id() -> None:
    longest = ".".join(["a" + "_9" * 31] * 3)
    assert list(of(longest).compile().nodes) == [longest]


def test_two_states_of_one_id() -> None:
    assert problems(of(A, B, A)) == [("state_duplicate", (A,))]


def test_an_edge_to_nowhere() -> None:
    plan = of(A)
    plan.state(B, code, after=[A, "m.s.gone"])
    plan.state(C, lambda x: x, kind="pure", inputs={"x": "m.s.lost"})
    assert problems(plan) == [("edge_target_missing", (B, "m.s.gone")), ("edge_target_missing", (C, "m.s.lost"))]


def test_an_edge_to_itself_is_no_cycle() -> None:
    plan = Plan("example")
    plan.state(A, code, after=[A])
    assert problems(plan) == [("edge_self", (A,))]


def test_an_edge_twice() -> None:
    plan = of(A)
    plan.state(B, code, after=[A, A])
    assert problems(plan) == [("edge_duplicate", (B, A))]


def test_a_state_may_come_after_one_whose_output_it_takes() -> None:
    plan = of(A)
    plan.state(B, lambda x: x, kind="pure", after=[A], inputs={"x": A})
    assert plan.problems() == []


def test_cycles_are_named() -> None:
    plan = Plan("example")
    plan.state(A, code, after=[C])
    plan.state(B, code, after=[A])
    plan.state(C, code, after=[B])
    plan.state(D, code, after=[D, C])
    assert problems(plan) == [("edge_self", (D,)), ("plan_cycle", (A, B, C))]
    assert f"{A} -> {B} -> {C} -> {A}" in plan.problems()[1].message


@pytest.mark.parametrize("tag", ["", "a,b", " a", "a\n", "x" * 129, 7])
def test_tags_outside_the_grammar(tag: Any) -> None:
    plan = Plan("example")
    plan.state(A, code, tags=[tag])
    assert problems(plan) == [("tag_invalid", (A, str(tag)))]


def test_a_skip_tag_that_no_state_bears() -> None:
    plan = of(A, skip_tags=["fast"])
    assert problems(plan) == [("tag_dangling", ("fast",))]


def test_a_single_tag_is_not_taken_for_its_letters() -> None:
    plan = Plan("example", skip_tags="slow")
    plan.state(A, code, tags="slow")
    assert plan.compile().nodes[A].tags == ("slow",)


def test_an_output_of_no_state() -> None:
    assert problems(of(A, output=B)) == [("output_missing", (B,))]


def test_an_unknown_recovery() -> None:
    plan = Plan("example")
    plan.state(A, code, recovery="newest")  # type: ignore[call-overload]
    assert problems(plan) == [("recovery_invalid", (A,))]


def test_functions_without_a_kind_must_take_the_run_alone() -> None:
    plan = Plan("example")
    plan.state(A, lambda: 1)
    plan.state(B, lambda number: number)
    plan.state(C, lambda run, number: number)
    plan.state(D, lambda run, number=1: number)
    assert problems(plan) == [("kind_missing", (A,)), ("kind_missing", (B,)), ("kind_missing", (C,))]


def test_a_run_is_known_by_its_type_too() -> None:
    async def typed(context: FakeRun) -> None: ...

    plan = Plan("example")
    plan.state(A, typed)
    assert plan.problems() == []


def test_an_unknown_kind() -> None:
    plan = Plan("example")
    plan.state(A, lambda: 1, kind="maybe")  # type: ignore[call-overload]
    assert problems(plan) == [("kind_invalid", (A,))]


def test_what_is_no_function() -> None:
    def generator(run: FakeRun) -> Iterator[int]:
        yield 1

    plan = Plan("example")
    plan.state(A, FakeRun, kind="pure")
    plan.state(B, generator)
    assert problems(plan) == [("not_a_function", (A,)), ("signature_generator", (B,))]


def test_a_step_has_its_kind_and_options_where_it_is_declared() -> None:
    plan = Plan("example")
    plan.state(A, fetch, kind="pure")
    plan.state(B, fetch, retries=1)
    assert problems(plan) == [("step_redefined", (A,)), ("step_redefined", (B,))]


def test_options_of_a_step() -> None:
    plan = Plan("example")
    plan.state(A, lambda: 1, kind="read", retires=1)  # type: ignore[call-overload]
    plan.state(B, code, timeout="1s")
    plan.state(C, lambda: 1, kind="read", retries=-1)
    plan.state(D, lambda: 1, kind="read", timeout="soon")
    assert problems(plan) == [
        ("option_unknown", (A, "retires")),
        ("option_without_kind", (B,)),
        ("invalid_policy", (C,)),
        ("invalid_duration", (D,)),
    ]


def test_parameters_that_cannot_be_named() -> None:
    def many(*rest: int, **others: int) -> None: ...

    def positional(x: int, /) -> None: ...

    plan = Plan("example")
    plan.state(A, many, kind="pure")
    plan.state(B, positional, kind="pure")
    assert problems(plan) == [
        ("signature_var_positional", ("rest",)),
        ("signature_var_keyword", ("others",)),
        ("signature_positional_only", ("x",)),
    ]


def test_parameters_that_nothing_fills() -> None:
    plan = Plan("example", input={"depth": int})
    plan.state(A, fetch)
    assert problems(plan) == [("parameter_unfilled", (A, "repo"))]


def test_inputs_for_parameters_that_do_not_exist() -> None:
    plan = of(A)
    plan.state(B, fetch, inputs={"rope": A})
    plan.state(C, code, inputs={"x": A})
    assert problems(plan) == [("parameter_unknown", (B, "rope")), ("parameter_unknown", (C, "x"))]


def test_two_states_that_take_one_parameter_of_different_types() -> None:
    def other(repo: int) -> None: ...

    plan = Plan("example")
    plan.state(A, fetch)
    plan.state(B, other, kind="pure")
    assert problems(plan) == [("input_conflict", (B, "repo"))]


def test_inputs_that_are_declared_wrongly() -> None:
    assert problems(of(A, input=[int])) == [("input_type", ())]
    assert problems(of(A, input={"a b": int})) == [("input_parameter_invalid", ("a b",))]


def test_a_name_outside_the_grammar() -> None:
    with pytest.raises(InvalidIdError):
        Plan("no spaces")


def test_all_problems_are_told_at_once_and_survive_pickling() -> None:
    plan = Plan("example", limit=0, skip_tags=["x"])
    plan.state("bad", code, after=["m.s.gone"])
    plan.state(A, code, after=[B])
    plan.state(B, lambda: 1, after=[A])
    with pytest.raises(PlanError) as caught:
        plan.compile()
    error = caught.value
    expected = [
        "limit_invalid",
        "tag_dangling",
        "state_id_invalid",
        "edge_target_missing",
        "kind_missing",
        "plan_cycle",
    ]
    assert error.codes == expected
    assert error.message.startswith("plan 'example': 6 problems: ")
    again = pickle.loads(pickle.dumps(error))
    assert (again.problems, again.message, again.ids) == (error.problems, error.message, {"workflow": "example"})
    assert [problem["code"] for problem in error.to_dict()["problems"]] == expected
