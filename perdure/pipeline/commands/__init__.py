"""External commands: run one, end all that it began, keep a bounded part of what it printed, collect what it left.

A command leads a session of its own. When it ends, by itself, by its timeout or because its task is cancelled, all that
it began ends with it: its process group, its session, and whatever carries the mark of this call in its environment. So
a server that should outlive the command has to be started by other means. The same happens when this very process
is killed, see `guard`. What escapes is a process that left the session and dropped its environment too.

This uses `subprocess` and the event loop's readers rather than `asyncio.subprocess`, which reaps a process as soon as
it ends. Here the leader is reaped last: until then nobody else can be given the number of its group, so that a signal
to the group never meets a stranger.
"""

from perdure.pipeline.commands.command import Command, CommandResult
from perdure.pipeline.commands.environment import allowed_environment
from perdure.pipeline.commands.errors import (
    CommandError,
    CommandFolderError,
    CommandInvalidError,
    CommandLostError,
    CommandMissingError,
    CommandNotExecutableError,
    CommandStartError,
    CommandStatusError,
    CommandTooLongError,
)
from perdure.pipeline.commands.files import CollectedFiles, collect_files
from perdure.pipeline.commands.programs import AllowedPrograms
from perdure.pipeline.commands.running import run_command
from perdure.pipeline.commands.status import status_json

__all__ = [
    "AllowedPrograms",
    "CollectedFiles",
    "Command",
    "CommandError",
    "CommandFolderError",
    "CommandInvalidError",
    "CommandLostError",
    "CommandMissingError",
    "CommandNotExecutableError",
    "CommandResult",
    "CommandStartError",
    "CommandStatusError",
    "CommandTooLongError",
    "allowed_environment",
    "collect_files",
    "run_command",
    "status_json",
]
