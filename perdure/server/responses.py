"""Answers: JSON as it goes over the wire, and the one mapping of errors to HTTP status."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson
from starlette.responses import JSONResponse

from perdure.core import errors

STATUS: Final[dict[type[errors.PerdureError], int]] = {
    errors.PerdureError: 500,
    errors.InputError: 422,
    errors.NotFoundError: 404,
    errors.DefinitionError: 422,
    errors.ConflictError: 409,
    errors.StateError: 409,
    errors.SignalBacklogError: 429,
    errors.StepError: 422,
    errors.StoreError: 503,
    errors.StoreCorruptError: 500,
    errors.FencedError: 409,
}
"""The status of an error: that of the nearest class in its ancestry."""

URL_CREDENTIALS: Final = re.compile(r"(?<=://)[^\s/@]+@")


class Json(JSONResponse):
    """JSON; a string that UTF-8 cannot carry goes over the wire escaped."""

    def render(self, content: Any) -> bytes:
        """See `starlette.responses.Response`."""
        try:
            return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:
            return json.dumps(content, allow_nan=False).encode()


def status_of(error: errors.PerdureError) -> int:
    """The HTTP status of an error."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def error_body(error: errors.PerdureError) -> dict[str, Any]:
    """An error as the service tells it: `error` in words, then what `to_dict` holds."""
    data = error.to_dict()
    return {"error": cleaned(data.pop("message"))} | data | {"hint": cleaned(error.hint)}


def refusal(error: errors.PerdureError) -> Json:
    """The answer to a request that met an error."""
    return Json(error_body(error), status_of(error))


def cleaned(text: str) -> str:
    """A text without the credentials of the URLs in it."""
    return URL_CREDENTIALS.sub("", text)
