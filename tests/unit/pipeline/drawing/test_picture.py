"""The picture of a pipeline and of other workflows, before there is a run."""

from __future__ import annotations

import pytest

from perdure import Flow, Plan, Run, workflow
from perdure.core.errors import DefinitionError
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode, of_document, of_graph
from perdure.pipeline.handler_types import SHAPES
from perdure.pipeline.syntax import parse
from perdure.pipeline.transforms import prepare


def drawn(body: str) -> Picture:
    return of_document(prepare(parse("digraph G { " + body + " }")))


def test_nodes_have_their_labels_in_the_order_of_the_file() -> None:
    picture = drawn('start; work [label="Do it"]; start -> work -> exit')
    assert [(node.id, node.label) for node in picture.nodes] == [
        ("start", "start"),
        ("work", "Do it"),
        ("exit", "exit"),
    ]


@pytest.mark.parametrize(("shape", "handler"), list(SHAPES.items()))
def test_the_shape_follows_the_handler(shape: str, handler: str) -> None:
    picture = drawn(f'a [shape={shape}]; b [type="{handler}"]; c [shape=diamond, type="{handler}"]')
    assert [node.shape for node in picture.nodes] == [shape] * 3


def test_start_and_exit_are_known_by_their_ids() -> None:
    assert [node.shape for node in drawn("start -> end; other [shape=star]").nodes] == ["Mdiamond", "Msquare", "box"]


def test_edges_tell_label_condition_and_restart() -> None:
    picture = drawn(
        'a -> b; a -> b [label="yes"]; a -> b [condition="outcome=success"]; '
        'a -> b [label="no", condition=" context.x "]; a -> b [condition="  ", loop_restart=true]'
    )
    assert [(edge.label, edge.is_conditional) for edge in picture.edges] == [
        ("", False),
        ("yes", False),
        ("outcome=success", True),
        ("no [context.x]", True),
        ("(restart)", False),
    ]


def test_the_graph_gives_name_note_and_direction() -> None:
    picture = drawn('label="Release"; rankdir=LR; a')
    assert (picture.name, picture.note, picture.direction) == ("G", "Release", "LR")
    assert drawn("rankdir=sideways; a").direction == "TB"


def test_an_invalid_pipeline_is_drawn_all_the_same() -> None:
    assert len(drawn('max_steps=often; a [max_retries="many"]; a -> a').nodes) == 1


def test_the_picture_of_a_flow_has_its_known_ways() -> None:
    flow = Flow("loop")

    @flow.node(to=["second"])
    async def first(run: Run) -> None: ...

    @flow.node(to=["first", "second"])
    async def second(run: Run) -> None: ...

    picture = of_graph(flow.compile().describe())
    assert [node.id for node in picture.nodes] == ["first", "second"]
    assert [(edge.start, edge.end) for edge in picture.edges] == [
        ("first", "second"),
        ("second", "first"),
        ("second", "second"),
    ]
    assert (picture.name, picture.note) == ("loop", "flow, version 1")


def test_the_picture_of_a_plan_tells_what_deals_with_the_outside() -> None:
    plan = Plan("release")

    @plan.state("a.b.pure", kind="pure")
    def pure() -> int:
        return 1

    @plan.state("a.b.send", kind="once", after=["a.b.pure"])
    async def send() -> None: ...

    picture = of_graph(plan.compile().describe())
    assert [(node.id, node.shape, node.detail.partition(":")[0]) for node in picture.nodes] == [
        ("a.b.pure", "box", "pure"),
        ("a.b.send", "parallelogram", "once"),
    ]
    assert [(edge.start, edge.end) for edge in picture.edges] == [("a.b.pure", "a.b.send")]


def test_a_function_is_one_node() -> None:
    @workflow
    async def job(run: Run) -> None: ...

    picture = of_graph(job.compile().describe())
    assert (len(picture.nodes), list(picture.edges)) == (1, [])


def test_a_picture_of_nodes_that_there_are_not_is_refused() -> None:
    with pytest.raises(DefinitionError, match="no node"):
        Picture("p", [PictureNode("a", "a")], [PictureEdge("a", "b")])
    with pytest.raises(DefinitionError, match="one id"):
        Picture("p", [PictureNode("a", "a"), PictureNode("a", "b")])
