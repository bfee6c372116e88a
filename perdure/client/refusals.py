"""Answers that are no success, as the typed errors that they mean.

The service tells of an error by its code; here it becomes the class that has this code in the engine, too. Codes of
rooms that a client does not have (of models, for example) become a `RemoteError` that bears them. What has no code,
such as the refusals of `/pipelines`, is known by its HTTP status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from perdure.core import (
    errors,
    pipeline_errors,
)
from perdure.core.errors import PerdureError, Problem, RemoteError

BUSY: Final = frozenset((429, 502, 503, 504))
"""Answers that ask to come again."""
TOLD_LENGTH: Final = 2_000
"""Characters of a text that answers in the place of the service."""

_BY_STATUS: Final[dict[int, type[PerdureError]]] = {
    401: errors.NotAuthorisedError,
    403: errors.NotPermittedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
} | dict.fromkeys(BUSY, errors.ServiceBusyError)
_PIPELINE: Final = re.compile(r"pipeline '([^']*)':")
_BASE_MEMBERS: Final = frozenset(("error", "code", "category", "retryable", "hint", "ids"))


def classes_by_code() -> dict[str, type[PerdureError]]:
    """The classes of core's tree by their codes."""
    found: list[type[PerdureError]] = [PerdureError, *_descendants(PerdureError)]
    return {cls.code: cls for cls in found if "code" in vars(cls)}


def _descendants(cls: type[PerdureError]) -> Iterator[type[PerdureError]]:
    for one in cls.__subclasses__():
        if one.__module__.startswith("perdure.core."):
            yield one
            yield from _descendants(one)


_BY_CODE: Final = classes_by_code()


def refusal_of(status: int, content: bytes) -> PerdureError:
    """The error that an answer means.

    Args:
        status: of the answer; no success.
        content: its body.
    """
    if 300 <= status < 400:
        return errors.ReplyInvalidError(f"the server answered with a redirect ({status}), which is not followed")
    try:
        told: object = orjson.loads(content)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("error"), str):
        return _by_status(status)(f"the server answered {status}", status=status)
    return error_of(told, status)


def error_of(told: Mapping[str, Any], status: int) -> PerdureError:
    """The error that the service told of.

    Args:
        told: `error` in words, then what `PerdureError.to_dict` holds; or what `/pipelines` says.
        status: of the answer.
    """
    message, code = str(told["error"])[:TOLD_LENGTH], told.get("code")
    hint = told.get("hint") if isinstance(told.get("hint"), str) else None
    given = told.get("ids")
    ids: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    if not isinstance(code, str):
        return _without_code(told, status, message, hint)
    more = {name: value for name, value in told.items() if name not in _BASE_MEMBERS}
    cls = _BY_CODE.get(code)
    if cls is None:
        bare = {name: told[name] for name in ("code", "category", "retryable") if name in told}
        return _made(RemoteError, message, hint, ids | more, told=bare, **bare)
    return _typed(cls, message, hint, ids, more)


def _without_code(told: Mapping[str, Any], status: int, message: str, hint: str | None) -> PerdureError:
    more = {name: value for name, value in told.items() if name not in ("error", "hint")}
    diagnostics = more.pop("diagnostics", None)
    if isinstance(diagnostics, list):
        return _invalid_pipeline(message, hint, more, diagnostics)
    return _made(_by_status(status), message, hint, {"status": status} | more)


def _by_status(status: int) -> type[PerdureError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return errors.InputError
    return errors.ServiceFaultError if status >= 500 else errors.ReplyInvalidError


def _typed(
    cls: type[PerdureError], message: str, hint: str | None, ids: dict[str, Any], more: dict[str, Any]
) -> PerdureError:
    """An error of a known class, with what that class holds beside message and ids."""
    if issubclass(cls, errors.FormError):
        problems = [_problem(one) for one in _objects(more.pop("problems", None))]
        return _made(cls, message, hint, ids | more, label=message.partition(":")[0], problems=problems)
    if issubclass(cls, errors.StepFailed):
        own = {"error_code": "exception", "error_type": "Exception", "details": None}
        return _made(cls, message, hint, ids, **{name: more.get(name, value) for name, value in own.items()})
    if issubclass(cls, pipeline_errors.PipelineSyntaxError):
        line, column = more.get("line", 1), more.get("column", 1)
        source, _, _ = str(more.get("excerpt", "")).partition("\n")
        return _made(cls, message, hint, ids, line=line, column=column, source_line=source, file=ids.get("file"))
    if issubclass(cls, pipeline_errors.PipelineInvalidError):
        return _invalid_pipeline(message, hint, ids, more.get("diagnostics"))
    return _made(cls, message, hint, ids | more)


def _problem(told: Mapping[str, Any]) -> Problem:
    subject = told.get("subject")
    names = tuple(str(one) for one in subject) if isinstance(subject, list) else ()
    return Problem(str(told.get("code", "")), str(told.get("message", "")), names)


def _invalid_pipeline(message: str, hint: str | None, ids: dict[str, Any], diagnostics: object) -> PerdureError:
    named = _PIPELINE.match(message)
    own = {"pipeline": named[1] if named else "", "diagnostics": _objects(diagnostics)}
    return _made(pipeline_errors.PipelineInvalidError, message, hint, ids, **own)


def _objects(told: object) -> list[dict[str, Any]]:
    return [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []


def _made(
    cls: type[PerdureError], message: str, hint: str | None, ids: Mapping[str, Any], /, **own: Any
) -> PerdureError:
    """An error with exactly these words: classes that compose their message are not asked to do so again."""
    error = cls.__new__(cls)
    told = {str(name): value for name, value in ids.items() if name not in ("message", "hint", "self")}
    PerdureError.__init__(error, message, hint=hint, **told)
    vars(error).update(own)
    return error
