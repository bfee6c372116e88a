"""From statements to the document: scopes, defaults, chains and subgraphs dissolved.

The statements of the graph are dissolved as they are read, so no more of the tree is in memory than one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from perdure.pipeline.collection import paused_collection
from perdure.pipeline.document import Attribute, Document, DocumentEdge, DocumentNode, Position, Value
from perdure.pipeline.syntax.parser import Parser
from perdure.pipeline.syntax.source import Source
from perdure.pipeline.syntax.tree import (
    Assignment,
    AttributeList,
    Comment,
    DefaultsStatement,
    EdgeStatement,
    Name,
    NodeStatement,
    Statement,
    Subgraph,
)

MAX_ATTRIBUTES: Final = 1_000_000
"""A document may not hold more, those from defaults counted at each node and edge.

Without a bound, a file of a megabyte could ask for memory in the order of its length squared.
"""

_OUTSIDE_OF_CLASS = re.compile(r"[^a-z0-9-]")

_Attributes = dict[str, Attribute]


LARGE: Final = 65_536
"""From so many characters on it is worth it to keep garbage collection away."""


def parse(text: str, *, file: str | None = None) -> Document:
    """Read a pipeline's text.

    Args:
        text: of the whole file.
        file: the name that errors show.

    Raises:
        PipelineSyntaxError: it is outside the grammar or a limit; it has the place of the first fault.
    """
    source = Source(text, file)
    with paused_collection(when=len(text) > LARGE):
        parser = Parser(source)
        name = parser.head().name
        flattening = _Flattening(Document(name.text, {}, {}, position=name.position), source)
        flattening.block(parser.items(), _Scope({}, {}, ()), is_graph=True)
        parser.comments_after()
        flattening.add_classes()
    return flattening.document


def class_of_label(label: str) -> str:
    """The class that a subgraph's label makes of its nodes; empty if nothing of the label is left."""
    return _OUTSIDE_OF_CLASS.sub("", label.lower().replace(" ", "-"))


@dataclass(slots=True)
class _Scope:
    """What holds in a pair of braces.

    The defaults of a scope are never changed but replaced, so an inner scope can begin with its outer one's.

    Args:
        node_defaults: what a node gets when it is first named.
        edge_defaults: what an edge gets.
        classes: made of the labels of the subgraphs around, outermost first, each with the place of its label.
    """

    node_defaults: _Attributes
    edge_defaults: _Attributes
    classes: tuple[tuple[str, Position], ...]


class _Flattening:
    """A document that grows statement by statement."""

    def __init__(self, document: Document, source: Source) -> None:
        self.document = document
        self._source = source
        self._count = 0
        # By node: the classes in the order in which it got them, and the scope that it was last named in.
        self._classes: dict[str, dict[str, Position]] = {}
        self._last_scope: dict[str, _Scope] = {}

    def block(self, items: Iterable[Statement | Comment], scope: _Scope, *, is_graph: bool) -> None:
        for item in items:
            if type(item) is NodeStatement:
                self._declare(item, scope)
            elif type(item) is EdgeStatement:
                self._connect(item, scope)
            elif type(item) is Subgraph:
                self.block(item.items, self._inner(item, scope), is_graph=False)
            elif type(item) is DefaultsStatement:
                self._set_defaults(item, scope, is_graph=is_graph)
            elif type(item) is Assignment and is_graph:
                self.document.attributes[item.key] = Attribute(item.written.value, item.position)

    def add_classes(self) -> None:
        """Complete each node's `class`. Last, because a later statement may still give it."""
        for node_id, classes in self._classes.items():
            node = self.document.nodes[node_id]
            node.subgraph_classes = tuple(classes)
            given = node.attributes.get("class")
            text = "" if given is None else _text(given.value).strip()
            present = {one.strip() for one in text.split(",")}
            added = [one for one in classes if one not in present]
            if added:
                first = Attribute("", classes[added[0]], is_default=True) if given is None else given
                node.attributes["class"] = first._replace(value=",".join([text, *added] if text else added))

    # --- statements ---------------------------------------------------------------------------------------------------

    def _declare(self, statement: NodeStatement, scope: _Scope) -> None:
        node = self._named(statement.name, scope)
        node.is_declared = True
        if statement.attributes is not None:
            node.attributes.update(self._attributes(statement.attributes))

    def _connect(self, statement: EdgeStatement, scope: _Scope) -> None:
        for name in statement.names:
            self._named(name, scope)
        given = {} if statement.attributes is None else self._attributes(statement.attributes)
        attributes = {**scope.edge_defaults, **given}
        start = statement.names[0]
        for end, arrow in zip(statement.names[1:], statement.arrows, strict=True):
            self._add(len(attributes), arrow)
            self.document.edges.append(DocumentEdge(start.text, end.text, attributes.copy(), arrow))
            start = end

    def _set_defaults(self, statement: DefaultsStatement, scope: _Scope, *, is_graph: bool) -> None:
        if statement.target == "graph":
            if is_graph:
                self.document.attributes.update(self._attributes(statement.attributes))
            return
        given = self._attributes(statement.attributes, is_default=True)
        before = scope.node_defaults if statement.target == "node" else scope.edge_defaults
        self._add(len(before), statement.position)
        if statement.target == "node":
            scope.node_defaults = {**before, **given}
        else:
            scope.edge_defaults = {**before, **given}

    def _inner(self, subgraph: Subgraph, outer: _Scope) -> _Scope:
        classes = outer.classes
        label = _label(subgraph)
        if label is not None and (name := class_of_label(_text(label.written.value))):
            classes = (*classes, (name, label.position))
        return _Scope(outer.node_defaults, outer.edge_defaults, classes)

    # --- nodes and attributes -----------------------------------------------------------------------------------------

    def _named(self, name: Name, scope: _Scope) -> DocumentNode:
        node = self.document.nodes.get(name.text)
        if node is None:
            self._add(len(scope.node_defaults), name.position)
            node = DocumentNode(name.text, scope.node_defaults.copy(), name.position)
            self.document.nodes[name.text] = node
        if scope.classes and self._last_scope.get(name.text) is not scope:
            self._last_scope[name.text] = scope
            classes = self._classes.setdefault(name.text, {})
            for one, position in scope.classes:
                classes.setdefault(one, position)
        return node

    def _attributes(self, written: AttributeList, *, is_default: bool = False) -> _Attributes:
        self._add(len(written.items), written.position)
        return {
            item.key: Attribute(item.written.value, item.position, is_default)
            for item in written.items
            if type(item) is Assignment
        }

    def _add(self, attributes: int, position: Position) -> None:
        self._count += attributes
        if self._count > MAX_ATTRIBUTES:
            message = f"the pipeline has more than {MAX_ATTRIBUTES} attributes"
            hint = "defaults count at each node and edge that they are given to"
            raise self._source.error(position, message, hint=hint)


def _label(subgraph: Subgraph) -> Assignment | None:
    """The last one that the subgraph gives itself; it counts for the nodes that stand before it, too."""
    found: Assignment | None = None
    for item in subgraph.items:
        if type(item) is Assignment and item.key == "label":
            found = item
        elif type(item) is DefaultsStatement and item.target == "graph":
            found = next((one for one in reversed(item.attributes.assignments) if one.key == "label"), found)
    return found


def _text(value: Value) -> str:
    """A value as it is written."""
    return str(value).lower() if type(value) is bool else str(value)
