"""Workflows written as one function."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from perdure.core.errors import InputTypeError, InvalidIdError, SignatureError, ValueRefusedError
from perdure.workflow.function import Workflow, workflow
from perdure.workflow.graph import Done, Enter, Progress
from tests.unit.workflow.fake_run import FakeRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@dataclass
class Point:
    x: int
    y: int = 0


@workflow
async def article(run: FakeRun, topic: str, words: int = 100) -> str:
    """Write an article.

    More text.
    """
    return f"{topic}:{words}"


@workflow(name="docs.old", version="2.0", description="As it was.")
def blocking(run: FakeRun, where: Point) -> int:
    return where.x + run.threads


def codes(fn: Any) -> list[str]:
    with pytest.raises(SignatureError) as caught:
        workflow(fn)
    assert caught.value.code == "invalid_signature"
    assert caught.value.category == "definition"
    return caught.value.codes


def test_a_workflow_takes_its_name_and_description_from_the_function() -> None:
    assert isinstance(article, Workflow)
    assert (article.name, article.version, article.description) == ("article", "1", "Write an article.")
    assert (blocking.name, blocking.version, blocking.description) == ("docs.old", "2.0", "As it was.")
    assert article.__module__ == __name__
    assert not article.blocking
    assert blocking.blocking


async def test_the_plain_function_can_be_called() -> None:
    assert await article.fn(FakeRun(), "a") == "a:100"


async def test_it_compiles_to_one_node_that_ends_the_run() -> None:
    graph = article.compile()
    assert graph is article.compile()
    assert (graph.form, graph.concurrency, list(graph.nodes)) == ("function", 1, ["main"])
    assert graph.route(Progress()) == Enter(("main",))
    node = graph.nodes["main"]
    assert not node.blocking
    assert await node.handler(FakeRun({"topic": "a", "words": 5})) == Done("a:5")
    assert await node.handler(FakeRun({"topic": "a"})) == Done("a:100"), "the call fills the default"


async def test_a_synchronous_function_is_called_in_a_thread() -> None:
    node = blocking.compile().nodes["main"]
    run = FakeRun({"where": Point(4)})
    assert node.blocking
    assert await node.handler(run) == Done(5)
    assert run.threads == 1


async def test_an_error_of_the_author_passes_through() -> None:
    @workflow
    async def fails(run: FakeRun) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fails.compile().nodes["main"].handler(FakeRun())


def test_the_input_is_recorded_as_given_and_read_by_declared_types() -> None:
    graph = blocking.compile()
    raw = graph.bind((Point(1, 2),), {})
    assert raw == {"where": Point(1, 2)}
    assert graph.dump_input(raw) == b'{"where":{"x":1,"y":2}}'
    assert graph.load_input({"where": {"x": 1, "y": 2}}) == {"where": Point(1, 2)}
    assert article.compile().load_input({"topic": "a"}) == {"topic": "a"}, "defaults are the function's business"


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "'topic' missing"),
        (("a",), {"topic": "b"}, "'topic' is given twice"),
        (("a",), {"wrods": 1}, "no parameter 'wrods' (parameters: topic, words)"),
        (("a", 1, 2), {}, "takes 2 arguments, 3 were given"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(InputTypeError) as caught:
        article.compile().bind(args, kwargs)
    assert text in caught.value.message
    assert caught.value.ids["workflow"] == "article"


def test_a_value_of_another_type_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ValueRefusedError, match=r"\$\.words: expected int"):
        article.compile().dump_input({"topic": "a", "words": "many"})


def test_a_name_that_exists_for_type_checkers_only_is_no_obstacle() -> None:
    @workflow
    async def guarded(run: NotImportedAtRunTime, count: int) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert guarded.compile().check_input({"count": 3}) == {"count": 3}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_function_without_parameters() -> None:
    async def nothing() -> None: ...

    async def only_named(*, run: FakeRun) -> None: ...

    assert codes(nothing) == ["signature_run_missing"]
    assert codes(only_named) == ["signature_run_missing"]


def test_parameters_without_a_name_of_their_own() -> None:
    async def many(run: FakeRun, *rest: int, **others: int) -> None: ...

    async def positional(run: FakeRun, topic: str, /) -> None: ...

    assert codes(many) == ["signature_var_positional", "signature_var_keyword"]
    assert codes(positional) == ["signature_positional_only"]


def test_the_run_itself_may_be_positional_only() -> None:
    async def fine(run: FakeRun, /, topic: str) -> None: ...

    assert workflow(fine).compile().inputs.names == ("topic",)


def test_generators() -> None:
    async def asynchronous(run: FakeRun) -> AsyncIterator[int]:
        yield 1

    def synchronous(run: FakeRun) -> Iterator[int]:
        yield 1

    assert codes(asynchronous) == ["signature_generator"]
    assert codes(synchronous) == ["signature_generator"]


@pytest.mark.parametrize("thing", [FakeRun, functools.partial(print), 7, print])
def test_what_is_no_function(thing: Any) -> None:
    assert codes(thing) == ["not_a_function"]


@pytest.mark.parametrize("name", ["with space", "1st", "a/b", "name\n", "x" * 129])
def test_names_outside_the_grammar(name: str) -> None:
    with pytest.raises(InvalidIdError, match="workflow name"):
        workflow(name=name)(article.fn)


@pytest.mark.parametrize("version", ["", "1 2", "1\n", "x" * 65, 1])
def test_versions_outside_the_grammar(version: Any) -> None:
    with pytest.raises(InvalidIdError, match="version"):
        workflow(version=version)(article.fn)
