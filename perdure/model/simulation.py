"""A backend that asks nobody: for trying out what is around a model, without one."""

from __future__ import annotations

from typing import Final

from perdure.model.port import OnText
from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest

STAGE: Final = "stage"
"""The name in a request's metadata under which the asking stage gives its id."""


class SimulatedBackend:
    """Answers every request with the same words, at no cost, and says that it was no model."""

    name: Final = "simulation"

    def __repr__(self) -> str:
        return "<SimulatedBackend>"

    async def complete(self, request: ModelRequest, *, on_text: OnText | None = None) -> ModelReply:
        """See `Backend.complete`; names the stage that the request's metadata names."""
        text = f"[Simulated] Response for stage: {request.metadata.get(STAGE, 'unnamed')}"
        if on_text is not None:
            on_text(text)
        return ModelReply(text, request.model or self.name, finish_reason="stop", simulated=True)
