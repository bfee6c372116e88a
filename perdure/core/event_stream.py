"""Server-sent events, read from bytes that arrive in pieces of any size.

Written after the section "Server-sent events" of the HTML standard: lines end with CRLF, LF or CR, a blank line ends an
event, a line that begins with a colon is a comment, several `data` lines are joined by newlines, a byte order mark at
the start does not count, an event without data is none but its id counts, and an event that the end of the stream cuts
off is dropped.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from perdure.core.errors import EventTooLargeError

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class StreamEvent(NamedTuple):
    """An event of the stream.

    Args:
        name: what kind of event it is; `message` if the stream does not say.
        data: its text.
        id: its own id, if it bears one.
    """

    name: str
    data: str
    id: str | None = None


class EventStream:
    """Cuts bytes into events, each byte looked at once.

    Args:
        most_bytes: of one event; more is refused.

    Attributes:
        last_id: the newest id that the stream gave, also by a frame that is no event because it has no data.
    """

    def __init__(self, most_bytes: int) -> None:
        self.last_id: str | None = None
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._size = 0  # of the event that has not ended yet
        self._name = ""
        self._id: str | None = None
        self._data: list[str] = []
        self._after_return = False
        self._begun = False

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """The events that end within these bytes.

        Args:
            data: what came next.

        Raises:
            EventTooLargeError: an event has more than `most_bytes`.
        """
        if self._after_return and data:
            self._after_return = False
            data = data.removeprefix(b"\n")  # the other half of a CRLF
        start = 0
        for end in _LINE_END.finditer(data):
            self._keep(data[start : end.start()])
            start = end.end()
            self._after_return = end.group() == b"\r" and start == len(data)
            event = self._line()
            if event is not None:
                yield event
        self._keep(data[start:])

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        if self._size > self._most_bytes:
            raise EventTooLargeError(f"one event of the stream has more than {self._most_bytes} bytes")
        self._pieces.append(piece)

    def _line(self) -> StreamEvent | None:
        line = b"".join(self._pieces)
        self._pieces.clear()
        if not self._begun:
            self._begun = True
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line:
            return self._event()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _event(self) -> StreamEvent | None:
        if self._id is not None:
            self.last_id = self._id
        event = StreamEvent(self._name or "message", "\n".join(self._data), self._id) if self._data else None
        self._name, self._id, self._size = "", None, 0
        self._data.clear()
        return event
