"""Looking up the names of endpoints without harm to anybody else.

A lookup cannot be ended: where no name server answers, it holds its thread for half a minute and longer. In the threads
that the event loop lends to everybody, a few of them would hold up the whole service, and its end. So each name has a
thread of its own while it is looked up, for which nobody waits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import httpcore2

Found = list[str] | OSError | UnicodeError
THREAD: Final = "perdure-webhook-name"
UNKNOWN_NAME: Final = "its name is not known"


class OwnNames(httpcore2.AnyIOBackend):
    """Connects as the library does, but looks up names as the module says."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[Found]] = {}

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See the library. The addresses of a name are tried one after the other."""
        last: httpcore2.ConnectError | None = None
        for address in await self._addresses(host):
            try:
                return await super().connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore2.ConnectError as error:
                last = error
        raise last or httpcore2.ConnectError(UNKNOWN_NAME)

    async def _addresses(self, host: str) -> list[str]:
        with suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        asked = self._asked.get(host)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asked[host] = loop.create_future()
            asked.add_done_callback(lambda _: self._asked.pop(host))
            threading.Thread(target=_look_up, args=(host, loop, asked), name=THREAD, daemon=True).start()
        found = await asyncio.shield(asked)  # others wait for the same one
        if isinstance(found, Exception):
            raise httpcore2.ConnectError(UNKNOWN_NAME) from found
        return found


def _look_up(host: str, loop: asyncio.AbstractEventLoop, asked: asyncio.Future[Found]) -> None:
    found: Found
    try:
        found = list(dict.fromkeys(str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)))
    except (OSError, UnicodeError) as error:
        found = error
    with suppress(RuntimeError):  # the loop has ended: nobody wants to know any more
        loop.call_soon_threadsafe(partial(_tell, asked, found))


def _tell(asked: asyncio.Future[Found], found: Found) -> None:
    if not asked.done():
        asked.set_result(found)
