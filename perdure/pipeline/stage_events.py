"""Events of stages that the engine has none of its own for: of stages in branches, and of executions that failed."""

from __future__ import annotations

from typing import Final

STAGE_ENTERED: Final = "stage.entered"
"""A stage of a branch, which is a strand of its fan-out's node, was entered: `{"node", "visit"}`."""
STAGE_ENDED: Final = "stage.ended"
"""It came to something: `{"node", "visit", "status"}`, and `failure_reason` where there is one."""
STAGE_FAILED: Final = "stage.failed"
"""An execution of a stage failed and will be repeated: `{"node", "visit", "attempt", "error", "delay_ms"}`."""
