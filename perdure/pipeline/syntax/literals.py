"""Values that stand without quotes: numbers, durations, truth values and bare words."""

from __future__ import annotations

import math
import re
from typing import Final

from perdure.pipeline.document import DurationText, Value

INTEGER_BITS: Final = 64
"""An integer must fit into so many bits, one of them the sign."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]*")
_INTEGER = re.compile(r"-?[0-9]+")
_FLOAT = re.compile(r"-?[0-9]+\.[0-9]+")
_DURATION = re.compile(r"[0-9]+(?:ms|s|m|h|d)")
_LIKE_A_DURATION = re.compile(r"-?[0-9.]+[A-Za-z]+")
_LIKE_AN_EXPONENT = re.compile(r"-?[0-9.]+[eE]-?[0-9]+")
_TRUTH: Final[dict[str, bool]] = {"true": True, "false": False}
_INTEGER_LIMIT: Final = 2 ** (INTEGER_BITS - 1)
_INTEGER_DIGITS: Final = len(str(_INTEGER_LIMIT))


class NotALiteral(Exception):
    """The text is no value.

    Args:
        message: why.
        hint: what to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def literal(text: str) -> Value:
    """The value of text that stands without quotes.

    Raises:
        NotALiteral: it is none, an integer of more than `INTEGER_BITS`, or a float that is not finite.
    """
    truth = _TRUTH.get(text)
    if truth is not None:
        return truth
    if _BARE.fullmatch(text):
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    if _DURATION.fullmatch(text):
        return DurationText(text)
    raise _refusal(text)


def _integer(text: str) -> int:
    digits = text.lstrip("-").lstrip("0")
    # Counted first: Python refuses, in its own words, to read thousands of digits.
    number = int(digits or "0") if len(digits) <= _INTEGER_DIGITS else _INTEGER_LIMIT + 1
    if text.startswith("-"):
        number = -number
    if not -_INTEGER_LIMIT <= number < _INTEGER_LIMIT:
        raise NotALiteral(f"the integer does not fit into {INTEGER_BITS} bits", "put it in quotes if it is text")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotALiteral("the number is too large", "put it in quotes if it is text")
    return number


def _refusal(text: str) -> NotALiteral:
    shown = text if len(text) <= 40 else text[:39] + "…"
    if _LIKE_AN_EXPONENT.fullmatch(text):
        return NotALiteral(f"{shown} is no value", "write a number without an exponent, such as 1500.0")
    if _LIKE_A_DURATION.fullmatch(text):
        return NotALiteral(f"{shown} is no duration", "a duration is a whole number and ms, s, m, h or d; quote text")
    return NotALiteral(f"{shown} is no value", "put the value in quotes")
