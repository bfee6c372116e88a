"""A connection that is bounded in what it may send and how long it may take, before any request of it is looked at.

uvicorn waits for the head of a request as long as its sender likes, and answers what is no HTTP in its own words. Here
a head must come in time, be short, and whatever is refused is refused as everything else is.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import h11
import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol

from perdure.server.admission.gate import HEADERS

TEXTS: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class BoundedConnection(H11Protocol):
    """One connection.

    Attributes:
        head_timeout_s: how long the head of a request may take: from the connection's beginning for the first one, and
            from its first byte for those that follow. (A connection without one is ended by uvicorn's keep-alive.)
    """

    head_timeout_s: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_timer()  # the head is here; its body is the gate's affair
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._late)

    def on_response_complete(self) -> None:
        """A request that was sent behind the last one is looked at now."""
        super().on_response_complete()
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget_timer()
        elif self._head_timer is None and self.conn.trailing_data[0] and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._late)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request; called while the error of the parser is handled."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(status if status in TEXTS else 400)

    def _late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        """Answer in the service's own form, and close the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()  # garbage behind a request that is still being answered
            return
        phrase = TEXTS[status]
        body = orjson.dumps({"error": phrase.decode().lower()})
        fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"} | HEADERS
        head = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items())
        self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, phrase, head, body))
        self.transport.close()

    def _forget_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def connections(head_timeout_s: float) -> type[BoundedConnection]:
    """The class of connections of a service.

    Args:
        head_timeout_s: see `BoundedConnection`.
    """
    return type("_Connection", (BoundedConnection,), {"head_timeout_s": head_timeout_s})
