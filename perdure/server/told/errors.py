"""What refusals hold."""

from __future__ import annotations

from typing import Annotated, Any, Final, NotRequired

from pydantic import Field
from typing_extensions import TypedDict


class Problem(TypedDict):
    """One thing that is wrong: with a field of the request, or with a definition."""

    message: str
    field: NotRequired[str]
    code: NotRequired[str]
    subject: NotRequired[Annotated[list[str], Field(description="the nodes, or whatever else it is about")]]


class Refused(TypedDict):
    """A request that was refused. `error` says why, in one line. What came out of Perdure's own tree of errors has
    `code`, `category`, `retryable`, `hint` and `ids`, too."""

    error: Annotated[str, Field(description="the cause, in one line")]
    code: NotRequired[Annotated[str, Field(description="stable; see the table of errors")]]
    category: NotRequired[str]
    retryable: NotRequired[Annotated[bool, Field(description="whether the same request may succeed later")]]
    hint: NotRequired[Annotated[str, Field(description="what can be done about it")]]
    ids: NotRequired[Annotated[dict[str, Any], Field(description="the ids that matter")]]
    field: NotRequired[Annotated[str, Field(description="of the request, that is to blame")]]
    problems: NotRequired[Annotated[list[Problem], Field(description="all that is wrong with the request")]]
    reason: NotRequired[Annotated[str, Field(description="why a body is no JSON")]]
    scope: NotRequired[Annotated[str, Field(description="that the key lacks")]]
    max_bytes: NotRequired[Annotated[int, Field(description="of a body")]]
    max_depth: NotRequired[Annotated[int, Field(description="of a body's JSON")]]
    rate: NotRequired[Annotated[str, Field(description="that the key may not exceed")]]
    retry_after_s: NotRequired[Annotated[int, Field(description="seconds to wait")]]
    format: NotRequired[Annotated[str, Field(description="that was asked for")]]
    supported_formats: NotRequired[list[str]]
    diagnostics: NotRequired[Annotated[list[dict[str, Any]], Field(description="of a pipeline's graph")]]


class Damage(TypedDict):
    """What is wrong with what was read."""

    error: str
    code: str
    category: str
    retryable: bool
    hint: str
    ids: dict[str, Any]


REASONS: Final[dict[int, str]] = {
    400: "the request is not understood",
    401: "nobody knows who asks",
    403: "it is not for who asks",
    404: "there is no such thing",
    409: "not in this state",
    413: "the body is too large",
    415: "the body is not JSON",
    416: "there are no such bytes",
    422: "what was handed in is refused",
    429: "too much at once",
    500: "a record is not what was written, or the service failed",
    503: "the store cannot be read or written now",
}
"""What the statuses of refusals mean."""


def answers(model: Any, *statuses: int, status: int = 200, description: str = "as asked") -> dict[int | str, Any]:
    """What the document says of a route's answers, beside what holds for all routes.

    Args:
        model: what the answer to a request that succeeds holds.
        statuses: of refusals.
        status: of success.
        description: of success.
    """
    return {status: {"description": description, "model": model}} | refusals(*statuses)


def refusals(*statuses: int) -> dict[int | str, Any]:
    """What the document says of refusals with these statuses."""
    return {status: {"description": REASONS[status], "model": Refused} for status in statuses}
