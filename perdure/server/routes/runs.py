"""Looking at runs: lists, one, its state at any seq, its events."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from perdure.server.asked import Engine, RunId
from perdure.server.cursors import cursor_after, place_of
from perdure.server.direct import DirectRoute, bound_by, run_arguments
from perdure.server.following.streams import MEDIA_TYPE, EventStream, after_of
from perdure.server.following.tails import Tails, event_data
from perdure.server.instants import InstantText, instant_ms
from perdure.server.responses import Json
from perdure.server.shown import Views
from perdure.server.told import runs as told
from perdure.server.told.errors import answers
from perdure.server.told.streams import streamed
from perdure.server.views import context_view
from perdure.store.port import RunFilter, Status

PAGE: Final = 100
MOST: Final = 1000
HIGHEST: Final = 1 << 62

router = APIRouter(tags=["runs"], route_class=DirectRoute)


@router.get("/runs", responses=answers(told.RunPage, 422))
async def list_runs(
    runtime: Engine,
    status: Annotated[list[Status] | None, Query(description="any of these")] = None,
    workflow: Annotated[str | None, Query(max_length=128)] = None,
    tag: Annotated[list[str] | None, Query(description="all of these", max_length=100)] = None,
    parent: Annotated[str | None, Query(max_length=128)] = None,
    id_prefix: Annotated[str | None, Query(max_length=128, description="what their ids begin with")] = None,
    created_after: Annotated[InstantText | None, Query(max_length=64, description="not before it")] = None,
    created_before: Annotated[InstantText | None, Query(max_length=64, description="before it")] = None,
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
        created_after_ms=max(_given(created_after_ms, created_after, "created_after"), default=None),
        created_before_ms=min(_given(created_before_ms, created_before, "created_before"), default=None),
        id_prefix=id_prefix,
        before=place_of(cursor) if cursor is not None else None,
        limit=limit + 1,
    )
    rows = await runtime.runs(where)
    shown = rows[:limit]
    following = cursor_after(shown[-1]) if len(rows) > limit else None
    return Json({"runs": [row.to_dict() for row in shown], "next_cursor": following})


def _given(plain_ms: int | None, text: str | None, field: str) -> list[int]:
    """The instants that bound a list on one side."""
    found = [] if plain_ms is None else [plain_ms]
    return found if text is None else [*found, instant_ms(text, field=field)]


@router.get("/runs/{run_id}", response_model=None, responses=answers(told.RunView))
@bound_by(run_arguments)
async def show_run(run_id: RunId, views: Views) -> Response:
    """A run: how it stands, and why it waits."""
    return Response(await views.run(run_id), media_type=Json.media_type)


@router.get("/runs/{run_id}/state", responses=answers(told.RunState))
async def show_state(run_id: RunId, runtime: Engine, at: Annotated[int | None, Query(ge=1, le=HIGHEST)] = None) -> Json:
    """A run's key-value state, as of now or as of a seq."""
    state = await runtime.run(run_id).fold(at=at)
    context = await context_view(runtime.store, state)
    return Json({"run_id": run_id, "seq": state.seq, "status": state.status, "state": context})


@router.get(
    "/runs/{run_id}/events",
    response_model=None,
    responses=streamed(told.Events),
)
async def show_events(
    run_id: RunId,
    runtime: Engine,
    request: Request,
    after: Annotated[str | None, Query(description="only those with a higher seq")] = None,
    stream: Annotated[bool, Query(description="as a stream; so does `Accept: text/event-stream`")] = False,
    transient: Annotated[bool, Query(description="in a stream, also what steps tell while they run here")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
) -> Response:
    """A run's events behind a seq: those that stand in the journal, or a stream of these and of all that follow.

    With `transient`, frames of the event `token` and without an id come between those of the stream: pieces of text,
    for example of a model's answer, as a step that runs in this process tells them. They are never sent again, nor kept
    for a slow reader, and nothing is lost with them. Each says which attempt of which step told it, and after how many
    characters (`offset`).
    """
    await runtime.run(run_id).row()
    seq = after_of(request)
    if stream or MEDIA_TYPE in request.headers.get("accept", ""):
        tails: Tails = request.app.state.tails
        return EventStream(tails.follow_live(run_id, seq) if transient else tails.follow(run_id, seq))
    events = await runtime.store.read(run_id, after=seq, limit=limit + 1)
    found: list[dict[str, Any]] = [event_data(event) for event in events[:limit]]
    return Json({"events": found, "more": len(events) > limit})
