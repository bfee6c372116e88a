"""Streams of events that come again: at their last id, after backoff, until what they follow has ended."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import orjson

from perdure.client.transport import Ask, Cut, Query, Transport, Trial, is_running
from perdure.core.errors import ClientClosedError, ReplyInvalidError
from perdure.core.event_stream import EventStream, StreamEvent

MOST_EVENT_BYTES: Final = 1 << 27
"""Bytes of one event; more is refused. No recorded value has more than half of it."""

STEADY_S: Final = 5.0
"""A connection that stood for so long was none that failed, though nothing may have come."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What came in a stream.

    Args:
        id: with which its reader comes again; `None` for what is transient.
        name: what kind it is.
        data: JSON.
    """

    id: int | None
    name: str
    data: dict[str, Any]


async def follow(
    transport: Transport,
    path: str,
    after: int,
    *,
    query: Query | None = None,
    without_gaps: bool = False,
    has_ended: Callable[[int], Awaitable[bool]] | None = None,
) -> AsyncGenerator[Frame, None]:
    """The frames of a stream behind an id, in their order, each once, over lost connections and restarts of the server.

    Args:
        transport: open.
        path: of the stream.
        after: the last id that was seen.
        query: beside where it begins.
        without_gaps: ids follow one another; where one is missing, the stream is opened again.
        has_ended: asked with the last id whenever the server ends the stream; it is opened again until this is true.

    Raises:
        ClientClosedError: the client was closed meanwhile.
    """
    frames = _followed(transport, path, after, query or {}, without_gaps, has_ended)
    streams = transport.streams
    streams.add(frames)
    try:
        while transport.streams is streams:
            frame = await anext(frames, None)
            if frame is None and transport.streams is streams:
                return
            if frame is not None:
                yield frame
    finally:
        if not is_running(frames):  # else the client is just closing it
            await frames.aclose()
    raise ClientClosedError("the client was closed")


async def _followed(
    transport: Transport,
    path: str,
    after: int,
    query: Query,
    without_gaps: bool,
    has_ended: Callable[[int], Awaitable[bool]] | None,
) -> AsyncGenerator[Frame, None]:
    trial, place = transport.trial(), after
    while True:
        headers = {"last-event-id": str(place)}
        ask = Ask("GET", path, {"stream": True, **query}, headers=headers)
        try:
            async with aclosing(_frames(transport, ask, trial)) as frames:
                async for frame in frames:
                    if frame.id is not None and frame.id <= place:
                        continue
                    if frame.id is not None:
                        if without_gaps and frame.id != place + 1:
                            raise Cut(ReplyInvalidError(f"the stream leaves out what comes behind {place}"))
                        trial.succeeded()
                        place = frame.id
                    if frame.name:
                        yield frame
            if has_ended is not None and await has_ended(place):
                return
            raise Cut(ReplyInvalidError("the server ends the stream again and again"))
        except Cut as cut:
            await trial.failed(cut.error, wait_s=cut.wait_s)


async def _frames(transport: Transport, ask: Ask, trial: Trial) -> AsyncGenerator[Frame, None]:
    """The frames of one connection. An id without data comes as a frame without a name: it only moves the place."""
    events = EventStream(MOST_EVENT_BYTES)
    told: str | None = None
    async with transport.stream(ask) as pieces:
        opened_s = time.monotonic()
        try:
            async for piece in pieces:
                for event in events.feed(piece):
                    yield _frame(event)
                    told = event.id or told
                if events.last_id is not None and events.last_id != told:
                    told = events.last_id
                    yield Frame(_id(told), "", {})
                if not piece.strip(b":\r\n ") and piece:
                    trial.succeeded()  # a heartbeat: the line is alive
        finally:
            if time.monotonic() - opened_s >= STEADY_S:
                trial.succeeded()


def _frame(event: StreamEvent) -> Frame:
    try:
        data: object = orjson.loads(event.data)
    except orjson.JSONDecodeError as error:
        raise ReplyInvalidError("an event of the stream is no JSON") from error
    if not isinstance(data, dict):
        raise ReplyInvalidError("an event of the stream is no JSON object")
    return Frame(None if event.id is None else _id(event.id), event.name, data)


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ReplyInvalidError("an id of the stream is no number")
    return int(text)
