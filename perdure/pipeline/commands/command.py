"""A command and what became of it: plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure.pipeline.commands.errors import CommandInvalidError

SHELL: Final = "/bin/sh"
SHELL_FOUND_NOTHING: Final = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. Exactly one of `argv` and `shell` is given.

    Args:
        argv: the program, looked up in the PATH of `environ`, and its arguments.
        shell: text for `/bin/sh -c`.
        cwd: the folder to run it in.
        environ: its whole environment; see `allowed_environment`.
        timeout_s: seconds after which it is ended; `None` for no limit.
        stage_dir: a folder for files that it wants to leave, made if it is missing; told as `PERDURE_STAGE_DIR`.

    Raises:
        CommandInvalidError: it is no command.
    """

    cwd: Path
    argv: tuple[str, ...] | None = None
    shell: str | None = None
    environ: Mapping[str, str]
    timeout_s: float | None = None
    stage_dir: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if (self.argv is None) == (self.shell is None):
            raise CommandInvalidError("a command is either a shell command or a list of arguments")
        if not (self.argv[0] if self.argv else (self.shell or "").strip()):
            raise CommandInvalidError("the command is empty")
        if self.timeout_s is not None and not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            raise CommandInvalidError(f"a timeout of {self.timeout_s} s is none", hint="give a positive number")

    @property
    def arguments(self) -> tuple[str, ...]:
        """What is executed."""
        return (SHELL, "-c", self.shell or "") if self.argv is None else self.argv


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a command ended and what it printed.

    Args:
        exit_code: `None` if a signal ended it.
        signal: the number of the signal that ended it.
        timed_out: its time was up, and it was ended; `exit_code` and `signal` say how it took that.
        stdout, stderr: the first part of its output, UTF-8 with replacement characters for what is not, and for NUL.
        stdout_bytes, stderr_bytes: how much it printed.
        stdout_dropped, stderr_dropped: how many of these bytes, the last ones, are not in the text.
        duration_s: seconds from the start until all was ended.
        missing: the shell found no such program (exit code 127).
    """

    exit_code: int | None
    signal: int | None
    timed_out: bool
    stdout: str
    stderr: str
    stdout_bytes: int
    stderr_bytes: int
    stdout_dropped: int
    stderr_dropped: int
    duration_s: float
    missing: bool = False

    @property
    def succeeded(self) -> bool:
        """Did it end by itself, with exit code 0?"""
        return self.exit_code == 0 and not self.timed_out
