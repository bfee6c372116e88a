"""Routes whose arguments are taken from the request by hand, because they are asked for far more often than any other.

The framework finds out for each request anew what the signature of a route's function wants, and that costs more than
starting a run does. The signature is still what the OpenAPI document is made of, and the framework still answers every
request whose arguments are not as they should be: so there is one wording of each refusal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from json import JSONDecodeError
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Message, Receive

from perdure.server.asked import LONGEST_KEY, StartBody, actor_of, command_id, known_id, runtime_of
from perdure.server.bodies import StrictRequest, StrictRoute
from perdure.server.shown import shown_of

Arguments = dict[str, Any]
Binder = Callable[[Request], Awaitable[Arguments | None]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_binders: Final[dict[Callable[..., Any], Binder]] = {}


def bound_by(binder: Binder) -> Callable[[F], F]:
    """Take the arguments of a route's function from the request by hand; its router's `route_class` is `DirectRoute`.

    Args:
        binder: gives them by name; `None` leaves the request to the framework.
    """

    def decorated(endpoint: F) -> F:
        _binders[endpoint] = binder
        return endpoint

    return decorated


class DirectRoute(StrictRoute):
    """A route that asks its function's binder first, if it has one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `fastapi.routing.APIRoute`."""
        declared = super().get_route_handler()
        endpoint: Callable[..., Awaitable[Response]] | None = self.endpoint
        binder = _binders.get(self.endpoint)
        if binder is None or endpoint is None:
            return declared

        async def answered(request: Request) -> Response:
            request = StrictRequest.of(request)  # the framework may need the body again
            arguments = await binder(request)
            if arguments is None:
                return await declared(Request(request.scope, _replayed(await request.body(), request.receive)))
            return await endpoint(**arguments)

        return answered


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, and then whatever else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


async def run_arguments(request: Request) -> Arguments:
    """`run_id` and `views`."""
    return {"run_id": await known_id(request.path_params["run_id"]), "views": await shown_of(request)}


async def start_arguments(request: Request) -> Arguments | None:
    """`body`, `runtime`, `actor` and `key` of a start."""
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1 or any(len(key) > LONGEST_KEY for key in keys):
        return None
    try:
        body = StartBody.model_validate(await request.json())
    except (ValidationError, JSONDecodeError):
        return None
    return {
        "body": body,
        "runtime": await runtime_of(request),
        "actor": await actor_of(request),
        "key": await command_id(keys[0] if keys else None),
    }
