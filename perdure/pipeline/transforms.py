"""What happens to a pipeline between reading and validation: `$goal`, the stylesheet, then transforms of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from perdure.core.errors import DefinitionError
from perdure.core.pipeline_errors import StylesheetSyntaxError
from perdure.pipeline.attributes import text_of_value
from perdure.pipeline.document import Document
from perdure.pipeline.goal import expand_goal
from perdure.pipeline.stylesheet import parse_stylesheet

Transform: TypeAlias = Callable[[Document], Document]
"""Makes a document of a document. It may change the one that it is given: that is a copy of what was read."""


class Transforms:
    """Transforms in the order in which they were registered."""

    def __init__(self, transforms: Iterable[Transform] = ()) -> None:
        self._transforms: list[Transform] = list(transforms)

    def __call__(self, transform: Transform) -> Transform:
        """Register one; usable as a decorator. One that is there already stays where it is."""
        if transform not in self._transforms:
            self._transforms.append(transform)
        return transform

    def remove(self, transform: Transform) -> None:
        """Take one out again.

        Raises:
            ValueError: it is not registered.
        """
        self._transforms.remove(transform)

    def __iter__(self) -> Iterator[Transform]:
        return iter(tuple(self._transforms))


transform = Transforms()
"""The transforms that hold for every pipeline of this process: `@transform` above a function registers it."""


def prepare(document: Document, transforms: Iterable[Transform] = transform) -> Document:
    """A copy of a document to which all transforms were applied: `$goal` in prompts, the stylesheet, then the given.

    A stylesheet that cannot be read changes nothing; validation reports it.

    Args:
        document: as it was read; it stays as it is.
        transforms: in their order; those registered by `@transform` if omitted.

    Raises:
        DefinitionError: a transform returned no document, or one with an edge to a node that there is not.
    """
    prepared = copied(document)
    _expand_goals(prepared)
    _apply_stylesheet(prepared)
    for one in transforms:
        prepared = _checked(one(prepared), getattr(one, "__name__", type(one).__name__))
    return prepared


def _checked(document: object, transform: str) -> Document:
    if not isinstance(document, Document):
        raise DefinitionError(
            f"the transform {transform} returned {type(document).__name__}, not a Document",
            hint="return the document at the end of the transform",
            transform=transform,
        )
    for edge in document.edges:
        for end in (edge.start, edge.end):
            if end not in document.nodes:
                raise DefinitionError(
                    f"the transform {transform} left the edge {edge.start} -> {edge.end}, but there is no node {end!r}",
                    hint="remove the edges of a node with the node",
                    transform=transform,
                )
    return document


def copied(document: Document) -> Document:
    """A document that shares nothing changeable with this one."""
    nodes = {key: replace(node, attributes=dict(node.attributes)) for key, node in document.nodes.items()}
    edges = [replace(edge, attributes=dict(edge.attributes)) for edge in document.edges]
    return replace(document, attributes=dict(document.attributes), nodes=nodes, edges=edges)


def _expand_goals(document: Document) -> None:
    goal = text_of_value(document.get("goal") or "")
    for node in document.nodes.values():
        prompt = node.attributes.get("prompt")
        if prompt is not None and isinstance(prompt.value, str) and "$goal" in prompt.value:
            node.attributes["prompt"] = prompt._replace(value=expand_goal(prompt.value, goal))


def _apply_stylesheet(document: Document) -> None:
    given = document.attributes.get("model_stylesheet")
    if given is None:
        return
    try:
        stylesheet = parse_stylesheet(text_of_value(given.value))
    except StylesheetSyntaxError:
        return  # the rule `stylesheet_syntax` says so, with the place
    stylesheet.apply(document, given.position)
