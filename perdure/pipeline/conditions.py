"""The conditions of edges: `clause ('&&' clause)*`, read by a small grammar of their own.

    clause  := key '=' literal | key '!=' literal | key
    key     := name ('.' name)*          name := [A-Za-z0-9_-]+, the first not beginning with a digit or '-'
    literal := bare | "quoted" | nothing

Blanks between these count for nothing. A bare literal holds no blank and none of `= ! < > & | ( ) " ' `` ` `` \\`: what
looks like an operator of another language is refused, not taken for text. In a quoted one `\\"` and `\\\\` stand for
`"` and `\\`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, NoReturn

from perdure.core.canonical import JSONValue, canonical
from perdure.core.errors import ValueRefusedError
from perdure.core.pipeline_errors import ConditionSyntaxError
from perdure.pipeline.context import find

OUTCOME: Final = "outcome"
PREFERRED_LABEL: Final = "preferred_label"

FALSE_TEXTS: Final = frozenset(("", "false", "0", "[]", "{}"))
"""A bare key does not hold when the text of its value is one of these."""

_BLANKS = re.compile(r"[ \t\r\n]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_BARE = re.compile(r"[^\s=!<>&|()\"'`\\]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_CONTEXT = "context."

Operator = Literal["=", "!=", "truthy"]


class Clause(NamedTuple):
    """One clause of a condition.

    Args:
        key: as written.
        operator: `truthy` for a bare key.
        literal: what the value is compared with; empty for a bare key.
    """

    key: str
    operator: Operator
    literal: str = ""

    def accepts(self, text: str) -> bool:
        """Does it hold for a value of this text?"""
        if self.operator == "truthy":
            return text not in FALSE_TEXTS
        return (text == self.literal) is (self.operator == "=")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was read.

    Args:
        clauses: all must hold; at least one.
    """

    clauses: tuple[Clause, ...]

    def holds(self, context: Mapping[str, JSONValue], outcome: str, preferred_label: str) -> bool:
        """Is it true?

        `=` and `!=` compare the value's text (`text_of`), exactly; a missing value is the empty text. A bare key holds
        unless the text is empty, `false`, `0`, `[]` or `{}`: so `false` and `"false"` are the same to it, as they are
        to `=`.

        Args:
            context: of the run.
            outcome: the status of the stage's outcome.
            preferred_label: of the same outcome; empty for none.
        """
        return all(clause.accepts(_value(clause.key, context, outcome, preferred_label)) for clause in self.clauses)


def text_of(value: JSONValue) -> str:
    """The text that a value has in comparisons.

    Text is itself, `null` is empty, everything else is its canonical JSON: `true`, `3`, `1` for 1.0, `{"a":[1,2]}`.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return canonical(value).decode()
    except ValueRefusedError:  # an integer beyond ±(2^53-1), which the context may hold
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        ConditionSyntaxError: it is outside the grammar; `ids["column"]` says where, from 1 to one past the end.
    """
    return Condition(tuple(_clauses(text)))


def _value(key: str, context: Mapping[str, JSONValue], outcome: str, preferred_label: str) -> str:
    if key == OUTCOME:
        return outcome
    if key == PREFERRED_LABEL:
        return preferred_label
    value = find(context, key)
    if value is None and key.startswith(_CONTEXT):
        value = find(context, key.removeprefix(_CONTEXT))
    return text_of(value)


def _clauses(text: str) -> Iterator[Clause]:
    place = 0
    while True:
        clause, place = _clause(text, _blanks(text, place))
        yield clause
        place = _blanks(text, place)
        if place == len(text):
            return
        if not text.startswith("&&", place):
            _refuse(text, place, "expected '&&' or the end")
        place += 2


def _clause(text: str, start: int) -> tuple[Clause, int]:
    match = _KEY.match(text, start)
    if match is None:
        _refuse(text, start, "expected a key")
    key, after_key = match[0], match.end()
    if text.startswith(".", after_key):
        _refuse(text, after_key, "a part of the key is empty")
    place = _blanks(text, after_key)
    operator: Operator
    if text.startswith("!=", place):
        operator = "!="
    elif text.startswith("=", place):
        operator = "="
    else:
        return Clause(key, "truthy"), after_key
    literal, end = _literal(text, _blanks(text, place + len(operator)))
    return Clause(key, operator, literal), end


def _literal(text: str, start: int) -> tuple[str, int]:
    if text.startswith('"', start):
        quoted = _QUOTED.match(text, start)
        if quoted is None:
            _refuse_quoted(text, start)
        return re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    bare = _BARE.match(text, start)
    if bare is None:
        return "", start
    return bare[0], bare.end()


def _refuse_quoted(text: str, start: int) -> NoReturn:
    """Say what is wrong with a quoted literal that does not match."""
    escape = re.compile(r'"(?:[^"\\]|\\["\\])*').match(text, start)
    end = len(text) if escape is None else escape.end()
    if end + 1 < len(text):
        _refuse(text, end, f'the escape {text[end : end + 2]!r} is unknown; there are \\" and \\\\')
    _refuse(text, start, "the quoted literal does not end")


def _blanks(text: str, start: int) -> int:
    match = _BLANKS.match(text, start)
    return start if match is None else match.end()


def _refuse(text: str, place: int, expected: str) -> NoReturn:
    found = ""
    if expected.startswith("expected"):
        found = f", found {text[place : place + 12]!r}" if place < len(text) else ", found the end"
    raise ConditionSyntaxError(f"{expected}{found} at column {place + 1}", hint=_hint(text[place:]), column=place + 1)


def _hint(rest: str) -> str | None:
    """What to do instead, where the rest of the text looks like another language."""
    if rest.startswith("|") or rest[:3].lower() == "or ":
        return "there is no OR: draw one edge for each alternative"
    if rest.startswith("!") or rest[:4].lower() == "not ":
        return "there is no NOT: write key!=value"
    if rest.startswith(("<", ">")):
        return "values are compared as text, by = and != only"
    if rest.startswith("="):
        return "equality is written as one =; text that holds = is quoted"
    if rest.startswith(("(", ")")):
        return "there are no functions and no parentheses"
    if rest[:4].lower() == "and " or rest.startswith("&"):
        return "clauses are joined by &&"
    if rest.startswith(("'", "`")):
        return 'literals are quoted by "'
    if rest and not rest.startswith('"') and rest[0] != "\\":
        return 'text with blanks is quoted: key="two words"'
    return None
