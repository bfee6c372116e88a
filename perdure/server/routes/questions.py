"""The questions that runs ask people: of one run, or of all as an inbox."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from perdure.core.errors import CorruptRecordError, StoreCorruptError
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question
from perdure.server.asked import Engine, RunId
from perdure.server.responses import Json, error_body
from perdure.server.views import question_view

MOST: Final = 1000

router = APIRouter(tags=["questions"])


@router.get("/questions")
async def all_questions(runtime: Engine) -> Json:
    """The open questions of all runs, oldest first; a run that cannot be read is named and harms no other."""
    found, damaged = await _inbox(runtime)
    return Json({"questions": [question_view(one) for one in found], "damaged": damaged})


@router.get("/runs/{run_id}/questions")
async def questions_of_run(run_id: RunId, runtime: Engine) -> Json:
    """The open questions of a run, oldest first."""
    await runtime.run(run_id).row()
    return Json({"questions": [question_view(one) for one in await runtime.questions(run_id)]})


async def _inbox(runtime: Runtime) -> tuple[list[Question], list[dict[str, Any]]]:
    waits = await runtime.store.open_waits(kind="question", limit=MOST)
    place = {(one.run_id, one.wait.wait_id): number for number, one in enumerate(waits)}
    found: list[Question] = []
    damaged: list[dict[str, Any]] = []
    for run_id in dict.fromkeys(one.run_id for one in waits):
        try:
            found += await runtime.questions(run_id)
        except (CorruptRecordError, StoreCorruptError) as error:
            damaged.append({"run_id": run_id} | error_body(error))
    found.sort(key=lambda one: place.get((one.run_id, one.wait_id), len(place)))
    return found, damaged
