"""The tokens of a pipeline's text, in one pass over it.

Where a value may stand (behind a `=`), `-`, `:` and digits belong to a word; elsewhere they do not, or `A->B` could not
be read.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.pipeline.document import Position
from perdure.pipeline.syntax.source import Source
from perdure.pipeline.syntax.tree import Comment

TokenKind = Literal["word", "atom", "string", "->", "{", "}", "[", "]", "=", ",", ";", "start", "end"]
"""A `word` is a name or a dotted key, an `atom` a value without quotes; a sign is its own kind."""

ESCAPES: Final = {'"': '"', "n": "\n", "t": "\t", "\\": "\\"}

_SIGNS: Final[dict[str, TokenKind]] = {
    "{": "{", "}": "}", "[": "[", "]": "]", "=": "=", ",": ",", ";": ";", "->": "->",
}  # fmt: skip
_PATTERN = r"[ \t\r]*(?:(%s)|(->|[{}\[\]=,;])|(\")|(\n[ \t\r\n]*)|(//|/\*)|(\Z))"
_LEXEME = re.compile(_PATTERN % r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_VALUE = re.compile(_PATTERN % r"[A-Za-z0-9_.:-]+")
_WORD, _SIGN, _QUOTE, _LINES, _COMMENT, _END = range(1, 7)
_BLANKS = " \t\r"
_QUOTE_OR_ESCAPE = re.compile(r'["\\]')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NO_COMMENTS: Final[list[Comment]] = []


class Tokens:
    """A place in a text: the token that stands there, and the step to the next one.

    It is one object that moves, and not one for each token: a text has many, and most are looked at once.

    Args:
        source: the text.

    Attributes:
        kind: what the token is.
        text: as written; a string with its quotes and with line feeds as line ends.
        line: of its first character, from 1.
        column: of its first character, from 1.
        comments: those between the token before it and this one; not to be changed.
        follows_blank_line: an empty line stands right before it.
    """

    __slots__ = (
        "_line",
        "_line_start",
        "_offset",
        "column",
        "comments",
        "follows_blank_line",
        "kind",
        "line",
        "source",
        "text",
    )

    def __init__(self, source: Source) -> None:
        self.source = source
        self.kind: TokenKind = "start"
        self.text = ""
        self.line = self.column = 1
        self.comments: list[Comment] = _NO_COMMENTS
        self.follows_blank_line = False
        self._offset = 0
        self._line = 1
        self._line_start = 0

    @property
    def position(self) -> Position:
        """Of the token's first character."""
        return Position(self.line, self.column)

    def advance(self) -> TokenKind:
        """Go to the next token; behind the last one stands one of kind `end`.

        Returns:
            Its kind.

        Raises:
            PipelineSyntaxError: no token begins at the next character, or its string or comment has no end.
        """
        text = self.source.text
        lexeme = _VALUE if self.kind == "=" else _LEXEME
        self.comments = _NO_COMMENTS
        breaks = 0
        while True:
            found = lexeme.match(text, self._offset)
            if found is None:
                raise self._unexpected(is_value=lexeme is _VALUE)
            group = found.lastindex
            assert group is not None
            begin, end = found.span(group)
            if group == _LINES:
                breaks = self._pass(begin, end)
                continue
            if group == _COMMENT:
                self._comment(found[group], begin, breaks)
                breaks = 0
                continue
            self._offset = end
            self.line = self._line
            self.column = begin - self._line_start + 1
            self.follows_blank_line = breaks > 1
            if group == _SIGN:
                self.text = sign = found[group]
                self.kind = _SIGNS[sign]
            elif group == _WORD:
                self.text = found[group]
                self.kind = "word" if lexeme is _LEXEME else "atom"
            elif group == _QUOTE:
                self.text = self._string(begin)
                self.kind = "string"
            else:
                self.text, self.kind = "", "end"
            return self.kind

    def value(self) -> str:
        """What the token stands for, if it is a string."""
        inner = self.text[1:-1]
        return _ESCAPE.sub(lambda found: ESCAPES[found[1]], inner) if "\\" in inner else inner

    def _pass(self, begin: int, end: int) -> int:
        """Go behind characters that may hold line ends.

        Returns:
            How many line ends.
        """
        self._offset = end
        text = self.source.text
        count = text.count("\n", begin, end)
        if count:
            self._line += count
            self._line_start = text.rindex("\n", begin, end) + 1
        return count

    def _string(self, begin: int) -> str:
        text = self.source.text
        end = text.find('"', begin + 1) + 1
        raw = text[begin:end]
        if raw and "\\" not in raw and "\n" not in raw:
            self._offset = end
            return raw
        return self._string_with_escapes(begin)

    def _string_with_escapes(self, begin: int) -> str:
        """The same for a string of several lines, or with escapes, or without an end."""
        text = self.source.text
        at = begin + 1
        while True:
            found = _QUOTE_OR_ESCAPE.search(text, at)
            if found is None:
                raise self.source.error(self.position, "the string has no end", hint='end it with "')
            at = found.end()
            if found[0] == '"':
                break
            if at < len(text) and text[at] not in ESCAPES:
                raise _bad_escape(self.source, found.start())
            at += 1
        raw = text[begin:at]
        if "\n" not in raw:
            self._offset = at
            return raw
        self._pass(begin, at)
        # A file means the same whichever line ends an editor has given it.
        return raw.replace("\r\n", "\n")

    def _comment(self, opening: str, begin: int, breaks: int) -> None:
        text = self.source.text
        position = Position(self._line, begin - self._line_start + 1)
        if opening == "//":
            end = text.find("\n", begin)
            self._offset = len(text) if end < 0 else end
            written = text[begin : self._offset].rstrip(_BLANKS)
        else:
            end = text.find("*/", begin + 2)
            if end < 0:
                raise self.source.error(position, "the comment has no end", hint="end it with */")
            self._pass(begin, end + 2)
            written = text[begin : end + 2].replace("\r\n", "\n")
        is_trailing = breaks == 0 and (self.kind != "start" or bool(self.comments))
        comment = Comment(written, position, is_trailing, breaks > 1)
        if self.comments:
            self.comments.append(comment)
        else:
            self.comments = [comment]

    def _unexpected(self, *, is_value: bool) -> PipelineSyntaxError:
        """No token begins here."""
        text, offset = self.source.text, self._offset
        while text[offset] in _BLANKS:
            offset += 1
        return _unexpected(self.source, offset, Position(self._line, offset - self._line_start + 1), is_value=is_value)


def _bad_escape(source: Source, offset: int) -> PipelineSyntaxError:
    written = source.text[offset : offset + 2]
    position = source.position(offset)
    shown = written if written.isprintable() else "\\ before a line end or a blank"
    hint = 'the escapes are \\" \\n \\t \\\\; write \\\\ for a backslash'
    return source.error(position, f"there is no escape {shown}", hint=hint)


_HINTS: Final[dict[str, str]] = {
    "--": "use -> instead of --; only directed graphs are pipelines",
    "<": 'labels in HTML are not part of the dialect; write text in "quotes"',
    ":": "edges lead to nodes, not to their ports; write only the node's name",
    "#": "comments begin with // or stand between /* and */",
    "+": 'write one string; raw line ends and \\n are allowed in it',
    ".": "only the key of an attribute has dots, each between two names",
    "-": "names are made of A-Z a-z 0-9 _; an edge is ->",
}  # fmt: skip
_MESSAGES: Final[dict[str, str]] = {
    "--": "-- is an edge of an undirected graph",
    "<": "HTML labels are refused",
    ":": "ports are refused",
}
_QUOTES = "'`“”„«»‘’"


def _unexpected(source: Source, offset: int, position: Position, *, is_value: bool) -> PipelineSyntaxError:
    """No token begins here."""
    found = source.text[offset : offset + 2]
    if found != "--":
        found = found[:1]
    shown = found if found.isprintable() else f"U+{ord(found):04X}"
    message = _MESSAGES.get(found, f"unexpected {shown}")
    hint = _HINTS.get(found)
    if found in _QUOTES:
        hint = 'quotes are "'
    elif is_value and found != "<":
        hint = "put the value in quotes"
    elif found.isalnum():
        hint = "names are made of A-Z a-z 0-9 _ and do not begin with a digit"
    return source.error(position, message, hint=hint)
