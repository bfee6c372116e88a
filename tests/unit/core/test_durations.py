"""Durations: what the edges accept, and what is shown."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.durations import format_duration, iso_duration, parse_duration, parse_iso_duration
from perdure.core.errors import InvalidDurationError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("500ms", 0.5),
        ("9ms", 0.009),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("3d", 259_200.0),
        ("2w", 1_209_600.0),
        ("1h30m", 5400.0),
        ("1w2d3h4m5s6ms", 788_645.006),
        ("1m1ms", 60.001),
        ("1.5h", 5400.0),
        ("0s", 0.0),
        (30, 30.0),
        (0, 0.0),
        (0.25, 0.25),
        (timedelta(minutes=1, microseconds=5), 60.000005),
    ],
)
def test_a_duration_is_read_in_seconds(value: str | int | float | timedelta, seconds: float) -> None:
    parsed = parse_duration(value)
    assert type(parsed) is float
    assert parsed == seconds


@pytest.mark.parametrize(
    "value",
    [
        "", "30", "s", "30 s", " 30s", "30s ", "30s\n", "-30s", "+30s", "1e3s", ".5s", "5.s", "30S", "30sec", "1m1h",
        "1s1s", "5ms1s", "infs", "nans", "٣s", "9" * 400 + "s",
        -1, -0.5, timedelta(seconds=-1), math.inf, -math.inf, math.nan, 10**400, True, False, None, b"30s", [30], 1j,
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_parameter(value: object) -> None:
    with pytest.raises(InvalidDurationError, match="give_up_after") as caught:
        parse_duration(value, name="give_up_after")  # type: ignore[arg-type]
    assert caught.value.code == "invalid_duration"
    assert caught.value.ids == {"parameter": "give_up_after"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.00025, "0.25ms"),
        (0.5, "500ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (60, "1m"),
        (90, "1m30s"),
        (90.25, "1m30.25s"),
        (3600, "1h"),
        (86_400, "1d"),
        (14 * 86_400, "14d"),
        (90_061, "1d1h1m1s"),
        (0.9999999, "1s"),
        (10, "10s"),
        (100, "1m40s"),
    ],
)
def test_a_duration_is_shown_in_its_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_what_is_no_duration_is_not_shown(seconds: float) -> None:
    with pytest.raises(InvalidDurationError):
        format_duration(seconds)


@given(st.floats(min_value=0, max_value=1e9))
def test_what_is_shown_can_be_read_again(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.timedeltas())
def test_iso_text_of_a_timedelta_is_exact(value: timedelta) -> None:
    assert parse_iso_duration(iso_duration(value)) == value


def test_iso_text_at_the_ends_of_the_range() -> None:
    for value in (timedelta.min, timedelta.max, timedelta(microseconds=-1), timedelta()):
        assert parse_iso_duration(iso_duration(value)) == value
    assert iso_duration(timedelta()) == "P0DT0S"
    assert iso_duration(timedelta(days=-1, hours=1)) == "-P0DT82800S"
    assert iso_duration(timedelta(days=1, hours=1, milliseconds=500)) == "P1DT3600.5S"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("PT90M", timedelta(minutes=90)),
        ("P1W", timedelta(weeks=1)),
        ("P1DT2H3M4.5S", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("-PT1S", timedelta(seconds=-1)),
    ],
)
def test_other_iso_texts_are_read(text: str, value: timedelta) -> None:
    assert parse_iso_duration(text) == value


@pytest.mark.parametrize("text", ["", "P", "PT", "P1DT", "1D", "P1Y", "PT1.1234567S", "P1D ", "P999999999999D", "PT٣S"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidDurationError):
        parse_iso_duration(text)
