"""Running a command to its end, whatever that is.

Once a command is started, everything up to its last process being gone happens in one task. A cancellation ends the
command; it is raised when that is done, which takes no longer than the grace and a bounded wait for the pipes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from perdure.pipeline.commands.command import SHELL_FOUND_NOTHING, Command, CommandResult
from perdure.pipeline.commands.errors import (
    CommandError,
    CommandFolderError,
    CommandInvalidError,
    CommandLostError,
    CommandMissingError,
    CommandNotExecutableError,
    CommandStartError,
    CommandTooLongError,
)
from perdure.pipeline.commands.exits import exit_of, reap
from perdure.pipeline.commands.guard import Guard
from perdure.pipeline.commands.output import Output
from perdure.pipeline.commands.strays import MARK, kill_strays

STAGE_DIR: Final = "PERDURE_STAGE_DIR"
GRACE_S: Final = 1.0
SETTLE_S: Final = 0.1
"""How long what a command left may still write, for example a `tee` at the end of its output."""

DRAIN_S: Final = 1.0
"""How long is waited for processes that are killed to be gone, and for the end of a pipe when they are."""

_SHORT_S: Final = 10.0
"""Up to here, a command's processes are sought among the newest ones only."""

_MISSING: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))
_NOT_EXECUTABLE: Final = frozenset((errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.EISDIR, errno.ELIBBAD))


async def run_command(command: Command, *, grace_s: float = GRACE_S) -> CommandResult:
    """Run a command, and end all that it began.

    When its time is up, or the task is cancelled, its process group is asked to end (SIGTERM) and killed after the
    grace. When it ends by itself, what is left of it is killed at once. Its standard input is empty.

    Args:
        command: what to run.
        grace_s: seconds between SIGTERM and SIGKILL.

    Raises:
        CommandMissingError, CommandNotExecutableError, CommandTooLongError, CommandInvalidError: it cannot be run,
            now or later.
        CommandFolderError: its `cwd` or `stage_dir` cannot be used.
        CommandStartError: the system has no room for it now.
        CommandLostError: it ran, and how it ended is not known.
    """
    mark = str(uuid.uuid4())
    environ = _environment(command, mark)
    began_s = asyncio.get_running_loop().time()
    try:
        guard = Guard(mark)
    except OSError as error:
        raise _start_error(error, command) from error
    try:
        process = _started(command, environ)
    except BaseException:
        await asyncio.wait({guard.dismiss(asyncio.get_running_loop())})
        raise
    guard.watch(process.pid)
    return await _Execution(command, process, guard, mark, began_s).result(grace_s)


class _Execution:
    """One command, from its start to the end of its last process."""

    def __init__(
        self, command: Command, process: subprocess.Popen[bytes], guard: Guard, mark: str, began_s: float
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._command = command
        self._process = process
        self._guard = guard
        self._mark = mark
        self._began_s = began_s
        self._loop = asyncio.get_running_loop()
        self._cancelled: asyncio.CancelledError | None = None
        self._timed_out = False
        self._exit = exit_of(process.pid, self._loop)
        self._stdout = Output(process.stdout, self._loop)
        self._stderr = Output(process.stderr, self._loop)

    async def result(self, grace_s: float) -> CommandResult:
        await self._until_it_ends(grace_s)
        await self._kill()
        await self._kill()  # what its last processes began while the first were killed
        await self._wait(self._stdout.ended, self._stderr.ended, timeout_s=DRAIN_S)
        self._stdout.close()
        self._stderr.close()
        status = reap(self._process.pid)
        self._process.returncode = 0  # so that `subprocess` does not look for it any more
        await self._wait(self._guard.dismiss(self._loop))
        if self._cancelled is not None:
            raise self._cancelled
        if status is None:
            raise CommandLostError("the command ended, and its exit status was taken by another part of this process")
        stdout, stdout_dropped = self._stdout.text()
        stderr, stderr_dropped = self._stderr.text()
        return CommandResult(
            exit_code=status.exit_code,
            signal=status.signal,
            timed_out=self._timed_out,
            stdout=stdout,
            stderr=stderr,
            stdout_bytes=self._stdout.size_bytes,
            stderr_bytes=self._stderr.size_bytes,
            stdout_dropped=stdout_dropped,
            stderr_dropped=stderr_dropped,
            duration_s=round(self._loop.time() - self._began_s, 6),
            missing=self._command.shell is not None and status.exit_code == SHELL_FOUND_NOTHING,
        )

    async def _until_it_ends(self, grace_s: float) -> None:
        """Wait for its end, or end it; then a little for what it began."""
        try:
            await asyncio.wait({self._exit}, timeout=self._command.timeout_s)
        except asyncio.CancelledError as cancelled:
            self._cancelled = cancelled
        if self._exit.done():
            wait_s = SETTLE_S
        else:
            self._timed_out = self._cancelled is None
            self._signal(signal.SIGTERM)
            wait_s = grace_s
        await self._wait(self._exit, self._stdout.ended, self._stderr.ended, timeout_s=wait_s)

    async def _wait(self, *futures: asyncio.Future[None], timeout_s: float | None = None) -> None:
        """Wait for all of them. A cancellation meanwhile is remembered, and changes nothing."""
        until_s = None if timeout_s is None else self._loop.time() + timeout_s
        while not all(future.done() for future in futures):
            left_s = None if until_s is None else max(0.0, until_s - self._loop.time())
            try:
                await asyncio.wait(futures, timeout=left_s)
            except asyncio.CancelledError as cancelled:
                self._cancelled = cancelled
            else:
                return

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the group. The leader is not reaped, so the group's number is nobody else's."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _kill(self) -> None:
        """Kill all that can be found of it, and wait until that is dead."""
        self._signal(signal.SIGKILL)
        everywhere = self._loop.time() - self._began_s > _SHORT_S
        strays = kill_strays(self._mark, self._process.pid, everywhere=everywhere)
        dying = [exit_of(one, self._loop) for one in strays]
        await self._wait(self._exit)
        await self._wait(*dying, timeout_s=DRAIN_S)
        for one in dying:
            one.cancel()


def _environment(command: Command, mark: str) -> dict[str, str]:
    environ = {**command.environ, MARK: mark}
    if command.stage_dir is not None:
        folder = command.stage_dir.absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _folder_error(folder, "cannot be made", error) from error
        environ[STAGE_DIR] = str(folder)
    return environ


def _started(command: Command, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command.arguments,
            cwd=command.cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except ValueError as error:  # NUL or a lone surrogate in a text, `=` in a variable's name
        raise CommandInvalidError(f"the command cannot be passed to the system: {error}") from error
    except OSError as error:
        raise _start_error(error, command) from error


def _start_error(error: OSError, command: Command) -> CommandError:
    program = command.arguments[0][:200]
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _MISSING | _NOT_EXECUTABLE and not _enterable(command.cwd):
        return _folder_error(command.cwd, "cannot be entered", error)
    if error.errno in _MISSING:
        return CommandMissingError(f"there is no program {program!r}, or its interpreter is missing", program=program)
    if error.errno in _NOT_EXECUTABLE:
        return CommandNotExecutableError(f"the program {program!r} cannot be executed: {reason}", program=program)
    if error.errno == errno.E2BIG:
        return CommandTooLongError(f"arguments and environment of {program!r} are too long", program=program)
    return CommandStartError(f"the program {program!r} cannot be started now: {reason}", program=program)


def _folder_error(folder: Path, what: str, error: OSError) -> CommandFolderError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CommandFolderError(f"the folder {str(folder)!r} {what}: {reason}", folder=str(folder))


def _enterable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.X_OK)
