"""Workflows written as a graph of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from perdure.core.errors import DefinitionError, FlowError, InvalidIdError
from perdure.workflow.effects import Effect
from perdure.workflow.flow import Flow
from perdure.workflow.graph import Done, Enter, Fail, Next, Outcome, Progress
from tests.unit.workflow.fake_run import FakeRun


@dataclass
class Start:
    n: int
    label: str = "x"


async def outcome(flow: Flow, node: str, run: FakeRun | None = None) -> Outcome:
    return await flow.compile().nodes[node].handler(run or FakeRun())


def problems(flow: Flow) -> list[tuple[str, tuple[str, ...]]]:
    with pytest.raises(FlowError) as caught:
        flow.compile()
    assert caught.value.code == "invalid_flow"
    assert caught.value.ids == {"workflow": flow.name}
    assert caught.value.to_dict()["problems"] == [problem.to_dict() for problem in caught.value.problems]
    return [(problem.code, problem.subject) for problem in caught.value.problems]


def returning(value: Any, **options: Any) -> Flow:
    flow = Flow("example")

    @flow.node(name="first", **options)
    async def first(run: FakeRun) -> Any:
        return value

    @flow.node
    async def second(run: FakeRun) -> Done:
        return Done()

    return flow


# --- running nodes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Next("second", output=3), Next("second", output=3)),
        (Next("first"), Next("first")),
        (Done({"a": 1}), Done({"a": 1})),
        (Fail("no", code="mine", details=[1]), Fail("no", code="mine", details=[1])),
    ],
)
async def test_a_node_says_where_to_go(value: Outcome, expected: Outcome) -> None:
    assert await outcome(returning(value), "first") == expected


@pytest.mark.parametrize("value", [None, Next(), Next(output=3)])
async def test_a_node_that_names_none_goes_to_its_next(value: Next | None) -> None:
    expected = Next("second", output=None if value is None else value.output)
    assert await outcome(returning(value, next="second"), "first") == expected


async def test_a_node_may_overrule_its_next() -> None:
    assert await outcome(returning(Next("first"), next="second"), "first") == Next("first")


@pytest.mark.parametrize(
    ("value", "options", "code"),
    [
        (Next("nowhere"), {}, "unknown_node"),
        (Next(7), {}, "unknown_node"),  # type: ignore[arg-type]
        (Effect("sleep", {"duration": 1}, next="nowhere"), {}, "unknown_node"),
        (Next("first"), {"to": ["second"]}, "undeclared_node"),
        (Next(), {}, "no_next"),
        (None, {}, "no_next"),
        (Next("first", "second"), {}, "no_next"),
        (Effect("sleep", {"duration": 1}), {}, "no_next"),
        ("second", {"next": "second"}, "bad_outcome"),
        (Effect("telepathy"), {"next": "second"}, "unknown_effect"),
        (Effect("sleep", {"length": 1}), {"next": "second"}, "effect_params"),
        (Effect("emit", {"name": "e", "payload": object()}), {"next": "second"}, "effect_params"),
    ],
)
async def test_what_a_node_cannot_return_fails_the_run_with_its_own_code(
    value: Any, options: dict[str, Any], code: str
) -> None:
    run = FakeRun()
    failed = await outcome(returning(value, **options), "first", run)
    assert isinstance(failed, Fail)
    assert failed.code == code
    assert failed.to_error()["code"] == code
    assert run.calls == [], "nothing is done for a node that cannot go on"


async def test_an_unknown_node_is_named_with_those_that_exist() -> None:
    failed = await outcome(returning(Next("secnod")), "first")
    assert isinstance(failed, Fail)
    assert failed.details == {"node": "first", "target": "secnod", "known": ["first", "second"]}


async def test_an_effect_is_done_and_its_result_kept() -> None:
    effect = Effect("ask", {"text": "Go on?", "choices": ["yes", "no"]}, save_as="answer", next="second")
    run = FakeRun(answers={"ask": "yes"})
    assert await outcome(returning(effect), "first", run) == Next("second")
    assert run.calls == [("ask", ("Go on?",), {"choices": ["yes", "no"]})]
    assert run.state == {"answer": "yes"}


async def test_a_result_that_nobody_keeps_is_dropped() -> None:
    run = FakeRun(answers={"ask": "yes"})
    assert await outcome(returning(Effect("ask", {"text": "?"}), next="second"), "first", run) == Next("second")
    assert run.state == {}


async def test_a_synchronous_node_runs_in_a_thread_and_may_return_an_effect() -> None:
    flow = Flow("example")

    @flow.node(next="only")
    def only(run: FakeRun) -> Effect:
        assert run.threads == 1
        return Effect("sleep", {"duration": "1s"})

    run = FakeRun()
    assert flow.compile().nodes["only"].blocking
    assert await outcome(flow, "only", run) == Next("only")
    assert run.calls == [("sleep", ("1s",), {})]


async def test_a_node_of_one_effect_needs_no_function() -> None:
    flow = Flow("example")
    flow.effect("ask", Effect("ask", {"text": "Name?"}, save_as="name"), next="end")
    flow.node(name="end")(lambda run: Done(run.state["name"]))
    run = FakeRun(answers={"ask": "Ada"})
    assert await outcome(flow, "ask", run) == Next("end")
    assert await outcome(flow, "end", run) == Done("Ada")
    assert flow.compile().describe()["nodes"][0] == {"name": "ask", "effect": "ask"}


async def test_an_error_of_the_author_passes_through() -> None:
    flow = Flow("example")

    @flow.node
    async def fails(run: FakeRun) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await outcome(flow, "fails")


# --- the graph --------------------------------------------------------------------------------------------------------


def test_the_first_node_is_the_entry_unless_told_otherwise() -> None:
    flow = returning(None, next="second")
    assert flow.compile().route(Progress()) == Enter(("first",))
    other = returning(None, next="second")
    other.entry = "second"
    assert other.compile().route(Progress()) == Enter(("second",))


def test_cycles_and_known_ways_are_edges() -> None:
    flow = returning(None, next="second", to=["first"])
    assert flow.compile().describe()["edges"] == [{"from": "first", "to": "second"}, {"from": "first", "to": "first"}]
    assert flow.compile() is flow.compile()


def test_a_node_stays_a_plain_function() -> None:
    flow = Flow("example")

    @flow.node
    async def look(run: FakeRun) -> Done:
        """Look around."""
        return Done()

    assert look.__name__ == "look"
    assert flow.compile().describe()["nodes"] == [{"name": "look", "description": "Look around."}]
    assert flow.module == __name__


def test_the_input_of_a_dataclass_has_its_defaults_when_it_is_read() -> None:
    flow = Flow("example", input=Start)
    flow.node(name="only")(lambda run: Done())
    graph = flow.compile()
    assert graph.bind((), {"n": 1}) == {"n": 1}
    assert graph.load_input({"n": 1}) == {"n": 1, "label": "x"}


def test_the_output_is_recorded_by_its_declared_type() -> None:
    flow = Flow("example", output=Start)
    flow.node(name="only")(lambda run: Done(Start(1)))
    assert flow.compile().output.dump(Start(1)) == b'{"label":"x","n":1}'


def test_the_fingerprint_is_of_the_structure_and_the_code_of_the_text() -> None:
    one, other = returning(Next("first")).compile(), returning(Next("second")).compile()
    assert (one.fingerprint, one.code) == (other.fingerprint, other.code)
    assert returning(None, next="second").compile().fingerprint != one.fingerprint

    def asking(text: str) -> Flow:
        flow = Flow("example")
        flow.effect("ask", Effect("ask", {"text": text}, next="ask"))
        return flow

    assert asking("a").compile().fingerprint == asking("b").compile().fingerprint
    assert asking("a").compile().code != asking("b").compile().code


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_empty_flow() -> None:
    assert problems(Flow("example")) == [("flow_empty", ())]


def test_a_missing_entry() -> None:
    flow = returning(None)
    flow.entry = "nowhere"
    assert problems(flow) == [("entry_missing", ("nowhere",))]


def test_targets_that_do_not_exist() -> None:
    assert problems(returning(None, next="nowhere", to=["lost", "second"])) == [
        ("target_missing", ("first", "nowhere")),
        ("target_missing", ("first", "lost")),
    ]


def test_a_single_target_is_not_taken_for_its_letters() -> None:
    assert problems(returning(None, to="lost")) == [("target_missing", ("first", "lost"))]


def test_two_nodes_of_one_name() -> None:
    flow = returning(None)
    flow.node(name="first")(lambda run: None)
    assert problems(flow) == [("node_duplicate", ("first",))]


def test_a_node_name_outside_the_grammar() -> None:
    flow = Flow("example")
    flow.node(lambda run: None)
    assert problems(flow) == [("node_name_invalid", ("<lambda>",))]


def test_functions_that_cannot_be_nodes() -> None:
    flow = Flow("example")

    @flow.node
    async def two(run: FakeRun, more: int) -> None: ...

    @flow.node
    async def none() -> None: ...

    @flow.node
    async def named(*, run: FakeRun) -> None: ...

    @flow.node
    async def fine(run: FakeRun, more: int = 1) -> None: ...

    @flow.node
    def generator(run: FakeRun) -> Any:
        yield 1

    flow.node(name="cls")(FakeRun)
    assert problems(flow) == [
        ("node_parameters", ("two",)),
        ("node_parameters", ("none",)),
        ("node_parameters", ("named",)),
        ("signature_generator", ()),
        ("not_a_function", ()),
    ]


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        (Effect("telepathy"), "unknown_effect"),
        (Effect("ask"), "effect_params"),
        (Effect("ask", {"text": "?", "txet": 1}), "effect_params"),
        (Effect("ask", {"text": "?", "default": {1, 2}}), "effect_params"),
        (Effect("ask", {"text": "?"}, save_as="a/b"), "save_as_invalid"),
        (Effect("ask", {"text": "?"}, save_as="a" * 181), "save_as_invalid"),
        (Effect("ask", {"text": "?"}, next="nowhere"), "target_missing"),
    ],
)
def test_an_effect_that_cannot_be_done_is_refused_when_it_is_declared(effect: Effect, code: str) -> None:
    flow = Flow("example")
    flow.effect("only", effect, next="only")
    assert [found for found, _ in problems(flow)] == [code]


def test_an_effect_that_leads_nowhere() -> None:
    flow = Flow("example")
    flow.effect("only", Effect("ask", {"text": "?"}))
    assert problems(flow) == [("next_missing", ("only",))]


def test_an_effect_must_be_one() -> None:
    with pytest.raises(DefinitionError, match="must be an Effect, not a str"):
        Flow("example").effect("only", "ask")  # type: ignore[arg-type]


def test_an_input_that_is_none() -> None:
    flow = returning(None)
    flow.input = {"a b": int}
    assert problems(flow) == [("input_parameter_invalid", ("a b",))]


def test_all_problems_are_told_at_once() -> None:
    flow = Flow("example", entry="nowhere")
    flow.effect("a", Effect("telepathy"))
    flow.node(name="a", next="lost")(lambda run: None)
    with pytest.raises(FlowError) as caught:
        flow.compile()
    assert caught.value.codes == ["node_duplicate", "entry_missing", "unknown_effect", "next_missing", "target_missing"]
    assert caught.value.message.startswith("flow 'example': 5 problems: ")


def test_a_node_that_comes_too_late() -> None:
    flow = returning(None)
    flow.compile()
    with pytest.raises(DefinitionError, match="in use already"):
        flow.node(name="late")(lambda run: None)


def test_a_name_outside_the_grammar() -> None:
    with pytest.raises(InvalidIdError):
        Flow("no spaces")
