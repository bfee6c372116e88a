"""`create_app`: the service as an ASGI application over an engine."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from perdure.core.errors import PerdureError
from perdure.core.version import VERSION
from perdure.engine.runtime import Runtime
from perdure.server import pipelines
from perdure.server.gate import Gate
from perdure.server.responses import Json, refusal
from perdure.server.routes import commands, operations, questions, runs
from perdure.server.settings import Settings, settings_for
from perdure.server.tails import Tails

logger = logging.getLogger("perdure.server")

TEXTS: Final = {400: "invalid json body", 404: "not found", 405: "method not allowed"}


def create_app(runtime: Runtime, settings: Settings | None = None) -> FastAPI:
    """The service over an engine.

    Args:
        runtime: open while the application serves; it stays open after it.
        settings: see `Settings`; those of `settings_for` if omitted, which ask for a token.

    Returns:
        The application; `state.runtime`, `state.settings` and `state.tails` are what its routes use.
    """
    settings = settings or settings_for(runtime)
    app = FastAPI(
        title="Perdure",
        version=VERSION,
        summary="Durable runs for workflows and agents.",
        docs_url=None,  # their pages load programs from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_prepared,
        default_response_class=Json,
    )
    app.state.runtime = runtime
    app.state.settings = settings
    app.state.tails = Tails(runtime, heartbeat_s=settings.heartbeat_s)
    app.state.pipeline_settings = settings.pipelines
    app.state.heartbeat_s = settings.heartbeat_s
    for module in (runs, commands, questions, operations, pipelines):
        app.include_router(module.router)
    handlers: dict[Any, Callable[..., Any]] = {
        PerdureError: _refused,
        RequestValidationError: _invalid,
        HTTPException: _not_served,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Gate, settings=settings)
    return app


@asynccontextmanager
async def _prepared(app: FastAPI) -> AsyncGenerator[None, None]:
    """Before the first request every unfinished run is known; a run that cannot be is named in the log and harms no
    other."""
    failed = await pipelines.load_unfinished(app.state.runtime, app.state.pipeline_settings)
    for run_id, error in failed.items():
        logger.warning("the pipeline of run %s cannot be loaded: %s", run_id, error)
    yield
    end_streams(app)


def end_streams(app: FastAPI) -> None:
    """End all streams of events, so that the service can stop; their readers come again with the last id they saw."""
    app.state.tails.close()
    followed = getattr(app.state, "followed_pipelines", None)  # made when the first pipeline is asked for
    if followed is not None:
        followed.close()


async def _refused(_: Request, error: PerdureError) -> Json:
    return refusal(error)


async def _not_served(_: Request, error: HTTPException) -> Json:
    text = TEXTS.get(error.status_code, str(error.detail).lower())
    return Json({"error": text}, error.status_code, dict(error.headers or {}))


async def _invalid(_: Request, error: RequestValidationError) -> Json:
    """What the declared types of a request refused, in the service's own form."""
    found = list(error.errors())
    if any(one["type"] == "json_invalid" for one in found):
        return Json({"error": "invalid json body"}, 400)
    problems = [
        {"field": ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), "message": one["msg"]}
        for one in found
    ]
    first = problems[0]
    return Json(
        {"error": f"{first['field']}: {first['message']}", "field": first["field"], "code": "invalid_input"}
        | {"problems": problems},
        422,
    )
