"""Fair turns at the write lock between the processes that share a file.

SQLite's own lock is not fair: whoever asks again at once gets it, and a quiet process can wait for a very long time
beside a busy one. Two lock files beside the database make a queue. *Gate*: whoever holds it is next. *Turn*: whoever
holds it writes. A writer takes the gate, then the turn, then gives the gate back, so while one process commits the
next one stands in the gate, and the busy one has to stand behind it. The kernel drops both locks with the process that
holds them.

Within the process, a mutex lets one thread at a time ask.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from typing import Final

from perdure.core.errors import StoreBusyError

TRY: Final = LOCK_EX | LOCK_NB


class Gate:
    """The turn to write.

    Args:
        path: of the database; the lock files are `<path>.gate` and `<path>.turn`.
    """

    def __init__(self, path: str) -> None:
        self._gate = _open_lock_file(f"{path}.gate")
        self._turn = _open_lock_file(f"{path}.turn")
        self._inside = threading.Lock()
        self._asking: deque[None] = deque()
        self._queue = _Queue(self._gate, self._turn)

    def try_take(self) -> bool:
        """Take the turn if nobody else has it or waits for it."""
        if self._asking or not self._inside.acquire(blocking=False):
            return False
        if self._try_files():
            return True
        self._inside.release()
        return False

    def take(self, timeout_s: float) -> None:
        """Wait for the turn and take it; not for the event loop's thread.

        Raises:
            StoreBusyError: it was not free within `timeout_s` seconds.
        """
        timeout_s = max(0.0, timeout_s)
        deadline_s = time.monotonic() + timeout_s
        self._asking.append(None)  # an in-place commit must not slip in before a thread that waits
        try:
            if not self._inside.acquire(timeout=timeout_s):
                raise StoreBusyError(f"another thread held the store's write lock for {timeout_s:g} s")
        finally:
            self._asking.pop()
        try:
            if not self._try_files() and not self._queue.wait(deadline_s - time.monotonic()):
                raise StoreBusyError(f"another process held the store's write lock for {timeout_s:g} s")
        except BaseException:
            self._inside.release()
            raise

    def give_back(self) -> None:
        """End the turn."""
        flock(self._turn, LOCK_UN)
        self._inside.release()

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[None]:
        """Wait for the turn, hold it for the block, and give it back."""
        self.take(timeout_s)
        try:
            yield
        finally:
            self.give_back()

    def close(self) -> None:
        """Let go of the lock files."""
        if self._queue.close():
            self.forked()

    def forked(self) -> None:
        """In a forked child: close the copies of the descriptors, so that the locks die with the parent."""
        os.close(self._gate)
        os.close(self._turn)

    def _try_files(self) -> bool:
        # The files' locks belong to the descriptors: while our own thread stands in the queue with them, a try would
        # succeed and mean nothing.
        if self._queue.standing:
            return False
        try:
            flock(self._gate, TRY)
        except BlockingIOError:
            return False
        try:
            flock(self._turn, TRY)
        except BlockingIOError:
            return False
        finally:
            flock(self._gate, LOCK_UN)
        return True


class _Queue:
    """A thread that stands in the queue of processes, because a wait for a file's lock cannot be bounded.

    Whoever asks waits for it with a time limit; when the limit passes first, the thread lets the turn go as soon as it
    comes.
    """

    def __init__(self, gate: int, turn: int) -> None:
        self._files = (gate, turn)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._granted = False
        self._closed = False
        self._left_behind = False
        self.standing = False

    def wait(self, timeout_s: float) -> bool:
        """Stand in the queue for at most so many seconds; whether the turn came."""
        with self._changed:
            self._wanted = True
            if not self.standing:
                self.standing = True
                self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._stand, name="perdure-store-gate", daemon=True)
                self._thread.start()
            self._changed.wait_for(lambda: self._granted, timeout=max(0.0, timeout_s))
            granted, self._granted, self._wanted = self._granted, False, False
            return granted

    def close(self) -> bool:
        """End the thread; false when it still stands in the queue, and closes the files itself when its turn comes."""
        with self._changed:
            self._closed = True
            self._left_behind = self.standing
            self._changed.notify_all()
            return not self.standing

    def _stand(self) -> None:
        gate, turn = self._files
        while self._called():
            flock(gate, LOCK_EX)
            flock(turn, LOCK_EX)
            flock(gate, LOCK_UN)
            with self._changed:
                self.standing = False
                self._granted = self._wanted
                if not self._wanted:
                    flock(turn, LOCK_UN)
                self._changed.notify_all()
        if self._left_behind:
            os.close(gate)
            os.close(turn)

    def _called(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self.standing or self._closed)
            return not self._closed


def _open_lock_file(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
