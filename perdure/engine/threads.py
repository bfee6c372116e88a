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
    """A pool of daemon threads.

    Args:
        size: how many calls run at once; more wait their turn.
        name: of the threads.
    """

    def __init__(self, size: int, name: str = "perdure-step") -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._lock = threading.Lock()

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Call `fn` in a thread, in a copy of the present context.

        Returns:
            A future of the running loop. Cancelling it does not end the thread; `abandon` says that its place in the
            pool must be filled by another.
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

        self._jobs.put(job)
        self._grow()
        return future

    def abandon(self) -> None:
        """A call will not come back in time: let the pool have one more thread in its stead."""
        with self._lock:
            self._size += 1

    def close(self) -> None:
        """Let idle threads end."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _grow(self) -> None:
        with self._lock:
            if self._idle > 0 or self._threads >= self._size:
                return
            self._threads += 1
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            job()


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
