"""Durations: how the edges of the library accept them, and how they are shown.

Inside, a duration is a `float` of seconds in a name that ends in `_s`. At the edges people write `"30s"`, `"1h30m"`, a
`timedelta`, or a plain number of seconds.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from perdure.core.errors import InvalidDurationError

Duration = str | int | float | timedelta

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_TEXT = re.compile("".join(rf"(?:{_NUMBER}{unit})?" for unit in ("w", "d", "h", "m", "s", "ms")))
_MULTIPLES_S = (604_800, 86_400, 3_600, 60, 1)
_SHOWN = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000))


def parse_duration(value: Duration, *, name: str = "duration") -> float:
    """Read a duration.

    Args:
        value: text of numbers and units from the largest unit down (`"500ms"`, `"30s"`, `"1.5h"`, `"1h30m"`; units are
            ms, s, m, h, d, w), a number of seconds, or a `timedelta`.
        name: the parameter it was given for; errors name it.

    Returns:
        Seconds, finite and not negative.

    Raises:
        InvalidDurationError: it is none of these, negative, not finite, or a `bool`.
    """
    if isinstance(value, str):
        seconds = _seconds_of_text(value, name)
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif type(value) is not bool and isinstance(value, (int, float)):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = math.inf
    else:
        raise InvalidDurationError(f"{name} is no duration: it is of type {type(value).__name__}", parameter=name)
    if not math.isfinite(seconds):
        raise InvalidDurationError(f"{name} must be finite", parameter=name)
    if seconds < 0:
        raise InvalidDurationError(f"{name} must not be negative", parameter=name)
    return seconds


def _seconds_of_text(text: str, name: str) -> float:
    match = _TEXT.fullmatch(text)
    if match is None or not text:
        raise InvalidDurationError(f"{name} is no duration: {text[:40]!r}", parameter=name)
    *larger, milliseconds = match.groups()
    seconds = sum(float(number) * multiple for number, multiple in zip(larger, _MULTIPLES_S, strict=True) if number)
    # Divided, not multiplied by 0.001: "9ms" is the float 0.009.
    return seconds + float(milliseconds) / 1000 if milliseconds else float(seconds)


def format_duration(seconds: float) -> str:
    """Show a duration the way `parse_duration` reads it, to the microsecond: `90` is `1m30s`, `0.5` is `500ms`.

    Args:
        seconds: finite, not negative.

    Raises:
        InvalidDurationError: it is negative or not finite.
    """
    microseconds = round(parse_duration(seconds, name="seconds") * 1_000_000)
    if microseconds < 1_000_000:
        return f"{_shortest(microseconds, 3)}ms" if microseconds else "0s"
    parts = []
    for unit, size in _SHOWN:
        count, microseconds = divmod(microseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    if microseconds:
        parts.append(f"{_shortest(microseconds, 6)}s")
    return "".join(parts)


def _shortest(count: int, places: int) -> str:
    """`count` divided by ten to the power of `places`, as decimal text without needless zeros."""
    whole, rest = divmod(count, 10**places)
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


# --- ISO 8601, the form in which a timedelta is recorded --------------------------------------------------------------

_ISO = re.compile(
    r"(-?)P(?:([0-9]+)W)?(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)(?:\.([0-9]{1,6}))?S)?)?"
)
_MICROSECOND = timedelta(microseconds=1)


def iso_duration(value: timedelta) -> str:
    """The one ISO 8601 text of a timedelta, exact, in days and seconds: `P1DT3600.5S`, `-P0DT0.000001S`."""
    microseconds = value // _MICROSECOND
    seconds, microseconds = divmod(abs(microseconds), 1_000_000)
    days, seconds = divmod(seconds, 86_400)
    sign = "-" if value < timedelta() else ""
    return f"{sign}P{days}DT{_shortest(seconds * 1_000_000 + microseconds, 6)}S"


def parse_iso_duration(text: str) -> timedelta:
    """Read an ISO 8601 duration in weeks, days, hours, minutes and seconds.

    Raises:
        InvalidDurationError: it is none, or out of a timedelta's range.
    """
    match = _ISO.fullmatch(text)
    if match is None or text[-1] in "PT":
        raise InvalidDurationError("not an ISO 8601 duration", hint="write it as P1DT2H30M")
    sign = -1 if match[1] else 1
    weeks, days, hours, minutes, seconds = (sign * int(number or 0) for number in match.groups()[1:6])
    microseconds = sign * int((match[7] or "").ljust(6, "0"))
    try:
        return timedelta(days, seconds, microseconds, minutes=minutes, hours=hours, weeks=weeks)
    except OverflowError:
        raise InvalidDurationError("the duration is out of a timedelta's range") from None
