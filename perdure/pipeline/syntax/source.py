"""A pipeline's text: what may be read at all, and errors that show their place in it."""

from __future__ import annotations

import re
from typing import Final

from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.pipeline.document import Position

MAX_SOURCE_BYTES: Final = 16 * 1024 * 1024
"""A pipeline's file may not be larger, in UTF-8."""

_BYTE_ORDER_MARK = "\ufeff"
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


class Source:
    """A text that is to be parsed.

    A byte order mark at its beginning is dropped. Lines end with a line feed, with or without a carriage return before
    it.

    Args:
        text: of the whole file.
        file: the name that errors show.

    Raises:
        PipelineSyntaxError: it is larger than `MAX_SOURCE_BYTES`, or holds a NUL or half of a surrogate pair.
    """

    __slots__ = ("file", "text")

    def __init__(self, text: str, file: str | None = None) -> None:
        self.text = text.removeprefix(_BYTE_ORDER_MARK)
        self.file = file
        if _size(self.text) > MAX_SOURCE_BYTES:
            raise self.error(
                Position(1, 1),
                f"the file is larger than {MAX_SOURCE_BYTES} bytes",
                hint="keep large prompts and data outside, and let stages read them",
            )
        # Neither can be kept in every store, so neither may come in by a label.
        if found := _NOT_TEXT.search(self.text):
            name = "a NUL" if found[0] == "\0" else "half of a surrogate pair"
            raise self.error(self.position(found.start()), f"{name} is no text", hint="save the file as UTF-8 text")

    def position(self, offset: int) -> Position:
        """The place of a character, by its number from 0. It costs a walk over the text: for errors only."""
        line_start = self.text.rfind("\n", 0, offset) + 1
        return Position(self.text.count("\n", 0, line_start) + 1, offset - line_start + 1)

    def error(self, position: Position, message: str, *, hint: str | None = None) -> PipelineSyntaxError:
        """An error at a place of this text, to be raised."""
        start = 0
        for _ in range(position.line - 1):
            start = self.text.index("\n", start) + 1
        end = self.text.find("\n", start)
        line = self.text[start:] if end < 0 else self.text[start:end].removesuffix("\r")
        return PipelineSyntaxError(
            message, line=position.line, column=position.column, source_line=line, file=self.file, hint=hint
        )


def decode(data: bytes, *, file: str | None = None) -> str:
    """The text of a pipeline's file.

    Args:
        data: all of the file.
        file: the name that errors show.

    Raises:
        PipelineSyntaxError: it is not UTF-8; the place is that of the first bad byte.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode().removeprefix(_BYTE_ORDER_MARK)
        lines = before.split("\n")
        raise PipelineSyntaxError(
            "the file is not UTF-8 text",
            line=len(lines),
            column=len(lines[-1]) + 1,
            source_line=lines[-1],
            file=file,
            hint="save the file as UTF-8 text",
        ) from error


def _size(text: str) -> int:
    """Bytes in UTF-8."""
    if text.isascii() or len(text) > MAX_SOURCE_BYTES:
        return len(text)
    return len(text.encode("utf-8", "surrogatepass"))
