"""The names of OpenTelemetry's conventions for generative AI, and what a model step tells under them.

The only module that knows these names: the conventions are still in development. Nothing of what was said to or by the
model is among the attributes, only who answered, how long and at what cost.
"""

from __future__ import annotations

from typing import Any, Final

from perdure.model.reply import ModelReply
from perdure.model.request import ModelRequest

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"
DURATION: Final = "gen_ai.client.operation.duration"

CHAT: Final = "chat"
UNKNOWN_PROVIDER: Final = "openai"
"""What is asked where the request names no provider: an endpoint that speaks OpenAI's protocol."""
SIMULATION: Final = "simulation"

Attribute = str | int | float | bool | tuple[str, ...]


def request_of(args: tuple[Any, ...]) -> ModelRequest | None:
    """The request that a step was given, if it asks a model."""
    return next((value for value in args if isinstance(value, ModelRequest)), None)


def request_attributes(request: ModelRequest) -> dict[str, Attribute]:
    """What is known of a request before it is answered."""
    told: dict[str, Attribute | None] = {
        OPERATION: CHAT,
        PROVIDER: request.provider or UNKNOWN_PROVIDER,
        REQUEST_MODEL: request.model,
        REQUEST_MAX_TOKENS: request.max_output_tokens,
        REQUEST_TEMPERATURE: request.temperature,
    }
    return {name: value for name, value in told.items() if value is not None}


def reply_attributes(reply: ModelReply) -> dict[str, Attribute]:
    """What is known of a reply."""
    usage = reply.usage
    told: dict[str, Attribute] = {INPUT_TOKENS: usage.input_tokens, OUTPUT_TOKENS: usage.output_tokens}
    if reply.model:
        told[RESPONSE_MODEL] = reply.model
    if reply.finish_reason:
        told[RESPONSE_FINISH_REASONS] = (reply.finish_reason,)
    if usage.cached_tokens:
        told[CACHED_TOKENS] = usage.cached_tokens
    if usage.reasoning_tokens:
        told[REASONING_TOKENS] = usage.reasoning_tokens
    if reply.simulated:
        told[PROVIDER] = SIMULATION
    return told


def metric_attributes(request: ModelRequest, reply: ModelReply | None) -> dict[str, Attribute]:
    """By what the metrics of model requests are divided."""
    told = request_attributes(request) | ({} if reply is None else reply_attributes(reply))
    return {name: told[name] for name in (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL) if name in told}
