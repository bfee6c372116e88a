"""What a command prints: data on standard output, notes on standard error, JSON where it was asked for.

Colours and live displays are for terminals only; `NO_COLOR` and `TERM=dumb` are respected (by `rich`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO

import typer

from perdure.cli.visible import visible
from perdure.core.errors import PerdureError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

BROKEN_PIPE: Final = 141
"""128 + SIGPIPE: whoever read the output has gone."""
LEAST_CUT: Final = 20
"""Columns that are left of a column that is cut."""
WIDE: Final = 10_000
"""Columns where no terminal limits them: nothing is wrapped or cut for a program that reads."""


class Output:
    """Where a command prints to.

    Args:
        json: data as JSON instead of text.
        quiet: without notes.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet

    # --- data ---------------------------------------------------------------------------------------------------------

    def value(self, value: object) -> None:
        """One JSON value; indented for a terminal."""
        _write(sys.stdout, _shown(sys.stdout, to_json(value, indent=sys.stdout.isatty())) + "\n")

    def record(self, value: Mapping[str, Any]) -> None:
        """One line of a stream of JSON values."""
        _write(sys.stdout, _shown(sys.stdout, to_json(value)) + "\n")

    def line(self, text: str) -> None:
        """A line of text: as it is for a program that reads, and without what acts on a terminal for a person."""
        _write(sys.stdout, (visible(text) if sys.stdout.isatty() else text) + "\n")

    def data(self, content: bytes) -> None:
        """Bytes, as they are."""
        sys.stdout.flush()
        try:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise _reader_gone() from None

    def show(self, *things: RenderableType) -> None:
        """Formatted text."""
        with self.console.capture() as captured:
            for thing in things:
                self.console.print(thing)
        _write(sys.stdout, "".join(line.rstrip() + "\n" for line in captured.get().splitlines()))

    @cached_property
    def console(self) -> Console:
        """Standard output, for formatted text."""
        return _console(sys.stdout)

    # --- notes --------------------------------------------------------------------------------------------------------

    @cached_property
    def notes(self) -> Console:
        """Standard error, for formatted notes and live displays."""
        return _console(sys.stderr)

    def note(self, text: str, *, style: str = "") -> None:
        """A note for people."""
        if self.quiet:
            return
        if sys.stderr.isatty():
            from rich.text import Text

            self.notes.print(Text(text, style=style), soft_wrap=True)
        else:
            _write(sys.stderr, visible(text) + "\n")

    def warn(self, text: str) -> None:
        """A note that is never left out."""
        quiet, self.quiet = self.quiet, False
        self.note(text, style="yellow")
        self.quiet = quiet

    def failure(self, error: PerdureError) -> None:
        """An error: its cause, what to do, and the ids that matter."""
        self.failed(error.to_dict())

    def failed(self, error: Mapping[str, Any]) -> None:
        """An error as data, see `PerdureError.to_dict`."""
        if self.json:
            _write(sys.stderr, _shown(sys.stderr, to_json({"error": error})) + "\n")
            return
        quiet, self.quiet = self.quiet, False
        self.note(f"error: {error['message']}", style="bold red")
        if error.get("hint"):
            self.note(f"hint: {error['hint']}")
        ids = {name: value for name, value in error.get("ids", {}).items() if isinstance(value, str | int | float)}
        shown = [f"{name}={value}" for name, value in ids.items() if str(value) not in error["message"]]
        self.note(" ".join([f"code: {error['code']}", *shown]), style="dim")
        self.quiet = quiet


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, width: int = WIDE) -> RenderableType:
    """Rows under column heads, without lines.

    Args:
        columns: their heads.
        rows: as many cells each; a text is taken as it is, not as markup.
        width: what the last column is cut to; the others go on in the next line where they must.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    grid = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    used = 0
    for place, column in enumerate(columns):
        grid.add_column(column, overflow="fold")
        if place < len(columns) - 1:
            used += max([len(column), *(row[place].cell_len for row in cells)]) + 2
    for row in cells:
        row[-1].truncate(max(LEAST_CUT, width - used), overflow="ellipsis")
        grid.add_row(*row)
    return grid


def count(number: int, what: str) -> str:
    """A number of things: `1 step`, `2 steps`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def to_json(value: object, *, indent: bool = False) -> str:
    """JSON text; what JSON lacks is shown as text."""
    import orjson

    option = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(value, default=str, option=option).decode()


def _shown(stream: TextIO, text: str) -> str:
    """JSON as a stream can show it: what its encoding lacks is escaped as JSON wants it."""
    if stream.isatty():
        text = visible(text)
    if text.isascii() or (stream.encoding or "utf-8").lower().replace("-", "").startswith("utf"):
        return text
    import json

    return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], text)


def _console(stream: TextIO) -> Console:
    from perdure.cli.console import VisibleConsole

    width = None if stream.isatty() else WIDE
    return VisibleConsole(file=stream, highlight=False, markup=False, emoji=False, width=width)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise _reader_gone() from None


def _reader_gone() -> typer.Exit:
    """Leave quietly, and let the interpreter's last flush have somewhere to go."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return typer.Exit(BROKEN_PIPE)
