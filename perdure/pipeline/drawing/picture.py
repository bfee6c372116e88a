"""A picture: what there is to draw of a workflow, before any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from perdure.core.errors import DefinitionError
from perdure.pipeline.attributes import text_of_value
from perdure.pipeline.document import Document, DocumentEdge, DocumentNode
from perdure.pipeline.handler_types import SHAPES, handler_type

Shape = Literal[
    "Mdiamond",
    "Msquare",
    "box",
    "hexagon",
    "diamond",
    "component",
    "tripleoctagon",
    "parallelogram",
    "house",
]
NodeStatus = Literal["none", "done", "failed", "running", "waiting", "skipped"]
Direction = Literal["TB", "LR", "BT", "RL"]

STEP_SHAPE: Final[Shape] = "parallelogram"
"""Of a node that is one step or effect: it deals with the world outside, as a pipeline's tool does."""

_SHAPE_OF: Final[Mapping[str, Shape]] = {SHAPES[shape]: shape for shape in get_args(Shape)}


@dataclass(frozen=True, slots=True)
class PictureNode:
    """A node.

    Args:
        id: unique in the picture; any text.
        label: for people; any text.
        shape: one of the pipeline dialect's.
        status: what became of it in a run; `none` where there is no run, or the run has not come here.
        visits: how often a run entered it.
        detail: one more line, for example what it waits for.
    """

    id: str
    label: str
    shape: Shape = "box"
    status: NodeStatus = "none"
    visits: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PictureEdge:
    """An edge.

    Args:
        start: id of the node that it leaves.
        end: id of the node that it enters.
        label: for people; any text.
        is_conditional: it is taken under a condition only.
        count: how often a run took it.
    """

    start: str
    end: str
    label: str = ""
    is_conditional: bool = False
    count: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to draw.

    Args:
        name: of the workflow.
        nodes: in their order.
        edges: in their order.
        note: one line about the whole, for example the status of the run.
        direction: from where to where it is drawn.

    Raises:
        DefinitionError: two nodes have one id, or an edge leads to a node that there is not.
    """

    name: str
    nodes: Sequence[PictureNode]
    edges: Sequence[PictureEdge] = ()
    note: str = ""
    direction: Direction = "TB"
    places: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """By a node's id, its number from 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", {node.id: place for place, node in enumerate(self.nodes)})
        if len(self.places) != len(self.nodes):
            raise DefinitionError(f"picture {self.name!r}: two nodes have one id")
        for edge in self.edges:
            for end in (edge.start, edge.end):
                if end not in self.places:
                    raise DefinitionError(f"picture {self.name!r}: an edge leads to {end!r}, which is no node")


# --- of a pipeline ----------------------------------------------------------------------------------------------------


def of_document(document: Document) -> Picture:
    """The picture of a pipeline. It need not be valid: what has no meaning is drawn as if it had not been said.

    Args:
        document: as it was read, or prepared.
    """
    label = _text(document.attributes, "label")
    direction = _text(document.attributes, "rankdir")
    return Picture(
        name=document.id,
        nodes=[_document_node(node) for node in document.nodes.values()],
        edges=[_document_edge(edge) for edge in document.edges],
        note=label if label != document.id else "",
        direction=_direction(direction),
    )


def _document_node(node: DocumentNode) -> PictureNode:
    return PictureNode(
        id=node.id,
        label=_text(node.attributes, "label") or node.id,
        shape=_SHAPE_OF.get(handler_type(node), "box"),
    )


def _document_edge(edge: DocumentEdge) -> PictureEdge:
    label, condition = _text(edge.attributes, "label"), _text(edge.attributes, "condition").strip()
    parts = [label, f"[{condition}]" if label and condition else condition]
    if _text(edge.attributes, "loop_restart") == "true":
        parts.append("(restart)")
    return PictureEdge(edge.start, edge.end, " ".join(part for part in parts if part), bool(condition))


def _text(attributes: Mapping[str, Any], key: str) -> str:
    found = attributes.get(key)
    return "" if found is None else text_of_value(found.value)


def _direction(given: str) -> Direction:
    for direction in get_args(Direction):
        if given.upper() == direction:
            known: Direction = direction
            return known
    return "TB"


# --- of any workflow --------------------------------------------------------------------------------------------------


def of_graph(description: Mapping[str, Any]) -> Picture:
    """The picture of a workflow of any form.

    Args:
        description: what `perdure.workflow.graph.Graph.describe` gives.
    """
    version = str(description.get("version") or "")
    return Picture(
        name=str(description["name"]),
        nodes=[_graph_node(node) for node in description["nodes"]],
        edges=[PictureEdge(edge["from"], edge["to"]) for edge in description["edges"]],
        note=f"{description.get('form', 'workflow')}, version {version}" if version else "",
    )


def _graph_node(node: Mapping[str, Any]) -> PictureNode:
    name: str = node["name"]
    kind, step, effect = (str(node.get(key) or "") for key in ("kind", "step", "effect"))
    shape: Shape = STEP_SHAPE if effect or kind not in ("", "pure") else "box"
    detail = f"{kind}: {step}" if step and step != name else kind
    if effect:
        detail = f"effect: {effect}"
    return PictureNode(name, name, shape, detail=detail)
