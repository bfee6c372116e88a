"""Sending one message over HTTP, and what the endpoint's answer means."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import httpcore2
import httpx2

from perdure.core.version import VERSION
from perdure.core.webhooks import signed_headers
from perdure.model.statuses import retry_after_s
from perdure.server.webhooks.names import UNKNOWN_NAME, OwnNames
from perdure.server.webhooks.outbox import Answer

MOST_READ: Final = 64 * 1024
"""Bytes of an answer that are read, so that the connection can be used again; of one that is longer it is closed."""
READ_S: Final = 1.0
"""How long they are waited for."""


def new_transport() -> httpx2.AsyncHTTPTransport:
    """What carries requests to endpoints. It takes a while: the certificates of the system are read.

    It is no client: that follows what answers say (cookies, redirects), and logs URLs, which may hold what nobody
    shall see.
    """
    return _Transport(httpx2.create_ssl_context())


class _Transport(httpx2.AsyncHTTPTransport):
    """The transport of the library, with names that are looked up as `OwnNames` says: it takes no argument for that."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context, max_connections=None, max_keepalive_connections=20, network_backend=OwnNames()
        )


async def send(
    transport: httpx2.AsyncHTTPTransport,
    url: str,
    message_id: str,
    body: bytes,
    secrets: Sequence[str],
    *,
    now_s: float,
    timeout_s: float,
) -> Answer:
    """Send a message once.

    Args:
        transport: see `new_transport`.
        url: of the endpoint; it stands in no error.
        message_id, body, secrets: see `signed_headers`.
        now_s: the time, in seconds since 1970.
        timeout_s: how long it may take as a whole.
    """
    headers = signed_headers(message_id, int(now_s), body, secrets)
    headers |= {"content-type": "application/json", "user-agent": f"perdure/{VERSION}"}
    request = httpx2.Request("POST", url, content=body, headers=headers)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await transport.handle_async_request(request)
    except TimeoutError:
        return Answer(None, f"it did not answer within {timeout_s:g} s")
    except httpx2.ConnectError as error:
        return Answer(None, _unreached(error))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Answer(None, f"the line broke: {type(error).__name__}")
    await _leave(answer)
    return _meant(answer.status_code, answer.headers, now_s)


async def _leave(answer: httpx2.Response) -> None:
    """Read what else is said, for the connection's sake alone. The status counts, whatever becomes of the body: whoever
    said that the message is accepted has it, and is not sent it again."""
    try:
        with suppress(TimeoutError, httpx2.HTTPError):
            async with asyncio.timeout(READ_S):
                await _read(answer)
    finally:
        with suppress(httpx2.HTTPError):
            await answer.aclose()


async def _read(answer: httpx2.Response) -> None:
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > MOST_READ:
            return


def _unreached(error: BaseException) -> str:
    """Why no connection came about, without what the endpoint's URL holds."""
    if str(error) == UNKNOWN_NAME:  # the library passes on no cause
        return UNKNOWN_NAME
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return "it cannot be reached"


def _meant(status: int, headers: Mapping[str, str], now_s: float) -> Answer:
    if 200 <= status < 300:
        return Answer(status)
    return Answer(status, f"it answered {status}", retry_after_s(headers, now_s))
