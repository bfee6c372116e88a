"""Text for a terminal: the nodes in their order, each with where it leads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from perdure.pipeline.drawing.caption import MARKS, UNSHOWN, edge_caption, picture_caption, plain_text
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode, Shape

UNVISITED: Final = "·"

WORDS: Final[dict[Shape, str]] = {
    "Mdiamond": "start",
    "Msquare": "exit",
    "box": "",
    "hexagon": "gate",
    "diamond": "choice",
    "component": "fan-out",
    "tripleoctagon": "fan-in",
    "parallelogram": "tool",
    "house": "supervisor",
}
"""What a shape is called."""

ASCII: Final = str.maketrans(
    {"✓": "+", "✗": "x", "▸": ">", "◷": "o", "–": "-", "·": ".", "→": "->", "×": "x", "…": "...", UNSHOWN: "?"}
)
"""What stands for our signs where there is only ASCII."""


def write_text(picture: Picture, *, ascii_only: bool = False) -> str:
    """A picture as an outline.

    Args:
        picture: any.
        ascii_only: with nothing but ASCII; other characters of labels are written as their numbers.
    """
    leaving: dict[str, list[PictureEdge]] = {}
    for edge in picture.edges:
        leaving.setdefault(edge.start, []).append(edge)
    lines = [picture_caption(picture)]
    for node in picture.nodes:
        lines += _node(node)
        lines += [f"    → {_way(edge)}" for edge in leaving.get(node.id, ())]
    text = "\n".join(lines) + "\n"
    return text.translate(ASCII).encode("ascii", "backslashreplace").decode() if ascii_only else text


def _node(node: PictureNode) -> Iterator[str]:
    name, label = plain_text(node.id), plain_text(node.label)
    parts = [
        MARKS[node.status] or UNVISITED,
        name or UNSHOWN,
        f"({WORDS[node.shape]})" if WORDS[node.shape] not in ("", name) else "",
        label if label != name else "",
        node.status if node.status in ("failed", "running", "waiting", "skipped") else "",
        f"×{node.visits}" if node.visits > 1 else "",
    ]
    yield " ".join(part for part in parts if part)
    if detail := plain_text(node.detail):
        yield f"    {detail}"


def _way(edge: PictureEdge) -> str:
    caption = edge_caption(edge)
    end = plain_text(edge.end) or UNSHOWN
    return f"{end}  {caption}" if caption else end
