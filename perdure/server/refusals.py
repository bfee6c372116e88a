"""What is answered to a request that met an error: one place for all routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from perdure.core.errors import InputError, PerdureError
from perdure.server.methods import methods_of
from perdure.server.responses import Json, error_body, refusal

TEXTS: Final = {400: "invalid json body", 404: "not found", 405: "method not allowed"}


async def of_error(_: Request, error: PerdureError) -> Json:
    """An error of Perdure."""
    return refusal(error)


async def of_routing(request: Request, error: HTTPException) -> Json:
    """What no route takes."""
    text = TEXTS.get(error.status_code, str(error.detail).lower())
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["allow"] = ", ".join(methods_of(request.scope))
    return Json({"error": text}, error.status_code, headers)


async def of_types(_: Request, error: RequestValidationError) -> Json:
    """What the declared types of a request refused."""
    found = list(error.errors())
    for one in found:
        if one["type"] == "json_invalid":
            return Json({"error": TEXTS[400], "reason": str(one["ctx"]["error"])}, 400)
    problems = [
        {"field": ".".join(str(part) for part in one["loc"][1:]) or str(one["loc"][0]), "message": str(one["msg"])}
        for one in found
    ]
    field = problems[0]["field"]
    told = error_body(InputError(f"{field}: {problems[0]['message']}", field=field))
    return Json(told | {"field": field, "problems": problems}, 422)


HANDLERS: Final[dict[Any, Callable[..., Any]]] = {
    PerdureError: of_error,
    RequestValidationError: of_types,
    HTTPException: of_routing,
}
