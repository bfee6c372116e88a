"""Threads: the conversations that stages under the fidelity `full` go on with.

A thread is a chain of artifacts, each with one exchange and the name of the one before it; the run keeps the name of
the newest. So a long thread costs each stage no more than a short one, and comes back from the journal whole.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from perdure.model.request import Message
from perdure.pipeline.stage import Stage

LONGEST: Final = 200
"""So many exchanges are told; older ones are left out."""


async def messages_of(stage: Stage, thread: str) -> list[Message]:
    """What was said in a thread so far, oldest first."""
    exchanges: list[dict[str, Any]] = []
    name = stage.context.get_own(_key(thread))
    while isinstance(name, str) and len(exchanges) < LONGEST:
        exchange = orjson.loads(await stage.run.get(name))
        exchanges.append(exchange)
        name = exchange["before"]
    told = []
    for exchange in reversed(exchanges):
        told += [Message("user", exchange["prompt"]), Message("assistant", exchange["response"])]
    return told


def extend(stage: Stage, thread: str, prompt: str, response: str) -> None:
    """Add an exchange to a thread."""
    exchange = {"before": stage.context.get_own(_key(thread)), "prompt": prompt, "response": response}
    artifact = stage.keep("thread.json", orjson.dumps(exchange), "application/json")
    stage.context.set_own(_key(thread), artifact.sha256)


def _key(thread: str) -> str:
    return f"thread.{thread.replace('/', '_')[:100]}"
