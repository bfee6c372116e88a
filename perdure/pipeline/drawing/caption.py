"""What stands at nodes and edges of a picture, as plain text: safe to show, and bounded."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

from perdure.pipeline.drawing.picture import NodeStatus, Picture, PictureEdge, PictureNode

MOST_CHARACTERS: Final = 200
"""A label is cut to as many; what comes after is an ellipsis."""

MARKS: Final[dict[NodeStatus, str]] = {
    "none": "",
    "done": "✓",
    "failed": "✗",
    "running": "▸",
    "waiting": "◷",
    "skipped": "–",
}
"""What tells a status without colour."""

UNSHOWN: Final = "\N{REPLACEMENT CHARACTER}"

_LOOKED_AT: Final = 8
"""How many times its bound is looked at of a text, so that one of a megabyte costs no more than one of a page."""
_JOINERS: Final = "\u200c\u200d"  # they belong to words of some scripts and to emoji
_BLANKS = re.compile(r"\s+")


def plain_text(text: str, limit: int = MOST_CHARACTERS) -> str:
    """One line of text that can be shown anywhere.

    White space of any kind becomes single blanks. Control characters, those that turn the direction of writing, halves
    of surrogate pairs and what is no character become U+FFFD.

    Args:
        text: any.
        limit: most characters of the result, the ellipsis included.
    """
    looked_at = text[: limit * _LOOKED_AT]
    line = "".join(map(_shown, _BLANKS.sub(" ", looked_at))).strip()
    if len(line) > limit or len(looked_at) < len(text):
        return line[: limit - 1].rstrip() + "…"
    return line


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if category(character) == "Zs" else UNSHOWN


def title_of(node: PictureNode) -> str:
    """A node's label, or its id where it has none that can be seen."""
    return plain_text(node.label) or plain_text(node.id) or UNSHOWN


def node_caption(node: PictureNode) -> list[str]:
    """The lines that stand in a node: mark, label and visits, then the detail if there is one."""
    visits = f"×{node.visits}" if node.visits > 1 else ""
    first = " ".join(part for part in (MARKS[node.status], title_of(node), visits) if part)
    detail = plain_text(node.detail)
    return [first, detail] if detail else [first]


def edge_caption(edge: PictureEdge) -> str:
    """What stands at an edge: its label, and how often it was taken."""
    count = f"×{edge.count}" if edge.count else ""
    return " ".join(part for part in (plain_text(edge.label), count) if part)


def picture_caption(picture: Picture) -> str:
    """What stands over a picture."""
    return " – ".join(part for part in (plain_text(picture.name), plain_text(picture.note)) if part)
