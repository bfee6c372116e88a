"""The methods of HTTP that a path has, and `HEAD` for every path that has `GET`."""

from __future__ import annotations

from typing import Any, Final

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = ("DELETE", "GET", "PATCH", "POST", "PUT")


def methods_of(scope: Scope) -> list[str]:
    """The methods with which the path of a request may be asked for; none for a path that there is not.

    Args:
        scope: of a request that the application has begun to answer.
    """
    bare = {name: scope[name] for name in ("type", "path", "root_path", "headers", "query_string") if name in scope}
    routes: list[Any] = scope["app"].router.routes

    def has(method: str) -> bool:
        return any(route.matches(bare | {"method": method})[0] is Match.FULL for route in routes)

    found = [method for method in METHODS if has(method)]
    return sorted([*found, "HEAD"]) if "GET" in found else found


class Heads:
    """Answers `HEAD` as `GET` would be answered, without the body.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        try:
            await self._app({**scope, "method": "GET"}, receive, _Headers(send))
        except _EnoughError:
            return


class _EnoughError(Exception):
    """The headers are sent; a stream need not begin."""


class _Headers:
    """Sends the headers of an answer, and stops a stream at its first part."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        if message.get("more_body", False):
            raise _EnoughError
