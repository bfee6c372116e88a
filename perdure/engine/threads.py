"""Threads for synchronous code: daemons, because a thread cannot be ended and must not delay the exit."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Job = Callable[[], None]


class ThreadPool:
    """Daemon threads that are used again. Every call begins at once: how many there may be is for its callers to bound.

    Args:
        name: of the threads.
    """

    def __init__(self, name: str = "perdure-step") -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._lock = threading.Lock()

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Call `fn` in a thread, in a copy of the present context.

        Returns:
            A future of the running loop. Nothing ends the thread but the end of `fn`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            try:
                value = context.run(fn, *args, **kwargs)
            except BaseException as error:  # handed to whoever awaits
                _post(loop, future, None, error)
            else:
                _post(loop, future, value, None)

        self._put(job)
        return future

    def close(self) -> None:
        """Let idle threads end, and those that are busy when they are done."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _put(self, job: _Job) -> None:
        """Hand over a job to an idle thread, which is then not idle any more, or to a new one."""
        with self._lock:
            reused = self._idle > 0
            if reused:
                self._idle -= 1
            else:
                self._threads += 1
        self._jobs.put(job)
        if not reused:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job()
            del job  # what it holds should not wait for the next
            with self._lock:
                self._idle += 1


def _post(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], value: Any, error: BaseException | None
) -> None:
    def settle() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("a step raised StopIteration"))
        else:
            future.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop is closed: the process is going away and nobody awaits this any more.
        return
