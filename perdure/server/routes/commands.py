"""What changes runs: start, answer, signal, cancel, pause, resume, retry, resolve."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from perdure.engine.runtime import Runtime
from perdure.server.asked import (
    Actor,
    AnswerBody,
    CommandBody,
    CommandId,
    Engine,
    KnownPipelines,
    ReasonBody,
    ResolveBody,
    ResumeBody,
    RunId,
    SignalBody,
    StartBody,
    check_resendable,
    run_id_for,
)
from perdure.server.direct import DirectRoute, bound_by, start_arguments
from perdure.server.responses import Json
from perdure.server.told import runs as told
from perdure.server.told.errors import answers

ACCEPTED = 202
ANSWERS: Final = answers(told.Taken, 404, 409, 422, status=ACCEPTED, description="it is durable")

router = APIRouter(tags=["commands"], route_class=DirectRoute)


@router.post("/runs", status_code=201, responses=answers(told.Started, 404, 409, status=201))
@bound_by(start_arguments)
async def start_run(body: StartBody, runtime: Engine, actor: Actor, key: CommandId) -> Json:
    """Start a run. When this answers, the start is durable."""
    check_resendable(body.id, key)
    graph = runtime.registry.get(body.workflow)
    handle = await runtime.start_bound(
        graph,
        graph.check_input(body.input),
        id=run_id_for(key, actor) if key is not None else body.id,
        tags=body.tags,
        skip_tags=body.skip_tags,
        profile=body.profile,
        actor=actor,
    )
    answer = {"run_id": handle.id, "status": await handle.status()}
    return Json(answer, 201, {"location": f"/runs/{handle.id}"})


@router.post("/runs/{run_id}/questions/{wait_id}/answer", status_code=ACCEPTED, responses=ANSWERS)
async def answer_question(
    run_id: RunId, wait_id: str, body: AnswerBody, runtime: Engine, actor: Actor, key: CommandId
) -> Json:
    """Answer a question. When this answers, the answer is durable."""
    await _answer(runtime, run_id, body, actor, key, wait_id)
    return await _taken(runtime, run_id, {"wait_id": wait_id})


@router.post("/runs/{run_id}/answer", status_code=ACCEPTED, responses=ANSWERS)
async def answer_run(run_id: RunId, body: AnswerBody, runtime: Engine, actor: Actor, key: CommandId) -> Json:
    """Answer the only question of a run."""
    await _answer(runtime, run_id, body, actor, key)
    return await _taken(runtime, run_id)


@router.post("/runs/{run_id}/signal", status_code=ACCEPTED, responses=ANSWERS)
async def signal_run(run_id: RunId, body: SignalBody, runtime: Engine, actor: Actor, key: CommandId) -> Json:
    """Send a signal to a run; it is kept until the run reads it."""
    await _signal(runtime, body, actor, key, run_id)
    return await _taken(runtime, run_id)


@router.post("/signals", status_code=ACCEPTED, responses=ANSWERS)
async def signal_whoever_waits(body: SignalBody, runtime: Engine, actor: Actor, key: CommandId) -> Json:
    """Send a signal to the one run that waits for its name and key."""
    return await _taken(runtime, await _signal(runtime, body, actor, key))


@router.post("/runs/{run_id}/cancel", status_code=ACCEPTED, responses=ANSWERS)
async def cancel_run(
    run_id: RunId, runtime: Engine, actor: Actor, key: CommandId, body: ReasonBody | None = None
) -> Json:
    """Ask a run, and its children, to end."""
    body = body or ReasonBody()
    person, via = body.decided_by(actor)
    await runtime.cancel(run_id, reason=body.reason, actor=person, via=via, command_id=key)
    return await _taken(runtime, run_id)


@router.post("/runs/{run_id}/pause", status_code=ACCEPTED, responses=ANSWERS)
async def pause_run(
    run_id: RunId, runtime: Engine, actor: Actor, key: CommandId, body: CommandBody | None = None
) -> Json:
    """Pause a run: what is in flight ends, nothing new begins."""
    person, via = (body or CommandBody()).decided_by(actor)
    await runtime.pause(run_id, actor=person, via=via, command_id=key)
    return await _taken(runtime, run_id)


@router.post("/runs/{run_id}/resume", status_code=ACCEPTED, responses=ANSWERS)
async def resume_run(
    run_id: RunId, runtime: Engine, actor: Actor, key: CommandId, body: ResumeBody | None = None
) -> Json:
    """Undo a pause, or let a parked run go on."""
    body = body or ResumeBody()
    person, via = body.decided_by(actor)
    await runtime.unpause(run_id, accept_definition=body.accept_definition, actor=person, via=via, command_id=key)
    return await _taken(runtime, run_id)


@router.post("/runs/{run_id}/retry", status_code=ACCEPTED, responses=ANSWERS)
async def retry_run(
    run_id: RunId,
    runtime: Engine,
    library: KnownPipelines,
    actor: Actor,
    key: CommandId,
    body: ReasonBody | None = None,
) -> Json:
    """Open a failed or cancelled run again; it forgets exactly the failure that ended it."""
    body = body or ReasonBody()
    person, via = body.decided_by(actor)
    async with library.opening(await runtime.run(run_id).row()):
        await runtime.retry(run_id, reason=body.reason, actor=person, via=via, command_id=key)
    return await _taken(runtime, run_id)


@router.post("/runs/{run_id}/resolve", status_code=ACCEPTED, responses=ANSWERS)
async def resolve_step(run_id: RunId, body: ResolveBody, runtime: Engine, actor: Actor, key: CommandId) -> Json:
    """Say what became of a step in doubt."""
    person, via = body.decided_by(actor)
    await runtime.resolve(
        run_id, body.resolution, step=body.step, value=body.value, actor=person, via=via, command_id=key
    )
    return await _taken(runtime, run_id)


async def _answer(
    runtime: Runtime, run_id: str, body: AnswerBody, actor: str, key: str | None, wait_id: str | None = None
) -> None:
    person, via = body.decided_by(actor)
    await runtime.answer(run_id, body.value, wait_id=wait_id, saw=body.hash, actor=person, via=via, command_id=key)


async def _signal(runtime: Runtime, body: SignalBody, actor: str, key: str | None, run_id: str | None = None) -> str:
    person, via = body.decided_by(actor)
    return await runtime.signal(
        body.name,
        body.payload,
        run_id=run_id,
        match=body.match,
        sender_id=body.sender_id,
        actor=person,
        via=via,
        command_id=key,
    )


async def _taken(runtime: Runtime, run_id: str, more: dict[str, Any] | None = None) -> Json:
    """The command is durable: how the run stands now."""
    status = await runtime.run(run_id).status()
    return Json({"run_id": run_id, "status": status, "accepted": True} | (more or {}), ACCEPTED)
