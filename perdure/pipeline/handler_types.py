"""Which handler a node has: its type, by its `type`, its shape or its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from perdure.pipeline.document import DocumentNode

START: Final = "start"
EXIT: Final = "exit"
CODERGEN: Final = "codergen"
HUMAN: Final = "wait.human"
CONDITIONAL: Final = "conditional"
PARALLEL: Final = "parallel"
FAN_IN: Final = "parallel.fan_in"
TOOL: Final = "tool"
CHILD_LOOP: Final = "stack.manager_loop"

DEFAULT_SHAPE: Final = "box"

SHAPES: Final[Mapping[str, str]] = {
    "Mdiamond": START,
    "Msquare": EXIT,
    "box": CODERGEN,
    "hexagon": HUMAN,
    "diamond": CONDITIONAL,
    "component": PARALLEL,
    "tripleoctagon": FAN_IN,
    "parallelogram": TOOL,
    "house": CHILD_LOOP,
}
"""The handler type that each shape stands for."""

NAMES: Final[Mapping[str, str]] = {"start": START, "Start": START, "exit": EXIT, "end": EXIT}
"""The handler type of a box with one of these ids."""

BUILT_IN: Final = frozenset(SHAPES.values())
"""The handler types of the dialect itself."""


def handler_type(node: DocumentNode, registered: Collection[str] = ()) -> str:
    """The type of the handler that runs a node.

    Its `type` wins; one that nobody registered falls back to `codergen`. Else the shape decides, and among boxes (and
    shapes of no meaning) the id. A shape that a `node [...]` statement gave to all does not take away what the ids
    `start` and `exit` mean.

    Args:
        node: of a document.
        registered: handler types beside those of the dialect.
    """
    given = node.get("type")
    if given:
        return str(given) if given in BUILT_IN or given in registered else CODERGEN
    shape = node.attributes.get("shape")
    by_name = NAMES.get(node.id)
    if by_name is not None and (shape is None or shape.is_default or shape.value == DEFAULT_SHAPE):
        return by_name
    by_shape = SHAPES.get(str(shape.value)) if shape is not None else None
    return by_shape or by_name or CODERGEN
