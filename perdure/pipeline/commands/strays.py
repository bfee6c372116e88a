"""Processes that a command began and that left its process group.

They are found in `/proc`: by the session that the command leads, or by the mark that it has in its environment and that
children inherit. A process that made a session of its own and dropped its environment is not found.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final, NamedTuple

MARK: Final = "PERDURE_COMMAND_ID"
"""The variable that holds an id of one call."""

_ROUNDS: Final = 16
_ENVIRONMENT_BYTES: Final = 4 * 1024 * 1024


def kill_strays(mark: str, leader: int, *, everywhere: bool) -> set[int]:
    """Kill what a command left, again and again until nothing new is found.

    Args:
        mark: the value of `MARK` in the command's environment.
        leader: the command's process id; it is not reaped yet, so that the session of that number is the command's.
        everywhere: look at all processes; else at those that began later than the leader, as far as ids tell. Ids start
            again from the lowest when they are used up, so this is for a command of some seconds only.

    Returns:
        Those that were killed.
    """
    began = _stat(leader)
    if began is None:
        return set()  # somebody reaped the leader: its number says nothing any more
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = {
            one
            for one in _candidates(leader, everywhere)
            if one not in killed and _kill(one, mark, leader, began.start)
        }
        if not found:
            break
        killed |= found
    return killed


def _candidates(leader: int, everywhere: bool) -> list[int]:
    try:
        ids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        last = int(_read("/proc/loadavg").split()[-1])
    except (OSError, IndexError, ValueError):
        return []  # no /proc here: the group is all that can be reached
    ids = [one for one in ids if one not in (leader, os.getpid())]
    if everywhere:
        return ids
    return [one for one in ids if (leader < one <= last if last >= leader else one > leader or one <= last)]


def _kill(process_id: int, mark: str, leader: int, not_before: int) -> bool:
    """Kill a process if it is the command's. Returns whether it was, and was alive."""
    try:
        descriptor = os.pidfd_open(process_id)
    except (OSError, AttributeError):
        return False
    try:
        if not _is_of(process_id, mark, leader, not_before):
            return False
        # By its descriptor: the number may belong to another process by now.
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            return True
        return False
    finally:
        os.close(descriptor)


def _is_of(process_id: int, mark: str, leader: int, not_before: int) -> bool:
    stat = _stat(process_id)
    if stat is None or stat.state in (b"Z", b"X") or stat.start < not_before:
        return False  # what is older than the command was not begun by it, whatever else speaks for it
    if stat.session == leader:
        return True
    try:
        return f"{MARK}={mark}".encode() in _read(f"/proc/{process_id}/environ").split(b"\0")
    except OSError:
        return False  # gone, or somebody else's


class _Stat(NamedTuple):
    state: bytes
    session: int
    start: int  # in ticks since the system started


def _stat(process_id: int) -> _Stat | None:
    """What the system says of a process; `None` if there is none."""
    try:
        fields = _read(f"/proc/{process_id}/stat").rpartition(b")")[2].split()
        return _Stat(fields[0], int(fields[3]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts = bytearray()
        while (part := os.read(descriptor, 65536)) and len(parts) < _ENVIRONMENT_BYTES:
            parts += part
        return bytes(parts)
    finally:
        os.close(descriptor)
