"""What the `/pipelines` routes do, beyond showing: start, cancel, resume, answer, draw."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from perdure.core.errors import (
    AnswerRefusedError,
    DefinitionError,
    InputError,
    NotReopenableError,
    PerdureError,
    QuestionExpiredError,
    RunCancelled,
    RunConflictError,
    RunEndedError,
    RunFailed,
    RunNotFoundError,
    WaitClosedError,
    WaitNotFoundError,
)
from perdure.engine.runtime import Runtime
from perdure.journal.fold import fold_all
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.drawing import DrawingError, of_document, with_run, write_svg
from perdure.pipeline.views import has_failed
from perdure.server.pipelines.answers import engine_answer
from perdure.server.pipelines.following import Followed
from perdure.server.pipelines.loading import made
from perdure.server.pipelines.options import read_options
from perdure.server.pipelines.portrait import Portrait
from perdure.server.pipelines.records import CHECKPOINT_RESUME
from perdure.server.pipelines.requests import Refusal, refused
from perdure.server.pipelines.resume import NOT_CANCELLED, refusal_reason
from perdure.server.pipelines.summary import pipeline_status
from perdure.store.port import RunRow

CANCELLED: Final = "cancelled"
CANCEL_TIMEOUT_S: Final = 30.0
"""How long a cancel waits until everything that the run had started is gone."""


async def start(followed: Followed, body: dict[str, Any], actor: str | None) -> str:
    """Start a submitted pipeline; returns the id of its run, which is durable.

    Raises:
        Refusal: nothing was written.
    """
    source, context = _source(body), body.get("context")
    if context is not None and not isinstance(context, dict):
        raise Refusal(422, "context takes an object", field="context")
    try:
        options = read_options(body.get("opts"))
        if options.pipeline_id is not None and await followed.runtime.store.get_run(options.pipeline_id) is not None:
            raise _taken()
        pipeline = await made(source, options, followed.library.settings)
    except PerdureError as error:
        raise refused(error, "dot") from error
    graph = pipeline.compile()
    try:
        raw = graph.check_input(context or {})
        started = await followed.library.start(pipeline, raw, options.pipeline_id, actor or "person")
    except RunConflictError as error:
        raise _taken() from error
    except PerdureError as error:
        raise refused(error, "context" if error.category == "input" else None) from error
    return started.id


def _source(body: dict[str, Any]) -> str:
    for name in ("dot", "dot_source"):
        source = body.get(name)
        if source is not None and not isinstance(source, str):
            raise Refusal(422, f"{name} takes text", field=name)
        if source is not None and source.strip():
            return source
    raise Refusal(400, "pipeline dot source is required")


def _taken() -> Refusal:
    return Refusal(409, "pipeline id already exists")


# --- cancel and resume ------------------------------------------------------------------------------------------------


async def cancel(followed: Followed, row: RunRow, actor: str | None) -> None:
    """Cancel a run, and wait until that is durable and all that it had started is gone.

    Raises:
        Refusal: it has ended otherwise (409), or what it had started does not end (503).
    """
    runtime, run_id = followed.runtime, row.run_id
    with suppress(RunEndedError):
        await runtime.cancel(run_id, reason=CANCELLED, actor=actor or "person")
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT_S):
            await _until_gone(runtime, run_id)
    except TimeoutError as error:
        raise Refusal(503, "the cancel is durable, but the pipeline has not stopped yet") from error
    state = (await followed.portrait(row)).state
    if state.status != CANCELLED:
        raise Refusal(409, "pipeline already finished", status=pipeline_status(state))


async def _until_gone(runtime: Runtime, run_id: str) -> None:
    """Wait until a run has ended, and, where it was cancelled, the children that the cancel went down to."""
    handle = runtime.run(run_id)
    with suppress(RunCancelled, RunFailed):
        await handle.result(wait_parked=True)
    state = await handle.fold()
    if state.status == CANCELLED:
        for child_id in state.live_children():
            with suppress(RunNotFoundError):  # its spawn was cut off
                await _until_gone(runtime, child_id)


async def resume(followed: Followed, row: RunRow, actor: str | None, command_id: str | None = None) -> None:
    """Resume a cancelled run by the one contract that there is; one that was taken under its id before is done.

    Raises:
        Refusal: a condition does not hold (409), or its pipeline cannot be loaded here (422).
    """
    portrait = await followed.portrait(row)
    if command_id in portrait.state.commands:
        return
    reason = refusal_reason(portrait)
    if reason is not None:
        raise Refusal(409, reason)
    try:
        async with followed.library.opening(row):
            await followed.runtime.retry(
                row.run_id, reason=CHECKPOINT_RESUME, actor=actor or "person", command_id=command_id
            )
    except NotReopenableError as error:  # another resume came first
        raise Refusal(409, NOT_CANCELLED) from error
    except (InputError, DefinitionError) as error:  # what its pipeline refers to is not there any more
        raise refused(error) from error


# --- answers ----------------------------------------------------------------------------------------------------------


async def answer(
    followed: Followed,
    row: RunRow,
    question_id: str,
    given: Any,
    actor: str | None,
    command_id: str | None = None,
) -> None:
    """Answer an open question; when this returns the answer is durable. One that was taken under its id before is done.

    Raises:
        Refusal: there is no such open question (404), or the answer names no choice (422) and it stays open.
    """
    portrait = await followed.portrait(row)
    if command_id in portrait.state.commands:
        return
    question = find_question(portrait, question_id)
    try:
        value = engine_answer(question, given)
        await followed.runtime.answer(
            row.run_id, value, wait_id=question_id, actor=actor or "person", command_id=command_id
        )
    except (WaitNotFoundError, WaitClosedError, QuestionExpiredError, RunEndedError) as error:
        raise no_question() from error
    except AnswerRefusedError as error:
        told = f"{error.message}; {error.hint}" if error.hint else error.message
        raise Refusal(422, told, field="answer") from error
    except PerdureError as error:
        raise refused(error, "answer") from error


def find_question(portrait: Portrait, question_id: str) -> Any:
    """An open question by its id.

    Raises:
        Refusal: there is none (404).
    """
    found = next((one for one in portrait.questions if one.id == question_id), None)
    if found is None:
        raise no_question()
    return found


def no_question() -> Refusal:
    """There is no such question, or it is answered."""
    return Refusal(404, "question not found")


# --- pictures ---------------------------------------------------------------------------------------------------------


async def pipeline_of(followed: Followed, row: RunRow) -> Pipeline:
    """The pipeline of a run.

    Raises:
        Refusal: it cannot be made here, since a file that it refers to is not there any more (422).
    """
    pipeline = await followed.library.find(row)
    if pipeline is None:
        raise Refusal(422, "the pipeline of this run cannot be loaded here")
    return pipeline


async def svg(followed: Followed, row: RunRow) -> str:
    """The picture of a run: its graph, and what the run did in it.

    Raises:
        Refusal: it cannot be loaded or drawn (422).
    """
    pipeline = await pipeline_of(followed, row)
    await followed.portrait(row)  # refuses a journal that is not what was written
    events = await followed.runtime.store.read(row.run_id)
    picture = with_run(of_document(pipeline.document), events, fold_all(row.run_id, events), has_failed=has_failed)
    try:
        return await asyncio.to_thread(write_svg, picture)
    except DrawingError as error:
        raise refused(error, "format") from error
