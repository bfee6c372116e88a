"""Transcripts of a shell: `$ command` lines, each followed by what it prints.

The commands of one transcript run in one shell, in one folder, without a terminal. What they started with `&` lives
until the page ends. What is printed is compared loosely:

* a line of the transcript must be a line of the output, in the same order, and no other line may stand between;
* `…` stands for anything within a line, and a line that is nothing but `…` for any number of lines;
* runs of spaces are one space;
* a command that prints something, but shows nothing in the transcript, is not compared.

A command must end with exit code 0, unless the next one is `echo $?`, which shows what it ended with.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT

_MARK: Final = "\x1e"
COMMAND_TIMEOUT_S: Final = 60


@dataclass
class Command:
    """A command and the lines that it is said to print."""

    line: int
    text: str
    expected: list[str]


def commands_of(lines: list[str], first_line: int) -> list[Command]:
    """Parse a transcript; a command goes on in the next line after a backslash."""
    commands: list[Command] = []
    going_on = False
    for number, line in enumerate(lines, first_line):
        if going_on:
            commands[-1].text += "\n" + line
        elif line.startswith("$ "):
            commands.append(Command(number, line[2:], []))
        else:
            assert commands, f"line {number}: a transcript begins with '$ '"
            commands[-1].expected.append(line)
        going_on = line.endswith("\\") and not commands[-1].expected
    return commands


def play(
    commands: list[Command], folder: Path, environment: dict[str, str], left: list[int] | None = None
) -> list[tuple[int, str]]:
    """Run the commands in one shell; their exit codes and what they printed.

    Args:
        left: gets the session, whose end is then the caller's: what was started with `&` serves the transcripts that
            follow. If omitted, it ends with this one.
    """
    parts = [f"{command.text}\n_code=$?; printf '{_MARK}%s{_MARK}' $_code; (exit $_code)" for command in commands]
    if left is not None:
        parts.insert(0, "sleep infinity >/dev/null 2>&1 &")  # while one lives, its number is nobody else's
    shell = subprocess.Popen(
        ["bash", "-c", "\n".join(parts)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if left is not None:
        left.append(shell.pid)
    try:
        output, _ = shell.communicate(timeout=COMMAND_TIMEOUT_S)
    finally:
        if left is None:
            end_group(shell.pid)
        shell.wait()
    pieces = output.decode().split(_MARK)
    results = [(int(code), text) for text, code in zip(pieces[::2], pieces[1::2], strict=False)]
    assert len(results) == len(commands), f"the shell ended early:\n{output.decode()}"
    return results


def end_group(pid: int) -> None:
    """Kill what is left of a session that was started here."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def environment_for(folder: Path) -> dict[str, str]:
    """What a reader's shell has after `. .venv/bin/activate`, with no trace of the tests' own settings.

    Args:
        folder: gets a hidden folder with a `perdure` that runs this checkout, installed or not.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "PYTEST_"))}
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    program = programs / "perdure"
    program.write_text(f"#!{sys.executable}\nfrom perdure.cli import main\n\nmain()\n")
    program.chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


def matches(expected: list[str], printed: str) -> bool:
    """Whether what was printed is what the transcript shows."""
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*"
        else:
            parts = [re.escape(part) for part in _normal(line).split("…")]
            pattern += "[^\n]*".join(parts) + r"\n"
    text = "".join(_normal(line) + "\n" for line in printed.splitlines() if line.strip())
    return re.fullmatch(pattern, text) is not None


def _normal(line: str) -> str:
    return " ".join(line.split())


def check(commands: list[Command], results: list[tuple[int, str]], place: str) -> None:
    """Compare what happened with the transcript.

    Raises:
        AssertionError: it differs.
    """
    for number, (command, (code, printed)) in enumerate(zip(commands, results, strict=True)):
        where = f"{place}, line {command.line}: $ {command.text}"
        following = commands[number + 1].text if number + 1 < len(commands) else ""
        assert code == 0 or following == "echo $?", f"{where}\nended with exit code {code}:\n{printed}"
        expected = [line for line in command.expected if line.strip()]
        if expected:
            shown = "\n".join(expected)
            assert matches(expected, printed), f"{where}\nis said to print\n\n{shown}\n\nand printed\n\n{printed}"
