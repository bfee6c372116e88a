"""SVG, laid out by Graphviz.

Nothing that a user wrote reaches Graphviz but as the text of a label, escaped; nodes are called `n0`, `n1`, … there.
What comes back is not passed on: it is read, and built anew from the few elements and attributes that a picture needs
(see `vector`).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

from perdure.pipeline.drawing.caption import edge_caption, node_caption, picture_caption, plain_text
from perdure.pipeline.drawing.errors import DrawingExtraMissingError, LayoutFailedError, PictureTooLargeError
from perdure.pipeline.drawing.layout import CANNOT_LOAD
from perdure.pipeline.drawing.picture import NodeStatus, Picture, PictureEdge, PictureNode
from perdure.pipeline.drawing.vector import rebuilt

MOST_NODES: Final = 2_000
MOST_EDGES: Final = 4_000
LAYOUT_TIMEOUT_S: Final = 20
FINE_LAYOUT_SHARE: Final = 0.25
"""Of the time for the layout: when the fine one has not ended by then, a cheaper one is tried."""

LABEL_COLUMNS: Final = 32
"""Where the lines of a label are broken."""

LINE_COLOUR: Final = "#767676"
"""Of edges and of text without a ground of its own: as readable on white as on black."""
TEXT_COLOUR: Final = "#111827"
"""Of text in nodes, which have a light ground everywhere."""

# By status: the ground, the border, and the kind of border that tells the status without colour.
STATUS_ATTRIBUTES: Final[dict[NodeStatus, dict[str, str]]] = {
    "none": {"fillcolor": "#f3f4f6", "color": "#767676", "style": "filled"},
    "done": {"fillcolor": "#d1fae5", "color": "#059669", "style": "filled", "penwidth": "1.5"},
    "failed": {"fillcolor": "#fee2e2", "color": "#dc2626", "style": "filled", "penwidth": "3.5"},
    "running": {"fillcolor": "#dbeafe", "color": "#3b82f6", "style": "filled,dashed", "penwidth": "2.5"},
    "waiting": {"fillcolor": "#fef3c7", "color": "#b45309", "style": "filled,dotted", "penwidth": "2.5"},
    "skipped": {"fillcolor": "#f3f4f6", "color": "#767676", "style": "filled,dashed"},
}

# Straight lines, and an end to the search for better places: worth it for tangles, which would take hours.
CHEAP_LAYOUT: Final = {"splines": "line", "nslimit": "1", "nslimit1": "1", "mclimit": "0.1"}

_FONT: Final = "Helvetica,Arial,sans-serif"
LIBRARIES_HINT: Final = (
    "a small system image may lack libraries of X11 and GLib that Graphviz loads; on Debian: "
    "apt-get install libx11-6 libxext6 libxrender1 libglib2.0-0 libexpat1; or take another --format"
)

_BOOT: Final = (
    "import runpy, sys; sys.path[:] = sys.argv[1].split(chr(10)); runpy.run_path(sys.argv[2], run_name='__main__')"
)
_LAYOUT: Final = Path(__file__).with_name("layout.py")


def write_svg(picture: Picture, *, timeout_s: float = LAYOUT_TIMEOUT_S) -> str:
    """A picture as SVG, without a declaration, so that it can stand in a file as well as in a page.

    It blocks until the layout is done, in a process of its own.

    Args:
        picture: of at most `MOST_NODES` nodes and `MOST_EDGES` edges.
        timeout_s: how long the layout may take, in seconds.

    Raises:
        DrawingExtraMissingError: the extra `perdure[drawing]` is not installed, or lacks libraries of the system.
        PictureTooLargeError: it has too many nodes or edges.
        LayoutFailedError: the layout took too long or broke down.
    """
    for what, number, most in (("nodes", len(picture.nodes), MOST_NODES), ("edges", len(picture.edges), MOST_EDGES)):
        if number > most:
            raise PictureTooLargeError(f"the picture has {number} {what}; at most {most} are laid out", most=most)
    if importlib.util.find_spec("pygraphviz") is None:
        raise DrawingExtraMissingError("SVG needs the package pygraphviz, which is not installed")
    titles = {f"n{place}": plain_text(node.id) for place, node in enumerate(picture.nodes)}
    return rebuilt(_drawn(_order(picture), timeout_s), picture_caption(picture), titles)


def _drawn(order: dict[str, Any], timeout_s: float) -> bytes:
    """SVG of the fine layout, or of the cheap one if that takes too long."""
    fine_s = timeout_s * FINE_LAYOUT_SHARE
    try:
        return _laid_out(order, fine_s)
    except subprocess.TimeoutExpired:
        cheap = order | {"graph": order["graph"] | CHEAP_LAYOUT}
    try:
        return _laid_out(cheap, timeout_s - fine_s)
    except subprocess.TimeoutExpired as error:
        raise LayoutFailedError(f"the layout took longer than {timeout_s:g} s", timeout_s=timeout_s) from error


def _laid_out(order: dict[str, Any], timeout_s: float) -> bytes:
    search_path = "\n".join(os.path.abspath(entry) for entry in sys.path)
    # If this process dies first, the layout ends by its own bound.
    bounded = order | {"seconds": math.ceil(timeout_s) + 1}
    done = subprocess.run(
        [sys.executable, "-c", _BOOT, search_path, str(_LAYOUT)],
        input=json.dumps(bounded).encode(),
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        if done.returncode == CANNOT_LOAD:
            raise DrawingExtraMissingError(f"Graphviz cannot be loaded: {plain_text(told)}", hint=LIBRARIES_HINT)
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise LayoutFailedError(f"the layout broke down ({how})" + (f": {plain_text(told)}" if told else ""))
    return done.stdout


# --- what Graphviz is told --------------------------------------------------------------------------------------------


def _order(picture: Picture) -> dict[str, Any]:
    return {
        "graph": {
            "bgcolor": "transparent",
            "fontcolor": LINE_COLOUR,
            "fontname": _FONT,
            "fontsize": "12",
            "label": escaped(_wrapped(picture_caption(picture))),
            "labelloc": "t",
            "rankdir": picture.direction,
        },
        "node": {"fontname": _FONT, "fontsize": "12", "fontcolor": TEXT_COLOUR},
        "edge": {"fontname": _FONT, "fontsize": "10", "fontcolor": LINE_COLOUR, "color": LINE_COLOUR},
        "nodes": [_node(node) for node in picture.nodes],
        "edges": [(picture.places[edge.start], picture.places[edge.end], _edge(edge)) for edge in picture.edges],
    }


def _node(node: PictureNode) -> dict[str, str]:
    lines = [line for text in node_caption(node) for line in _wrapped(text)]
    return {"label": escaped(lines), "shape": node.shape, "class": node.status} | STATUS_ATTRIBUTES[node.status]


def _edge(edge: PictureEdge) -> dict[str, str]:
    attributes = {"class": "taken" if edge.count else "open"}
    if caption := edge_caption(edge):
        attributes["label"] = escaped(_wrapped(caption))
    if edge.is_conditional:
        attributes["style"] = "dashed"
    if edge.count:
        attributes["penwidth"] = "2.5"
    return attributes


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, LABEL_COLUMNS, break_on_hyphens=False) or [text]


def escaped(lines: list[str]) -> str:
    """Lines as a label of Graphviz that shows exactly them.

    Graphviz reads backslashes and character references in a label, and takes one in angle brackets for HTML.
    """
    text = "\n".join(lines)
    for character, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("\\", "\\\\")):
        text = text.replace(character, reference)
    return text.replace("\n", "\\n")
