"""The one thin portal through which synchronous code uses the client: an event loop in a thread of its own.

Any number of threads may call through it at once.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from perdure.client.client import Client
from perdure.core.errors import ClientClosedError, StateError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

T = TypeVar("T")
FORKED: Final = "make a client in each process"


class ClientPortal:
    """A client in an event loop of its own.

    Args:
        client: not open yet.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._process_id = 0

    @property
    def is_open(self) -> bool:
        """Whether anything can be called."""
        return self._portal is not None and os.getpid() == self._process_id

    def open(self) -> None:
        """Start the loop, and open the client in it.

        Raises:
            StateError: it is open.
        """
        from anyio.from_thread import start_blocking_portal

        if self._portal is not None:
            raise StateError("the client is open already")
        self._process_id = os.getpid()
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio", name="perdure-client"))
        self.call(self.client.__aenter__)

    def close(self) -> None:
        """Close the client, end the calls of other threads, and end the loop."""
        portal = self._portal
        if portal is None:
            return
        if os.getpid() != self._process_id:  # a fork has no thread to wait for; to forget the stack would wait, too
            self._portal = None
            return
        stack = self._stack.pop_all()
        with stack:
            self.call(self.client.aclose)
            self._portal = None
            portal.call(portal.stop, True)

    def call(self, method: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Call an asynchronous method, and wait for what it returns.

        Raises:
            ClientClosedError: the client is not open, or another thread closed it.
        """
        portal = self._portal
        if portal is None:
            raise ClientClosedError("the client is not open")
        if os.getpid() != self._process_id:  # the thread of the loop is in the other process: nobody would answer
            raise ClientClosedError("the client was opened by the process that this one was forked from", hint=FORKED)
        try:
            future = portal.start_task_soon(functools.partial(method, *args, **kwargs))
        except RuntimeError as error:  # another thread ended it in this moment
            raise ClientClosedError("the client was closed") from error
        try:
            return future.result()
        except CancelledError as error:
            raise ClientClosedError("the client was closed") from error
        finally:
            future.cancel()  # of an interrupted wait; of one that is over it does nothing


class BlockingIterator(Generic[T]):
    """What comes, one after the other; waiting for the next one blocks. Closed when it is left or forgotten.

    Several threads may take from one: each of them gets the next that nobody has.
    """

    def __init__(self, portal: ClientPortal, source: AsyncGenerator[T, None]) -> None:
        self._portal = portal
        self._source = source
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[T] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return self._portal.call(self._next)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Close the connection behind it; another thread that waits for the next one is told that there is none."""
        if self._portal.is_open:
            self._portal.call(self._close)

    async def _next(self) -> T:
        async with self._turn:
            if self._closed:
                raise StopAsyncIteration
            self._waiting = asyncio.ensure_future(anext(self._source))
            try:
                return await self._waiting
            except asyncio.CancelledError:
                if self._closed:
                    raise StopAsyncIteration from None
                raise
            finally:
                self._waiting = None

    async def _close(self) -> None:
        self._closed = True
        if self._waiting is not None:
            self._waiting.cancel()
        async with self._turn:
            await self._source.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def blocking_methods() -> dict[str, Callable[..., Any]]:
    """The public methods of `Client`, without `await`; each calls the asynchronous one through the portal."""
    methods = {
        name: member for name, member in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")
    }
    methods.pop("aclose")
    return {name: _blocking(method) for name, method in methods.items()}


def _blocking(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        portal: ClientPortal = self._portal
        if inspect.isasyncgenfunction(method):
            return BlockingIterator(portal, method(portal.client, *args, **kwargs))
        return portal.call(method, portal.client, *args, **kwargs)

    return called
