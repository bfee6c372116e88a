"""DOT: what other tools read is what the picture says."""

from __future__ import annotations

import pydot
import pygraphviz  # type: ignore[import-untyped]
import pytest

from perdure.pipeline.drawing.caption import edge_caption
from perdure.pipeline.drawing.dot import write_dot
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode
from tests.unit.pipeline.drawing.pictures import HOSTILE, generated, of_text

OURS = {"class", "label", "shape", "style"}


def check(picture: Picture) -> None:
    """Graphviz reads as many nodes and edges, with no attribute but ours, and no label as HTML."""
    text = write_dot(picture)
    read = pygraphviz.AGraph(string=text)
    assert (read.number_of_nodes(), read.number_of_edges()) == (len(picture.nodes), len(picture.edges))
    names = [str(node) for node in read.nodes()]
    for name, node in zip(names, picture.nodes, strict=True):
        attributes = read.get_node(name).attr.to_dict()
        assert {key for key, value in attributes.items() if value} <= OURS
        assert attributes["shape"] == node.shape
    ends = sorted(
        (picture.places[edge.start], picture.places[edge.end], bool(edge_caption(edge))) for edge in picture.edges
    )
    assert str(read.name)
    assert ends == sorted(
        (names.index(str(edge[0])), names.index(str(edge[1])), bool(edge.attr["label"])) for edge in read.edges()
    )


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_a_text_stays_text(text: str) -> None:
    check(of_text(text))


def test_graphviz_reads_every_generated_picture() -> None:
    for picture in generated(150):
        check(picture)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot.dot_parser")
def test_another_reader_agrees() -> None:
    nodes = [PictureNode("a b", 'say "hi" \\N', "hexagon", "done"), PictureNode("end", "<b>&amp;</b>", "house")]
    picture = Picture("two words", nodes, [PictureEdge("a b", "end", "x=1", True, 2)])
    (graph,) = pydot.graph_from_dot_data(write_dot(picture)) or ()
    assert [node.get_name() for node in graph.get_nodes()][1:] == ['"a b"', '"end"']
    assert graph.get_node('"a b"')[0].get("label") == '"✓ say \\"hi\\" \\\\N"'
    assert graph.get_node('"end"')[0].get("label") == '"<b>&amp;amp;</b>"'
    (edge,) = graph.get_edges()
    assert (edge.get_source(), edge.get_destination(), edge.get("label")) == ('"a b"', '"end"', '"x=1 ×2"')


def test_ids_that_look_alike_stay_apart() -> None:
    ids = ["a\x00", "a\x01", "a\ufffd~2", "a\ufffd"]
    text = write_dot(Picture("p", [PictureNode(one, "x") for one in ids], [PictureEdge(ids[1], ids[3])]))
    read = pygraphviz.AGraph(string=text)
    assert read.number_of_nodes() == 4
    assert [(str(start), str(end)) for start, end in read.edges()] == [("a\ufffd~2", "a\ufffd~3")]


def test_the_form_is_canonical() -> None:
    picture = Picture("p", [PictureNode("a", "A", "box", "failed", 2, "why")], [PictureEdge("a", "a", "", True, 1)])
    assert write_dot(picture) == (
        'digraph "p" {\n'
        '  graph [label="p", labelloc=t, rankdir=TB];\n'
        '  "a" [class=failed, label="✗ A ×2\\nwhy", shape=box];\n'
        '  "a" -> "a" [class=taken, label="×1", style=dashed];\n'
        "}\n"
    )
