"""The feed of all runs: what stands in it, or a stream of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from perdure.server.asked import Engine
from perdure.server.following.feed import Feed, Wanted
from perdure.server.following.streams import MEDIA_TYPE, EventStream, after_of
from perdure.server.responses import Json
from perdure.server.told import runs as told
from perdure.server.told.streams import streamed

MOST = 1000

router = APIRouter(tags=["events"])


@router.get("/events", response_model=None, responses=streamed(told.FeedPage))
async def show_feed(
    runtime: Engine,
    request: Request,
    after: Annotated[str | None, Query(description="only what has a higher position")] = None,
    stream: Annotated[bool, Query(description="as a stream; so does `Accept: text/event-stream`")] = False,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
    workflow: Annotated[list[str] | None, Query(description="of runs of any of these", max_length=100)] = None,
    kind: Annotated[list[str] | None, Query(description="any of these", max_length=100)] = None,
) -> Response:
    """The events of all runs in the order of their commits.

    As JSON: those behind a position, and where the next page begins (`next`), whether something stands there already
    (`more`), and the newest position of all (`newest`). As a stream: these and all that follow, each under its position
    as `id`; a frame with an `id` alone says that events which were not asked for stand up to there. A record that
    cannot be read has the kind `damage` and says what is wrong with it.
    """
    feed: Feed = request.app.state.feed
    position = after_of(request)
    wanted = Wanted(frozenset(workflow or ()), frozenset(kind or ()))
    if stream or MEDIA_TYPE in request.headers.get("accept", ""):
        await runtime.store.feed_position()  # what is wrong with the store is told before the stream begins
        return EventStream(feed.follow(position, wanted))
    page = await feed.page(position, limit, wanted)
    newest = await runtime.store.feed_position()
    return Json({"events": [item.data for item in page.items], "next": page.next, "more": page.more, "newest": newest})
