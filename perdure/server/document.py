"""The OpenAPI document: what the framework knows of the routes, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from perdure.server.admission.access import is_open, scope_for
from perdure.server.told.errors import REASONS

Schema = dict[str, Any]

SECURITY: Final = "bearer"
OF_ALL: Final = (400, 500)
OF_GUARDED: Final = (401, 403, 429, 503)
OF_SENDING: Final = (413, 415)
"""Statuses that the gate, the store or the service itself answer with, whatever the route."""
REFUSED: Final[Schema] = {"application/json": {"schema": {"$ref": "#/components/schemas/Refused"}}}
RETRY_AFTER: Final[Schema] = {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 1}}
DESCRIPTION: Final = """\
Two families of routes over the same runs: `/runs…` for runs of every kind, and `/pipelines…` for pipelines in the words
of their dialect. JSON in, JSON out. What an answer tells of is durable.

A request that is refused is answered with `error`, one line in words; most have `code`, which is stable, `hint` and
`ids`, too. Commands take an `Idempotency-Key`: the same command under it again is recognised, and done once.

Streams (`text/event-stream`) have an `id` with each event; a reader that comes again sends the last one as
`Last-Event-ID` and misses nothing. A comment keeps a quiet stream alive.
"""
TAGS: Final = [
    {"name": "runs", "description": "Runs: lists, how one stands, its state, journal and artifacts."},
    {"name": "events", "description": "What happened, run by run or in all of them, as pages or live."},
    {"name": "commands", "description": "What changes runs: start, answer, signal, cancel, pause, resume, retry."},
    {"name": "questions", "description": "What runs ask people."},
    {"name": "pipelines", "description": "Pipelines in DOT, in the words of their dialect."},
    {"name": "webhooks", "description": "Endpoints outside that are told of what happens."},
    {"name": "operations", "description": "Health, workflows, workers, numbers."},
]


def document_of(app: FastAPI) -> Callable[[], Schema]:
    """What makes an application's document; made once, at the first request."""

    def document() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    return document


def _made(app: FastAPI) -> Schema:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
    )
    components = made["components"]
    components["securitySchemes"] = {
        SECURITY: {"type": "http", "scheme": "bearer", "description": "the token of a key; each key has scopes"}
    }
    for name in ("HTTPValidationError", "ValidationError"):  # the framework's own, which are not what is answered
        components["schemas"].pop(name, None)
    for method, path, operation in operations_of(made):
        _complete(method, path, operation)
    return made


def operations_of(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Method, path and description of every operation in a document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def name_of(route: APIRoute) -> str:
    """The id of an operation: the name of its function."""
    return route.name


def _complete(method: str, path: str, operation: Schema) -> None:
    responses: Schema = operation["responses"]
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _on_the_wire(parameter["schema"])
    guarded = not is_open(method, path)
    if guarded:
        needed = f"Needs a key with the scope `{scope_for(method, path)}`."
        operation["description"] = "\n\n".join(part for part in (operation.get("description"), needed) if part)
    operation["security"] = [{SECURITY: []}] if guarded else []
    statuses = {*OF_ALL, *(OF_GUARDED if guarded else ()), *(OF_SENDING if method != "GET" else ())}
    if "{" in path:
        statuses.add(404)
    if "422" in responses:
        statuses.add(422)
        del responses["422"]
    for status in sorted(statuses):
        responses.setdefault(str(status), {"description": REASONS[status], "content": REFUSED})
    if guarded:
        responses["401"].setdefault("headers", {"WWW-Authenticate": {"schema": {"type": "string"}}})
        responses["429"].setdefault("headers", {"Retry-After": RETRY_AFTER})


def _on_the_wire(schema: Schema) -> Schema:
    """The schema of a parameter without null: it is left out, and cannot be sent as nothing."""
    kept: list[Schema] = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(kept) != 1:
        return schema
    return {name: value for name, value in schema.items() if name != "anyOf"} | kept[0]
