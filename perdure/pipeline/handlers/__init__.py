"""The handlers of stages, by type. `@handler("type")` above an async function of a `Stage` registers another."""

from __future__ import annotations

from typing import Final

from perdure.pipeline.handler_types import (
    CHILD_LOOP,
    CODERGEN,
    CONDITIONAL,
    EXIT,
    FAN_IN,
    HUMAN,
    PARALLEL,
    START,
    TOOL,
)
from perdure.pipeline.handlers.child_loop import supervise
from perdure.pipeline.handlers.codergen import generate
from perdure.pipeline.handlers.fan_in import join_branches
from perdure.pipeline.handlers.human import ask_person
from perdure.pipeline.handlers.parallel import fan_out
from perdure.pipeline.handlers.passing import pass_through, succeed
from perdure.pipeline.handlers.registry import Handlers
from perdure.pipeline.handlers.tool import run_tool

handler: Final = Handlers(
    {
        START: succeed,
        EXIT: succeed,
        CODERGEN: generate,
        HUMAN: ask_person,
        CONDITIONAL: pass_through,
        PARALLEL: fan_out,
        FAN_IN: join_branches,
        TOOL: run_tool,
        CHILD_LOOP: supervise,
    }
)
"""The handlers of this process."""

__all__ = ["Handlers", "handler"]
