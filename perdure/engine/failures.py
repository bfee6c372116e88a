"""Failures as data: how an exception is recorded, and how the recorded one is raised again."""

from __future__ import annotations

import email.utils
from typing import Any, Final

from perdure.core.errors import PerdureError, RetryAfter, StepFailed, StepResultError, StepTimeout
from perdure.core.policies import LEAST_RETRY_AFTER_S, StepPolicy
from perdure.core.secrets import redact_shapes
from perdure.core.values import codec_for

MOST_RETRY_AFTER_S: Final = 10 * 365 * 86_400.0
MOST_MESSAGE: Final = 4000
"""Characters of an exception's text that are recorded."""


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as it is recorded: code, type, message, details and, where it has one, the record that it came
    from."""
    message = _text(error)
    if len(message) > MOST_MESSAGE:
        message = message[:MOST_MESSAGE] + "…"
    message = redact_shapes(message.encode("utf-8", "replace")).decode()
    code = _member(error, "error_code") or _member(error, "code")
    described: dict[str, Any] = {
        "code": code if isinstance(code, str) and code else "exception",
        "type": _member(error, "error_type") or type(error).__name__,
        "message": message,
        "details": _recordable(_member(error, "details")),
    }
    if isinstance(error, PerdureError) and error.hint:
        described["hint"] = error.hint
    origin = origin_of(error)
    if origin is not None:
        described["origin"] = list(origin)
    return described


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:  # an exception of the author's that cannot even be shown is recorded all the same
        return f"(its text cannot be shown: {type(problem).__name__})"


def _member(thing: object, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # a property of the author's that fails; the failure is recorded without it
        return None


def _recordable(value: Any) -> Any:
    try:
        return codec_for(Any).tree(value)
    except Exception:  # whatever the author's object does when it is looked at
        return None


def origin_of(error: BaseException | None) -> tuple[str, str] | None:
    """The scope and key of the recorded failure that an exception is, or was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        origin = _member(error, "_perdure_origin")
        if isinstance(origin, tuple):
            return origin
        error = error.__cause__ or error.__context__
    return None


def with_origin(error: BaseException, scope: str, key: str) -> BaseException:
    """The same exception, with the record that it came from."""
    error._perdure_origin = (scope, key)  # type: ignore[attr-defined]
    return error


def arguments_of(error: BaseException) -> list[Any] | None:
    """The arguments of an exception, if they can be recorded, so that it can be raised again as itself."""
    args = list(error.args)
    if isinstance(error, OSError) and error.filename is not None and len(args) == 2:
        args += [error.filename] if error.filename2 is None else [error.filename, None, error.filename2]
    try:
        return codec_for(Any).tree(args)  # type: ignore[return-value]
    except Exception:  # whatever the author's objects do when they are looked at
        return None


def details_of(error: dict[str, Any]) -> Any:
    """The details of a recorded failure as they were given."""
    tree = error.get("details")
    try:
        return codec_for(Any).load_json(tree)
    except PerdureError:  # a secret in a tagged text was redacted
        return tree


def revive(data: dict[str, Any], policy: StepPolicy, run_id: str, scope: str, key: str) -> BaseException:
    """The exception that a recorded failure is raised as: the same live and after a replay."""
    error = data["error"]
    message = error["message"]
    if data.get("result_refused"):
        return with_origin(StepResultError(message, run_id=run_id, step=key), scope, key)
    for declared in policy.raises:
        if declared.__name__ == error.get("raised_as") and error.get("args") is not None:
            try:
                return with_origin(declared(*_loaded_list(error["args"])), scope, key)
            except Exception as problem:
                message = f"{message} ({declared.__name__} could not be made again: {_text(problem)})"
    cls = StepTimeout if error["code"] == "step_timeout" else StepFailed
    failed = cls(
        message,
        error_code=error["code"],
        error_type=error["type"],
        details=details_of(error),
        hint=error.get("hint"),
        run_id=run_id,
        step=key,
    )
    return with_origin(failed, scope, key)


def _loaded_list(tree: Any) -> list[Any]:
    loaded = codec_for(Any).load_json(tree)
    return loaded if isinstance(loaded, list) else []


def asked_to_wait_s(error: BaseException, now_ms: int) -> float | None:
    """The delay that the other side asked for: `RetryAfter`, or an HTTP error with status 429 or 503 and the header.

    Any exception with a `response` that has `status_code` and `headers` is understood, whatever library it is of.
    """
    if isinstance(error, RetryAfter):
        return _bounded_s(error.delay_s)
    response = _member(error, "response")
    if _member(response, "status_code") not in (429, 503):
        return None
    try:
        header = response.headers.get("retry-after")
    except Exception:  # a response that was never read, or is none
        return None
    return None if header is None else _bounded_s(_header_s(str(header), now_ms))


def _bounded_s(delay_s: float) -> float:
    """A delay that another side asked for, within reason: at least the floor, at most ten years."""
    if not delay_s < MOST_RETRY_AFTER_S:  # also what is no number
        return LEAST_RETRY_AFTER_S if delay_s != delay_s else MOST_RETRY_AFTER_S
    return max(delay_s, LEAST_RETRY_AFTER_S)


def _header_s(header: str, now_ms: int) -> float:
    try:
        return float(header)
    except ValueError:
        try:
            return email.utils.parsedate_to_datetime(header).timestamp() - now_ms / 1000
        except (ValueError, OverflowError):
            return 1.0


def is_refused_for_now(error: BaseException) -> bool:
    """Whether the other side said 429: it did nothing, and may be asked again."""
    if isinstance(error, RetryAfter):
        return True
    return bool(_member(_member(error, "response"), "status_code") == 429)
