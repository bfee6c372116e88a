"""Documents for tests, without a file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from perdure.pipeline.document import Attribute, Document, DocumentEdge, DocumentNode, Position, Value

Attributes = Mapping[str, Value]


def attributes_of(given: Attributes, line: int) -> dict[str, Attribute]:
    return {key: Attribute(value, Position(line, 10 + place)) for place, (key, value) in enumerate(given.items())}


def document(
    nodes: Mapping[str, Attributes],
    edges: Sequence[tuple[str, str] | tuple[str, str, Attributes]] = (),
    graph: Attributes | None = None,
    *,
    defaults: Attributes | None = None,
) -> Document:
    """A document: the graph's attributes stand in line 1, then each node and each edge has a line of its own.

    Args:
        nodes: attributes by id; all are declared.
        edges: starts, ends and attributes; an end that is no node becomes one that is not declared.
        graph: the graph's own attributes.
        defaults: what a `node [...]` statement in line 2 gives to all nodes.
    """
    result = Document("G", attributes_of(graph or {}, 1), {})
    line = 3
    for name, given in nodes.items():
        inherited = {
            key: Attribute(one.value, one.position, is_default=True)
            for key, one in attributes_of(defaults or {}, 2).items()
        }
        result.nodes[name] = DocumentNode(name, inherited | attributes_of(given, line), Position(line, 1), True)
        line += 1
    for start, end, *rest in edges:
        for place, name in enumerate((start, end)):
            result.nodes.setdefault(name, DocumentNode(name, {}, Position(line, 1 + place)))
        result.edges.append(DocumentEdge(start, end, attributes_of(rest[0] if rest else {}, line), Position(line, 5)))
        line += 1
    return result


def pipeline(
    nodes: Mapping[str, Attributes],
    edges: Sequence[tuple[str, str] | tuple[str, str, Attributes]],
    graph: Attributes | None = None,
    *,
    defaults: Attributes | None = None,
) -> Document:
    """The same, with `start` and `exit` declared before the other nodes."""
    ends: dict[str, Attributes] = {"start": {"shape": "Mdiamond"}, "exit": {"shape": "Msquare"}}
    return document(ends | dict(nodes), edges, graph, defaults=defaults)


def through(*names: str) -> list[tuple[str, str]]:
    """A chain of edges."""
    return list(itertools.pairwise(names))
