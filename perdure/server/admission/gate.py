"""The one check that every request passes before any route sees it, and the headers that every answer bears.

It is plain ASGI, outside of the router, so a route cannot be added without it. In this order: the host that was asked
for, who asks, whether they may, where a browser sent it from, and the body's type, size and depth.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.core.errors import PerdureError
from perdure.server.admission.access import SAFE, is_open, scope_for
from perdure.server.admission.keys import KeyRing
from perdure.server.admission.nesting import deeper_than
from perdure.server.admission.rates import Buckets, Rate
from perdure.server.methods import methods_of
from perdure.server.responses import Json, cleaned, refusal
from perdure.server.settings import Settings

HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
FIELDS: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
BODY_FIELDS: Final = frozenset((b"content-length", b"transfer-encoding"))
"""A request that has a body bears one of them."""
POLICY_VIOLATION: Final = 1008
"""Why a websocket is closed that may not be opened."""

HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]@]+)(?::[0-9]*)?", re.ASCII)
TOO_LARGE: Final = 413
MAX_HEAD_BYTES: Final = 32 * 1024
"""Of a request's address and headers together."""
MAX_FIELDS: Final = 100
"""How many headers a request may have."""
KEY_HOLDS_S: Final = 0.5
"""For how long a key that admitted a stream is taken to be still good: a key that is revoked, or expires, ends it."""
LINGER_S: Final = 1.0
LINGER_BODIES: Final = 10
"""How long, and for how many bodies' length, a body that is too large is read on after its refusal: its sender may not
listen before it has sent it, and would meet a broken connection."""

logger = logging.getLogger("perdure.server")


class Gate:
    """The check, as a middleware.

    Args:
        app: what lies behind it.
        settings: of the service.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = frozenset(host.lower() for host in settings.hosts)
        self._buckets = Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refused = self._admitted(scope)
        if scope["type"] == "websocket":
            if refused is not None:
                await receive()
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
                return
            await self._app(scope, receive, send)
            return
        outgoing = _Outgoing(send, self._settings.keys, scope.get("state", {}).pop("token", None))
        await self._answer(scope, receive, outgoing, refused)

    async def _answer(self, scope: Scope, receive: Receive, send: _Outgoing, refused: Json | None) -> None:
        try:
            if refused is None:
                body = await self._body_in_time(scope, receive)
                if not isinstance(body, Json):
                    await self._app(scope, _replayed(body, receive), send)
                    return
                refused = body
                if body.status_code == TOO_LARGE:
                    await self._linger(body, receive, send)
                    return
                if _looks_first(scope):
                    scope.setdefault("state", {})["refused_body"] = body
                    await self._app(scope, _replayed(b"", receive), send)
                    return
            await refused(scope, receive, send)
        except _KeyEnded:
            logger.info("%s %s: the key that admitted it is no longer good", scope["method"], _address(scope))
            await send.end()
        except PerdureError as error:  # of a stream, or of a route that met it after its answer began
            logger.warning("%s %s: %s", scope["method"], _address(scope), cleaned(str(error)))
            if send.started:
                raise
            await refusal(error)(scope, receive, send)
        except Exception:
            logger.exception("%s %s failed", scope["method"], _address(scope))
            if send.started:
                raise
            await Json({"error": "internal error"}, 500)(scope, receive, send)

    # --- who asks -----------------------------------------------------------------------------------------------------

    def _admitted(self, scope: Scope) -> Json | None:
        """`None` when the request may come in; what it is told otherwise."""
        headers = Headers(scope=scope)
        method, path = scope.get("method", "GET"), scope["path"]
        if _is_too_long(scope):
            return Json({"error": "request header fields too large"}, 431, {"connection": "close"})
        host = _only(headers, "host")
        if host is None or host_name(host) not in self._hosts:
            return Json({"error": "host not allowed"}, 400)
        if not is_open(method, path):
            refused = self._identified(scope, headers, scope_for(method, path))
            if refused is not None:
                return refused
        origin = headers.get("origin")
        sends = method not in SAFE or scope["type"] == "websocket"
        if sends and origin is not None and not self._from_here(origin, host):
            return Json({"error": "origin not allowed"}, 403)
        return None

    def _identified(self, scope: Scope, headers: Headers, needed: str) -> Json | None:
        state = scope.setdefault("state", {})
        state["actor"] = "person"
        if self._settings.keys is None:
            return self._within_rate("", self._settings.rate)
        kind, _, token = (_only(headers, "authorization") or "").partition(" ")
        key = self._settings.keys.find(token.strip()) if kind.lower() == "bearer" else None
        if key is None:
            return Json({"error": "authentication is required"}, 401, {"www-authenticate": "Bearer"})
        if not key.may(needed):
            return Json({"error": f"the key lacks the scope {needed}", "scope": needed}, 403)
        state["actor"], state["token"] = f"service:{key.name}", token.strip()
        return self._within_rate(key.name, key.rate or self._settings.rate)

    def _within_rate(self, name: str, rate: Rate | None) -> Json | None:
        wait_s = 0.0 if rate is None else self._buckets.take(name, rate)
        if wait_s == 0:
            return None
        told = {"error": "too many requests", "rate": str(rate), "retry_after_s": math.ceil(wait_s)}
        return Json(told, 429, {"retry-after": str(math.ceil(wait_s))})

    def _from_here(self, origin: str, host: str) -> bool:
        if origin in self._settings.origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()

    # --- what they send -----------------------------------------------------------------------------------------------

    async def _body_in_time(self, scope: Scope, receive: Receive) -> bytes | Json:
        if scope["http_version"][:1] == "1" and not any(name in BODY_FIELDS for name, _ in scope["headers"]):
            return b""  # a request of HTTP/1 that announces no body has none
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                return await self._body(scope, receive)
        except TimeoutError:
            return Json({"error": "the request body did not come in time"}, 408, {"connection": "close"})

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Json:
        """The whole body, or what its sender is told."""
        headers, limit = Headers(scope=scope), self._settings.max_body_bytes
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            return Json({"error": "content encodings are not supported"}, 415)
        if _length(headers) > limit:
            return _too_large(limit)
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                return _too_large(limit)
            parts.append(part)
            more = message.get("more_body", False)
        body = b"".join(parts)
        if body and scope["method"] not in SAFE and not _is_json(headers):
            return Json({"error": "content type must be application/json"}, 415)
        if deeper_than(body, self._settings.max_json_depth):
            return Json({"error": "json is nested too deep", "max_depth": self._settings.max_json_depth}, 400)
        return body

    async def _linger(self, refused: Json, receive: Receive, send: Send) -> None:
        """Refuse a body, and read on for a while."""
        await send({"type": "http.response.start", "status": refused.status_code, "headers": refused.raw_headers})
        await send({"type": "http.response.body", "body": refused.body, "more_body": True})
        left = LINGER_BODIES * self._settings.max_body_bytes
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        break
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _KeyEnded(Exception):
    """The key that admitted a request is good for nothing any more, and its answer goes on."""


class _Outgoing:
    """Sends, with the headers of the service, and knows whether the answer has begun.

    An answer that goes on and on ends when its key does: whoever streams sends something every few seconds.

    Args:
        send: see ASGI.
        keys: of the service.
        token: that was admitted; `None` where none is asked for.
    """

    def __init__(self, send: Send, keys: KeyRing | None, token: str | None) -> None:
        self._send = send
        self._keys = keys if token is not None else None
        self._token = token or ""
        self._looked_s = time.monotonic()
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            fields: list[tuple[bytes, bytes]] = message["headers"]
            there = {name.lower() for name, _ in fields}
            fields.extend(field for field in FIELDS if field[0] not in there)
        elif self._keys is not None and message.get("more_body", False):
            self._look(self._keys)
        await self._send(message)

    def _look(self, keys: KeyRing) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s >= KEY_HOLDS_S:
            if keys.find(self._token) is None:
                raise _KeyEnded
            self._looked_s = now_s

    async def end(self) -> None:
        """End an answer that has begun."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def host_name(host: str) -> str:
    """A `Host` header without its port; nothing if it is none."""
    match = HOST.fullmatch(host.lower())
    return match[1] if match else ""


def _looks_first(scope: Scope) -> bool:
    """Whether a route answers before its body counts: where there is none, and below `/pipelines`, where an unknown id
    is told first. Those routes then say what the gate found of the body (`refused_body`)."""
    path: str = scope["path"]
    return path.startswith("/pipelines/") or not methods_of(scope)


def _too_large(limit: int) -> Json:
    return Json({"error": "request body too large", "max_bytes": limit}, TOO_LARGE, {"connection": "close"})


def _is_too_long(scope: Scope) -> bool:
    fields: list[tuple[bytes, bytes]] = scope["headers"]
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    return len(fields) > MAX_FIELDS or size + sum(len(name) + len(value) for name, value in fields) > MAX_HEAD_BYTES


def _address(scope: Scope) -> str:
    """The path as it was sent, in which nothing can end a line of the log."""
    return bytes(scope.get("raw_path") or b"")[:200].decode("ascii", "replace")


def _only(headers: Headers, name: str) -> str | None:
    """The value of a header that stands there once."""
    found = headers.getlist(name)
    return found[0] if len(found) == 1 else None


def _length(headers: Headers) -> float:
    text = headers.get("content-length", "0")
    if not text.isascii() or not text.isdigit():
        return 0
    return math.inf if len(text) > 18 else int(text)


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, and then whatever else comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
