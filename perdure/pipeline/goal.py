"""The graph's goal inside a prompt."""

from __future__ import annotations

import re
from typing import Final

_GOAL: Final = re.compile(r"\$goal(?![A-Za-z0-9_])")


def expand_goal(text: str, goal: str) -> str:
    """Put the goal in the place of every `$goal`; what only begins like it, such as `$goals`, stays.

    Args:
        text: a prompt.
        goal: of the graph; taken as it is, even if `$goal` stands in it.
    """
    return _GOAL.sub(lambda _: goal, text)
