"""Requests over HTTP, sent again while that is safe and may help; and streams that are read as they come.

The only module that knows the HTTP library, so it is loaded with the first client.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import AsyncGeneratorType
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import orjson

from perdure.client.address import Address
from perdure.client.refusals import BUSY, refusal_of
from perdure.core.errors import (
    ClientClosedError,
    InputError,
    OutcomeUnknownError,
    PerdureError,
    ReplyInvalidError,
    ServerUnreachableError,
    StateError,
)
from perdure.core.policies import Backoff
from perdure.core.version import VERSION

MOST_REPLY_BYTES: Final = 1 << 28
"""Bytes of one reply; more is refused."""
MOST_ERROR_BYTES: Final = 1 << 20
"""Bytes that are read of an answer that is no success."""
STREAM: Final = "text/event-stream"
BACKOFF: Final = Backoff(initial_s=0.1, max_s=5.0)
CONNECT_S: Final = 5.0
UNSENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
"""After these nothing has reached the service."""

Query = Mapping[str, str | int | bool | Sequence[str] | None]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request.

    Args:
        method, path, query: what is asked for; a `None` in the query is left out.
        body: JSON bytes.
        headers: beside those of every request.
        once: the service does not recognise it when it comes again.
        whatever: answers that are no success are replies, too.
    """

    method: str
    path: str
    query: Query = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    whatever: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered.

    Args:
        status, headers, content: of the answer.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The answer, which is one JSON object.

        Raises:
            ReplyInvalidError: it is none.
        """
        try:
            tree: object = orjson.loads(self.content)
        except orjson.JSONDecodeError as error:
            raise ReplyInvalidError("the server's answer is no JSON") from error
        if not isinstance(tree, dict):
            raise ReplyInvalidError("the server's answer is no JSON object")
        return tree


class Trial:
    """How long something that failed is tried again.

    Args:
        patience_s: seconds after the first failure.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._count = 0
        self._until = 0.0

    def succeeded(self) -> None:
        """The next failure is a first one."""
        self._count = 0

    async def failed(self, error: PerdureError, *, wait_s: float = 0.0) -> None:
        """Wait before the next attempt.

        Args:
            error: raised when there is no patience left.
            wait_s: what the service asked for, in seconds.
        """
        now = asyncio.get_running_loop().time()
        if self._count == 0:
            self._until = now + self._patience_s
        self._count += 1
        delay_s = max(wait_s, BACKOFF.delay_s(self._count, random.random()))
        if now + delay_s > self._until:
            raise error
        await asyncio.sleep(delay_s)


class Transport:
    """The line to one service.

    Args:
        address: of the service.
        timeout_s: for one answer.
        patience_s: for how long a request is sent again, and a stream opened again, after the first failure.
        heartbeat_s: a stream that is silent for longer is taken for lost.
    """

    def __init__(self, address: Address, *, timeout_s: float, patience_s: float, heartbeat_s: float) -> None:
        self.url = address.url
        self.patience_s = patience_s
        self._heartbeat_s = heartbeat_s
        self._timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        self._headers = {"user-agent": f"perdure/{VERSION}", "accept-encoding": "identity"}
        if address.token is not None:
            self._headers["authorization"] = f"Bearer {address.token}"
        self._client: httpx2.AsyncClient | None = None
        self.streams: weakref.WeakSet[AsyncGenerator[Any, None]] = weakref.WeakSet()

    async def open(self) -> None:
        """Be ready to send.

        Raises:
            StateError: it is open.
        """
        if self._client is not None:
            raise StateError("the client is open already")
        self._client = httpx2.AsyncClient(
            headers=self._headers,
            timeout=self._timeout,
            follow_redirects=False,
            trust_env=not is_loopback(self.url),  # no proxy of the environment sees a token for this machine
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
        )

    async def close(self) -> None:
        """Close all connections; streams that are being read end."""
        client, self._client = self._client, None
        streams, self.streams = tuple(self.streams), weakref.WeakSet()
        for stream in streams:
            if not is_running(stream):  # else whoever waits for what comes next closes it
                await stream.aclose()
        if client is not None:
            await client.aclose()

    def trial(self) -> Trial:
        """How long something is tried again."""
        return Trial(self.patience_s)

    # --- one answer ---------------------------------------------------------------------------------------------------

    async def ask(self, ask: Ask) -> Reply:
        """Send a request, and again where its answer was lost or the service asks for it.

        Raises:
            ServerUnreachableError, ServiceBusyError: there is no patience left.
            OutcomeUnknownError: an answer was lost, the service does not recognise the request that came again, and
                refuses it: what became of the first one is not known.
            PerdureError: what the service says.
        """
        trial, unclear = self.trial(), False
        while True:
            try:
                reply = await self._once(ask)
            except httpx2.TransportError as error:
                unclear = unclear or not isinstance(error, UNSENT)
                await trial.failed(self._lost(error))
                continue
            if ask.whatever or 200 <= reply.status < 300:
                return reply
            refused = refusal_of(reply.status, reply.content)
            if comes_again(reply.status, refused):
                unclear = unclear or reply.status != 429
                await trial.failed(refused, wait_s=retry_after_s(reply.headers))
                continue
            if ask.once and unclear:
                raise OutcomeUnknownError(
                    f"an answer was lost, and the same again was refused: {refused.message}",
                    hint="look at the run: it may have been carried out at the first time",
                    **refused.ids,
                ) from refused
            raise refused

    async def _once(self, ask: Ask) -> Reply:
        async with self._sent(ask, {"accept": "application/json, */*"}, self._timeout) as response:
            most = MOST_REPLY_BYTES if response.is_success else MOST_ERROR_BYTES
            content = await _whole(response, most)
            return Reply(response.status_code, response.headers, content)

    # --- a stream -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self, ask: Ask) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        """The bytes of a stream of events, as they come.

        Raises:
            Cut: it could not be opened, or was lost; it may be opened again.
            PerdureError: what the service says instead.
        """
        timeout = httpx2.Timeout(self._heartbeat_s, connect=CONNECT_S)
        try:
            async with self._sent(ask, {"accept": STREAM}, timeout) as response:
                if not response.is_success:
                    refused = refusal_of(response.status_code, await _whole(response, MOST_ERROR_BYTES))
                    if comes_again(response.status_code, refused):
                        raise Cut(refused, retry_after_s(response.headers))
                    raise refused
                if response.headers.get("content-type", "").partition(";")[0].strip().lower() != STREAM:
                    raise ReplyInvalidError("the server's answer is no stream of events")
                yield _pieces(response)
        except httpx2.TransportError as error:
            raise Cut(self._lost(error)) from error

    @asynccontextmanager
    async def _sent(
        self, ask: Ask, headers: Mapping[str, str], timeout: httpx2.Timeout
    ) -> AsyncGenerator[httpx2.Response, None]:
        client = self._client
        if client is None:
            raise ClientClosedError("the client is not open")
        more = {"content-type": "application/json"} if ask.body is not None else {}
        try:
            async with client.stream(
                ask.method,
                f"{self.url}{ask.path}",
                params=query_of(ask.query),
                content=ask.body,
                headers={**headers, **more, **ask.headers},
                timeout=timeout,
            ) as response:
                yield response
        except httpx2.InvalidURL as error:
            raise InputError("the address of the service cannot be used", field="url") from error
        except (httpx2.TransportError, httpx2.StreamError) as error:
            if self._client is not client:
                raise ClientClosedError("the client was closed") from error
            raise

    def _lost(self, error: Exception) -> ServerUnreachableError:
        what = str(error) or type(error).__name__
        return ServerUnreachableError(f"no answer from {self.url}: {what}", server=self.url)


class Cut(Exception):
    """A stream was lost, or could not be opened; it may be opened again.

    Args:
        error: told when there is no patience left.
        wait_s: what the service asked for, in seconds.
    """

    def __init__(self, error: PerdureError, wait_s: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait_s = wait_s


def is_running(stream: AsyncGenerator[Any, None]) -> bool:
    """Whether somebody waits for what comes next, or closes it."""
    return isinstance(stream, AsyncGeneratorType) and stream.ag_running


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine itself."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def comes_again(status: int, refused: PerdureError) -> bool:
    """Whether the same request may be admitted later. A service that stops says that its store is closed."""
    return status in BUSY and (refused.retryable or refused.code == "store_closed" or status == 429)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """How long the service asks to wait, in seconds; 0 where it does not say."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0


def query_of(query: Query) -> httpx2.QueryParams:
    """The pairs of a query, in their order.

    Raises:
        InputError: one of them can be no part of a query.
    """
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in query.items():
        if isinstance(value, bool):
            pairs.append((name, "true" if value else "false"))
        elif isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif isinstance(value, list | tuple):
            pairs += [(name, one) for one in value]
        elif value is not None:
            raise InputError(f"{name} takes a text or a whole number, not {value!r}", field=name)
    if any(isinstance(value, str) and not _is_text(value) for _, value in pairs):
        raise InputError("what is asked for is no text: it holds half a character", field="query")
    return httpx2.QueryParams(pairs)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _whole(response: httpx2.Response, most_bytes: int) -> bytes:
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > most_bytes:
            if response.is_success:
                raise ReplyInvalidError(f"the server's answer has more than {most_bytes} bytes")
            break
    return bytes(content)


async def _pieces(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    async for piece in response.aiter_raw():
        yield piece
