"""The graph of a run in the formats of `/pipelines`."""

from __future__ import annotations

from typing import Any, Final

from perdure.pipeline.blueprint import Place
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.document import Attribute, DocumentEdge
from perdure.pipeline.drawing import of_document, write_mermaid
from perdure.pipeline.drawing.caption import plain_text

MEDIA_TYPES: Final = {
    "svg": "image/svg+xml",
    "dot": "text/vnd.graphviz",
    "json": "application/json",
    "mermaid": "text/plain",
    "text": "text/plain",
}
FORMATS: Final = sorted(MEDIA_TYPES)
_LONGEST_LINE: Final = 2_000


def graph_data(pipeline: Pipeline) -> dict[str, Any]:
    """The graph as plain data."""
    document = pipeline.document
    return {
        "id": document.id,
        "attrs": _attributes(document.attributes),
        "nodes": {name: _node(place) for name, place in pipeline.blueprint.places.items()},
        "edges": [_edge(edge) for edge in document.edges],
    }


def graph_text(pipeline: Pipeline) -> str:
    """The graph as lines for people."""
    document = pipeline.document
    lines = [f"Graph: {_line(document.id)}", f"Goal: {_line(document.get('goal'))}".rstrip(), "Nodes:"]
    for name, place in pipeline.blueprint.places.items():
        label = place.settings.label
        lines.append(f"  {_line(name)} [{_line(place.type)}]" + (f" {_line(label)}" if label != name else ""))
    lines.append("Edges:")
    for edge in document.edges:
        told = [f"{key}={_line(edge.get(key))}" for key in ("label", "condition") if edge.get(key)]
        lines.append(f"  {_line(edge.start)} -> {_line(edge.end)}" + (f" [{', '.join(told)}]" if told else ""))
    return "\n".join(lines) + "\n"


def graph_mermaid(pipeline: Pipeline) -> str:
    """The graph as a Mermaid flowchart, from the top down, without a title before it."""
    lines = write_mermaid(of_document(pipeline.document)).split("\n")
    start = next(place for place, line in enumerate(lines) if line.startswith("flowchart "))
    return "\n".join(["flowchart TD", *lines[start + 1 :]])


def _node(place: Place) -> dict[str, Any]:
    settings = place.settings
    return {
        "id": place.id,
        "type": place.type,
        "shape": settings.shape,
        "prompt": settings.prompt,
        "goal_gate": settings.goal_gate,
        "attrs": _attributes(place.node.attributes),
    }


def _edge(edge: DocumentEdge) -> dict[str, Any]:
    return {
        "from": edge.start,
        "to": edge.end,
        "condition": edge.get("condition"),
        "status": edge.get("status"),
        "attrs": _attributes(edge.attributes),
    }


def _attributes(attributes: dict[str, Attribute]) -> dict[str, Any]:
    return {
        key: str(attribute.value) if isinstance(attribute.value, str) else attribute.value
        for key, attribute in attributes.items()
    }


def _line(value: object) -> str:
    return plain_text("" if value is None else str(value), _LONGEST_LINE)
