"""The syntax tree of a text, by recursive descent: one method for each rule of the grammar.

    Graph     := 'digraph' Id '{' Statement* '}'
    Statement := ('graph' | 'node' | 'edge') Attributes | Key '=' Value | 'subgraph' Id? '{' Statement* '}'
               | Id Attributes? | Id ('->' Id)+ Attributes?      each with an optional ';'
    Attributes := '[' Key '=' Value (',' Key '=' Value)* ']'

A comment is kept where it stands. One in the middle of a statement or of an attribute moves before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NoReturn

from perdure.pipeline.document import Position
from perdure.pipeline.syntax.literals import NotALiteral, literal
from perdure.pipeline.syntax.source import Source
from perdure.pipeline.syntax.tokens import TokenKind, Tokens
from perdure.pipeline.syntax.tree import (
    Assignment,
    AttributeList,
    Comment,
    DefaultsStatement,
    DefaultsTarget,
    EdgeStatement,
    Head,
    Name,
    NodeStatement,
    Statement,
    Subgraph,
    Tree,
    Written,
)

MAX_DEPTH: Final = 64
"""Subgraphs may not be nested deeper."""

# Every reader of DOT takes these for keywords, in upper case, too. As names they would mean one thing here and another
# there.
_KEYWORDS: Final = frozenset({"strict", "digraph", "graph", "node", "edge", "subgraph"})
_DEFAULTS: Final[dict[str, DefaultsTarget]] = {"graph": "graph", "node": "node", "edge": "edge"}


def parse_tree(text: str, *, file: str | None = None) -> Tree:
    """Read a pipeline's text; nothing of it is lost but blanks and optional signs.

    Args:
        text: of the whole file.
        file: the name that errors show.

    Raises:
        PipelineSyntaxError: it is outside the grammar or a limit; it has the place of the first fault.
    """
    return tree_of(Source(text, file))


def tree_of(source: Source) -> Tree:
    """As `parse_tree`, of a text that was looked at."""
    parser = Parser(source)
    head = parser.head()
    items = list(parser.items())
    return Tree(head, items, parser.comments_after())


class Parser:
    """A text, and the first token of it that is not used yet.

    `head`, `items` and `comments_after` read it, in this order. The statements of the graph come one by one: who needs
    them only once need not hold the whole tree.

    Args:
        source: the text.
    """

    __slots__ = ("_opening", "_tokens")

    def __init__(self, source: Source) -> None:
        self._tokens = Tokens(source)
        self._opening = Position(1, 1)
        self._tokens.advance()

    # --- the graph ----------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        """Up to the opening brace."""
        before = list(self._tokens.comments)
        follows_blank_line = self._tokens.follows_blank_line
        self._digraph()
        hoisted: list[Comment] = []
        name = self._name("the graph's name", hoisted)
        self._opening = self._take("{", "{ behind the graph's name", hoisted)
        _hoist(hoisted)
        return Head(name, before + hoisted, follows_blank_line)

    def items(self) -> Iterator[Statement | Comment]:
        """What stands in the graph's braces."""
        return self._items(self._opening, 0)

    def comments_after(self) -> list[Comment]:
        """From the closing brace to the end."""
        token = self._tokens
        if token.advance() == "end":
            return list(token.comments)
        if token.text.lower() in ("digraph", "graph", "strict"):
            self._refuse("the file has more than one graph", "keep each pipeline in a file of its own")
        self._refuse(f"expected the end of the file, found {_shown(token)}", "remove it, or the } that is too many")

    def _digraph(self) -> None:
        token = self._tokens
        if token.kind == "word" and token.text == "digraph":
            token.advance()
            return
        if token.kind == "end":
            self._refuse("there is no graph", "write digraph Name { … }")
        known = {"strict": "strict graphs are refused", "graph": "undirected graphs are refused"}
        message = known.get(token.text.lower(), f"expected digraph, found {_shown(token)}")
        self._refuse(message, "a pipeline begins with digraph Name {")

    # --- statements ---------------------------------------------------------------------------------------------------

    def _items(self, opening: Position, depth: int) -> Iterator[Statement | Comment]:
        """Up to the closing brace, which stays the next token."""
        token = self._tokens
        while True:
            yield from token.comments
            if token.kind == "}":
                return
            if token.kind == "end":
                self._refuse(f"the {{ of line {opening.line} has no }}", "end it with }")
            hoisted: list[Comment] = []
            follows_blank_line = token.follows_blank_line
            statement = self._statement(hoisted, depth)
            if hoisted:
                _hoist(hoisted)
                hoisted[0].follows_blank_line = follows_blank_line
                yield from hoisted
            else:
                statement.follows_blank_line = follows_blank_line
            yield statement
            if token.kind == ";":
                yield from token.comments
                token.advance()

    def _statement(self, hoisted: list[Comment], depth: int) -> Statement:
        token = self._tokens
        if token.kind != "word":
            self._refuse_statement()
        text, position = token.text, token.position
        kind = token.advance()
        if text in _DEFAULTS:
            return self._defaults(_DEFAULTS[text], position, hoisted)
        if text == "subgraph":
            return self._subgraph(position, hoisted, depth)
        if kind == "=":
            return Assignment(text, self._written(hoisted), position)
        name = self._checked_name(text, position, "a statement")
        if kind == "->":
            return self._edges(name, hoisted)
        return NodeStatement(name, self._attributes(hoisted) if kind == "[" else None)

    def _defaults(self, target: DefaultsTarget, position: Position, hoisted: list[Comment]) -> DefaultsStatement:
        if self._tokens.kind != "[":
            hint = f"{target} is a keyword, no name; its attributes stand in brackets"
            self._refuse(f"expected [ behind {target}, found {_shown(self._tokens)}", hint)
        return DefaultsStatement(target, self._attributes(hoisted), position)

    def _edges(self, first: Name, hoisted: list[Comment]) -> EdgeStatement:
        token = self._tokens
        names, arrows = [first], []
        while token.kind == "->":
            arrows.append(self._take("->", "->", hoisted))
            names.append(self._name("the name of a node behind ->", hoisted))
        return EdgeStatement(names, arrows, self._attributes(hoisted) if token.kind == "[" else None)

    def _subgraph(self, keyword: Position, hoisted: list[Comment], depth: int) -> Subgraph:
        if depth >= MAX_DEPTH:
            self._refuse(f"subgraphs are nested deeper than {MAX_DEPTH}", "make it flatter", keyword)
        name = self._name("the subgraph's name", hoisted) if self._tokens.kind == "word" else None
        opening = self._take("{", "{ of the subgraph", hoisted)
        items = list(self._items(opening, depth + 1))
        self._tokens.advance()
        if self._tokens.kind == "->":
            self._refuse("an edge leads from one node to another, not from a subgraph", "write one edge for each node")
        return Subgraph(name, items, keyword)

    # --- attributes ---------------------------------------------------------------------------------------------------

    def _attributes(self, hoisted: list[Comment]) -> AttributeList:
        token = self._tokens
        opening = self._take("[", "[", hoisted)
        items: list[Assignment | Comment] = []
        while True:
            if token.comments:
                items += token.comments
            self._attribute(items)
            if token.comments:
                items += token.comments
            kind = token.kind
            if kind not in (",", "]"):
                self._refuse_separator()
            token.advance()
            if kind == "]":
                return AttributeList(items, opening)

    def _attribute(self, items: list[Assignment | Comment]) -> None:
        token = self._tokens
        if token.kind != "word":
            self._refuse_key()
        key, position = token.text, token.position
        if token.advance() != "=":
            self._refuse(f"the attribute {key} has no value", "write key=value")
        hoisted: list[Comment] = []
        written = self._written(hoisted)
        if hoisted:
            _hoist(hoisted)
            items += hoisted
        items.append(Assignment(key, written, position))

    def _written(self, hoisted: list[Comment]) -> Written:
        """`=`, which is the next token, and what follows it."""
        token = self._tokens
        if token.comments:
            hoisted += token.comments
        token.advance()
        if token.comments:
            hoisted += token.comments
        if token.kind == "string":
            written = Written(token.value(), token.text)
        elif token.kind == "atom":
            try:
                written = Written(literal(token.text), token.text)
            except NotALiteral as error:
                raise token.source.error(token.position, error.message, hint=error.hint) from None
        else:
            self._refuse(f"expected a value behind =, found {_shown(token)}", 'an empty value is ""')
        token.advance()
        return written

    # --- tokens -------------------------------------------------------------------------------------------------------

    def _take(self, kind: TokenKind, expected: str, hoisted: list[Comment]) -> Position:
        token = self._tokens
        if token.kind != kind:
            self._refuse(f"expected {expected}, found {_shown(token)}")
        if token.comments:
            hoisted += token.comments
        position = token.position
        token.advance()
        return position

    def _name(self, expected: str, hoisted: list[Comment]) -> Name:
        token = self._tokens
        if token.kind != "word":
            self._refuse_name(expected)
        if token.comments:
            hoisted += token.comments
        name = self._checked_name(token.text, token.position, expected)
        token.advance()
        return name

    def _checked_name(self, text: str, position: Position, expected: str) -> Name:
        if "." in text:
            self._refuse(f"{_clipped(text)} is no name: it has dots", "names are made of A-Z a-z 0-9 _", position)
        if text.lower() in _KEYWORDS:
            hint = f"{text} is a keyword of DOT, in capitals, too; choose another name"
            self._refuse(f"expected {expected}, found the keyword {text}", hint, position)
        return Name(text, position)

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _refuse(self, message: str, hint: str | None = None, position: Position | None = None) -> NoReturn:
        raise self._tokens.source.error(position or self._tokens.position, message, hint=hint)

    def _refuse_name(self, expected: str) -> NoReturn:
        token = self._tokens
        if token.kind == "string":
            self._refuse("names stand without quotes", "names are made of A-Z a-z 0-9 _; put other text into label=")
        if token.kind == "{" and expected.endswith("->"):
            self._refuse("an edge leads to one node, not to several", "write one edge for each node")
        self._refuse(f"expected {expected}, found {_shown(token)}")

    def _refuse_statement(self) -> NoReturn:
        token = self._tokens
        if token.kind == "string":
            self._refuse_name("")
        hints: dict[str, str] = {
            "{": "write subgraph before {",
            "[": "attributes stand in one pair of brackets, behind the node or edge that they are for",
            ";": "one ; at most ends a statement",
            "->": "an edge begins with the name of a node; attributes stand behind the last name",
        }
        self._refuse(f"expected a statement, found {_shown(token)}", hints.get(token.kind))

    def _refuse_separator(self) -> NoReturn:
        token = self._tokens
        hint = "separate attributes by commas" if token.kind in ("word", ";", "string") else None
        self._refuse(f"expected , or ], found {_shown(token)}", hint)

    def _refuse_key(self) -> NoReturn:
        token = self._tokens
        hints: dict[str, str] = {
            "]": "remove the brackets if they are empty, or the comma before ]",
            ",": "one comma stands between two attributes",
            "string": "the key of an attribute stands without quotes",
        }
        self._refuse(f"expected the key of an attribute, found {_shown(token)}", hints.get(token.kind))


def _hoist(comments: list[Comment]) -> None:
    """Comments that move: they stand on lines of their own from now on."""
    for comment in comments:
        comment.is_trailing = comment.follows_blank_line = False


def _shown(token: Tokens) -> str:
    if token.kind == "end":
        return "the end of the file"
    return "a string" if token.kind == "string" else _clipped(token.text)


def _clipped(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
