"""JSON: the picture as plain data, for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from perdure.pipeline.drawing.caption import UNSHOWN
from perdure.pipeline.drawing.picture import Picture

JSONTree = str | int | bool | Sequence["JSONTree"] | Mapping[str, "JSONTree"]

_HALVES = re.compile("[\ud800-\udfff]")


def picture_data(picture: Picture) -> dict[str, JSONTree]:
    """A picture as plain data, its text whole; but halves of surrogate pairs, which JSON cannot carry, are U+FFFD."""
    return {
        "name": _text(picture.name),
        "note": _text(picture.note),
        "direction": picture.direction,
        "nodes": [
            {
                "id": _text(node.id),
                "label": _text(node.label),
                "shape": node.shape,
                "status": node.status,
                "visits": node.visits,
                "detail": _text(node.detail),
            }
            for node in picture.nodes
        ],
        "edges": [
            {
                "from": _text(edge.start),
                "to": _text(edge.end),
                "label": _text(edge.label),
                "conditional": edge.is_conditional,
                "count": edge.count,
            }
            for edge in picture.edges
        ],
    }


def write_json(picture: Picture) -> str:
    """A picture as JSON text, indented, in ASCII."""
    return json.dumps(picture_data(picture), indent=2) + "\n"


def _text(text: str) -> str:
    return _HALVES.sub(UNSHOWN, text)
