"""What an attribute's value may be: kinds of values, and how each is read."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from perdure.core.canonical import SAFE_INTEGER
from perdure.core.durations import parse_duration
from perdure.core.errors import InvalidDurationError
from perdure.core.pipeline_errors import AttributeValueError
from perdure.pipeline.document import Value

FIDELITIES: Final = ("full", "truncate", "compact", "summary:low", "summary:medium", "summary:high")

_INTEGER = re.compile(r"-?[0-9]{1,16}")
_NUMBER = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]+)?")


class ValueKind(NamedTuple):
    """A kind of value.

    Args:
        name: for people, in diagnostics: `a whole number from 0 up`.
        read: gives the typed value, or raises `ValueError`.
    """

    name: str
    read: Callable[[Value], object]


@dataclass(frozen=True, slots=True)
class AttributeSpec:
    """What the dialect says of one attribute.

    Args:
        key: its name.
        kind: of its value.
        read_by: the handler types that read it; `None` for all.
        aliases: other names; the attribute's own name wins.
    """

    key: str
    kind: ValueKind
    read_by: frozenset[str] | None = None
    aliases: tuple[str, ...] = ()

    def read(self, value: Value) -> object:
        """The typed value.

        Raises:
            AttributeValueError: it does not fit.
        """
        try:
            return self.kind.read(value)
        except ValueError:
            shown = text_of_value(value)
            shown = f"{shown[:40]}…" if len(shown) > 40 else shown
            raise AttributeValueError(
                f"{self.key}={shown!r} is not {self.kind.name}", key=self.key, expected=self.kind.name
            ) from None


def text_of_value(value: Value) -> str:
    """A value as text, the way that it is written in a file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _integer(value: Value, minimum: int) -> int:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError
        number = int(value)
    elif isinstance(value, int):
        number = value
    else:
        if _INTEGER.fullmatch(value.strip()) is None:
            raise ValueError
        number = int(value)
    if not minimum <= number <= SAFE_INTEGER:
        raise ValueError
    return number


def _number(value: Value) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str):
        if _NUMBER.fullmatch(value.strip()) is None:
            raise ValueError
        return float(value) if "." in value else int(value)
    if not math.isfinite(value):
        raise ValueError
    return value


def _boolean(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError


def _duration(value: Value) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    try:
        seconds = parse_duration(value)
    except InvalidDurationError as error:
        raise ValueError from error
    if seconds == 0:
        raise ValueError
    return seconds


def _arguments(value: Value) -> tuple[str, ...]:
    text = text_of_value(value)
    try:
        words = json.loads(text) if text.lstrip().startswith("[") else shlex.split(text)
    except RecursionError:
        raise ValueError from None
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise ValueError
    return tuple(words)


def integer(minimum: int) -> ValueKind:
    """A whole number; text of digits counts."""
    return ValueKind(f"a whole number from {minimum} up", lambda value: _integer(value, minimum))


def choice(*choices: str) -> ValueKind:
    """One of some words."""

    def read(value: Value) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return ValueKind(f"one of {', '.join(choices)}", read)


def choice_list(*choices: str) -> ValueKind:
    """Some of some words, separated by commas."""

    def read(value: Value) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text_of_value(value).split(","))
        if not set(words) <= set(choices):
            raise ValueError
        return words

    return ValueKind(f"a comma list of {', '.join(choices)}", read)


TEXT: Final = ValueKind("text", text_of_value)
NUMBER: Final = ValueKind("a number", _number)
BOOLEAN: Final = ValueKind("true or false", _boolean)
DURATION: Final = ValueKind("a duration above zero, such as 900s or 15m", _duration)
ARGUMENTS: Final = ValueKind("a command's words, or a JSON list of them", _arguments)
# A fidelity that there is not is a warning (`fidelity_valid`), so that it counts as not given.
FIDELITY: Final = ValueKind(
    f"one of {', '.join(FIDELITIES)}", lambda value: str(value) if value in FIDELITIES else None
)
