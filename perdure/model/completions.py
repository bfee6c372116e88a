"""The words of the chat completions protocol: a request's body, a whole reply, and a reply that comes in chunks.

Pure functions over decoded JSON. The protocol is OpenAI's; many servers speak it with small differences, so what they
send is read generously: unknown members are skipped, and a number that is missing is 0.
"""

from __future__ import annotations

from typing import Literal

import orjson

from perdure.core.errors import InputTypeError
from perdure.model.errors import ModelReplyError, ModelReplyTooLargeError
from perdure.model.reply import ModelReply, Usage
from perdure.model.request import ModelRequest

OutputLimit = Literal["max_completion_tokens", "max_tokens"]
"""What an endpoint calls the longest answer: the present word, or the one that older servers know."""


def request_body(request: ModelRequest, model: str, *, stream: bool, output_limit: OutputLimit) -> bytes:
    """The JSON that asks for a completion.

    Args:
        request: what is asked.
        model: which model.
        stream: whether the reply is to come in chunks.
        output_limit: what the endpoint calls the longest answer.

    Raises:
        InputTypeError: a text cannot be written as UTF-8.
    """
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "stream": stream,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    if request.effort is not None:
        body["reasoning_effort"] = request.effort
    if request.max_output_tokens is not None:
        body[output_limit] = request.max_output_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise InputTypeError(f"model request: it cannot be written as JSON: {error}") from error


def read_reply(answer: object, model: str) -> ModelReply:
    """A whole reply.

    Args:
        answer: the decoded JSON.
        model: the model that was asked, for endpoints that do not say which one answered.

    Raises:
        ModelReplyError: it is none.
    """
    choice = _choice(answer)
    if choice is None:
        raise ModelReplyError("the endpoint's reply holds no choices")
    text, refused = _said(_member(choice, "message"))
    return ModelReply(
        text,
        _text(_member(answer, "model")) or model,
        read_usage(_member(answer, "usage")),
        "refusal" if refused else _text(_member(choice, "finish_reason")) or None,
    )


def read_usage(usage: object) -> Usage:
    """The counts of tokens; what is missing or no count is 0."""
    return Usage(
        _count(_member(usage, "prompt_tokens")),
        _count(_member(usage, "completion_tokens")),
        _count(_member(_member(usage, "prompt_tokens_details"), "cached_tokens")),
        _count(_member(_member(usage, "completion_tokens_details"), "reasoning_tokens")),
    )


class StreamedReply:
    """A reply that is put together from its chunks.

    Args:
        model: the model that was asked.
        most_bytes: of the whole text, as UTF-8.
    """

    def __init__(self, model: str, most_bytes: int) -> None:
        self._model = model
        self._most_bytes = most_bytes
        self._size = 0
        self._pieces: list[str] = []
        self._refused = False
        self._usage = Usage()
        self._finish_reason: str | None = None

    @property
    def complete(self) -> bool:
        """Whether a chunk said why the model stopped: then the text is whole, whatever becomes of the connection."""
        return self._finish_reason is not None

    def add(self, chunk: object) -> str:
        """Take the next chunk.

        Args:
            chunk: the decoded JSON.

        Returns:
            The text that it adds.

        Raises:
            ModelReplyError: it is no chunk.
            ModelReplyTooLargeError: the text has grown too long.
        """
        if not isinstance(chunk, dict):
            raise ModelReplyError("the endpoint streamed something that is no chunk of a reply")
        self._model = _text(chunk.get("model")) or self._model
        if isinstance(chunk.get("usage"), dict):
            self._usage = read_usage(chunk["usage"])
        choice = _choice(chunk)
        if choice is None:
            return ""
        text, refused = _said(choice.get("delta"))
        self._refused = self._refused or refused
        self._finish_reason = _text(choice.get("finish_reason")) or self._finish_reason
        if text:
            self._size += len(text.encode("utf-8", "replace"))
            if self._size > self._most_bytes:
                raise ModelReplyTooLargeError(f"the reply has more than {self._most_bytes} bytes")
            self._pieces.append(text)
        return text

    def reply(self) -> ModelReply:
        """What the chunks give together."""
        reason = "refusal" if self._refused else self._finish_reason
        return ModelReply("".join(self._pieces), self._model, self._usage, reason)


# --- members of decoded JSON, whatever it is --------------------------------------------------------------------------


def _choice(answer: object) -> dict[str, object] | None:
    """The first choice of a reply or chunk; only one was asked for."""
    choices = _member(answer, "choices")
    if not isinstance(choices, list):
        return None
    return next((one for one in choices if isinstance(one, dict) and one.get("index", 0) in (0, None)), None)


def _said(message: object) -> tuple[str, bool]:
    """The text of a message or delta, and whether it is a refusal."""
    content = _member(message, "content")
    if isinstance(content, list):  # some servers answer in parts
        content = "".join(_text(_member(part, "text")) for part in content)
    refusal = _text(_member(message, "refusal"))
    return (_text(content) or refusal), bool(refusal) and not content


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
