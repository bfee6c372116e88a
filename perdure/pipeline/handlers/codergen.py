"""`codergen`: a task for a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from perdure.pipeline.asking import ask
from perdure.pipeline.journey import outcome_from
from perdure.pipeline.outcome import STATUSES, Outcome
from perdure.pipeline.stage import MARKDOWN, Stage

LAST_RESPONSE_CHARACTERS = 200


async def generate(stage: Stage) -> Outcome:
    """Ask the model; its answer is an outcome as JSON, or text, which is a success."""
    prompt = stage.settings.prompt_or_label
    stage.keep("prompt.md", prompt, MARKDOWN)
    reply = await ask(stage, prompt)
    stage.keep("response.md", reply.text, MARKDOWN)
    fields = _fields(reply.text)
    outcome = Outcome() if fields is None else outcome_from(fields)
    if reply.finish_reason == "refusal" and fields is None:
        outcome = Outcome("fail", failure_reason=f"the model declined: {reply.text[:LAST_RESPONSE_CHARACTERS]}")
    told = {"last_stage": stage.id, "last_response": reply.text[:LAST_RESPONSE_CHARACTERS]}
    return replace(outcome.with_updates(told), output=reply.text)


def _fields(text: str) -> Mapping[str, Any] | None:
    """The fields of an outcome, if the text is one."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    status = found.get("outcome", found.get("status")) if isinstance(found, dict) else None
    return found if isinstance(status, str) and status in STATUSES else None
