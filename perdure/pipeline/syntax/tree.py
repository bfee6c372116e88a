"""The syntax tree of a pipeline: what its file says, in its order, with comments and subgraphs.

A comment is an item like any other, at the place where a formatted file shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from perdure.pipeline.document import Position, Value

DefaultsTarget = Literal["graph", "node", "edge"]


class Name(NamedTuple):
    """A name at one place where it stands.

    Args:
        text: the name.
        position: of its first character.
    """

    text: str
    position: Position


class Written(NamedTuple):
    """A value.

    Args:
        value: typed.
        source: as it was written, quotes and escapes included.
    """

    value: Value
    source: str


@dataclass(slots=True)
class Comment:
    """A comment.

    Args:
        text: with its `//` or `/* */`.
        position: of its first character.
        is_trailing: it follows something on its line.
        follows_blank_line: at least one empty line stands before it.
    """

    text: str
    position: Position
    is_trailing: bool = False
    follows_blank_line: bool = False


@dataclass(slots=True)
class Assignment:
    """`key = value`, in an attribute list or as a statement.

    Args:
        key: dots included.
        written: the value.
        position: of the key.
        follows_blank_line: as for a comment; only as a statement.
    """

    key: str
    written: Written
    position: Position
    follows_blank_line: bool = False


@dataclass(slots=True)
class AttributeList:
    """What stands in brackets.

    Args:
        items: attributes and comments, in their order.
        position: of the `[`.
    """

    items: list[Assignment | Comment]
    position: Position

    @property
    def assignments(self) -> list[Assignment]:
        """Without the comments."""
        return [item for item in self.items if type(item) is Assignment]


@dataclass(slots=True)
class DefaultsStatement:
    """`graph [...]`, `node [...]` or `edge [...]`.

    Args:
        target: what the attributes are for.
        attributes: at least one.
        position: of the keyword.
        follows_blank_line: as for a comment.
    """

    target: DefaultsTarget
    attributes: AttributeList
    position: Position
    follows_blank_line: bool = False


@dataclass(slots=True)
class NodeStatement:
    """A node by itself.

    Args:
        name: of the node.
        attributes: `None` where there are no brackets.
        follows_blank_line: as for a comment.
    """

    name: Name
    attributes: AttributeList | None = None
    follows_blank_line: bool = False

    @property
    def position(self) -> Position:
        """Of the name."""
        return self.name.position


@dataclass(slots=True)
class EdgeStatement:
    """A chain of edges.

    Args:
        names: of the nodes; at least two.
        arrows: the place of each `->`, one less than names.
        attributes: of every hop; `None` where there are no brackets.
        follows_blank_line: as for a comment.
    """

    names: list[Name]
    arrows: list[Position]
    attributes: AttributeList | None = None
    follows_blank_line: bool = False

    @property
    def position(self) -> Position:
        """Of the first name."""
        return self.names[0].position


@dataclass(slots=True)
class Subgraph:
    """A subgraph.

    Args:
        name: `None` where it has none.
        items: what stands in its braces.
        position: of the keyword.
        follows_blank_line: as for a comment.
    """

    name: Name | None
    items: list[Statement | Comment]
    position: Position
    follows_blank_line: bool = False


Statement = DefaultsStatement | Assignment | NodeStatement | EdgeStatement | Subgraph


class Head(NamedTuple):
    """What stands before the braces of the graph.

    Args:
        name: of the graph.
        comments: before the graph, or between its keyword, name and brace.
        follows_blank_line: as for a comment.
    """

    name: Name
    comments: list[Comment]
    follows_blank_line: bool = False


class Tree(NamedTuple):
    """A whole file.

    Args:
        head: up to the opening brace.
        items: what stands in the graph's braces.
        comments_after: behind the closing brace.
    """

    head: Head
    items: list[Statement | Comment]
    comments_after: list[Comment]
