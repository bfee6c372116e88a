"""Asking a model on behalf of a stage: the request, the thread it belongs to, and the step."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from perdure.model.asking import model_step
from perdure.model.reply import ModelReply
from perdure.model.request import Message, ModelRequest
from perdure.model.simulation import STAGE, SimulatedBackend
from perdure.pipeline.blueprint import FULL
from perdure.pipeline.fidelity import fidelity_of, thread_of
from perdure.pipeline.preamble import preamble_of
from perdure.pipeline.stage import Stage
from perdure.pipeline.threads import extend, messages_of

SIMULATED: Final = SimulatedBackend()
PATIENCE_S: Final = 10.0
"""How often a run that began with a model looks for one, where the environment names none any more."""


async def ask(stage: Stage, prompt: str) -> ModelReply:
    """Ask the model that the stage names.

    A run that began without a backend is simulated to its end: nothing is asked, and nothing recorded.

    Args:
        stage: that asks.
        prompt: what it asks.

    Raises:
        StepFailed: there is no answer.
    """
    own = stage.context.get_own("run")
    if isinstance(own, dict) and own.get("simulated"):
        return await SIMULATED.complete(
            ModelRequest((Message("user", prompt or stage.id),), metadata={STAGE: stage.id})
        )
    settings, graph = stage.settings, stage.blueprint.settings
    edge = None if stage.entered_by is None else stage.entered_by.settings
    fidelity = fidelity_of(graph, settings, edge)
    previous = None if stage.previous is None else stage.previous.node
    thread = thread_of(graph, settings, edge, stage.place.node, previous)
    before = await messages_of(stage, thread) if fidelity == FULL else _preamble(stage, fidelity)
    request = ModelRequest(
        (*before, Message("user", prompt)),
        model=settings.llm_model or None,
        provider=settings.llm_provider or None,
        effort=settings.reasoning_effort or None,
        metadata={STAGE: stage.id},
    )
    asking = model_step(stage.pipeline.backend(), patience_s=PATIENCE_S).options(retries=0)
    if settings.timeout_s is not None:
        request = replace(request, timeout_s=settings.timeout_s)
        asking = asking.options(timeout=settings.timeout_s)
    reply = await stage.run.step(asking, request)
    if stage.blueprint.keeps_threads:
        extend(stage, thread, prompt, reply.text)
    return reply


def _preamble(stage: Stage, fidelity: str) -> list[Message]:
    text = preamble_of(stage, fidelity)
    return [Message("system", text)] if text else []
