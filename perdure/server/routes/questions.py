"""The questions that runs ask people: of one run, or of all as an inbox."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, StoreCorruptError
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question
from perdure.server.asked import Engine, RunId
from perdure.server.responses import Json, error_body
from perdure.server.told import waits as told
from perdure.server.told.errors import answers
from perdure.server.views import question_view
from perdure.store.port import OpenWait

MOST: Final = 1000
LOOKED_AT: Final = 20_000
"""How many open questions one request looks through, at most, for those that it wants."""

router = APIRouter(tags=["questions"])


@router.get("/questions", responses=answers(told.Inbox))
async def all_questions(
    runtime: Engine,
    workflow: Annotated[list[str] | None, Query(description="of runs of any of these", max_length=100)] = None,
    tag: Annotated[list[str] | None, Query(description="of runs with all of these", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
) -> Json:
    """The open questions of all runs, oldest first; a run that cannot be read is named and harms no other.

    There are more where `more` says so: the filters, and answers, show them.
    """
    waits = await _wanted(runtime, frozenset(workflow or ()), frozenset(tag or ()), limit + 1)
    found, damaged = await _inbox(runtime, waits[:limit])
    shown = {"questions": [question_view(one) for one in found], "damaged": damaged}
    return Json(shown | {"more": len(waits) > limit})


@router.get("/runs/{run_id}/questions", responses=answers(told.Questions))
async def questions_of_run(run_id: RunId, runtime: Engine) -> Json:
    """The open questions of a run, oldest first."""
    await runtime.run(run_id).row()
    return Json({"questions": [question_view(one) for one in await runtime.questions(run_id)]})


async def _wanted(runtime: Runtime, workflows: frozenset[str], tags: frozenset[str], most: int) -> list[OpenWait]:
    """The oldest open questions of the runs that are wanted."""
    store, found = runtime.store, []
    bears: dict[str, bool] = {}
    for one in await store.open_waits(kind="question", limit=LOOKED_AT if workflows or tags else most):
        if workflows and one.workflow not in workflows:
            continue
        if tags and one.run_id not in bears:
            row = await store.get_run(one.run_id)
            bears[one.run_id] = row is not None and tags <= set(row.tags)
        if bears.get(one.run_id, True):
            found.append(one)
        if len(found) == most:
            break
    return found


async def _inbox(runtime: Runtime, waits: list[OpenWait]) -> tuple[list[Question], list[dict[str, Any]]]:
    place = {(one.run_id, one.wait.wait_id): number for number, one in enumerate(waits)}
    found: list[Question] = []
    damaged: list[dict[str, Any]] = []
    for run_id in dict.fromkeys(one.run_id for one in waits):
        try:
            found += [one for one in await runtime.questions(run_id) if (one.run_id, one.wait_id) in place]
        except (ArtifactNotFoundError, CorruptRecordError, StoreCorruptError) as error:
            damaged.append({"run_id": run_id} | error_body(error))
    found.sort(key=lambda one: place[one.run_id, one.wait_id])
    return found, damaged
