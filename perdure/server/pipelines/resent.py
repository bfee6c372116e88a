"""Commands that come again because their answer was lost.

The contract of `/pipelines` knows no keys, so a second answer to one question is refused like any other. A sender that
bears an `Idempotency-Key` is told at the second time what it would have been told at the first. The same key with
something else to say is another command.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import orjson
from starlette.requests import Request

HEADER: Final = "idempotency-key"


def is_keyed(request: Request) -> bool:
    """Whether a command can be recognised when it comes again."""
    return len(request.headers.getlist(HEADER)) == 1


def command_id(request: Request, actor: str | None, *said: Any) -> str | None:
    """By what a command is recognised when it comes again from the same sender; `None` where it bears no key.

    Args:
        request: that brings it.
        actor: who sends it.
        said: plain JSON data: what it does.
    """
    if not is_keyed(request):
        return None
    told = orjson.dumps([request.headers[HEADER], actor, *said], option=orjson.OPT_SORT_KEYS)
    return f"h{sha256(told).hexdigest()[:40]}"
