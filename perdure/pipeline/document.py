"""A pipeline as its file says it: nodes, edges and attributes with their positions, subgraphs already flattened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

Value = str | int | float | bool
"""An attribute's value, typed. A duration is a `DurationText`."""


class DurationText(str):
    """A duration as it was written, for example `900s`; text in every other respect."""

    __slots__ = ()


class Position(NamedTuple):
    """A place in a file.

    Args:
        line: from 1.
        column: from 1, in characters.
    """

    line: int
    column: int


TOP: Final = Position(1, 1)


class Attribute(NamedTuple):
    """One attribute.

    Args:
        value: typed.
        position: of its key.
        is_default: it was given by a `node [...]` or `edge [...]` statement, not by the node or edge itself.
    """

    value: Value
    position: Position
    is_default: bool = False


@dataclass(slots=True)
class DocumentNode:
    """A node.

    Args:
        id: its name.
        attributes: by key, as written or given by defaults; `class` includes the classes of its subgraphs.
        position: where it is first named.
        is_declared: it has a statement of its own; false for one that only stands at the end of an edge.
        subgraph_classes: made of the labels of the subgraphs around it, outermost first.
    """

    id: str
    attributes: dict[str, Attribute]
    position: Position
    is_declared: bool = False
    subgraph_classes: tuple[str, ...] = ()

    def get(self, key: str) -> Value | None:
        """An attribute's value."""
        found = self.attributes.get(key)
        return None if found is None else found.value


@dataclass(slots=True)
class DocumentEdge:
    """An edge.

    Args:
        start: the id of the node that it leaves.
        end: the id of the node that it enters.
        attributes: by key.
        position: of its `->`.
    """

    start: str
    end: str
    attributes: dict[str, Attribute]
    position: Position

    def get(self, key: str) -> Value | None:
        """An attribute's value."""
        found = self.attributes.get(key)
        return None if found is None else found.value


@dataclass(slots=True)
class Document:
    """A parsed pipeline.

    Args:
        id: the graph's name.
        attributes: the graph's own.
        nodes: by id, in the order in which they are first named.
        edges: in the order of the file.
        position: of the graph's name.
    """

    id: str
    attributes: dict[str, Attribute]
    nodes: dict[str, DocumentNode]
    edges: list[DocumentEdge] = field(default_factory=list)
    position: Position = TOP

    def get(self, key: str) -> Value | None:
        """A graph attribute's value."""
        found = self.attributes.get(key)
        return None if found is None else found.value

    def leaving(self, node: str) -> Iterator[DocumentEdge]:
        """The edges that leave a node, in the order of the file."""
        return (edge for edge in self.edges if edge.start == node)
