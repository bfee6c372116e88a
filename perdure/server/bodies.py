"""The bodies of requests, read as JSON that means one thing only."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any, NoReturn

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response


def strict_json(body: bytes) -> Any:
    """Read a body: UTF-8, no key twice in one object, no number that is none.

    A key that stands twice would be seen by one reader with its first value and by another with its last: what was
    looked at would not be what is done.

    Raises:
        JSONDecodeError: it is not such JSON; `msg` says why.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except JSONDecodeError:
        raise
    except RecursionError:
        raise JSONDecodeError("it is nested too deep", "", 0) from None
    except UnicodeDecodeError:
        raise JSONDecodeError("it is not UTF-8", "", 0) from None
    except ValueError as error:
        raise JSONDecodeError(str(error), "", 0) from None


class StrictRoute(APIRoute):
    """A route whose body is read by `strict_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `fastapi.routing.APIRoute`."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest.of(request))

        return handle


class StrictRequest(Request):
    """A request whose body is read by `strict_json`."""

    @classmethod
    def of(cls, request: Request) -> StrictRequest:
        """The same request; its body has not been read yet, or it is one already."""
        return request if isinstance(request, cls) else cls(request.scope, request.receive)

    async def json(self) -> Any:
        """See `starlette.requests.Request`; raises `JSONDecodeError`."""
        return strict_json(await self.body())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise ValueError(f"the key {twice!r} stands twice in one object")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
