"""What answers that may be streams hold."""

from __future__ import annotations

from typing import Any, Final

from perdure.server.following.streams import MEDIA_TYPE

TEXT: Final = {"type": "string"}
STREAM: Final = {
    "schema": {
        "description": "one frame; comments between frames keep the line alive",
        "type": "object",
        "properties": {
            "id": TEXT | {"description": "of the place; what a reader that comes again sends as `Last-Event-ID`"},
            "event": TEXT | {"description": "the kind of the event"},
            "data": TEXT | {"description": "the event", "contentMediaType": "application/json"},
        },
    }
}


def streamed(model: Any) -> dict[int | str, Any]:
    """What the document says of a route that answers with a page or with a stream.

    Args:
        model: what the page holds.
    """
    return {200: {"description": "a page, or a stream", "model": model, "content": {MEDIA_TYPE: STREAM}}}
