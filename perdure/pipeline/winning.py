"""How commands in flight hear that another branch has won."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Final

branch_won: Final[ContextVar[tuple[asyncio.Event, ...]]] = ContextVar("perdure_branch_won", default=())
"""Of the fan-outs around, the outermost first: set when a branch of it has won. A command that is in flight in another
branch is of no use any more then.

A hint, and not durable: what the command came to by it is recorded as its result.
"""
