"""What the OpenAPI document says of the `/pipelines` routes: parameters, bodies, answers."""

from __future__ import annotations

import re
from typing import Any, Final

from perdure.server.pipelines.artifacts import SERVED_AS
from perdure.server.pipelines.graphs import FORMATS, MEDIA_TYPES
from perdure.server.told import pipelines as told
from perdure.server.told.errors import refusals
from perdure.server.told.streams import streamed

Schema = dict[str, Any]
_IN_PATH = re.compile(r"{(\w+)}")


def _any_case(word: str) -> str:
    """A pattern for a word; that of a schema has no flags."""
    return "".join(f"[{letter}{letter.upper()}]" for letter in word)


TEXT: Final[Schema] = {"type": "string"}
ID: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
BYTES: Final[Schema] = {"schema": {"type": "string", "format": "binary"}}
OPTIONS: Final[Schema] = {
    "type": ["object", "null"],
    "additionalProperties": False,
    "properties": {
        "pipeline_id": ID,
        "max_steps": {"type": "integer", "minimum": 1, "maximum": 1_000_000, "default": 500},
        "initial_delay_ms": {"type": "number", "minimum": 0, "maximum": 604_800_000},
        "backoff_factor": {"type": "number", "minimum": 0, "maximum": 1000},
        "max_delay_ms": {"type": "number", "minimum": 0, "maximum": 604_800_000},
        "retry_jitter": {"type": "boolean"},
        "logs_root": {"description": "accepted and ignored"},
        "retry_sleep": {"description": "accepted and ignored"},
    },
}
START: Final[Schema] = {
    "type": "object",
    "properties": {
        "dot": {"type": "string", "minLength": 1, "description": "the source of the graph"},
        "dot_source": {"type": "string", "minLength": 1, "description": "the same, by another name"},
        "context": {"type": ["object", "null"], "description": "what the run begins with"},
        "opts": OPTIONS,
    },
    "anyOf": [{"required": ["dot"]}, {"required": ["dot_source"]}],
}
GIVEN: Final[Schema] = {
    "description": "a key, a label, a target, a boolean, a list of these, or free text",
    "not": {"type": "null"},
}
ANSWER: Final[Schema] = {
    "type": "object",
    "properties": {"answer": GIVEN, "value": GIVEN},
    "anyOf": [{"required": ["answer"]}, {"required": ["value"]}],
}
ANY_ANSWER: Final[Schema] = {
    "type": "object",
    "properties": {**ANSWER["properties"], "pipeline_id": TEXT, "id": TEXT, "question_id": TEXT, "qid": TEXT},
    "allOf": [
        {"anyOf": [{"required": ["answer"]}, {"required": ["value"]}]},
        {"anyOf": [{"required": ["pipeline_id"]}, {"required": ["id"]}]},
        {"anyOf": [{"required": ["question_id"]}, {"required": ["qid"]}]},
    ],
}

BODIES: Final[dict[str, Schema]] = {
    "/pipelines": START,
    "/run": START,
    "/answer": ANY_ANSWER,
    "/pipelines/{pipeline_id}/questions/{question_id}/answer": ANSWER,
}
QUERIES: Final[dict[str, dict[str, Schema]]] = {
    "/status": {"pipeline_id": TEXT, "id": TEXT},
    "/pipelines/{pipeline_id}/events": {
        "after": TEXT | {"description": "only records with a higher sequence; what is no whole number counts as 0"},
        "stream": TEXT | {"description": "`false` or `0`: as JSON, not as a stream"},
    },
    "/pipelines/{pipeline_id}/graph": {
        "format": {
            "type": "string",
            "pattern": f"^({'|'.join(_any_case(name) for name in FORMATS)})$",
            "default": "svg",
            "description": f"any of {', '.join(FORMATS)}, in any case",
        }
    },
}
_RUN: Final = "/pipelines/{pipeline_id}"
RESENDABLE: Final = frozenset((f"{_RUN}/resume", f"{_RUN}/questions/{{question_id}}/answer", "/answer"))
"""Where a command that comes again under its key is recognised."""
_MODELS: Final[dict[tuple[str, str], Any]] = {
    ("POST", "/pipelines"): told.PipelineStarted,
    ("POST", "/run"): told.PipelineStarted,
    ("GET", "/pipelines"): told.Pipelines,
    ("GET", _RUN): told.PipelineSummary,
    ("GET", "/status"): told.PipelineSummary,
    ("POST", f"{_RUN}/cancel"): told.PipelineCancelled,
    ("POST", f"{_RUN}/resume"): told.PipelineResumed,
    ("GET", f"{_RUN}/graph"): told.PipelineGraph,
    ("GET", f"{_RUN}/questions"): told.GateQuestions,
    ("POST", f"{_RUN}/questions/{{question_id}}/answer"): told.GateAnswered,
    ("POST", "/answer"): told.GateAnswered,
    ("GET", f"{_RUN}/checkpoint"): told.Checkpointed,
    ("GET", f"{_RUN}/context"): told.PipelineContext,
    ("GET", f"{_RUN}/artifacts"): told.PipelineArtifacts,
}
_MEDIA: Final[dict[str, list[str]]] = {
    f"{_RUN}/graph": sorted(set(MEDIA_TYPES.values()) - {"application/json"}),
    f"{_RUN}/artifacts/{{artifact_id}}": sorted({"application/octet-stream", *SERVED_AS}),
}
_REFUSALS: Final[dict[tuple[str, str], tuple[int, ...]]] = {
    ("POST", "/pipelines"): (409, 422),
    ("POST", "/run"): (409, 422),
    ("GET", "/status"): (404,),
    ("POST", f"{_RUN}/cancel"): (409,),
    ("POST", f"{_RUN}/resume"): (409, 422),
    ("GET", f"{_RUN}/graph"): (422,),
    ("POST", f"{_RUN}/questions/{{question_id}}/answer"): (409, 422),
    ("POST", "/answer"): (404, 409, 422),
}


def operation(path: str, method: str) -> Schema:
    """What the document says of the requests of one route, beyond its name.

    Args:
        path: with its parameters in braces.
        method: of HTTP.
    """
    asked: Schema = {"parameters": _parameters(path)}
    if method == "POST" and path in BODIES:
        asked["requestBody"] = {"required": True, "content": {"application/json": {"schema": BODIES[path]}}}
    return asked


def answers_of(path: str, method: str, status: int) -> dict[int | str, Any]:
    """What the document says of the answers of one route, beside what holds for all.

    Args:
        path: with its parameters in braces.
        method: of HTTP.
        status: of success.
    """
    if path.endswith("/events"):
        return streamed(told.PipelineEvents) | refusals(*_REFUSALS.get((method, path), ()))
    answer: Schema = {"description": "as asked"}
    model = _MODELS.get((method, path))
    if model is not None:
        answer["model"] = model
    if path in _MEDIA:
        answer["content"] = {media_type: BYTES for media_type in _MEDIA[path]}
    return {status: answer} | refusals(*_REFUSALS.get((method, path), ()))


def _parameters(path: str) -> list[Schema]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": ID if name == "pipeline_id" else TEXT}
        for name in _IN_PATH.findall(path)
    ]
    queries = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in QUERIES.get(path, {}).items()
    ]
    header = "Last-Event-ID" if path.endswith("/events") else "Idempotency-Key" if path in RESENDABLE else None
    headers = [] if header is None else [{"name": header, "in": "header", "required": False, "schema": TEXT}]
    return in_path + queries + headers
