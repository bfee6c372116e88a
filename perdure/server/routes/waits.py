"""What runs wait for, as the store's index knows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from perdure.server.asked import Engine
from perdure.server.responses import Json
from perdure.server.told import waits as told
from perdure.server.told.errors import answers
from perdure.store.port import OpenWait

MOST = 1000

router = APIRouter(tags=["runs"])


@router.get("/waits", responses=answers(told.OpenWaits))
async def open_waits(
    runtime: Engine,
    kind: Annotated[Literal["question", "signal", "timer", "child"] | None, Query()] = None,
    name: Annotated[
        str | None, Query(max_length=200, description="of the signal, `question`, `doubt`, or the id of a child")
    ] = None,
    key: Annotated[str | None, Query(max_length=200, description="those with this key, and those with none")] = None,
    run_id: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
) -> Json:
    """Open waits of all runs, oldest first."""
    found = await runtime.store.open_waits(kind=kind, name=name, key=key, run_id=run_id, limit=limit + 1)
    return Json({"waits": [wait_view(one) for one in found[:limit]], "more": len(found) > limit})


def wait_view(one: OpenWait) -> dict[str, Any]:
    """An open wait, and the run that waits."""
    return {"run_id": one.run_id, "workflow": one.workflow} | one.wait._asdict()
