"""`create_app`: the service as an ASGI application over an engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from perdure.core.version import VERSION
from perdure.engine.runtime import Runtime
from perdure.server import pipelines
from perdure.server.admission.gate import Gate
from perdure.server.document import document_of, name_of
from perdure.server.following.feed import Feed
from perdure.server.following.tails import Tails
from perdure.server.methods import Heads
from perdure.server.refusals import HANDLERS
from perdure.server.responses import Json
from perdure.server.routes import artifacts, commands, feed, journal, operations, questions, runs, waits, webhooks
from perdure.server.settings import Settings, directory_of, settings_for
from perdure.server.shown import Shown
from perdure.server.webhooks.dispatcher import Webhooks

logger = logging.getLogger("perdure.server")


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
        generate_unique_id_function=name_of,
    )
    app.openapi = document_of(app)  # type: ignore[method-assign]
    app.state.runtime = runtime
    app.state.settings = settings
    app.state.shown = Shown(runtime)
    app.state.tails = Tails(runtime, heartbeat_s=settings.heartbeat_s)
    app.state.feed = Feed(runtime, heartbeat_s=settings.heartbeat_s)
    app.state.pipeline_library = pipelines.Library(runtime, settings.pipelines)
    app.state.webhooks = Webhooks(runtime, settings.webhooks, directory_of(runtime))
    app.state.heartbeat_s = settings.heartbeat_s
    for module in (runs, commands, artifacts, journal, feed, waits, questions, operations, webhooks, pipelines):
        app.include_router(module.router)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Heads)
    app.add_middleware(Gate, settings=settings)
    return app


@asynccontextmanager
async def _prepared(app: FastAPI) -> AsyncGenerator[None, None]:
    """Before the first request every unfinished run is known; a run that cannot be is named in the log and harms no
    other."""
    library: pipelines.Library = app.state.pipeline_library
    for run_id, error in (await library.know_unfinished()).items():
        logger.warning("the pipeline of run %s cannot be loaded: %s", run_id, error)
    sweeping = asyncio.ensure_future(library.sweep())
    webhooks_sent: Webhooks = app.state.webhooks
    try:
        await webhooks_sent.start()
        yield
    finally:
        sweeping.cancel()
        end_streams(app)
        await webhooks_sent.close()


def end_streams(app: FastAPI) -> None:
    """End all streams of events, so that the service can stop; their readers come again with the last id they saw."""
    app.state.tails.close()
    app.state.feed.close()
    followed = getattr(app.state, "followed_pipelines", None)  # made when the first pipeline is asked for
    if followed is not None:
        followed.close()
