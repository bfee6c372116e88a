"""The end of a child process, seen without reaping it."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import NamedTuple


class Exit(NamedTuple):
    """How a process ended: one of the two is given."""

    exit_code: int | None
    signal: int | None


def exit_of(process_id: int, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    """A future that is done when a process has ended. Cancel it to wait no more.

    Works in a loop of any thread. Where the system gives no descriptor for processes, a thread waits, which can be done
    for children of this process only.
    """
    ended: asyncio.Future[None] = loop.create_future()
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        ended.set_result(None)  # gone, or reaped by someone else
        return ended
    except (OSError, AttributeError):
        threading.Thread(target=_wait, args=(process_id, ended, loop), name="perdure-command", daemon=True).start()
        return ended

    def release(_: object) -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)

    ended.add_done_callback(release)
    loop.add_reader(descriptor, _settle, ended)
    return ended


def reap(process_id: int) -> Exit | None:
    """Take the status of a child that has ended; `None` if someone else took it.

    Waits for the end if it has not come.
    """
    try:
        status = os.waitid(os.P_PID, process_id, os.WEXITED)
    except ChildProcessError:
        return None
    assert status is not None
    if status.si_code == os.CLD_EXITED:
        return Exit(status.si_status, None)
    return Exit(None, status.si_status)


def _wait(process_id: int, ended: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
    with suppress(ChildProcessError):  # reaped by someone else: it has ended all the same
        os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)
    with suppress(RuntimeError):  # the loop is closed, nobody waits any more
        loop.call_soon_threadsafe(_settle, ended)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
