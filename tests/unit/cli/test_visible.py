"""Text that somebody else wrote acts on no terminal: neither in lines, nor in tables, nor in notes."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.text import Text

from perdure.cli.output import Output, table
from perdure.cli.visible import visible
from perdure.core.errors import InputError

ACTING = "\x1b[2J\x1b]52;c;cm0=\x07 \x9b8m \x7f\r \u202egnp.exe \u2066a\u2028b\x00"
SEEN = "\\u001b[2J\\u001b]52;c;cm0=\\u0007 \\u009b8m \\u007f\\u000d \\u202egnp.exe \\u2066a\\u2028b\\u0000"


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Both streams of this process, from now on."""
    monkeypatch.setenv("TERM", "xterm")
    made = Terminal()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_what_acts_is_escaped_and_the_rest_stays() -> None:
    assert visible(ACTING) == SEEN
    plain = "tab\there\nline  Ünïcödé 漢字 👩\u200d🚀 العربية \\u001b"
    assert visible(plain) == plain


def test_nothing_that_was_written_elsewhere_acts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    output = Output()
    output.line(ACTING)
    output.note(ACTING)
    output.show(Text(ACTING), table(["a", "b"], [[ACTING, "x"], ["y", Text(ACTING, style="bold")]]))
    output.failure(InputError(ACTING, hint=ACTING, run_id=ACTING))
    output.value({"text": ACTING})
    shown = terminal.getvalue()
    for one in ("\x1b[2J", "\x1b]52", "\x9b", "\x7f", "\x07", "\x00", "\u202e", "\u2066", "\u2028"):
        assert one not in shown
    assert "\x1b[" in shown  # styles of its own


def test_json_for_a_terminal_is_the_same_json(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    Output(json=True).value({"text": ACTING})
    assert json.loads(terminal.getvalue()) == {"text": ACTING}


def test_a_program_that_reads_is_given_lines_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Output().line(ACTING)
    assert capsys.readouterr().out == ACTING + "\n"
    Output().note(ACTING)
    assert capsys.readouterr().err == SEEN + "\n"
