"""DOT for other tools: nodes under their own ids, quoted; attributes in the order of the alphabet."""

from __future__ import annotations

import re
from typing import Final

from perdure.pipeline.drawing.caption import UNSHOWN, edge_caption, node_caption, picture_caption, plain_text
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode

MOST_CHARACTERS_OF_AN_ID: Final = 200


def write_dot(picture: Picture) -> str:
    """A picture as DOT.

    Ids are cut and cleaned as labels are; where that makes two of them alike, the later ones get a number behind `~`.
    """
    names = _names(picture)
    lines = [f"digraph {_quoted(_name(picture.name))} {{"]
    lines.append(f"  graph [label={_label([picture_caption(picture)])}, labelloc=t, rankdir={picture.direction}];")
    lines += [f"  {names[node.id]} [{_attributes(_node(node))}];" for node in picture.nodes]
    for edge in picture.edges:
        attributes = _attributes(_edge(edge))
        lines.append(f"  {names[edge.start]} -> {names[edge.end]}" + (f" [{attributes}];" if attributes else ";"))
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: PictureNode) -> dict[str, str]:
    attributes = {"label": _label(node_caption(node)), "shape": node.shape}
    return attributes if node.status == "none" else attributes | {"class": node.status}


def _edge(edge: PictureEdge) -> dict[str, str]:
    attributes = {"class": "taken"} if edge.count else {}
    if caption := edge_caption(edge):
        attributes["label"] = _label([caption])
    if edge.is_conditional:
        attributes["style"] = "dashed"
    return attributes


def _attributes(attributes: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(attributes.items()))


def _names(picture: Picture) -> dict[str, str]:
    """By id, the quoted name: no two alike."""
    names: dict[str, str] = {}
    used: set[str] = set()
    again: dict[str, int] = {}
    for node in picture.nodes:
        plain = _name(node.id)
        name = plain
        while name in used:
            again[plain] = again.get(plain, 1) + 1
            name = f"{plain}~{again[plain]}"
        used.add(name)
        names[node.id] = _quoted(name)
    return names


def _name(text: str) -> str:
    """Graphviz takes an empty name, and one that begins with a per cent sign, for none."""
    plain = plain_text(text, MOST_CHARACTERS_OF_AN_ID) or UNSHOWN
    return f"~{plain}" if plain.startswith("%") else plain


def _quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def _label(lines: list[str]) -> str:
    """Graphviz reads character references in labels, so an ampersand is written as one."""
    return "\\n".join(_quoted(line.replace("&", "&amp;"))[1:-1] for line in lines).join('""')
