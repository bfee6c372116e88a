"""One request to an endpoint over HTTP, and its reply: whole, or in pieces.

The only module that knows the HTTP library, so it is loaded with the first request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx2
import orjson

from perdure.core.errors import EventTooLargeError
from perdure.core.event_stream import EventStream, StreamEvent
from perdure.core.secrets import Redactor
from perdure.model.completions import StreamedReply, read_reply
from perdure.model.errors import (
    ModelConfigurationError,
    ModelError,
    ModelReplyError,
    ModelReplyTooLargeError,
    ModelTimeoutError,
    ModelUnavailableError,
)
from perdure.model.port import OnText
from perdure.model.reply import ModelReply
from perdure.model.statuses import error_inside, error_of_status, one_line, told_by

MOST_REPLY_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one reply; more is refused. Of a streamed one, its text and each of its events are counted."""

MOST_ERROR_BYTES: Final = 64 * 1024
"""Bytes that are read of an answer that is no success."""

_STREAM: Final = "text/event-stream"
_DONE: Final = "[DONE]"


class Exchange:
    """A request that is sent once.

    Args:
        client: closed at the end.
        base_url: a checked one.
        headers: of the request, with secrets in plain.
        redactor: knows these secrets; the endpoint's own words pass through it before they are told.
        model: which model is asked.
        stream: whether the reply is to come in pieces.
        on_text: told each piece.
        now_s: the time in seconds since 1970.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        base_url: str,
        headers: Mapping[str, str],
        redactor: Redactor,
        model: str,
        stream: bool,
        on_text: OnText | None,
        now_s: Callable[[], float],
    ) -> None:
        self._client = client
        self._url = f"{base_url}/chat/completions"
        self._headers = headers
        self._redactor = redactor
        self._model = model
        self._stream = stream
        self._on_text = on_text
        self._now_s = now_s
        self._ids: dict[str, Any] = {"endpoint": base_url, "model": model}

    async def run(self, body: bytes) -> ModelReply:
        """Send the request and read the reply.

        Args:
            body: the request's JSON.

        Raises:
            ModelError: there is no reply.
        """
        headers = {
            "accept": f"{_STREAM}, application/json" if self._stream else "application/json",
            "accept-encoding": "identity",  # so that what is counted is what is kept
            "content-type": "application/json",
            **self._headers,
        }
        try:
            async with (
                self._client as client,
                client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                return await self._read(response)
        except httpx2.TimeoutException as error:
            raise self._lost(ModelTimeoutError, "the endpoint was silent for too long", error) from error
        except httpx2.TransportError as error:
            raise self._lost(ModelUnavailableError, "the connection to the endpoint failed", error) from error
        except httpx2.InvalidURL as error:
            raise ModelConfigurationError("the base URL of a model endpoint cannot be used") from error

    def _lost(self, kind: type[ModelUnavailableError], what: str, error: Exception) -> ModelUnavailableError:
        return kind(f"{what}: {self._told(str(error)) or type(error).__name__}", **self._ids)

    def _told(self, text: str) -> str:
        """The words of others, without secrets and bounded."""
        return one_line(self._redactor.redact_text(text))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self, response: httpx2.Response) -> ModelReply:
        if not response.is_success:
            raise await self._refusal(response)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise self._no_reply(f"the endpoint answered in the encoding {encoding!r}, which was not asked for")
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type == _STREAM or (not media_type and self._stream):
            return await self._read_stream(response)
        if media_type in ("", "application/json") or media_type.endswith("+json"):
            return await self._read_whole(response)
        raise self._no_reply(f"the endpoint answered {response.status_code} with {media_type!r}, not JSON")

    async def _refusal(self, response: httpx2.Response) -> ModelError:
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) >= MOST_ERROR_BYTES:
                break
        told = ""
        media_type = response.headers.get("content-type", "")
        try:
            told = told_by(orjson.loads(bytes(content)))
        except orjson.JSONDecodeError:
            if media_type.startswith("text/plain"):
                told = content.decode("utf-8", "replace")
        return error_of_status(response.status_code, response.headers, self._told(told), self._now_s(), **self._ids)

    async def _read_whole(self, response: httpx2.Response) -> ModelReply:
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > MOST_REPLY_BYTES:
                raise ModelReplyTooLargeError(f"the reply has more than {MOST_REPLY_BYTES} bytes", **self._ids)
        answer = self._decoded(bytes(content))
        reply = read_reply(answer, self._model)
        if self._on_text is not None and reply.text:
            self._on_text(reply.text)
        return reply

    async def _read_stream(self, response: httpx2.Response) -> ModelReply:
        reply = StreamedReply(self._model, MOST_REPLY_BYTES)
        events = EventStream(MOST_REPLY_BYTES)
        try:
            async for data in response.aiter_raw():
                for event in events.feed(data):
                    if event.data.strip() == _DONE:
                        return reply.reply()
                    self._take(reply, event)
        except EventTooLargeError as error:
            raise ModelReplyTooLargeError(error.message, **self._ids) from error
        except httpx2.TransportError:
            if not reply.complete:  # else only the counts of tokens can be missing
                raise
        if not reply.complete:
            raise ModelUnavailableError("the endpoint's reply was cut off in the middle", **self._ids)
        return reply.reply()

    def _take(self, reply: StreamedReply, event: StreamEvent) -> None:
        text = reply.add(self._decoded(event.data, failed=event.name == "error"))
        if text and self._on_text is not None:
            self._on_text(text)

    def _decoded(self, content: bytes | str, *, failed: bool = False) -> object:
        """The JSON of a reply or chunk.

        Raises:
            ModelReplyError: it is no JSON.
            ModelError: it reports an error.
        """
        try:
            decoded: object = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            if failed and isinstance(content, str):
                raise self._broken_off(content) from error
            raise self._no_reply("the endpoint's reply is no JSON") from error
        problem = decoded.get("error") if isinstance(decoded, dict) else None
        if problem or failed:
            raise self._broken_off(problem or decoded)
        return decoded

    def _broken_off(self, problem: object) -> ModelError:
        told = self._told(told_by({"error": problem}))
        return error_inside(problem, told, self._now_s(), **self._ids)

    def _no_reply(self, message: str) -> ModelReplyError:
        return ModelReplyError(message, **self._ids)
