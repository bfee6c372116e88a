"""Errors of external commands. They belong to the tree of `perdure.core.errors`.

A command that ran and failed is no error: its `CommandResult` says how it ended. All of these but `CommandLostError`
and `CommandStatusError` mean that no command was started; only `CommandStartError` may go away by itself.
"""

from __future__ import annotations

from typing import ClassVar

from perdure.core.errors import Category, PerdureError


class CommandError(PerdureError):
    """An external command cannot be run."""

    code = "command_error"
    category: ClassVar[Category] = "step"


class CommandInvalidError(CommandError):
    """A command is no command: empty, both forms or none, or with characters that no program can be given."""

    code = "command_invalid"
    default_hint = "give either a shell command or a list of arguments, without NUL characters"


class CommandMissingError(CommandError):
    """The program of a command does not exist."""

    code = "command_missing"
    default_hint = "install it, or check the spelling and the PATH of the worker"


class CommandNotExecutableError(CommandError):
    """The program of a command exists and cannot be executed."""

    code = "command_not_executable"
    default_hint = "check its permissions, and the first line of a script"


class CommandTooLongError(CommandError):
    """The arguments and the environment of a command are larger than the system allows."""

    code = "command_too_long"
    default_hint = "pass large data in a file"


class CommandFolderError(CommandError):
    """The folder that a command works in, or leaves its files in, cannot be used."""

    code = "command_folder"
    default_hint = "make the folder before the run starts"


class CommandStartError(CommandError):
    """The system has no room for another process now."""

    code = "command_start_failed"
    retryable = True
    default_hint = "check the limits on processes, memory and open files"


class CommandLostError(CommandError):
    """A command ended, and nobody knows how: another part of this process took its exit status."""

    code = "command_lost"
    default_hint = "do not ignore SIGCHLD in a worker, nor wait for processes that others started"


class CommandStatusError(CommandError):
    """The `status.json` that a command left is no outcome."""

    code = "command_status"
    default_hint = 'write an object such as {"outcome": "success"}'
