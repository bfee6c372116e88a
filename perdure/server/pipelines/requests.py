"""What requests to `/pipelines` hand in, and the refusals that this contract words itself."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request

from perdure.core.canonical import parse_strict
from perdure.core.errors import PerdureError, ValueRefusedError
from perdure.core.pipeline_errors import PipelineInvalidError, PipelineSyntaxError
from perdure.pipeline.validation import parse_error
from perdure.server.responses import cleaned, status_of

MAX_BODY_BYTES: Final = 1_000_000
HIGHEST: Final = 1 << 62
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)


class Refusal(Exception):
    """A request that is refused.

    Args:
        http_status: of the answer.
        error: in words, as the contract has them.
        members: beside it.
    """

    def __init__(self, http_status: int, error: str, /, **members: Any) -> None:
        super().__init__(error)
        self.http_status = http_status
        self.body: dict[str, Any] = {"error": error, **members}


def no_pipeline() -> Refusal:
    """There is no such run."""
    return Refusal(404, "pipeline not found")


def refused(error: PerdureError, field: str | None = None) -> Refusal:
    """The refusal that an error of Perdure is: `error`, `field` where one is to blame, `diagnostics` of a graph."""
    members: dict[str, Any] = {}
    named = error.ids.get("field") or field
    if isinstance(error, PipelineSyntaxError):
        members["diagnostics"] = [parse_error(error).to_dict()]
    elif isinstance(error, PipelineInvalidError):
        members["diagnostics"] = error.diagnostics
    elif named is not None:
        members["field"] = str(named)
    return Refusal(status_of(error), cleaned(error.message), **members)


async def json_object(request: Request) -> dict[str, Any]:
    """The body of a request, which is one JSON object.

    Raises:
        Refusal: it is too large (413), not sent as JSON (415), or no JSON object (400).
    """
    body = await _bytes(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(415, "content type must be application/json")
    try:
        tree: object = parse_strict(body)
    except (ValueRefusedError, ValueError, RecursionError) as error:  # also a number of too many digits
        raise Refusal(400, "invalid json body") from error
    if not isinstance(tree, dict):
        raise Refusal(400, "invalid json body")
    return tree


async def _bytes(request: Request) -> bytes:
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > MAX_BODY_BYTES:
            raise Refusal(413, "request body too large", max_bytes=MAX_BODY_BYTES)
    return bytes(found)


def given_answer(body: dict[str, Any]) -> Any:
    """What a body answers.

    Raises:
        Refusal: nothing (422).
    """
    for name in ("answer", "value"):
        if body.get(name) is not None:
            return body[name]
    raise Refusal(422, "answer is required", field="answer")


def sequence_after(request: Request) -> int:
    """The sequence behind which a reader wants to go on: `Last-Event-ID`, else `after`; what is no whole number, or is
    negative, counts as 0."""
    last = request.headers.get("last-event-id")
    text = (request.query_params.get("after") or "") if last is None else last
    return min(int(text), HIGHEST) if _WHOLE.fullmatch(text.strip()) else 0
