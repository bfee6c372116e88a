"""The checkpoint of a run, as clients of `/pipelines` see it."""

from __future__ import annotations

from typing import Any

from perdure.server.pipelines.context import checkpoint_context
from perdure.server.pipelines.portrait import Portrait


def checkpoint_data(portrait: Portrait) -> dict[str, Any] | None:
    """The checkpoint; `None` until the first stage completed."""
    checkpoint = portrait.checkpoint
    if checkpoint is None:
        return None
    return {
        "current_node": checkpoint.current_node,
        "completed_nodes": list(checkpoint.completed_nodes),
        "context": checkpoint_context(portrait),
        "timestamp": checkpoint.timestamp,
        "next_node": checkpoint.next_node,
        "outcomes": dict(checkpoint.outcomes),
        "seq": portrait.state.seq,
    }
