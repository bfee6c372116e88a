"""Instants as requests name them."""

from __future__ import annotations

import pytest

from perdure.core.errors import InputError
from perdure.server.instants import instant_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        ("1769860800000", 1_769_860_800_000),
        ("2026-01-31T12:00:00Z", 1_769_860_800_000),
        ("2026-01-31T12:00:00", 1_769_860_800_000),
        ("2026-01-31T14:00:00+02:00", 1_769_860_800_000),
        ("2026-01-31T12:00:00.0019Z", 1_769_860_800_001),
        ("2026-01-31", 1_769_817_600_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_an_instant_is_milliseconds_since_1970(text: str, ms: int) -> None:
    assert instant_ms(text, field="created_after") == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "-5", "1969-12-31T23:59:59Z", "2026-01-31T12:00:00 02:00", "9" * 30, "٣", "2026-13-01"]
)
def test_what_is_no_instant_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="created_after") as refused:
        instant_ms(text, field="created_after")
    assert refused.value.ids["field"] == "created_after"
