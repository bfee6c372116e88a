"""SVG: shapes and text, and nothing else, whatever the texts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from perdure.pipeline.drawing import svg
from perdure.pipeline.drawing.caption import MARKS, edge_caption, node_caption, plain_text
from perdure.pipeline.drawing.errors import DrawingExtraMissingError, LayoutFailedError, PictureTooLargeError
from perdure.pipeline.drawing.picture import NodeStatus, Picture, PictureEdge, PictureNode, Shape
from perdure.pipeline.drawing.svg import LINE_COLOUR, MOST_EDGES, MOST_NODES, STATUS_ATTRIBUTES, TEXT_COLOUR, write_svg
from perdure.pipeline.drawing.vector import rebuilt
from tests.unit.pipeline.drawing.pictures import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"
KNOWN = {f"{SVG}{name}" for name in ("svg", "g", "title", "polygon", "polyline", "ellipse", "path", "text")}
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'


def words(text: str) -> str:
    return "".join(text.split())


def texts(root: Element, id: str) -> str:
    """What stands at a node or an edge, without blanks: lines may be broken anywhere."""
    group = next(one for one in root.iter(f"{SVG}g") if one.get("id") == id)
    return words("".join(one.text or "" for one in group.iter(f"{SVG}text")))


def check(drawn: str) -> Element:
    """Only shapes and text; read by another way than the one that built it."""
    lower = drawn.lower()
    assert not any(sign in lower for sign in ("<!", "<?", "xlink:href=", "href=", "url(", "<a ", "<style", "<image"))
    root = ElementTree.fromstring(drawn)
    for element in root.iter():
        assert element.tag in KNOWN
        for key, value in element.attrib.items():
            assert not key.startswith("on")
            assert key not in ("href", "style", "src")
            assert not set("}:") & set(key + value)
            assert key == "transform" or "(" not in value
    return root


def test_no_text_becomes_more_than_text() -> None:
    """All of the corpus in one picture: as ids, labels, details, and labels of edges."""
    nodes = [PictureNode(f"{place}{text}", text, "box", "waiting", 1, text) for place, text in enumerate(HOSTILE)]
    edges = [PictureEdge(one.id, other.id, one.label, True) for one, other in pairwise(nodes)]
    root = check(write_svg(Picture(HOSTILE[0], nodes, edges, HOSTILE[-3])))
    for place, node in enumerate(nodes):
        assert texts(root, f"n{place}") == words("".join(node_caption(node))), node.label[:40]
    for place, edge in enumerate(edges):
        assert texts(root, f"e{place}") == words(edge_caption(edge)), edge.label[:40]


def test_nodes_have_numbers_for_ids_and_their_own_ids_for_titles() -> None:
    root = check(write_svg(Picture("p", [PictureNode("x<y", "one"), PictureNode("javascript:z", "two")])))
    groups = {one.get("id"): one.findtext(f"{SVG}title") for one in root.iter(f"{SVG}g") if one.get("class") != "graph"}
    assert groups == {"n0": "x<y", "n1": "javascript:z"}


@pytest.mark.parametrize("shape", get_args(Shape))
def test_every_shape_is_drawn(shape: Shape) -> None:
    statuses = get_args(NodeStatus)
    nodes = [PictureNode(status, "a", shape, status, 2) for status in statuses]
    root = check(write_svg(Picture("p", nodes)))
    assert [texts(root, f"n{place}") for place in range(len(nodes))] == [f"{MARKS[one]}a×2" for one in statuses]


def test_no_program_of_the_system_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    check(write_svg(Picture("p", [PictureNode("a", "a")])))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#000000"])
def test_lines_and_text_can_be_read_on_white_and_on_black(ground: str) -> None:
    assert contrast(LINE_COLOUR, ground) >= 4.5
    assert all(contrast(look["color"], ground) >= 3 for look in STATUS_ATTRIBUTES.values())
    assert all(contrast(look["fillcolor"], TEXT_COLOUR) >= 7 for look in STATUS_ATTRIBUTES.values())


def test_statuses_can_be_told_without_colour() -> None:
    looks = [(MARKS[status], look["style"], look.get("penwidth")) for status, look in STATUS_ATTRIBUTES.items()]
    assert len(set(looks)) == len({mark for mark, _, _ in looks}) == len(get_args(NodeStatus))


@pytest.mark.parametrize(("nodes", "edges"), [(MOST_NODES + 1, 0), (1, MOST_EDGES + 1)])
def test_what_is_too_large_is_refused_with_another_format(nodes: int, edges: int) -> None:
    picture = Picture("p", [PictureNode(f"a{place}", "a") for place in range(nodes)], [PictureEdge("a0", "a0")] * edges)
    with pytest.raises(PictureTooLargeError) as refused:
        write_svg(picture)
    assert "--format json or mermaid" in refused.value.hint


def test_a_layout_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endless = tmp_path / "layout.py"
    endless.write_text("import signal; signal.pause()")
    monkeypatch.setattr(svg, "_LAYOUT", endless)
    with pytest.raises(LayoutFailedError, match=r"longer than 0.4 s"):
        write_svg(Picture("p", [PictureNode("a", "a")]), timeout_s=0.4)


def test_a_tangle_gets_the_cheap_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []
    real = svg._laid_out

    def laid_out(order: dict[str, dict[str, str]], timeout_s: float) -> bytes:
        asked.append(order["graph"])
        if len(asked) == 1:
            raise subprocess.TimeoutExpired("dot", timeout_s)
        return real(order, 20)

    monkeypatch.setattr(svg, "_laid_out", laid_out)
    check(write_svg(Picture("p", [PictureNode("a", "a")])))
    assert [graph.get("splines") for graph in asked] == [None, "line"]


def test_a_layout_that_crashes_harms_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = tmp_path / "layout.py"
    crash.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(svg, "_LAYOUT", crash)
    with pytest.raises(LayoutFailedError, match=r"broke down \(signal 9\)"):
        write_svg(Picture("p", [PictureNode("a", "a")]))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DrawingExtraMissingError) as missing:
        write_svg(Picture("p", [PictureNode("a", "a")]))
    assert "pip install 'perdure[drawing]'" in missing.value.hint


def test_without_the_libraries_of_the_system_the_error_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pygraphviz.py").write_text("raise ImportError('libX11.so.6: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DrawingExtraMissingError, match=r"libX11\.so\.6") as missing:
        write_svg(Picture("p", [PictureNode("a", "a")]))
    assert "libx11-6" in missing.value.hint


def test_drawing_is_loaded_without_graphviz() -> None:
    program = "import sys, perdure.pipeline.drawing; print('pygraphviz' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        '<a xlink:href="javascript:alert(1)"><text>x</text></a>',
        '<image xlink:href="http://example.com/x.png"/>',
        '<g onload="alert(1)"/>',
        '<g style="fill:url(http://example.com)"/>',
        '<path fill="url(#x)"/>',
        '<g id="javascript:x"/>',
        "<foreignObject/>",
        '<text xmlns="http://www.w3.org/1999/xhtml">x</text>',
        "<style>@import 'http://example.com/x.css'</style>",
        '<use href="#x"/>',
        "<unclosed>",
    ],
)
def test_what_graphviz_should_never_draw_does_not_get_through(inside: str) -> None:
    with pytest.raises(LayoutFailedError):
        rebuilt(DRAWING.format(inside).encode(), "p", {})


def test_entities_and_document_types_do_not_get_through() -> None:
    bomb = '<!DOCTYPE svg [<!ENTITY x "boom">]>' + DRAWING.format("<text>&x;</text>")
    with pytest.raises(LayoutFailedError):
        rebuilt(bomb.encode(), "p", {})
    typed = '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://example.com/svg.dtd">' + DRAWING.format("")
    assert "DOCTYPE" not in rebuilt(typed.encode(), "p", {})


def test_a_long_label_is_cut_with_an_ellipsis() -> None:
    assert plain_text("A" * 200) == "A" * 200
    assert plain_text("A" * 201) == plain_text("A" * 1_000_000) == "A" * 199 + "…"


def test_of_a_label_without_end_only_the_beginning_is_looked_at() -> None:
    assert plain_text("\n" * 1_000_000 + "late") == "…"


def test_the_count_stands_at_an_edge_that_was_taken() -> None:
    picture = Picture("p", [PictureNode("a", "a")], [PictureEdge("a", "a", "again", True, 3)])
    root = check(write_svg(picture))
    assert texts(root, "e0") == "again×3"
    assert 'stroke-width="2.5" stroke-dasharray' in write_svg(picture)
    assert "stroke-dasharray" not in write_svg(replace(picture, edges=[PictureEdge("a", "a")]))
