"""The name of the workflow that a submitted pipeline becomes: found again from its text, and the same for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.core.canonical import JSONValue, canonical, sha256_hex

PREFIX: Final = "pipeline."
_HASH: Final = 32
_LONGEST: Final = 128


def workflow_name(graph_id: str, source: str, options: Mapping[str, JSONValue]) -> str:
    """`pipeline.<hash of text and options>.<graph id>`, cut to what a name may hold.

    Args:
        graph_id: the graph's.
        source: the text as submitted.
        options: that change how it is executed.
    """
    digest = sha256_hex(canonical([source, dict(options)]))[:_HASH]
    return f"{PREFIX}{digest}.{graph_id}"[:_LONGEST].rstrip(".")


def graph_name(workflow: str) -> str:
    """The graph's id, of the name of any pipeline's workflow."""
    head = len(PREFIX) + _HASH
    is_submitted = workflow.startswith(PREFIX) and workflow[head : head + 1] == "."
    return workflow[head + 1 :] if is_submitted else workflow


def is_submitted(workflow: str) -> bool:
    """Whether a workflow is a pipeline that came over HTTP."""
    return graph_name(workflow) != workflow
