"""`Service` and `serve`: the application on a socket, until told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

import uvicorn
from fastapi import FastAPI

from perdure.core.errors import InputError
from perdure.engine.runtime import Runtime
from perdure.server.admission.connections import connections
from perdure.server.admission.gate import MAX_HEAD_BYTES
from perdure.server.application import create_app, end_streams
from perdure.server.collecting import collect_rarely
from perdure.server.settings import Settings, settings_for

HOST: Final = "127.0.0.1"
PORT: Final = 8181
STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
BACKLOG: Final = 2048
GRACE_S: Final = 10
"""How long requests in flight may take once the service was told to stop."""


class Service:
    """The service on a socket, inside a program.

    ```python
    async with Runtime("sqlite:///runs.db", workflows=[article]) as runtime:
        async with Service(runtime, settings) as service:
            print(service.url)
            await service.stopped()
    ```

    Args:
        runtime: open; it stays open.
        settings: see `Settings`.
        host: the address to listen on.
        port: 0 for any that is free.
        beyond_loopback: an address that other machines reach is meant; it takes keys.
        listening: a socket to serve instead, which listens already; `host` and `port` are its own then.

    Raises:
        StoreClosedError: the runtime is not open.
        InputError: others could reach it without a key, or without being told that they may; or the address is taken.
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings | None = None,
        *,
        host: str = HOST,
        port: int = 0,
        beyond_loopback: bool = False,
        listening: socket.socket | None = None,
    ) -> None:
        runtime.worker  # noqa: B018  refuses a runtime that is not open
        settings = settings or settings_for(runtime)
        if listening is not None:
            host = str(listening.getsockname()[0])
        check_address(host, asks=settings.keys is not None, beyond_loopback=beyond_loopback)
        self.app: FastAPI = create_app(runtime, settings)
        self._socket = listening or listen(host, port)
        # Without it an answer's body waits for the peer to acknowledge its head, 40 ms and more; asyncio sees to it
        # only for sockets that were made with their protocol named. What is accepted inherits it.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            self.app,
            http=connections(settings.head_timeout_s),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            lifespan="off",  # what goes wrong in it shall reach whoever enters the service
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config, before_shutdown=lambda: end_streams(self.app))
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._task: asyncio.Task[None] | None = None

    @property
    def start_url(self) -> str:
        """Where it is found, with the first token behind the `#`, which no browser sends and no log shows."""
        keys = self.app.state.settings.keys
        return self.url + (f"/#token={keys.token}" if keys is not None and keys.token else "")

    @property
    def url(self) -> str:
        """Where it is found, from this machine where that is all its addresses."""
        host = self.host
        if is_wildcard(host):
            host = "::1" if ":" in host else HOST
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def __aenter__(self) -> Service:
        try:
            await self._lifespan.__aenter__()
        except BaseException:
            self._socket.close()
            raise
        self._task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        listening = asyncio.ensure_future(self._server.listening.wait())
        await asyncio.wait((self._task, listening), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        try:
            await self.stopped()
        finally:
            self._socket.close()
            await self._lifespan.__aexit__(None, None, None)

    def stop(self) -> None:
        """Take no more requests, end the streams, and let what is in flight end within its grace."""
        self._server.should_exit = True

    async def stopped(self) -> None:
        """Wait until it has stopped."""
        if self._task is not None:
            await asyncio.shield(self._task)


async def serve(
    runtime: Runtime,
    settings: Settings | None = None,
    *,
    host: str = HOST,
    port: int = PORT,
    beyond_loopback: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; then let requests and steps in flight end within their grace.

    Args:
        runtime: open; it stays open.
        settings: see `Settings`.
        host: the address to listen on.
        port: 0 for any that is free.
        beyond_loopback: an address that other machines reach is meant; it takes keys.
        ready: called with the start-up URL once requests are served; the first token is in it.

    Raises:
        StoreClosedError, InputError: as for `Service`.
    """
    service = Service(runtime, settings, host=host, port=port, beyond_loopback=beyond_loopback)
    draining: list[asyncio.Task[None]] = []

    def told_to_stop() -> None:
        service.stop()
        if not draining:
            draining.append(asyncio.ensure_future(runtime.drain()))

    loop = asyncio.get_running_loop()
    async with service:
        for number in STOPPING:
            loop.add_signal_handler(number, told_to_stop)
        try:
            collect_rarely()
            if ready is not None:
                ready(service.start_url)
            await service.stopped()
        finally:
            for number in STOPPING:
                loop.remove_signal_handler(number)
            await asyncio.gather(*draining)


class _Server(uvicorn.Server):
    """Says when it listens, and ends streams before it waits for connections to end."""

    def __init__(self, config: uvicorn.Config, *, before_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._before_shutdown = before_shutdown

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the program's own: it lets go of its runs before it ends."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_shutdown()
        await super().shutdown(sockets)


def check_address(host: str, *, asks: bool, beyond_loopback: bool) -> None:
    """Refuse an address that more can reach than is meant.

    Args:
        host: the address.
        asks: everybody is asked for a key.
        beyond_loopback: others than this machine are meant to reach it.

    Raises:
        InputError: others could reach it without a key, or without being told that they may.
    """
    if is_loopback(host):
        return
    if not asks:
        raise InputError(f"nobody is asked who they are, so only this machine may ask; {host} is for others, too")
    if not beyond_loopback:
        raise InputError(f"other machines reach {host}", hint="say that this is meant, or listen on 127.0.0.1")


def is_wildcard(host: str) -> bool:
    """Whether an address stands for all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 is any that is free.

    Raises:
        InputError: the address is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}:{port} cannot be listened on: {error}", host=host, port=port) from error
