"""The event loop of one command; its library is loaded only when a command has work for it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


def finish(command: Coroutine[Any, Any, int]) -> int:
    """Run a command to its end; returns its exit code."""
    import asyncio

    return asyncio.run(command)
