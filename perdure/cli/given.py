"""Values as they are typed: JSON or text, named inputs, answers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from perdure.core.canonical import parse_strict
from perdure.core.errors import AnswerRefusedError, InputError, InputTypeError, ValueRefusedError

DECLINE: Final = "false"
"""The word that declines what a question offers, where it can be declined."""
FINITE: Final = "write a finite number: JSON has neither NaN nor infinities"


def json_or_text(text: str) -> Any:
    """The JSON value that a text is, or else the text itself.

    Raises:
        ValueRefusedError: it is JSON, but ambiguous (one key twice).
    """
    try:
        return parse_strict(text)
    except ValueRefusedError:
        if _is_json(text):
            raise
        return text
    except UnicodeEncodeError:  # bytes that are no text; whoever records it refuses it
        return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=lambda _: 1 / 0)
    except (ValueError, RecursionError, ZeroDivisionError):
        return False
    return True


def strict_json(text: str, *, field: str) -> Any:
    """A JSON value.

    Raises:
        InputError: it is none.
    """
    try:
        return parse_strict(text)
    except ValueRefusedError as error:
        raise InputError(
            f"{field}: {error.message}", hint=f"""write text as JSON: {field} '{json.dumps(text)}'""", field=field
        ) from error


def inputs(pairs: Sequence[str], file: str | None) -> dict[str, Any]:
    """The input of a run by parameter name, as untyped JSON.

    Args:
        pairs: `name=value` each; the value is JSON if it parses as JSON, else text.
        file: a JSON file with an object of inputs, `-` for standard input; single pairs go before it.

    Raises:
        InputError: a pair has no name or stands twice, or the file holds no object.
    """
    found = dict(_input_file(file)) if file is not None else {}
    seen: set[str] = set()
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise InputError(f"--input {pair!r} is not name=value", hint="write --input topic=crashes", field="input")
        if name in seen:
            raise InputError(f"--input {name!r} is given twice", field="input", parameter=name)
        seen.add(name)
        try:
            found[name] = json_or_text(value)
        except ValueRefusedError as error:
            raise _refused_input(name, value, error) from error
    return found


def _refused_input(name: str, value: str, error: ValueRefusedError) -> ValueRefusedError:
    as_text = f"for text write --input '{name}={json.dumps(value)}'"
    cause = _no_number(value)
    message = f"--input {name!r}: {cause or error.message}"
    hint = f"{FINITE}; {as_text}" if cause else as_text
    return ValueRefusedError(message, hint=hint, field="input", parameter=name)


def _no_number(text: str) -> str | None:
    """What is wrong with a text that is, or holds, a number that JSON has not: NaN, or one over the range of floats."""
    try:
        if not math.isfinite(float(text)) and not text.lstrip("+-").isdecimal():
            return f"{text} is no JSON number that Perdure takes"
    except ValueError:
        odd: list[str] = []
        try:
            json.loads(text, parse_constant=odd.append, parse_float=lambda one: odd.append(one) if _is_over(one) else 0)
        except (ValueError, RecursionError):
            return None
        if odd:
            return f"{odd[0]} in it is no JSON number that Perdure takes"
    return None


def _is_over(text: str) -> bool:
    return math.isinf(float(text))


def _input_file(file: str) -> dict[str, Any]:
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"--input-file {file} cannot be read: {error.strerror}", field="input-file") from error
    try:
        tree = parse_strict(text)
    except ValueRefusedError as error:
        raise InputError(f"--input-file {file}: {error.message}", field="input-file") from error
    if not isinstance(tree, dict):
        raise InputError(
            f"--input-file {file} holds no JSON object", hint='write {"name": value, …}', field="input-file"
        )
    return tree


def explain_text_input(error: InputTypeError, pairs: Sequence[str]) -> InputTypeError:
    """Where a bare word such as `5` or `true` was read as JSON and text is wanted, say how to write it as text. Where
    `NaN` was read as text and a number is wanted, say that it is none."""
    for pair in pairs:
        name, _, value = pair.partition("=")
        if error.ids.get("path") != f"$.{name}":
            continue
        if "expected str" in error.message and _is_json(value):
            error.hint = f"""for text write --input '{name}={json.dumps(value)}'"""
        elif cause := _no_number(value):
            return InputTypeError(f"--input {name!r}: {cause}", hint=FINITE, **error.ids)
    return error


def answer(question: Mapping[str, Any], text: str) -> Any:
    """An answer as it was typed, in the form that its question wants.

    Args:
        question: its `kind`, `choices`, `keys`, and whether it is `declinable`.
        text: a choice, yes or no, text, or several choices as a JSON list or with commas between them. The word
            `false` declines what a question with `declinable` offers.

    Raises:
        AnswerRefusedError: it does not fit.
    """
    from perdure.journal.questions import check_answer

    value: Any = text
    named = (*(question.get("choices") or ()), *(question.get("keys") or ()))
    if question.get("declinable") and text.strip().lower() == DECLINE and text not in named:
        value = False
    if question["kind"] == "multiple":
        listed = json_or_text(text) if text.lstrip().startswith("[") else None
        value = listed if isinstance(listed, list) else [one.strip() for one in text.split(",") if one.strip()]
    try:
        return check_answer(dict(question), value)
    except AnswerRefusedError as error:
        choices = ", ".join(question.get("choices") or ())
        error.hint = f"choices: {choices}" if choices else error.hint
        raise
