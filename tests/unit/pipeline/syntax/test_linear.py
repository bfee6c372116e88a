"""Reading costs time in proportion to the text: counted in calls and in characters, not in seconds."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, SupportsIndex

import pytest

from perdure.pipeline.syntax import format_tree, parse, parse_tree
from perdure.pipeline.syntax import tokens as tokens_module
from perdure.pipeline.syntax.parser import Parser
from perdure.pipeline.syntax.source import Source

SHAPES: dict[str, Callable[[int], str]] = {
    "nodes and edges": lambda n: each(n, 'n{0} [label="Node {0}"]\nn{0} -> n{1} [weight=3]\n'),
    "one long chain": lambda n: "a" + " -> a" * n + "[k=1]",
    "one long list": lambda n: "a [" + each(n, "k{0}=1, ") + "k=1]",
    "one long label": lambda n: 'a [label="' + "x" * 20 * n + '"]',
    "one label full of escapes": lambda n: 'a [label="' + '\\"' * 10 * n + '"]',
    "comments on one line": lambda n: "/**/" * n + "a",
    "comments on many lines": lambda n: "//\n" * n + "a",
    "line ends": lambda n: "\n \r\n" * n + "a",
    "subgraphs in a row": lambda n: "subgraph { label=x a b }" * n,
    "a node in many classes": lambda n: each(n, "subgraph {{ label=x{0} a }}"),
    "defaults that subgraphs inherit": lambda n: "node [" + each(n, "k{0}=1, ") + "k=1]" + "subgraph { }" * n,
    "nodes inside subgraphs": lambda n: "subgraph {" * 64 + "label=x " + "a b " * n + "}" * 64,
}


def each(n: int, form: str) -> str:
    return "".join(form.format(number, number * 7 % n) for number in range(n))


def calls(text: str) -> int:
    """Calls of functions, Python's own included, while a text is read and formatted."""
    count = 0

    def seen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        parse(text)
        format_tree(parse_tree(text))
    finally:
        sys.setprofile(before)
    return count


class CountedText(str):
    """A text that counts the characters that are copied out of it or searched."""

    seen = 0

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        found = super().__getitem__(key)
        self.seen += len(found)
        return found

    def count(self, *wanted: Any) -> int:
        self.seen += wanted[2] - wanted[1]
        return super().count(*wanted)

    def rindex(self, *wanted: Any) -> int:
        found = super().rindex(*wanted)
        self.seen += wanted[2] - found
        return found

    def find(self, *wanted: Any) -> int:
        found = super().find(*wanted)
        self.seen += (len(self) if found < 0 else found) - wanted[1]
        return found


class CountedPattern:
    """A pattern that counts the characters that it looks at in a `CountedText`."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        def counted(text: CountedText, at: int) -> re.Match[str] | None:
            found: re.Match[str] | None = getattr(self._pattern, name)(text, at)
            text.seen += (len(text) if found is None else found.end()) - at
            return found

        return counted


def characters(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many characters are looked at while a text is read, one that is seen again counted again."""
    with monkeypatch.context() as patched:
        for name in ("_LEXEME", "_VALUE", "_QUOTE_OR_ESCAPE"):
            patched.setattr(tokens_module, name, CountedPattern(getattr(tokens_module, name)))
        source = Source(text)
        counted = source.text = CountedText(text)
        parser = Parser(source)
        parser.head()
        for _ in parser.items():
            pass
        parser.comments_after()
        return counted.seen


def pipeline(shape: str, n: int) -> str:
    return f"digraph G {{ {SHAPES[shape](n)} }}"


@pytest.mark.parametrize("shape", SHAPES)
def test_four_times_the_text_takes_four_times_the_calls(shape: str) -> None:
    small, large = pipeline(shape, 250), pipeline(shape, 1000)
    assert calls(large) <= 4.5 * calls(small) + 500


@pytest.mark.parametrize("shape", SHAPES)
def test_no_character_is_looked_at_more_than_a_few_times(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = pipeline(shape, 1000)
    assert len(text) <= characters(text, monkeypatch) <= 8 * len(text)


def test_a_node_that_is_named_again_costs_the_same_at_every_depth() -> None:
    def nested(depth: int) -> str:
        return "digraph G {" + "subgraph { label=x " * depth + "a b " * 1000 + "}" * depth + "}"

    assert calls(nested(64)) <= 1.5 * calls(nested(1))
