"""The model stylesheet: which nodes use which model.

    stylesheet := rule*
    rule       := selector '{' (property ':' value (';' property ':' value)* ';'?)? '}'
    selector   := '*' | shape | '.' class | '#' id
    value      := bare text without blanks | "quoted" with \\" and \\\\
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, NoReturn

from perdure.core.pipeline_errors import StylesheetSyntaxError
from perdure.pipeline.document import Attribute, Document, DocumentNode, Position
from perdure.pipeline.handler_types import DEFAULT_SHAPE

PROPERTIES: Final = ("llm_model", "llm_provider", "reasoning_effort")

SelectorKind = Literal["all", "shape", "class", "id"]

_SPECIFICITY: Final[Mapping[SelectorKind, int]] = {"all": 0, "shape": 1, "class": 2, "id": 3}
_BLANKS = re.compile(r"[ \t\r\n]*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLASS = re.compile(r"[A-Za-z0-9_-]+")
_PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_BARE = re.compile(r"[^\s;{}\"\\]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')


class Selector(NamedTuple):
    """Which nodes a rule is for.

    Args:
        kind: what it looks at.
        name: the shape, class or id; empty for `*`.
    """

    kind: SelectorKind
    name: str = ""

    @property
    def specificity(self) -> int:
        """From 0 for `*` to 3 for an id."""
        return _SPECIFICITY[self.kind]


@dataclass(frozen=True, slots=True)
class StyleRule:
    """One rule.

    Args:
        selector: which nodes it is for.
        properties: in the order of the text; of one that is given twice, the later value.
        position: of its selector, inside the stylesheet.
    """

    selector: Selector
    properties: dict[str, str]
    position: Position


class Stylesheet:
    """A stylesheet that was read.

    Args:
        rules: in the order of the text.
    """

    def __init__(self, rules: Iterable[StyleRule]) -> None:
        self.rules = tuple(rules)
        # By selector, so that a node costs what it matches and not what the stylesheet holds.
        self._declared: dict[Selector, dict[str, _Declared]] = {}
        for order, rule in enumerate(self.rules):
            declared = {key: _Declared(order, value) for key, value in rule.properties.items()}
            self._declared.setdefault(rule.selector, {}).update(declared)

    def properties_of(self, node: DocumentNode) -> dict[str, str]:
        """What the stylesheet says of a node: the more specific rule wins, and of equals the later one."""
        best: dict[str, tuple[int, _Declared]] = {}
        for selector in _selectors_of(node):
            for key, declared in self._declared.get(selector, {}).items():
                candidate = (selector.specificity, declared)
                best[key] = max(best.get(key, candidate), candidate)
        return {key: declared.value for key, (_, declared) in best.items()}

    def apply(self, document: Document, position: Position) -> None:
        """Give every node of a document what the stylesheet says of it.

        An attribute that stands at a node itself stays. One that came from a `node [...]` statement is a default of the
        graph, and the stylesheet wins.

        Args:
            document: changed in place.
            position: of the stylesheet, which the new attributes get as theirs.
        """
        for node in document.nodes.values():
            for key, value in self.properties_of(node).items():
                present = node.attributes.get(key)
                if present is None or present.is_default:
                    node.attributes[key] = Attribute(value, position, is_default=True)


class _Declared(NamedTuple):
    order: int
    value: str


def classes_of(node: DocumentNode) -> list[str]:
    """The classes of a node: its comma list, in order."""
    given = node.get("class")
    return [name for name in (part.strip() for part in str(given or "").split(",")) if name]


def parse_stylesheet(text: str) -> Stylesheet:
    """Read a stylesheet. An empty one has no rules.

    Raises:
        StylesheetSyntaxError: it is outside the grammar, or sets a property that there is not; `ids["line"]` and
            `ids["column"]` say where, at most one past the end.
    """
    return Stylesheet(_Reader(text).rules())


def _selectors_of(node: DocumentNode) -> Iterator[Selector]:
    yield Selector("all")
    yield Selector("shape", str(node.get("shape") or DEFAULT_SHAPE))
    for name in classes_of(node):
        yield Selector("class", name)
    yield Selector("id", node.id)


class _Reader:
    """Reads one stylesheet from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._line = 1
        self._line_start = 0
        self._counted = 0

    def rules(self) -> Iterator[StyleRule]:
        self._skip_blanks()
        while self._place < len(self._text):
            position = self._position(self._place)
            selector = self._selector()
            self._expect("{", "expected '{'")
            yield StyleRule(selector, self._properties(), position)
            self._skip_blanks()

    def _selector(self) -> Selector:
        if self._take("*"):
            return Selector("all")
        if self._take("."):
            return Selector("class", self._match(_CLASS, "expected the name of a class"))
        if self._take("#"):
            return Selector("id", self._match(_NAME, "expected the id of a node"))
        return Selector("shape", self._match(_NAME, "expected a selector: *, a shape, .class or #id"))

    def _properties(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self._skip_blanks()
        while not self._take("}"):
            start = self._place
            key = self._match(_PROPERTY, "expected a property or '}'")
            if key not in PROPERTIES:
                self._refuse(start, f"the property {key[:40]!r} is unknown", hint=f"there are {', '.join(PROPERTIES)}")
            self._expect(":", "expected ':'")
            self._skip_blanks()
            found[key] = self._value()
            self._skip_blanks()
            if not self._take(";") and not self._text.startswith("}", self._place):
                self._refuse(self._place, "expected ';' or '}'")
            self._skip_blanks()
        return found

    def _value(self) -> str:
        if not self._text.startswith('"', self._place):
            return self._match(_BARE, "expected a value")
        start = self._place
        match = _QUOTED.match(self._text, start)
        if match is None:
            self._refuse(start, 'the quoted value does not end, or has an escape other than \\" and \\\\')
        self._place = match.end()
        return re.sub(r"\\(.)", r"\1", match[1])

    def _match(self, pattern: re.Pattern[str], otherwise: str) -> str:
        match = pattern.match(self._text, self._place)
        if match is None:
            self._refuse(self._place, otherwise)
        self._place = match.end()
        return match[0]

    def _expect(self, text: str, otherwise: str) -> None:
        self._skip_blanks()
        if not self._take(text):
            self._refuse(self._place, otherwise)

    def _take(self, text: str) -> bool:
        found = self._text.startswith(text, self._place)
        self._place += len(text) if found else 0
        return found

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._place)
        self._place = self._place if match is None else match.end()

    def _position(self, place: int) -> Position:
        """Of a place at or after the last one that was asked for: every line is counted once."""
        lines = self._text.count("\n", self._counted, place)
        if lines:
            self._line += lines
            self._line_start = self._text.rindex("\n", self._counted, place) + 1
        self._counted = place
        return Position(self._line, place - self._line_start + 1)

    def _refuse(self, place: int, expected: str, *, hint: str | None = None) -> NoReturn:
        found = ""
        if expected.startswith("expected"):
            found = f", found {self._text[place : place + 12]!r}" if place < len(self._text) else ", found the end"
        line, column = self._position(place)
        raise StylesheetSyntaxError(
            f"{expected}{found} at line {line}, column {column} of the stylesheet", hint=hint, line=line, column=column
        )
