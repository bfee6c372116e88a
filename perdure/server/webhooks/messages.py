"""What a webhook says: which events of the journal become messages, and their bodies.

A message is a fixed function of the journal, so a repeat has the same id and the same body; unless a payload was erased
meanwhile: then the body no longer holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from perdure.core import kinds
from perdure.core.events import Event

RUN_COMPLETED: Final = "run.completed"
RUN_FAILED: Final = "run.failed"
RUN_CANCELLED: Final = "run.cancelled"
RUN_PARKED: Final = "run.parked"
QUESTION_OPENED: Final = "question.opened"
STEP_IN_DOUBT: Final = "step.in_doubt"
TYPES: Final = (RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_PARKED, QUESTION_OPENED, STEP_IN_DOUBT)
"""What an endpoint may ask for."""

MOST_BYTES: Final = 16 * 1024
"""A member whose JSON is longer is left out of the body and named under `omitted`: receivers want small bodies, and may
ask the service for the rest."""


class About(NamedTuple):
    """What is told of the run beside the event; it never changes."""

    workflow: str
    parent_id: str | None


def type_of(event: Event) -> str | None:
    """The type of the message that an event becomes, if it becomes one."""
    if event.kind == kinds.WAIT_OPENED:
        return QUESTION_OPENED if _payload(event).get("wait") == "question" else None
    if event.kind == kinds.RUN_PAUSED:
        return RUN_PARKED if _payload(event).get("reason") != "paused" else None
    return _TYPES.get(event.kind)


def message_id(event: Event, type_: str) -> str:
    """The id of a message, by which a receiver tells a repeat.

    It is hashed from the record's header, which the chain of hashes makes unique, so two stores never share one.
    """
    return "msg_" + sha256(event.header + b"\x00" + type_.encode()).hexdigest()[:32]


def body_of(event: Event, type_: str, about: About) -> bytes:
    """The body of a message: `type`, `timestamp` (of the event) and `data`, as JSON."""
    data: dict[str, Any] = {
        "run_id": event.run_id,
        "workflow": about.workflow,
        "parent_id": about.parent_id,
        "seq": event.seq,
    }
    omitted: list[str] = []
    for name, value in _TOLD[type_](_payload(event), event).items():
        if _is_artifact(value) or len(orjson.dumps(value)) > MOST_BYTES:
            omitted.append(name)
        else:
            data[name] = value
    data["omitted"] = omitted
    at = datetime.fromtimestamp(event.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"type": type_, "timestamp": at.replace("+00:00", "Z"), "data": data})


def _payload(event: Event) -> Mapping[str, Any]:
    """A payload; of one that was erased, or is damaged, nothing is told."""
    try:
        data = event.data
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _is_artifact(value: object) -> bool:
    return isinstance(value, dict) and len(value) == 1 and "$artifact" in value


def _completed(payload: Mapping[str, Any], _: Event) -> dict[str, Any]:
    return {"status": "completed", "output": payload.get("output"), "in_doubt": payload.get("in_doubt") or []}


def _failed(payload: Mapping[str, Any], _: Event) -> dict[str, Any]:
    return {"status": "failed", "error": payload.get("error"), "in_doubt": payload.get("in_doubt") or []}


def _cancelled(payload: Mapping[str, Any], _: Event) -> dict[str, Any]:
    return {
        "status": "cancelled",
        "reason": payload.get("reason") or None,
        "in_doubt": payload.get("in_doubt") or [],
    }


def _parked(payload: Mapping[str, Any], _: Event) -> dict[str, Any]:
    told = {name: payload.get(name) for name in ("reason", "message", "detail")}
    return {"status": "paused"} | told


def _question(payload: Mapping[str, Any], _: Event) -> dict[str, Any]:
    question = payload.get("question") or {}
    return {
        "wait_id": payload.get("wait_id"),
        "text": question.get("text"),
        "kind": question.get("kind"),
        "choices": question.get("choices") or [],
        "keys": question.get("keys") or [],
        "deadline_ms": payload.get("deadline_ms"),
        "has_default": bool(payload.get("has_default")),
        "default": payload.get("default"),
        "approve": question.get("approve"),
        "hash": question.get("hash"),
        "step": payload.get("subject"),
    }


def _doubt(payload: Mapping[str, Any], event: Event) -> dict[str, Any]:
    return {
        "step": event.key,
        "scope": event.scope,
        "node": event.node,
        "attempt": payload.get("attempt"),
        "cause": payload.get("cause"),
        "error": payload.get("error"),
    }


_TYPES: Final = {
    kinds.RUN_COMPLETED: RUN_COMPLETED,
    kinds.RUN_FAILED: RUN_FAILED,
    kinds.RUN_CANCELLED: RUN_CANCELLED,
    kinds.STEP_DOUBTED: STEP_IN_DOUBT,
}
_TOLD: Final[dict[str, Callable[[Mapping[str, Any], Event], dict[str, Any]]]] = {
    RUN_COMPLETED: _completed,
    RUN_FAILED: _failed,
    RUN_CANCELLED: _cancelled,
    RUN_PARKED: _parked,
    QUESTION_OPENED: _question,
    STEP_IN_DOUBT: _doubt,
}
