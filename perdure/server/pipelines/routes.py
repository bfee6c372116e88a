"""The routes of `/pipelines`, and their aliases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from perdure.core.ids import RUN_ID
from perdure.engine.large import resolved
from perdure.server.following.tails import frame
from perdure.server.pipelines import graphs, operations
from perdure.server.pipelines.checkpoint import checkpoint_data
from perdure.server.pipelines.context import as_given, current_context
from perdure.server.pipelines.description import answers_of, operation
from perdure.server.pipelines.following import Followed
from perdure.server.pipelines.library import Library
from perdure.server.pipelines.records import CHECKPOINT_RESUME, Record
from perdure.server.pipelines.requests import Refusal, given_answer, json_object, no_pipeline, sequence_after
from perdure.server.pipelines.resent import command_id, is_keyed
from perdure.server.responses import Json
from perdure.store.port import RunRow

QUIET_S: Final = 15.0
COMMENT: Final = b": \n\n"

router = APIRouter(tags=["pipelines"])
Endpoint = Callable[[Request], Awaitable[Response]]


def followed_of(request: Request) -> Followed:
    """The runs of pipelines, as the application shows them; made at the first request."""
    state = request.app.state
    found: Followed | None = getattr(state, "followed_pipelines", None)
    if found is None:
        library: Library = state.pipeline_library
        found = state.followed_pipelines = Followed(library)
    return found


ALIASES: Final = ("/run", "/status", "/answer")


def _operation_of(endpoint: Endpoint, path: str) -> str:
    """What clients that are made of the OpenAPI document call it: `start_pipeline`, `pipeline_events`."""
    verb = endpoint.__name__
    name = "list_pipelines" if verb == "listing" else f"pipeline_{verb}"
    if verb in ("start", "cancel", "resume"):
        name = f"{verb}_pipeline"
    elif verb in ("answer", "answer_question"):
        name = "answer_pipeline"
    return f"{name}_by_{path.strip('/')}" if path in ALIASES else name


def _route(path: str, method: str, status: int = 200) -> Callable[[Endpoint], Endpoint]:
    """Add a route whose refusals are answered as the contract words them."""

    def added(endpoint: Endpoint) -> Endpoint:
        async def answered(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Refusal as refusal:
                return Json(refusal.body, refusal.http_status)

        name = _operation_of(endpoint, path)
        router.add_api_route(
            path,
            answered,
            methods=[method],
            status_code=status,
            name=name,
            operation_id=name,
            summary=(endpoint.__doc__ or "").partition("\n")[0],
            response_model=None,
            responses=answers_of(path, method, status),
            openapi_extra=operation(path, method),
        )
        return endpoint

    return added


def _actor(request: Request) -> str | None:
    actor: str | None = getattr(request.state, "actor", None)
    return actor


async def _row(followed: Followed, pipeline_id: object) -> RunRow:
    is_id = isinstance(pipeline_id, str) and RUN_ID.fullmatch(pipeline_id) is not None
    row = await followed.row(pipeline_id) if is_id and isinstance(pipeline_id, str) else None
    if row is None:
        raise no_pipeline()
    return row


async def _asked(request: Request) -> tuple[Followed, RunRow]:
    followed = followed_of(request)
    row = await _row(followed, request.path_params["pipeline_id"])
    if (found := getattr(request.state, "refused_body", None)) is not None:  # by the gate; the id comes first
        told = orjson.loads(found.body)
        raise Refusal(found.status_code, told.pop("error"), **told)
    return followed, row


# --- start and list ---------------------------------------------------------------------------------------------------


@_route("/run", "POST", 202)
@_route("/pipelines", "POST", 202)
async def start(request: Request) -> Response:
    """Start a pipeline."""
    run_id = await operations.start(followed_of(request), await json_object(request), _actor(request))
    return Json({"pipeline_id": run_id}, 202)


@_route("/pipelines", "GET")
async def listing(request: Request) -> Response:
    """The newest runs of pipelines."""
    return Json({"pipelines": await followed_of(request).summaries()})


@_route("/pipelines/{pipeline_id}", "GET")
async def summary(request: Request) -> Response:
    """The summary of a run."""
    followed, row = await _asked(request)
    return Json(await followed.summary(row))


@_route("/status", "GET")
async def status(request: Request) -> Response:
    """The summary of a run."""
    pipeline_id = request.query_params.get("pipeline_id") or request.query_params.get("id")
    if not pipeline_id:
        raise Refusal(400, "pipeline_id is required")
    followed = followed_of(request)
    return Json(await followed.summary(await _row(followed, pipeline_id)))


# --- events -----------------------------------------------------------------------------------------------------------


@_route("/pipelines/{pipeline_id}/events", "GET")
async def events(request: Request) -> Response:
    """The records of a run: a stream of events, or JSON."""
    followed, row = await _asked(request)
    after = sequence_after(request)
    if request.query_params.get("stream", "").lower() in ("false", "0"):
        return Json({"events": (await followed.portrait(row)).log[after:]})
    await followed.portrait(row)  # what is wrong with the journal is told before the stream begins
    quiet_s: float = getattr(request.app.state, "heartbeat_s", QUIET_S)
    return StreamingResponse(
        _frames(followed.follow(row, after, quiet_s)),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _frames(batches: AsyncIterator[list[Record]]) -> AsyncIterator[bytes]:
    async for batch in batches:
        yield b"".join(frame(record["sequence"], record["type"], record) for record in batch) or COMMENT


# --- cancel and resume ------------------------------------------------------------------------------------------------


@_route("/pipelines/{pipeline_id}/cancel", "POST", 202)
async def cancel(request: Request) -> Response:
    """Cancel a run; answered when that is durable and its processes are gone."""
    followed, row = await _asked(request)
    await operations.cancel(followed, row, _actor(request))
    return Json({"pipeline_id": row.run_id, "status": "cancelled"}, 202)


@_route("/pipelines/{pipeline_id}/resume", "POST", 202)
async def resume(request: Request) -> Response:
    """Resume a cancelled run in which a person has answered a gate."""
    followed, row = await _asked(request)
    actor = _actor(request)
    await operations.resume(followed, row, actor, command_id(request, actor, "resume"))
    told = {"recovery_action": CHECKPOINT_RESUME, "resumed_from_status": "cancelled"}
    return Json({"pipeline_id": row.run_id, "status": "running", **told}, 202)


# --- graph ------------------------------------------------------------------------------------------------------------


@_route("/pipelines/{pipeline_id}/graph", "GET")
async def graph(request: Request) -> Response:
    """The graph of a run, in one of five formats."""
    followed, row = await _asked(request)
    wanted = request.query_params.get("format", "svg")
    name = wanted.lower()
    if name not in graphs.MEDIA_TYPES:
        told = {"format": wanted, "supported_formats": graphs.FORMATS}
        raise Refusal(400, "unsupported graph format", **told)
    if name == "svg":
        return Response(await operations.svg(followed, row), media_type=graphs.MEDIA_TYPES[name])
    pipeline = await operations.pipeline_of(followed, row)
    if name == "json":
        return Json({"graph": graphs.graph_data(pipeline)})
    texts = {"text": graphs.graph_text, "mermaid": graphs.graph_mermaid}
    text = texts[name](pipeline) if name in texts else pipeline.source or ""
    return Response(text.encode("utf-8", "replace"), media_type=graphs.MEDIA_TYPES[name])


# --- questions --------------------------------------------------------------------------------------------------------


@_route("/pipelines/{pipeline_id}/questions", "GET")
async def questions(request: Request) -> Response:
    """The open questions of a run."""
    followed, row = await _asked(request)
    return Json({"questions": [one.data for one in (await followed.portrait(row)).questions]})


@_route("/pipelines/{pipeline_id}/questions/{question_id}/answer", "POST", 202)
async def answer_question(request: Request) -> Response:
    """Answer an open question."""
    followed, row = await _asked(request)
    question_id: str = request.path_params["question_id"]
    if not is_keyed(request):
        operations.find_question(await followed.portrait(row), question_id)
    return await _answered(request, followed, row, question_id, await json_object(request))


@_route("/answer", "POST", 202)
async def answer(request: Request) -> Response:
    """Answer an open question."""
    body = await json_object(request)
    pipeline_id = body.get("pipeline_id") or body.get("id")
    question_id = body.get("question_id") or body.get("qid")
    if not isinstance(pipeline_id, str) or not isinstance(question_id, str):
        raise Refusal(400, "pipeline_id and question_id are required")
    followed = followed_of(request)
    row = await _row(followed, pipeline_id)
    if not is_keyed(request):
        operations.find_question(await followed.portrait(row), question_id)
    return await _answered(request, followed, row, question_id, body)


async def _answered(
    request: Request, followed: Followed, row: RunRow, question_id: str, body: dict[str, Any]
) -> Response:
    given, actor = given_answer(body), _actor(request)
    command = command_id(request, actor, "answer", question_id, given)
    await operations.answer(followed, row, question_id, given, actor, command)
    return Json({"pipeline_id": row.run_id, "question_id": question_id, "accepted": True}, 202)


# --- checkpoint, context, artifacts -----------------------------------------------------------------------------------


@_route("/pipelines/{pipeline_id}/checkpoint", "GET")
async def checkpoint(request: Request) -> Response:
    """The checkpoint of a run."""
    followed, row = await _asked(request)
    told = checkpoint_data(await followed.portrait(row))
    if told is not None:
        told["context"] = await _whole(followed, told["context"])
    return Json({"checkpoint": told})


@_route("/pipelines/{pipeline_id}/context", "GET")
async def context(request: Request) -> Response:
    """The context of a run."""
    followed, row = await _asked(request)
    return Json({"context": await _whole(followed, current_context(await followed.portrait(row)))})


async def _whole(followed: Followed, values: dict[str, Any]) -> dict[str, Any]:
    """The same with large values in their places, as they were given."""
    return {name: as_given(await resolved(followed.runtime.store, value)) for name, value in values.items()}


@_route("/pipelines/{pipeline_id}/artifacts", "GET")
async def artifacts(request: Request) -> Response:
    """What a run keeps."""
    followed, row = await _asked(request)
    return Json({"artifacts": [entry.data for entry in (await followed.portrait(row)).artifacts]})


@_route("/pipelines/{pipeline_id}/artifacts/{artifact_id}", "GET")
async def artifact(request: Request) -> Response:
    """The bytes of an artifact."""
    followed, row = await _asked(request)
    wanted = request.path_params["artifact_id"]
    found = next((one for one in (await followed.portrait(row)).artifacts if one.sha256 == wanted), None)
    if found is None:
        raise Refusal(404, "artifact not found")
    data = await followed.runtime.store.get_artifact(found.sha256)
    disposition = f'attachment; filename="{found.file_name}"'
    return Response(data, media_type=found.served_type, headers={"content-disposition": disposition})
