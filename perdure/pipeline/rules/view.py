"""A pipeline as rules look at it: what they all ask for, found once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Final

from perdure.core.pipeline_errors import AttributeValueError, ConditionSyntaxError
from perdure.pipeline.attributes import AttributeSpec, text_of_value
from perdure.pipeline.conditions import Condition, parse_condition
from perdure.pipeline.document import Attribute, Document, DocumentEdge, DocumentNode
from perdure.pipeline.handler_types import BUILT_IN, EXIT, START, handler_type
from perdure.pipeline.joins import joins_of
from perdure.pipeline.settings import NODE_ATTRIBUTES

RETRY_TARGETS: Final = ("retry_target", "fallback_retry_target")


class PipelineView:
    """A document with its graph at hand.

    Args:
        document: after the transforms.
        registered: handler types beside those of the dialect.

    Attributes:
        leaving: the edges that leave each node, in the order of the file.
        entering: the edges that enter each node, in the order of the file.
        types: the handler type of each node.
    """

    def __init__(self, document: Document, registered: Collection[str] = ()) -> None:
        self.document = document
        self.known_types: Final = BUILT_IN | frozenset(registered)
        self.types = {name: handler_type(node, self.known_types) for name, node in document.nodes.items()}
        self.leaving: dict[str, list[DocumentEdge]] = {name: [] for name in document.nodes}
        self.entering: dict[str, list[DocumentEdge]] = {name: [] for name in document.nodes}
        self._conditions: dict[str, Condition | ConditionSyntaxError | None] = {}
        for edge in document.edges:
            self.leaving[edge.start].append(edge)
            self.entering[edge.end].append(edge)

    def of_type(self, kind: str) -> list[DocumentNode]:
        """The nodes that have a handler of this type, in the order of the file."""
        return [node for name, node in self.document.nodes.items() if self.types[name] == kind]

    @cached_property
    def starts(self) -> list[DocumentNode]:
        """The start nodes; one in a valid pipeline."""
        return self.of_type(START)

    @cached_property
    def exits(self) -> list[DocumentNode]:
        """The exit nodes; one in a valid pipeline."""
        return self.of_type(EXIT)

    @cached_property
    def joins(self) -> dict[str, str | None]:
        """The fan-in of each `parallel` node, if it has one."""
        return joins_of(self.types, {name: [edge.end for edge in edges] for name, edges in self.leaving.items()})

    def is_conditional(self, edge: DocumentEdge) -> bool:
        """Has it a condition, readable or not? A blank one is none."""
        return bool(text_at(edge.attributes, "condition").strip())

    def condition(self, edge: DocumentEdge) -> Condition | None:
        """An edge's condition; `None` where it has none, or one that cannot be read."""
        read = self.read_condition(text_at(edge.attributes, "condition"))
        return read if isinstance(read, Condition) else None

    def read_condition(self, text: str) -> Condition | ConditionSyntaxError | None:
        """A condition, or what is wrong with it; `None` for a blank one. Each text is read once."""
        if text not in self._conditions:
            self._conditions[text] = _read(text) if text.strip() else None
        return self._conditions[text]

    def flag(self, node: DocumentNode, key: str) -> bool:
        """Is this attribute of a node true? One that does not fit is not."""
        return typed_at(node.attributes, key, NODE_ATTRIBUTES) is True

    def retry_targets(self, node: DocumentNode) -> Iterator[str]:
        """Where a node jumps to when it failed: its own targets, then the graph's."""
        for attributes in (node.attributes, self.document.attributes):
            for key in RETRY_TARGETS:
                target = text_at(attributes, key)
                if target:
                    yield target


def _read(text: str) -> Condition | ConditionSyntaxError:
    try:
        return parse_condition(text)
    except ConditionSyntaxError as error:
        return error


def text_at(attributes: Mapping[str, Attribute], key: str) -> str:
    """An attribute as text; empty where it is not given."""
    found = attributes.get(key)
    if found is None:
        return ""
    return found.value if isinstance(found.value, str) else text_of_value(found.value)


def typed_at(attributes: Mapping[str, Attribute], key: str, table: Mapping[str, AttributeSpec]) -> object:
    """An attribute as its type; `None` where it is not given, or does not fit."""
    found = attributes.get(key)
    if found is None or found.value == "":
        return None
    try:
        return table[key].read(found.value)
    except AttributeValueError:
        return None
