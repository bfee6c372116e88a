"""What ends a command when this process is killed.

A killed worker cannot end its command, and the worker that takes over starts the same command again: for a while two
of them would run. So beside every command runs a small shell which does nothing but wait for the end of its standard
input. That is a pipe whose other end this process holds; the system closes it however this process ends. The shell
then kills the command's group and whatever carries its mark.

It is started before the command, so there is no instant at which a command runs unguarded, and it is told the group as
soon as there is one. It costs one process start, about a millisecond. The system's own signal at the death of a parent
(`PR_SET_PDEATHSIG`) would need code that runs between fork and exec, which is not safe beside threads, would follow the
thread that started the command rather than the process, and would reach no grandchild.

Limits: a process that this process forked (without exec) holds the pipe open too, and while it lives the guard waits.
Where there is no `/bin/sh` there is no guard.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from typing import Final

from perdure.pipeline.commands.command import SHELL
from perdure.pipeline.commands.exits import exit_of, reap
from perdure.pipeline.commands.strays import MARK

# `read` ends with the pipe. The group's number is written in one line; it is missing only if the end came before it.
# Then it is that of whatever carries the mark: a command is started as the leader of a group of its own.
_SCRIPT: Final = """
trap '' HUP INT QUIT TERM
read -r group
read -r nothing
test -n "$group" && kill -s KILL -- "-$group"
for round in 1 2 3 4 5 6 7 8; do
    found=$(grep -lasF -e "$1" /proc/[0-9]*/environ)
    test -n "$found" || exit 0
    for place in $found; do
        place=${place#/proc/}
        place=${place%/environ}
        if test -z "$group"; then
            group=$(sed -n '$s/.*) [A-Z] [0-9]* \\([0-9][0-9]*\\) .*/\\1/p' "/proc/$place/stat")
            test "${group:-0}" -gt 1 && kill -s KILL -- "-$group"
        fi
        kill -s KILL "$place"
    done
done
"""


class Guard:
    """Ends a command if this process ends first.

    Args:
        mark: in the environment of the command that will be started.

    Raises:
        OSError: the system has no room for another process.
    """

    def __init__(self, mark: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        reading, self._writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                (SHELL, "-c", _SCRIPT, "perdure-guard", f"{MARK}={mark}"),
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        except FileNotFoundError:
            self._process = None
        except BaseException:
            os.close(self._writing)
            raise
        finally:
            os.close(reading)

    def watch(self, group: int) -> None:
        """Say which group to end."""
        with suppress(BrokenPipeError):  # somebody killed the guard; the command can go on without
            os.write(self._writing, f"{group}\n".encode())

    def dismiss(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Send it away, when nothing is left to guard.

        Returns:
            Done when it has gone.
        """
        process = self._process
        if process is None:
            os.close(self._writing)
            gone: asyncio.Future[None] = loop.create_future()
            gone.set_result(None)
            return gone
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        ended = exit_of(process.pid, loop)
        ended.add_done_callback(lambda _: self._release(process))
        return ended

    def _release(self, process: subprocess.Popen[bytes]) -> None:
        reap(process.pid)
        process.returncode = -signal.SIGKILL  # so that `subprocess` does not look for it any more
        os.close(self._writing)
