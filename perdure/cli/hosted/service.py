"""What `serve` does: offer the HTTP service and execute runs until told to stop."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from perdure.cli.definitions import definitions_of
from perdure.cli.exits import COMPLETED
from perdure.cli.interrupts import Interrupts
from perdure.cli.orders import check_durability
from perdure.cli.output import Output
from perdure.cli.place import Place
from perdure.cli.recording import set_up_logs
from perdure.cli.trouble import Trouble
from perdure.core.errors import InputError, ServerExtraMissingError
from perdure.engine.runtime import Runtime
from perdure.engine.services import Limits

if TYPE_CHECKING:
    from perdure.pipeline.commands import AllowedPrograms
    from perdure.server import Service, Settings

MOST_FILES: Final = 65_536
LOOK_S: Final = 0.5
"""How often it is seen whether the store can still be read and written."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What `perdure serve` was asked for; see its options."""

    files: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 0
    expose: bool = False
    rate: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    no_auth: bool = False
    allow_tools: bool = False
    programs: tuple[str, ...] = ()
    pipelines: str | None = None
    max_runs: int = 1000
    descriptor: int | None = None
    until_eof: bool = False
    durability: str = "full"
    log_format: str | None = None
    log_level: str | None = None


async def offer(place: Place, output: Output, order: Offer) -> int:
    """Serve until told to stop.

    Raises:
        PerdureError: something is wrong with what was asked for; nothing was written.
    """
    set_up_logs(order.log_format, order.log_level)
    definitions = definitions_of(order.files)
    check_library()
    from perdure.server import Service
    from perdure.server.collecting import collect_rarely
    from perdure.server.service import check_address
    from perdure.server.settings import keys_for

    check_address(order.host, asks=not order.no_auth, beyond_loopback=order.expose)
    wanted = _settings(order)
    allow_many_connections()
    store = place.store(durability=check_durability(order.durability), must_exist=False)
    runtime = Runtime(store, workflows=definitions, limits=Limits(concurrency=order.max_runs))
    stopping = asyncio.Event()

    def interrupted(name: str) -> None:
        output.note(f"{name}: letting what is in flight end; once more to leave at once")
        stopping.set()

    with _listening(order) as listening, Interrupts(interrupted), _until_eof(order, stopping):
        async with runtime:
            settings = wanted if order.no_auth else replace(wanted, keys=keys_for(runtime))
            service = Service(runtime, settings, listening=listening, beyond_loopback=order.expose)
            trouble = Trouble(runtime.store, output)
            async with service:
                collect_rarely()
                _began(output, place, runtime, service, order)
                await _stopped(stopping, service, trouble)
                service.stop()
                await runtime.drain()
    output.record({"event": "ended"}) if output.json else output.note("ended")
    if trouble.damage is not None:
        raise trouble.damage
    return COMPLETED


def check_library() -> None:
    """Raises `ServerExtraMissingError` where the libraries of the service are not installed."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ServerExtraMissingError(f"the service needs the package {error.name}, which is not installed") from error


@contextmanager
def _listening(order: Offer) -> Iterator[socket.socket]:
    """The socket to serve: taken before anything is written, so that a port that is taken costs nothing."""
    from perdure.server.service import listen

    found = listen(order.host, order.port) if order.descriptor is None else _handed_down(order.descriptor)
    with found:
        yield found


def _handed_down(descriptor: int) -> socket.socket:
    try:
        found = socket.socket(fileno=descriptor)
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise InputError(f"--fd {descriptor} is no socket: {error.strerror}", field="fd") from error
    if not listens:
        found.detach()
        raise InputError(f"--fd {descriptor} is no socket that listens", field="fd")
    return found


def _settings(order: Offer) -> Settings:
    """What was asked for, but for the keys.

    Raises:
        InputError: something of it cannot be.
    """
    from perdure.server import Settings
    from perdure.server.admission.rates import Rate
    from perdure.server.pipelines import PipelineSettings
    from perdure.server.settings import LOOPBACK

    return Settings(
        hosts=(*LOOPBACK, *_hosts(order)),
        origins=tuple(_origin(one) for one in order.origins),
        rate=None if order.rate is None else Rate.parse(order.rate),
        pipelines=PipelineSettings(
            allow_commands=_programs(order.programs) or order.allow_tools, directory=_directory(order.pipelines)
        ),
    )


def _hosts(order: Offer) -> Iterator[str]:
    """Further names to be asked for under: those that were given, and the address itself if it is one of this machine
    (`0.0.0.0` and `::` are no name)."""
    from perdure.server.admission.gate import host_name
    from perdure.server.service import is_wildcard

    for name in order.hosts:
        if host_name(name) != name.lower():
            raise InputError(f"--allow-host {name!r} is no name of a host", hint="without scheme and port; [::1] so")
        yield name
    if not is_wildcard(order.host):
        yield f"[{order.host}]" if ":" in order.host else order.host


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or text != f"{parts.scheme}://{parts.netloc}":
        raise InputError(f"--allow-origin {text!r} is no origin", hint="write https://console.example", field="origin")
    return text.lower()


def _programs(programs: tuple[str, ...]) -> AllowedPrograms | None:
    """The programs that may be run; `None` if none was named."""
    from perdure.pipeline.commands import AllowedPrograms, CommandMissingError

    if not programs:
        return None
    try:
        return AllowedPrograms.find(programs, os.environ.get("PATH", os.defpath))
    except CommandMissingError as error:
        raise InputError(f"--allow-tool: {error.message}", hint=error.hint, field="allow-tool") from error


def _directory(text: str | None) -> Path | None:
    """The directory of child pipelines."""
    if text is None:
        return None
    directory = Path(text).absolute()
    if not directory.is_dir():
        raise InputError(f"--pipelines {text!r} is no directory", field="pipelines")
    return directory


def allow_many_connections() -> None:
    """A stream of events is an open file; many systems allow few of them until a program asks for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # it goes on with fewer
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _began(output: Output, place: Place, runtime: Runtime, service: Service, order: Offer) -> None:
    from perdure.server.service import is_wildcard

    names = runtime.registry.names()
    if output.json:
        told = {"event": "began", "url": service.start_url, "store": place.url, "workflows": names}
        output.record(told | {"worker": runtime.worker_id, "pid": os.getpid()})
    else:
        output.line(service.start_url)
        what = f"workflows {', '.join(names)}" if names else "no workflows but pipelines"
        output.note(f"serving {place.url} with {what}; Ctrl-C stops it")
    if is_wildcard(service.host) and not order.hosts:
        output.warn("other machines are refused until the name that they ask for is given by --allow-host")
    if order.no_auth:
        output.warn("nobody is asked for a key: whoever is on this machine may do everything (--no-auth)")


async def _stopped(stopping: asyncio.Event, service: Service, trouble: Trouble) -> None:
    """Wait until it is told to stop, or has stopped; says meanwhile if the store fails."""
    told, gone = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(service.stopped())
    try:
        while True:
            await asyncio.wait((told, gone), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if told.done() or gone.done():
                return
            trouble.look()
    finally:
        told.cancel()
        gone.cancel()


@contextmanager
def _until_eof(order: Offer, stopping: asyncio.Event) -> Iterator[None]:
    """Whoever started this holds the other end of standard input; when it dies, however it dies, that ends."""
    if not order.until_eof:
        yield
        return
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            stopping.set()

    loop.add_reader(descriptor, readable)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
