"""Instants as requests name them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import WithJsonSchema

from perdure.core.errors import InputError

MOST_DIGITS: Final = 18
_SCHEMA: Final[dict[str, Any]] = {
    "type": "string",
    "description": "ISO 8601, in UTC where it names no offset, or milliseconds since 1970",
    "anyOf": [{"format": "date-time"}, {"format": "date"}, {"pattern": "^[0-9]{1,18}$"}],
}
InstantText = Annotated[str, WithJsonSchema(_SCHEMA)]
"""An instant as a parameter; `instant_ms` reads it."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ms(text: str, *, field: str) -> int:
    """Milliseconds since 1970.

    Args:
        text: ISO 8601, in UTC where it names no offset, or milliseconds since 1970.
        field: that holds it.

    Raises:
        InputError: it is neither, or before 1970.
    """
    if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS:
        return int(text)
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        elapsed = found - EARLIEST
    except (ValueError, OverflowError):
        raise _refused(text, field) from None
    if elapsed.days < 0:
        raise _refused(text, field)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000


def _refused(text: str, field: str) -> InputError:
    return InputError(
        f"{field} {text!r} is no instant",
        hint="write it as 2026-01-31T12:00:00Z, or in milliseconds since 1970; a + stands as %2B in a URL",
        field=field,
    )
