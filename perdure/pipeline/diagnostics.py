"""What is wrong with a pipeline, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from perdure.pipeline.document import Position

Severity = Literal["error", "warning"]

_WIDTH: Final = 100
_BEFORE: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One thing that a rule found.

    Args:
        rule: its name.
        severity: an error refuses the run.
        message: in one line.
        node: the id of the node it is about.
        edge: the ids of the nodes that the edge leaves and enters.
        position: in the file.
        fix: what to do.
    """

    rule: str
    severity: Severity
    message: str
    node: str | None = None
    edge: tuple[str, str] | None = None
    position: Position | None = None
    fix: str | None = None

    @property
    def line(self) -> int | None:
        """From 1."""
        return None if self.position is None else self.position.line

    @property
    def column(self) -> int | None:
        """From 1, in characters."""
        return None if self.position is None else self.position.column

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data; what is not known is left out."""
        edge = None if self.edge is None else list(self.edge)
        members = {
            "rule": self.rule,
            "severity": self.severity,
            "message": self.message,
            "node": self.node,
            "edge": edge,
            "line": self.line,
            "column": self.column,
            "fix": self.fix,
        }
        return {key: value for key, value in members.items() if value is not None}


def render(diagnostic: Diagnostic, source: str | None = None, file: str | None = None) -> str:
    """A diagnostic for people: where it is, what it says, the line of the source with a caret below, and the fix.

    Args:
        diagnostic: what to show.
        source: the text of the file.
        file: its name.

    Returns:
        Lines without a line break at the end. Control characters of the source are shown as `?`, so that a file cannot
        speak to the terminal.
    """
    place = [] if file is None else [file]
    if diagnostic.position is not None:
        place += [str(diagnostic.position.line), str(diagnostic.position.column)]
    head = f"{diagnostic.severity}: {diagnostic.message} [{diagnostic.rule}]"
    lines = [_printable(f"{':'.join(place)}: {head}" if place else head)]
    if source is not None and diagnostic.position is not None:
        lines += excerpt(source, diagnostic.position)
    if diagnostic.fix is not None:
        lines.append(_printable(f"  fix: {diagnostic.fix}"))
    return "\n".join(lines)


def excerpt(source: str, position: Position) -> list[str]:
    """A line of the source, and a caret below the column; of a long line the part around it. Nothing if there is no
    such line."""
    line = _line(source, position.line)
    if line is None:
        return []
    first = max(0, position.column - 1 - _BEFORE) if len(line) > _WIDTH else 0
    shown = _printable(line[first : first + _WIDTH])
    return [f"  {shown}".rstrip(), f"  {' ' * (position.column - 1 - first)}^"]


def _line(source: str, number: int) -> str | None:
    start = 0
    for _ in range(number - 1):
        start = source.find("\n", start) + 1
        if start == 0:
            return None
    end = source.find("\n", start)
    return source[start : len(source) if end < 0 else end].removesuffix("\r")


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " if one == "\t" else "?" for one in text)
