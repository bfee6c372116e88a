"""Cursors: where the next page of a list begins, in a form that clients hand back as it is."""

from __future__ import annotations

import base64
import binascii

from perdure.core.errors import InputError
from perdure.core.ids import check_run_id
from perdure.store.port import RunRow


def cursor_after(row: RunRow) -> str:
    """The cursor of the page that begins behind this row."""
    return base64.urlsafe_b64encode(f"{row.created_ms}:{row.run_id}".encode()).decode().rstrip("=")


def place_of(cursor: str) -> tuple[int, str]:
    """Behind which creation time and id the page begins.

    Raises:
        InputError: it is no cursor of this service.
    """
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        created, _, run_id = text.partition(":")
        if not (created.isascii() and created.isdigit() and len(created) < 18):
            raise ValueError("its time is no number")
        return int(created), check_run_id(run_id)
    except (binascii.Error, ValueError, InputError) as error:
        raise InputError("the cursor is not one that this service gave", field="cursor") from error
