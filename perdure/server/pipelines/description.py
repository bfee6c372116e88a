"""What the OpenAPI document says of the `/pipelines` routes: parameters, bodies, answers."""

from __future__ import annotations

import re
from typing import Any, Final

from perdure.server.pipelines.graphs import MEDIA_TYPES

Schema = dict[str, Any]
_IN_PATH = re.compile(r"{(\w+)}")

TEXT: Final[Schema] = {"type": "string"}
ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": TEXT,
        "field": TEXT,
        "diagnostics": {"type": "array", "items": {"type": "object"}},
    },
}
OPTIONS: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "pipeline_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
        "max_steps": {"type": "integer", "minimum": 1},
        "initial_delay_ms": {"type": "number", "minimum": 0},
        "backoff_factor": {"type": "number", "minimum": 0},
        "max_delay_ms": {"type": "number", "minimum": 0},
        "retry_jitter": {"type": "boolean"},
        "logs_root": {},
        "retry_sleep": {},
    },
}
START: Final[Schema] = {
    "type": "object",
    "properties": {"dot": TEXT, "dot_source": TEXT, "context": {"type": "object"}, "opts": OPTIONS},
    "anyOf": [{"required": ["dot"]}, {"required": ["dot_source"]}],
}
ANSWER: Final[Schema] = {"type": "object", "properties": {"answer": {}, "value": {}}}
ANY_ANSWER: Final[Schema] = {
    "type": "object",
    "properties": {**ANSWER["properties"], "pipeline_id": TEXT, "id": TEXT, "question_id": TEXT, "qid": TEXT},
}

BODIES: Final[dict[str, Schema]] = {
    "/pipelines": START,
    "/run": START,
    "/answer": ANY_ANSWER,
    "/pipelines/{pipeline_id}/questions/{question_id}/answer": ANSWER,
}
QUERIES: Final[dict[str, dict[str, Schema]]] = {
    "/status": {"pipeline_id": TEXT, "id": TEXT},
    "/pipelines/{pipeline_id}/events": {"after": TEXT, "stream": TEXT},
    "/pipelines/{pipeline_id}/graph": {"format": TEXT},
}
CONTENT: Final[dict[str, list[str]]] = {
    "/pipelines/{pipeline_id}/events": ["text/event-stream", "application/json"],
    "/pipelines/{pipeline_id}/graph": sorted(set(MEDIA_TYPES.values())),
    "/pipelines/{pipeline_id}/artifacts/{artifact_id}": ["application/octet-stream"],
}
_REASONS: Final = {
    400: "not understood",
    404: "there is no such thing",
    409: "not in this state",
    413: "too large",
    415: "not JSON",
    422: "refused",
    503: "not now",
}


def operation(path: str, method: str, status: int) -> Schema:
    """What the document says of one route, beyond its name.

    Args:
        path: with its parameters in braces.
        method: of HTTP.
        status: of success.
    """
    has_body = method == "POST" and path in BODIES
    told: Schema = {"parameters": _parameters(path), "responses": _responses(path, status)}
    if has_body:
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": BODIES[path]}}}
    return told


def _parameters(path: str) -> list[Schema]:
    in_path = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in _IN_PATH.findall(path)]
    return in_path + [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in QUERIES.get(path, {}).items()
    ]


def _responses(path: str, status: int) -> Schema:
    content: Schema = {}
    for media_type in CONTENT.get(path, ["application/json"]):
        is_json = media_type == "application/json"
        content[media_type] = {"schema": {"type": "object"} if is_json else TEXT}
    refusals = {
        str(code): {"description": reason, "content": {"application/json": {"schema": ERROR}}}
        for code, reason in _REASONS.items()
    }
    return {str(status): {"description": "as asked", "content": content}, **refusals}
