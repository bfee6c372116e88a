"""Mermaid: a flowchart for pages that draw it themselves.

Mermaid's grammar changes with what a text looks like: words such as `end`, marks of Markdown, `%%{…}%%`, links,
names of icons. So of the users' text only letters, digits, blanks and commas are written as they are (and symbols
outside ASCII); everything else is a numbered character reference. Nodes are called `n0`, `n1`, …

Every line is of one of these forms, with TEXT as above and `<br/>` between lines of it:

    ---                             title: "TITLE"                  flowchart TD
    n0["TEXT"]                      (or another pair of brackets)
    n0 --> n1                       n0 -->|"TEXT"| n1               (or another arrow)
    classDef done …                 class n0,n1 done
"""

from __future__ import annotations

from typing import Final

from perdure.pipeline.drawing.caption import MARKS, UNSHOWN, edge_caption, node_caption, picture_caption
from perdure.pipeline.drawing.picture import NodeStatus, Picture, PictureEdge, Shape

BRACKETS: Final[dict[Shape, tuple[str, str]]] = {
    "Mdiamond": ("([", "])"),
    "Msquare": ("([", "])"),
    "box": ("[", "]"),
    "hexagon": ("{{", "}}"),
    "diamond": ("{", "}"),
    "component": ("[[", "]]"),
    "tripleoctagon": ("(((", ")))"),
    "parallelogram": ("[/", "/]"),
    "house": ("[/", "\\]"),
}
"""What stands around a node's text, by its shape."""

CLASSES: Final[dict[NodeStatus, str]] = {
    "done": "fill:#d1fae5,stroke:#059669,color:#111827,stroke-width:1.5px",
    "failed": "fill:#fee2e2,stroke:#dc2626,color:#111827,stroke-width:4px",
    "running": "fill:#dbeafe,stroke:#3b82f6,color:#111827,stroke-width:3px,stroke-dasharray:8 4",
    "waiting": "fill:#fef3c7,stroke:#b45309,color:#111827,stroke-width:3px,stroke-dasharray:2 4",
    "skipped": "fill:#f3f4f6,stroke:#767676,color:#111827,stroke-dasharray:8 4",
}
"""How a status is drawn; beside its mark in the text."""

_ALIVE: Final = frozenset("°¶ßﬂ")
"""Not ASCII, and still read: Mermaid itself writes these for a character reference."""

# Mermaid looks for `direction LR` and the like in whole lines, quotes or not.
_DIRECTION: Final = "direction"
_BROKEN_DIRECTION: Final = f"directio#{ord('n')};"


def write_mermaid(picture: Picture) -> str:
    """A picture as a Mermaid flowchart.

    With Mermaid's own settings pages draw no more than 500 edges and 50,000 characters.
    """
    lines = ["---", f'title: "{_title(picture_caption(picture))}"', "---", f"flowchart {_direction(picture)}"]
    for place, node in enumerate(picture.nodes):
        before, after = BRACKETS[node.shape]
        lines.append(f'  n{place}{before}"{"<br/>".join(map(escaped, node_caption(node)))}"{after}')
    places = picture.places
    lines += [f"  n{places[edge.start]} {_arrow(edge)} n{places[edge.end]}" for edge in picture.edges]
    for status in MARKS:
        members = [f"n{place}" for place, node in enumerate(picture.nodes) if node.status == status]
        if members and status in CLASSES:
            lines += [f"  classDef {status} {CLASSES[status]}", f"  class {','.join(members)} {status}"]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """A line of text, so that Mermaid shows exactly it."""
    return "".join(one if _is_inert(one) else f"#{ord(one)};" for one in text).replace(_DIRECTION, _BROKEN_DIRECTION)


def _is_inert(character: str) -> bool:
    if character.isascii():
        return character.isalnum() or character in " ,"
    return character not in _ALIVE


def _title(text: str) -> str:
    """Text inside the quotes of YAML."""
    return "".join(one if _is_inert(one) else f"\\u{ord(one):04x}" for one in text) or UNSHOWN


def _direction(picture: Picture) -> str:
    return "TD" if picture.direction == "TB" else picture.direction


def _arrow(edge: PictureEdge) -> str:
    arrow = "==>" if edge.count else "-.->" if edge.is_conditional else "-->"
    caption = edge_caption(edge)
    return f'{arrow}|"{escaped(caption)}"|' if caption else arrow
