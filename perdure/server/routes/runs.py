"""Looking at runs: lists, one, its state, its events, its artifacts, and whether its journal is what was written."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from perdure.core.errors import ArtifactNotFoundError
from perdure.server.artifacts import artifacts_of, verified
from perdure.server.asked import Engine, RunId
from perdure.server.cursors import cursor_after, place_of
from perdure.server.ranges import attachment
from perdure.server.responses import Json
from perdure.server.streams import MEDIA_TYPE, EventStream, after_of
from perdure.server.tails import Tails, event_data
from perdure.server.views import context_view, run_view
from perdure.store.port import RunFilter, Status

PAGE: Final = 100
MOST: Final = 1000
HIGHEST: Final = 1 << 62

router = APIRouter(tags=["runs"])


@router.get("/runs")
async def list_runs(
    runtime: Engine,
    status: Annotated[list[Status] | None, Query(description="any of these")] = None,
    workflow: Annotated[str | None, Query(max_length=128)] = None,
    tag: Annotated[list[str] | None, Query(description="all of these", max_length=100)] = None,
    parent: Annotated[str | None, Query(max_length=128)] = None,
    created_after_ms: Annotated[int | None, Query(ge=0, le=HIGHEST)] = None,
    created_before_ms: Annotated[int | None, Query(ge=0, le=HIGHEST)] = None,
    cursor: Annotated[str | None, Query(max_length=300, description="`next_cursor` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = PAGE,
) -> Json:
    """Runs, newest first."""
    where = RunFilter(
        statuses=tuple(status or ()),
        workflow=workflow,
        tags=tuple(tag or ()),
        parent_id=parent,
        created_after_ms=created_after_ms,
        created_before_ms=created_before_ms,
        before=place_of(cursor) if cursor is not None else None,
        limit=limit + 1,
    )
    rows = await runtime.runs(where)
    shown = rows[:limit]
    following = cursor_after(shown[-1]) if len(rows) > limit else None
    return Json({"runs": [row.to_dict() for row in shown], "next_cursor": following})


@router.get("/runs/{run_id}")
async def show_run(run_id: RunId, runtime: Engine) -> Json:
    """A run: how it stands, and why it waits."""
    return Json(await run_view(runtime, run_id))


@router.get("/runs/{run_id}/state")
async def show_state(run_id: RunId, runtime: Engine, at: Annotated[int | None, Query(ge=1, le=HIGHEST)] = None) -> Json:
    """A run's key-value state, as of now or as of a seq."""
    state = await runtime.run(run_id).fold(at=at)
    context = await context_view(runtime.store, state)
    return Json({"run_id": run_id, "seq": state.seq, "status": state.status, "state": context})


@router.get(
    "/runs/{run_id}/events",
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "JSON, or a stream"}},
)
async def show_events(
    run_id: RunId,
    runtime: Engine,
    request: Request,
    after: Annotated[str | None, Query(description="only those with a higher seq")] = None,
    stream: Annotated[bool, Query(description="as a stream; so does `Accept: text/event-stream`")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
) -> Response:
    """A run's events behind a seq: those that stand in the journal, or a stream of these and of all that follow."""
    await runtime.run(run_id).row()
    seq = after_of(request)
    if stream or MEDIA_TYPE in request.headers.get("accept", ""):
        tails: Tails = request.app.state.tails
        return EventStream(tails.follow(run_id, seq))
    events = await runtime.store.read(run_id, after=seq, limit=limit + 1)
    found: list[dict[str, Any]] = [event_data(event) for event in events[:limit]]
    return Json({"events": found, "more": len(events) > limit})


@router.get("/runs/{run_id}/verify")
async def verify_run(run_id: RunId, runtime: Engine) -> Json:
    """Check a run's hash chain and artifacts."""
    return Json(await verified(runtime, run_id))


@router.get("/runs/{run_id}/artifacts")
async def list_artifacts(run_id: RunId, runtime: Engine) -> Json:
    """The artifacts that a run's journal names."""
    return Json({"artifacts": await artifacts_of(runtime, run_id)})


@router.get(
    "/runs/{run_id}/artifacts/{artifact_id}",
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "all bytes"},
        206: {"description": "a range of them"},
        416: {"description": "there are no such bytes"},
    },
)
async def get_artifact(run_id: RunId, artifact_id: str, runtime: Engine, request: Request) -> Response:
    """The bytes of an artifact of this run, as an attachment."""
    for one in await artifacts_of(runtime, run_id):
        if one["artifact_id"] == artifact_id:
            data = await runtime.store.get_artifact(artifact_id)
            return attachment(data, artifact_id, one["media_type"], request.headers.get("range"))
    raise ArtifactNotFoundError(f"run {run_id} names no artifact {artifact_id!r}", run_id=run_id)
