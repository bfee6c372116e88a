"""What a question asks to approve, as people see it before they answer."""

from __future__ import annotations

import json
from typing import Final

from perdure.cli.output import count
from perdure.engine.watching import Question

MOST_LINES: Final = 40
MOST_COLUMNS: Final = 160


def approval_lines(question: Question) -> list[str]:
    """The value that is to be approved, as indented JSON under its hash; nothing where there is none.

    What is long is cut, and the last line says so. Characters that a terminal would not show, or would obey, are
    escaped as JSON wants it: what a person reads is what is approved.
    """
    if question.hash is None:
        return []
    lines = _visible(json.dumps(question.approve, indent=2, ensure_ascii=False)).split("\n")
    shown = [_cut(line) for line in lines[:MOST_LINES]]
    left = len(lines) - len(shown)
    if left or shown != lines:
        more = f"{count(left, 'line')} more; " if left else ""
        shown.append(f"… ({more}the whole: perdure questions {question.run_id} --json)")
    return [f"to approve, hash {question.hash}:", *(f"  {line}" for line in shown)]


def _visible(text: str) -> str:
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def _cut(line: str) -> str:
    return line if len(line) <= MOST_COLUMNS else line[: MOST_COLUMNS - 1] + "…"
