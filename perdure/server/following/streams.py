"""Streams of events (SSE) as HTTP answers, and where a reader wants to begin."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

MEDIA_TYPE: Final = "text/event-stream"
COMMENT: Final = b": \n\n"
HIGHEST: Final = 1 << 62
DIGITS: Final = 18
"""A number with more of them is behind every end."""
NUMBER: Final = re.compile(r"\s*\+?0*([0-9]+)\s*", re.ASCII)


def place_of(text: str | None) -> int:
    """Where a reader wants to go on: a whole number; anything else, and what is below 0, counts as 0."""
    match = NUMBER.fullmatch(text or "")
    if match is None:
        return 0
    return HIGHEST if len(match[1]) > DIGITS else int(match[1])


def after_of(request: Request) -> int:
    """The seq behind which a stream begins: `Last-Event-ID`, which a reader that comes again sends, else `after`."""
    last = request.headers.get("last-event-id")
    return place_of(last if last is not None else request.query_params.get("after"))


class Framed(Protocol):
    """What a stream sends."""

    @property
    def frame(self) -> bytes:
        """As it goes over the wire."""


class EventStream(StreamingResponse):
    """The answer that sends entries as they come.

    Args:
        entries: in batches; an empty one says that nothing came for a while.
    """

    def __init__(self, entries: AsyncGenerator[Sequence[Framed], None]) -> None:
        self._entries = entries
        super().__init__(self._frames(), media_type=MEDIA_TYPE, headers={"x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.responses.Response`."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._entries.aclose()

    async def _frames(self) -> AsyncIterator[bytes]:
        async for batch in self._entries:
            yield b"".join(entry.frame for entry in batch) or COMMENT
