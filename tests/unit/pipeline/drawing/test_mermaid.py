"""Mermaid: every line is of a few strict forms, whatever the texts.

The forms were checked with Mermaid's own parser (11.17.2): over pictures of this kind it read back the same nodes,
texts, edges and classes.
"""

from __future__ import annotations

import re
from typing import get_args

import pytest

from perdure.pipeline.drawing.caption import edge_caption, node_caption
from perdure.pipeline.drawing.mermaid import BRACKETS, write_mermaid
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode, Shape
from tests.unit.pipeline.drawing.pictures import HOSTILE, generated, of_text

REFERENCE = r"#[0-9]+;"
TEXT = rf"(?:[A-Za-z0-9 ,]|[^\x00-\x7f°¶ßﬂ]|{REFERENCE})+"
LINES = rf"{TEXT}(?:<br/>{TEXT})?"
NODE = re.compile(rf'  n(\d+)(\(\[|\[\[|\{{\{{|\(\(\(|\[/|\[|\{{)"({LINES})"(\]\)|\]\]|\}}\}}|\)\)\)|/\]|\\\]|\]|\}})')
EDGE = re.compile(rf'  n(\d+) (-->|-\.->|==>)(?:\|"({TEXT})"\|)? n(\d+)')
CLASS = re.compile(
    r"  (?:classDef|class n[0-9]+(?:,n[0-9]+)*) (?:done|failed|running|waiting|skipped)(?: [a-z0-9:#,. -]+)?"
)
TITLE = re.compile(r'title: "(?:[A-Za-z0-9 ,]|[^\x00-\x7f]|\\u[0-9a-f]{4})+"')


def decoded(text: str) -> str:
    return re.sub(r"#([0-9]+);", lambda found: chr(int(found[1])), text)


def check(picture: Picture) -> None:
    """The text is in the grammar, and says what the picture says."""
    head, title, foot, kind, *lines = write_mermaid(picture).removesuffix("\n").split("\n")
    assert (head, foot) == ("---", "---")
    assert TITLE.fullmatch(title), title
    assert re.fullmatch(r"flowchart (TD|LR|BT|RL)", kind)
    nodes, rest = lines[: len(picture.nodes)], lines[len(picture.nodes) :]
    for place, (line, node) in enumerate(zip(nodes, picture.nodes, strict=True)):
        found = NODE.fullmatch(line)
        assert found, line
        assert int(found[1]) == place
        assert (found[2], found[4]) == BRACKETS[node.shape]
        assert [decoded(one) for one in found[3].split("<br/>")] == node_caption(node)
    edges, classes = rest[: len(picture.edges)], rest[len(picture.edges) :]
    for line, edge in zip(edges, picture.edges, strict=True):
        found = EDGE.fullmatch(line)
        assert found, line
        assert (int(found[1]), int(found[4])) == (picture.places[edge.start], picture.places[edge.end])
        assert decoded(found[3] or "") == edge_caption(edge)
    assert [line for line in classes if CLASS.fullmatch(line) is None] == []
    assert re.search(r"direction\s", "".join(nodes + edges)) is None


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:20]))
def test_a_text_stays_text(text: str) -> None:
    check(of_text(text))


def test_every_generated_picture_is_in_the_grammar() -> None:
    for picture in generated(400):
        check(picture)


@pytest.mark.parametrize("shape", get_args(Shape))
def test_every_shape_has_brackets(shape: Shape) -> None:
    assert NODE.fullmatch(write_mermaid(Picture("p", [PictureNode("a", "a", shape)])).splitlines()[4])


def test_arrows_tell_what_was_taken_and_what_has_a_condition() -> None:
    nodes = [PictureNode("a", "a"), PictureNode("b", "b")]
    edges = [PictureEdge("a", "b"), PictureEdge("a", "b", "x=1", True), PictureEdge("a", "b", "", False, 2)]
    text = write_mermaid(Picture("p", nodes, edges))
    assert text.splitlines()[6:9] == ["  n0 --> n1", '  n0 -.->|"x#61;1"| n1', '  n0 ==>|"×2"| n1']


def test_nodes_of_one_status_share_a_class() -> None:
    nodes = [PictureNode(name, name, status="done" if name != "b" else "none") for name in "abc"]
    assert write_mermaid(Picture("p", nodes)).splitlines()[-1] == "  class n0,n2 done"


def test_words_that_mermaid_looks_for_in_whole_lines_are_broken() -> None:
    """Its scanner takes any line with `direction LR` in it for a statement, even inside quotes."""
    assert "direction" not in write_mermaid(of_text("direction LR")).partition("flowchart")[2]


def test_the_title_is_that_of_the_picture() -> None:
    title = write_mermaid(Picture('a "b"', [], note="run: x")).splitlines()[1]
    assert title == 'title: "a \\u0022b\\u0022 – run\\u003a x"'
