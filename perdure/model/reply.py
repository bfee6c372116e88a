"""What a model answered: plain data, recorded as the result of the step that asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request cost, as the endpoint counts it; 0 where it did not say.

    Args:
        input_tokens: of the request.
        output_tokens: of the answer, with those of the reasoning.
        cached_tokens: how many of `input_tokens` came from the endpoint's cache.
        reasoning_tokens: how many of `output_tokens` were reasoning that is not shown.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The cost of both."""
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class ModelReply:
    """The answer of a model.

    Args:
        text: what it said.
        model: which model said it, in the endpoint's words.
        usage: what it cost.
        finish_reason: why it stopped, in the endpoint's words: `stop`, `length`, `content_filter`, …; `refusal` when
            the text says that the model declines.
        simulated: no model was asked.
    """

    text: str
    model: str = ""
    usage: Usage = Usage()
    finish_reason: str | None = None
    simulated: bool = False
