"""What operators ask for: health, workflows, workers, and numbers for Prometheus."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from perdure.core.errors import StoreError
from perdure.server.asked import Engine
from perdure.server.metrics import exposition
from perdure.server.responses import Json, error_body
from perdure.server.views import worker_view, workflow_view

EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def health() -> Json:
    """Whether the process answers."""
    return Json({"status": "ok"})


@router.get("/readyz", responses={503: {"description": "not now"}})
async def readiness(runtime: Engine) -> Json:
    """Whether the store can be read, so that requests can be served."""
    try:
        await runtime.store.feed_position()
    except StoreError as error:
        return Json({"status": "unavailable", "error": error_body(error)["error"]}, 503)
    return Json({"status": "ready"})


@router.get("/workflows")
async def workflows(runtime: Engine) -> Json:
    """The workflows that can be started here, with the JSON schema of their input."""
    return Json({"workflows": [workflow_view(graph) for graph in runtime.registry]})


@router.get("/workflows/{name}")
async def workflow(name: str, runtime: Engine) -> Json:
    """A workflow, with its nodes and edges."""
    return Json(runtime.registry.get(name).describe())


@router.get("/workers")
async def workers(runtime: Engine) -> Json:
    """The workers that are registered with the store."""
    return Json({"workers": [worker_view(worker) for worker in await runtime.store.workers()]})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}, "description": "in Prometheus' text format"}})
async def metrics(runtime: Engine, request: Request) -> Response:
    """Numbers for Prometheus."""
    text = exposition(await runtime.stats(), streams=request.app.state.tails.readers)
    return Response(text, media_type=EXPOSITION)
