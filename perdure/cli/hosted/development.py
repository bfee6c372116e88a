"""What `dev` does: keep a service running, and start it anew when its files change.

One process watches, another one serves. The first holds the socket all the time, so the port stays, and whoever comes
in between waits for the next instead of being turned away. The second one is `perdure serve`; it is told to stop as a
person would tell it, so its runs are let go of in order, and the next one takes them up as after any restart.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from perdure.cli.exits import COMPLETED
from perdure.cli.hosted.service import check_library
from perdure.cli.interrupts import Interrupts
from perdure.cli.orders import check_durability
from perdure.cli.output import Output
from perdure.cli.place import Place
from perdure.core.errors import InputError

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 10.0
"""How long after a crash the service is started again: twice as long after each, until it has lasted so long."""
STOP_S: Final = 30.0
"""After so long, a service that does not stop is killed: longer than steps and requests in flight are given."""
WATCHED: Final = (".py", ".dot", ".gv")
PYTHON: Final = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True)
class Development:
    """What `perdure dev` was asked for; see its options.

    Args:
        options: that go to the service as they are.
    """

    files: tuple[str, ...]
    host: str
    port: int
    durability: str
    options: tuple[str, ...] = ()


async def develop(place: Place, output: Output, order: Development) -> int:
    """Serve until told to stop.

    Raises:
        PerdureError: something is wrong with what was asked for; nothing was written.
    """
    check_library()
    from perdure.server.service import check_address, listen

    check_durability(order.durability)
    check_address(order.host, asks=True, beyond_loopback=False)
    if place.file(place.store(must_exist=False)) is None:
        raise InputError("what is in memory ends at every reload", hint="name a store that is a file", url=place.url)
    with listen(order.host, order.port) as listening:
        supervisor = Supervisor(place, output, order, listening)
        with Interrupts(supervisor.told_to_stop, leaving=supervisor.kill):
            return await supervisor.run()


class Supervisor:
    """Keeps one service running.

    Args:
        place: the store.
        output: where it is said what happens.
        order: see `Development`.
        listening: the socket that each service is handed.
    """

    def __init__(self, place: Place, output: Output, order: Development, listening: socket.socket) -> None:
        self._output = output
        self._order = order
        self._listening = listening
        self._command = [
            *(*PYTHON, "perdure", "serve", "--quiet", "--until-eof", "--fd", str(listening.fileno())),
            *("--store", place.url, "--durability", order.durability, *order.options),
            *(["--json"] if output.json else []),
            *("--", *order.files),
        ]
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._told = False

    def told_to_stop(self, name: str) -> None:
        """A signal came: the service is told to stop, and this ends when it has."""
        self._output.note(f"{name}: letting what is in flight end; once more to leave at once")
        self._stopping.set()

    def kill(self) -> None:
        """End the service at once; what is recorded is not lost."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        delay_s, since_s = FIRST_DELAY_S, time.monotonic()
        async with self._watching():
            while not self._stopping.is_set():
                began = await self._begin()
                ended = await self._while_it_serves() if began else None
                if self._stopping.is_set() or (ended is None and began):
                    delay_s, since_s = FIRST_DELAY_S, time.monotonic()
                    continue  # it stopped because it was told to
                assert self._process is not None
                code = await self._process.wait()
                if not self._told:
                    return code  # it could not begin even once, and has said why
                if time.monotonic() - since_s > LONGEST_DELAY_S:
                    delay_s = FIRST_DELAY_S
                self._say("crashed", f"the service {_how(code)}; it is started again in {delay_s:g} s")
                await self._either(self._stopping, self._changed, timeout_s=delay_s)
                delay_s, since_s = min(2 * delay_s, LONGEST_DELAY_S), time.monotonic()
        self._say("ended", "ended")
        return COMPLETED

    # --- one service --------------------------------------------------------------------------------------------------

    async def _begin(self) -> bool:
        """Start a service; whether it serves."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._listening.fileno(),),
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which passes it on
        )
        assert self._process.stdout is not None
        reading = asyncio.ensure_future(self._process.stdout.readline())
        await self._either(self._stopping, timeout_s=None, future=reading)
        if self._stopping.is_set():
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._stop()
            return True
        line = (await reading).decode().rstrip("\n")
        if line and not self._told:
            self._output.line(line)
            self._output.note("serving; the files are read again when they change; Ctrl-C stops it")
            self._told = True
        elif line:
            self._say("reloaded", "serving again")
        return bool(line)

    async def _while_it_serves(self) -> int | None:
        """Wait for its end or a reason to end it; returns its exit code if it ended by itself."""
        assert self._process is not None
        ending = asyncio.ensure_future(self._process.wait())
        try:
            while True:
                await self._either(self._stopping, self._changed, future=ending, timeout_s=None)
                if ending.done():
                    return ending.result()
                if self._stopping.is_set() or await self._is_sound():
                    await self._stop()
                    return None
        finally:
            ending.cancel()

    async def _is_sound(self) -> bool:
        """Whether the changed files can be loaded; says so if they cannot."""
        self._changed.clear()
        words = ["perdure.cli.hosted.trial", *(["--json"] if self._output.json else []), *self._order.files]
        trial = await asyncio.create_subprocess_exec(*PYTHON, *words, stdin=asyncio.subprocess.DEVNULL)
        if await trial.wait() == COMPLETED:
            self._say("reloading", "files have changed; letting what is in flight end")
            return True
        self._say("refused", "files have changed and cannot be loaded; the old ones serve until they can")
        return False

    async def _stop(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self._process.communicate()
        except TimeoutError:
            self._say("killed", f"the service did not stop within {STOP_S:g} s and is killed; nothing is lost")
            self.kill()
            await self._process.wait()

    # --- what happens -------------------------------------------------------------------------------------------------

    async def _either(
        self, *events: asyncio.Event, timeout_s: float | None, future: asyncio.Future[Any] | None = None
    ) -> None:
        """Wait for the first of several events, or for a future."""
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(
                [*waiting, *([] if future is None else [future])],
                timeout=timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for one in waiting:
                one.cancel()

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        """While entered, it is noticed when a file changes."""
        watching = asyncio.ensure_future(self._watch()) if self._order.files else None
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        from watchfiles import DefaultFilter, awatch

        noise = DefaultFilter()
        async for _ in awatch(
            *folders_of(self._order.files),
            watch_filter=lambda change, path: path.endswith(WATCHED) and noise(change, path),
            stop_event=self._stopping,
        ):
            self._changed.set()

    def _say(self, event: str, text: str) -> None:
        if self._output.json:
            self._output.record({"event": event})
        else:
            self._output.note(text)


def folders_of(files: tuple[str, ...]) -> set[Path]:
    """Where the files lie, and what they import beside them.

    Args:
        files: `FILE.dot`, `FILE.py` or `FILE.py:NAME`.
    """
    return {Path(file.partition(".py:")[0]).absolute().parent for file in files}


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
