"""Events of stages in branches: a branch is a strand of its fan-out's node, so the engine has none of its stages."""

from __future__ import annotations

from typing import Final

STAGE_ENTERED: Final = "stage.entered"
"""A stage of a branch was entered: `{"node", "visit"}`."""
STAGE_ENDED: Final = "stage.ended"
"""It came to something: `{"node", "visit", "status"}`."""
