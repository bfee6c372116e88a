"""Exit codes: how a run stands, or why a command was refused."""

from __future__ import annotations

from typing import Final

from perdure.core.errors import PerdureError

COMPLETED: Final = 0
FAILED: Final = 1
"""The run failed, or the command did: a damaged journal, a store that cannot be written."""
USAGE: Final = 2
"""The command was called wrongly, or refused: nothing was written."""
ANSWER: Final = 3
"""The run waits for a person."""
DOUBT: Final = 4
"""The run waits for somebody to say what became of a step."""
PAUSED: Final = 5
"""The run is paused or parked."""
CANCELLED: Final = 6
WAITING: Final = 7
"""The run waits for something else: a signal, a timer, a child, or somebody to go on with it."""
INTERRUPTED: Final = 130
"""Ended by Ctrl-C before anything was recorded (128 + SIGINT)."""

OF_ENDING: Final = {"completed": COMPLETED, "failed": FAILED, "cancelled": CANCELLED, "paused": PAUSED}
"""By status, where the status alone decides."""

_USAGE_CATEGORIES: Final = ("input", "definition", "conflict", "state")
_USAGE_CODES: Final = (
    "store_url",
    "store_not_found",
    "not_a_store",
    "store_version",
    "store_read_only",
    "not_authorised",
    "not_permitted",
)


def code_of(error: PerdureError) -> int:
    """The exit code of an error: what the caller can put right is `USAGE`, what broke is `FAILED`."""
    if error.category in _USAGE_CATEGORIES or error.code in _USAGE_CODES:
        return USAGE
    return FAILED
