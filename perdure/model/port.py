"""The port to models: whatever can answer a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest

OnText = Callable[[str], None]
"""Called with each piece of an answer as it comes. What it was told is not yet recorded, and may come again."""


class Backend(Protocol):
    """Answers model requests. It is asked inside a step, so it needs no retries of its own."""

    @property
    def name(self) -> str:
        """What errors and reports call it."""

    async def complete(self, request: ModelRequest, *, on_text: OnText | None = None) -> ModelReply:
        """Answer a request once.

        Args:
            request: what is asked.
            on_text: told each piece of the answer as it comes, or the whole answer at once.

        Raises:
            ModelError: there is no answer; `retryable` says whether asking again may help.
        """
