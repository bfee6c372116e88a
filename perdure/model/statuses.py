"""What an HTTP answer that is no success means, and what an exception of somebody else's library does."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from typing import Any, Final

from perdure.core.errors import PerdureError, RetryAfter
from perdure.core.secrets import redact_shapes
from perdure.model.errors import (
    ModelBusyError,
    ModelCallError,
    ModelError,
    ModelRefusedError,
    ModelTimeoutError,
    ModelUnauthorizedError,
    ModelUnavailableError,
)

MOST_TOLD: Final = 500
"""Characters of an endpoint's own words that an error repeats."""

_LATER: Final = frozenset((408, 409, 425, 429))
_WAITING: Final = frozenset((429, 503))
_NOT_TEXT: Final = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_WORDS: Final = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
}


def error_of_status(
    status: int, headers: Mapping[str, str], told: str, now_s: float, *, what: str = "the endpoint answered", **ids: Any
) -> ModelError:
    """The error that an HTTP status stands for.

    Args:
        status: of the answer, not 2xx.
        headers: of the answer, with names in lower case (or a mapping that does not care).
        told: what the endpoint says about it.
        now_s: the time, in seconds since 1970; an HTTP date in `Retry-After` is measured from the answer's own `Date`
            if it has one.
        what: how the message begins.
        ids: of the error.
    """
    said = f": {told}" if told else ""
    message = f"{what} {status}{said}"
    if status in _WAITING:
        delay_s = retry_after_s(headers, now_s)
        if delay_s is not None:
            return ModelBusyError(message, delay_s=delay_s, status=status, **ids)
    if status in _LATER or status >= 500:
        return ModelUnavailableError(message, status=status, **ids)
    if status in (401, 403):
        return ModelUnauthorizedError(message, status=status, **ids)
    if 300 <= status < 400:
        hint = "redirects are not followed: set the base URL to where it leads"
        return ModelRefusedError(message, status=status, hint=hint, **ids)
    return ModelRefusedError(message, status=status, **ids)


def error_inside(error: object, told: str, now_s: float, **ids: Any) -> ModelError:
    """The error that an endpoint reports inside an answer that began as a success.

    Its code or type decides if it is a known one, else it is taken for a fault of the endpoint.

    Args:
        error: what it reports, decoded JSON.
        told: its words, fit for a message.
        now_s: the time, in seconds since 1970.
        ids: of the error.
    """
    members = error if isinstance(error, dict) else {}
    for name in ("status", "code", "type"):
        word = members.get(name)
        status = _WORDS.get(word) if isinstance(word, str) else word
        if isinstance(word, str) and status is None and word.isdecimal() and len(word) == 3:
            status = int(word)
        if type(status) is int and 400 <= status <= 599:
            return error_of_status(status, {}, told, now_s, what="the endpoint broke off with", **ids)
    said = f": {told}" if told else ""
    return ModelUnavailableError(f"the endpoint broke off with an error{said}", **ids)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that `Retry-After` asks to wait, never negative; `None` if there is no such header that makes sense."""
    header = headers.get("retry-after")
    if header is None:
        return None
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", header.strip()):
        return float(header)
    until_s = _instant_s(header)
    if until_s is None:
        return None
    sent_s = _instant_s(headers.get("date", ""))
    return max(0.0, until_s - (now_s if sent_s is None else sent_s))


def _instant_s(date: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None


def told_by(answer: object) -> str:
    """What an endpoint says in the JSON of an error, in any of the usual forms; empty if nothing."""
    for _ in range(3):
        if isinstance(answer, str):
            return answer
        if not isinstance(answer, dict):
            return ""
        answer = next((answer[name] for name in ("error", "message", "detail", "type") if answer.get(name)), None)
    return ""


def one_line(text: str) -> str:
    """Text of others, made fit for a message: one line, bounded, without what has the shape of a secret."""
    line = _NOT_TEXT.sub(" ", text).strip()
    line = redact_shapes(line.encode("utf-8", "replace")).decode()
    return line if len(line) <= MOST_TOLD else line[:MOST_TOLD] + "…"


def as_model_error(error: Exception, now_s: float) -> Exception:
    """An exception of a backend as the error that the step fails with.

    Errors of Perdure stay what they are. Of other libraries' exceptions the HTTP status is understood, where they have
    one (`status_code`, or `response.status_code`); anything else may be tried again.

    Args:
        error: what the backend raised.
        now_s: the time, in seconds since 1970.
    """
    if isinstance(error, PerdureError):
        return error
    told = one_line(str(error)) or type(error).__name__
    if isinstance(error, RetryAfter):
        return ModelBusyError(told, delay_s=error.delay_s, status=error.status_code)
    if isinstance(error, TimeoutError):
        return ModelTimeoutError(told)
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if type(status) is int and 300 <= status <= 599:
        headers = getattr(response, "headers", None)
        known = headers if isinstance(headers, Mapping) else {}
        return error_of_status(status, known, told, now_s, what="the backend was answered")
    return ModelCallError(told, error_type=type(error).__name__)
