"""The blocking face: synchronous code talks to the asynchronous engine through one thin portal.

There is no second copy of any method. A blocking object holds an asynchronous one and an event loop in another thread;
calling one of its methods runs the asynchronous method there and blocks until it is done.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from perdure.core.errors import StateError
from perdure.engine.scopes import Scope, current_scope

if TYPE_CHECKING:
    from perdure.engine.run import Run

T = TypeVar("T")


async def _within(scope: Scope | None, call: Callable[[], Any]) -> Any:
    if scope is not None:
        current_scope.set(scope)
    value = call()
    return await value if inspect.isawaitable(value) else value


class BlockingRun:
    """A `Run` for synchronous workflows: the same methods, without `await`.

    Made by the engine for workflows and nodes that are plain functions.
    """

    def __init__(self, run: Run, loop: asyncio.AbstractEventLoop, scope: Scope) -> None:
        self._run = run
        self._loop = loop
        self._scope = scope

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._run, name)
        if callable(value):
            return partial(self._call, value)
        return _BlockingState(self, value) if name == "state" else value

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == getattr(self._loop, "_thread_id", None):
            raise StateError("the blocking face cannot be used inside the event loop")
        # A task of the execution: it ends as its kind and the reason allow when the execution stops.
        start = self._run._execution.start_task
        value = _submit(self._loop, _within(self._scope, partial(method, *args, **kwargs)), start).result()
        from perdure.engine.children import ChildHandle

        return _BlockingChild(self, value) if isinstance(value, ChildHandle) else value


class _BlockingChild:
    """A child handle whose methods block."""

    def __init__(self, run: BlockingRun, child: Any) -> None:
        self._run = run
        self._child = child
        self.id: str = child.id

    def __getattr__(self, name: str) -> Any:
        return partial(self._run._call, getattr(self._child, name))


class _BlockingState:
    """The run's state; each access happens in the event loop, where the scope is known."""

    def __init__(self, run: BlockingRun, state: Any) -> None:
        self._run = run
        self._state = state

    def __getitem__(self, name: str) -> Any:
        return self._run._call(self._state.__getitem__, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._run._call(self._state.__setitem__, name, value)

    def __delitem__(self, name: str) -> None:
        self._run._call(self._state.__delitem__, name)

    def __contains__(self, name: object) -> bool:
        return bool(self._run._call(self._state.__contains__, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._run._call(lambda: list(self._state)))

    def __len__(self) -> int:
        return int(self._run._call(self._state.__len__))

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        return self._run._call(self._state.get, name, default)


def _submit(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, T],
    start: Callable[[Coroutine[Any, Any, None]], object] = asyncio.ensure_future,
) -> Future[T]:
    """As `asyncio.run_coroutine_threadsafe`, but passing on a `BaseException` such as `RunAbandoned` too."""
    future: Future[T] = Future()

    async def run() -> None:
        try:
            value = await coroutine
        except BaseException as error:  # handed to the thread that waits for it
            future.set_exception(error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        else:
            future.set_result(value)

    loop.call_soon_threadsafe(lambda: start(run()))
    return future


class Portal:
    """An event loop in a thread of its own, for programs that are not asynchronous.

    ```python
    with Portal() as portal:
        runtime = portal.enter(Runtime("sqlite:///runs.db"))
        handle = portal.call(runtime.start, article, topic="crash")
        print(portal.call(handle.result))
    ```
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-portal", daemon=True)
        self._entered: list[Any] = []

    def __enter__(self) -> Portal:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._entered:
                self.call(self._entered.pop().__aexit__, kind, error, trace)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def call(self, method: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Call an asynchronous method and wait for what it returns."""
        return _submit(self._loop, _within(None, partial(method, *args, **kwargs))).result()  # type: ignore[no-any-return]

    def enter(self, manager: T) -> T:
        """Enter an asynchronous context manager, which is left when the portal is."""
        entered = self.call(manager.__aenter__)  # type: ignore[attr-defined]
        self._entered.append(manager)
        return entered  # type: ignore[no-any-return]
