"""What is asked of a model: plain data, recorded as the input of the step that asks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from perdure.core.errors import InputTypeError

Role = Literal["system", "developer", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: who says it: `system`, `developer`, `user` or `assistant`.
        content: its text.
    """

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to a model.

    Args:
        messages: the conversation so far, at least one message.
        model: which model; the backend's own if omitted.
        provider: for backends that choose between several; the others ignore it.
        effort: how long a reasoning model may think, in the endpoint's words: `low`, `medium`, `high`, ….
        max_output_tokens: the longest answer, at least 1.
        temperature: 0 or more; the endpoint's own if omitted.
        timeout_s: seconds that the whole request may take; the backend's own limit if omitted.
        metadata: recorded with the request and sent to nobody, for example `{"stage": "plan"}`.

    Raises:
        InputTypeError: a field is outside these bounds.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    provider: str | None = None
    effort: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    timeout_s: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no endpoint could answer, before anything is recorded."""
        problem = self._problem()
        if problem is not None:
            raise InputTypeError(f"model request: {problem}")

    def _problem(self) -> str | None:
        if not isinstance(self.messages, tuple) or not self.messages:
            return "messages must be a tuple of at least one message"
        if not all(isinstance(message, Message) for message in self.messages):
            return "every message must be a Message"
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            return f"max_output_tokens must be at least 1, not {self.max_output_tokens}"
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            return f"temperature must be 0 or more, not {self.temperature}"
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            return f"timeout_s must be a positive number of seconds, not {self.timeout_s}"
        return None


def ask(text: str, *, system: str | None = None, model: str | None = None) -> ModelRequest:
    """A request of one question.

    Args:
        text: what the user says.
        system: the system's message before it.
        model: which model; the backend's own if omitted.
    """
    before = () if system is None else (Message("system", system),)
    return ModelRequest((*before, Message("user", text)), model=model)
