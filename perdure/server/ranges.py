"""Bytes as an attachment, whole or one range of them."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import Response

ONE_RANGE: Final = re.compile(r"bytes=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)
PLAIN: Final = frozenset(("application/json", "text/plain"))
"""Media types that are passed on; everything else is bytes to whoever asks, never a page of this service."""


def attachment(
    data: bytes, sha256: str, media_type: str, asked: str | None, *, if_range: str | None = None
) -> Response:
    """The answer with an artifact's bytes.

    Args:
        data: all of them.
        sha256: their name.
        media_type: as it was recorded.
        asked: the `Range` header, if there is one; what is not one range of bytes is taken as if it was not there.
        if_range: the `If-Range` header, if there is one; of other bytes than these nobody wants the rest.
    """
    headers = {
        "accept-ranges": "bytes",
        "content-disposition": f'attachment; filename="{sha256}"',
        "etag": f'"{sha256}"',
    }
    plain = media_type.partition(";")[0].strip().lower()
    kind = plain if plain in PLAIN else "application/octet-stream"
    match = ONE_RANGE.fullmatch(asked or "") if if_range in (None, headers["etag"]) else None
    if match is None or match.groups() == ("", ""):
        return Response(data, 200, headers, kind)
    start, end = _bounds(match[1], match[2], len(data))
    if start >= end:
        return Response(b"", 416, headers | {"content-range": f"bytes */{len(data)}"}, kind)
    headers["content-range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Response(data[start:end], 206, headers, kind)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    end = size if not last else min(size, int(last) + 1)
    return int(first), end
