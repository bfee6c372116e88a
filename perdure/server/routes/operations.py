"""What operators ask for: health, workflows, workers, and numbers for Prometheus."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from perdure.core.errors import StoreError
from perdure.core.version import VERSION
from perdure.server.asked import Engine
from perdure.server.metrics import exposition
from perdure.server.responses import Json, error_body
from perdure.server.told import operations as told
from perdure.server.told.errors import answers
from perdure.server.views import worker_view, workflow_view

TEXT: Final = {"schema": {"type": "string"}}
EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["operations"])


@router.get("/healthz", responses=answers(told.Health))
async def health() -> Json:
    """Whether the process answers."""
    return Json({"status": "ok"})


@router.get("/readyz", responses=answers(told.Readiness) | {503: {"description": "not now", "model": told.Readiness}})
async def readiness(runtime: Engine) -> Json:
    """Whether the store can be read, so that requests can be served."""
    try:
        await runtime.store.feed_position()
    except StoreError as error:
        return Json({"status": "unavailable", "error": error_body(error)["error"]}, 503)
    return Json({"status": "ready"})


@router.get("/version", responses=answers(told.Version))
async def version() -> Json:
    """What serves here."""
    return Json({"name": "perdure", "version": VERSION})


@router.get("/workflows", responses=answers(told.Workflows))
async def workflows(runtime: Engine) -> Json:
    """The workflows that can be started here, with the JSON schema of their input."""
    return Json({"workflows": [workflow_view(graph) for graph in runtime.registry]})


@router.get("/workflows/{name}", responses=answers(told.WorkflowGraph))
async def workflow(name: str, runtime: Engine) -> Json:
    """A workflow, with its nodes and edges."""
    return Json(runtime.registry.get(name).describe())


@router.get("/workers", responses=answers(told.Workers))
async def workers(runtime: Engine) -> Json:
    """The workers that are registered with the store."""
    return Json({"workers": [worker_view(worker) for worker in await runtime.store.workers()]})


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": TEXT}, "description": "in Prometheus' text format"}},
)
async def metrics(runtime: Engine, request: Request) -> Response:
    """Numbers for Prometheus."""
    streams = request.app.state.tails.readers + request.app.state.feed.readers
    text = exposition(await runtime.stats(), streams=streams, webhooks=request.app.state.webhooks.numbers())
    return Response(text, media_type=EXPOSITION)
