"""The workflows that a process has loaded."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.errors import DefinitionError, DuplicateWorkflowError, PlanError, UnknownWorkflowError
from perdure.workflow.effects import Effect
from perdure.workflow.flow import Flow
from perdure.workflow.function import Workflow, workflow
from perdure.workflow.plan import Plan
from perdure.workflow.registry import Registry
from tests.unit.workflow.fake_run import FakeRun


@workflow
async def article(run: FakeRun) -> None: ...


def plan(name: str = "release") -> Plan:
    made = Plan(name)
    made.state("m.s.a", lambda run: 1)
    return made


def flow(text: str = "?") -> Flow:
    made = Flow("triage")
    made.effect("ask", Effect("ask", {"text": text}, next="ask"))
    return made


def test_all_forms_can_be_registered() -> None:
    registry = Registry()
    for definition in (article, plan(), flow()):
        assert registry.register(definition) is registry.get(definition.name)
    assert registry.names() == ["article", "release", "triage"]
    assert [graph.form for graph in registry] == ["function", "plan", "flow"]
    assert len(registry) == 3
    assert "triage" in registry
    assert registry.definition("article") is article


def test_anything_that_compiles_is_a_definition() -> None:
    class Mine:
        name = "mine"
        version = "1"

        def compile(self) -> Any:
            return article.compile()

    assert Registry().register(Mine()).name == "article"


@pytest.mark.parametrize("thing", [None, "article", Plan, pytest, FakeRun(), article.fn])
def test_what_does_not_compile_is_refused(thing: Any) -> None:
    with pytest.raises(DefinitionError, match="a workflow is expected, not"):
        Registry().register(thing)


def test_an_invalid_definition_is_refused_and_its_name_stays_free() -> None:
    registry = Registry()
    with pytest.raises(PlanError):
        registry.register(Plan("release"))
    assert "release" not in registry
    registry.register(plan())


def test_the_same_definition_again_changes_nothing() -> None:
    registry = Registry()
    assert registry.register(article) is registry.register(article)
    assert registry.register(plan()) is registry.register(plan()), "made twice by one text in one place"


def closure(value: int) -> Workflow[[], int]:
    @workflow(name="closing")
    async def closing(run: FakeRun) -> int:
        return value

    return closing


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (article, plan("article")),
        (article, workflow(name="article", version="2")(article.fn)),
        (flow("a"), flow("b")),
        (closure(1), closure(2)),
    ],
)
def test_another_definition_of_one_name_is_refused(one: Any, other: Any) -> None:
    registry = Registry()
    registry.register(one)
    with pytest.raises(DuplicateWorkflowError) as caught:
        registry.register(other)
    assert caught.value.code == "workflow_duplicate"
    assert caught.value.ids == {"workflow": one.name}
    assert registry.definition(one.name) is one


def test_functions_of_the_same_text_in_different_places_differ() -> None:
    def first() -> Any:
        @workflow
        async def same(run: FakeRun) -> None: ...

        return same

    def second() -> Any:
        @workflow
        async def same(run: FakeRun) -> None: ...

        return same

    assert first().compile().code == second().compile().code
    registry = Registry()
    registry.register(first())
    with pytest.raises(DuplicateWorkflowError):
        registry.register(second())


def test_an_unknown_name_is_answered_with_those_that_are_close() -> None:
    registry = Registry()
    registry.register(article)
    registry.register(plan())
    with pytest.raises(UnknownWorkflowError) as caught:
        registry.get("artical")
    assert caught.value.hint == "did you mean 'article'?"
    assert caught.value.ids == {"workflow": "artical", "close": ["article"]}
    with pytest.raises(UnknownWorkflowError) as caught:
        registry.definition("xyz")
    assert "load the file" in caught.value.hint
