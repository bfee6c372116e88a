"""What is measured over HTTP, in a process of its own: `python -m benchmarks.http_service floor|perdure [STORE URL]`.

One line of JSON on standard output says where it is found; it stops when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse

from perdure import Run, Runtime, workflow
from perdure.engine.services import Limits
from perdure.server import KeyRing, Service, Settings
from perdure.server.collecting import collect_rarely
from perdure.server.service import BACKLOG
from perdure.store.port import Append

MOST_RUNS = 1_000_000
"""Every run is executed at once: what is measured is the start of runs that are executed, not of such as wait for room.
"""
commits: dict[str, list[tuple[int, int]]] = {}
"""By run, the last seq of each commit and the monotonic nanosecond at which it was durable."""


@workflow
async def listen(run: Run) -> Any:
    """Waits at once for a signal."""
    return await run.wait_for("go")


@workflow
async def add(run: Run, a: int, b: int = 1) -> int:
    """Ends at once."""
    return a + b


@workflow
async def speak(run: Run, events: int, rate: float) -> int:
    """Waits for a signal, then emits events at a rate."""
    await run.wait_for("go")
    began = time.monotonic()
    for number in range(events):
        await asyncio.sleep(began + number / rate - time.monotonic())
        run.emit("number.seen", {"number": number, "text": "what happened, in a few words"})
    return events


def tell(**facts: Any) -> None:
    """Say where the service is found."""
    print(json.dumps(facts | {"pid": os.getpid()}), flush=True)


def when_input_ends(callback: Callable[[], None]) -> None:
    """Call back when whoever started this process wants it to end."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(callback)

    threading.Thread(target=read, daemon=True).start()


async def floor() -> None:
    """The same framework and server, with the same settings, and a route that does nothing."""
    app = FastAPI()

    @app.get("/empty")
    async def get_empty() -> JSONResponse:
        return JSONResponse({})

    @app.post("/empty")
    async def post_empty() -> JSONResponse:
        return JSONResponse({})

    listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    when_input_ends(stop)
    tell(host="127.0.0.1", port=listening.getsockname()[1], token=None)
    await server.serve(sockets=[listening])


def note(appends: list[Append]) -> None:
    """Keep when each run's events became durable."""
    now = time.monotonic_ns()
    for append in appends:
        if append.run_id in commits:
            commits[append.run_id].append((append.expected.seq + len(append.drafts), now))


async def perdure(store: str, durability: Any) -> None:
    """The service over a store."""
    keys = KeyRing.fresh()
    limits = Limits(concurrency=MOST_RUNS)
    async with (
        Runtime(store, workflows=[listen, add, speak], durability=durability, limits=limits) as runtime,
        Service(runtime, Settings(keys)) as service,
    ):
        _mark_commits(runtime, service.app)
        collect_rarely()  # as `serve` does
        when_input_ends(service.stop)
        tell(host=service.host, port=service.port, token=keys.token)
        await service.stopped()


def _mark_commits(runtime: Runtime, app: FastAPI) -> None:
    """Two more routes: from now on keep the commits of a run, and give them."""
    writer, told = runtime._writer, runtime._writer._on_commit

    def committed(appends: list[Append]) -> None:
        if commits:
            note(appends)
        if told is not None:
            told(appends)

    writer._on_commit = committed

    @app.post("/marks/{run_id}")
    async def begin(run_id: str) -> JSONResponse:
        commits[run_id] = []
        return JSONResponse({})

    @app.get("/marks/{run_id}")
    async def give(run_id: str) -> JSONResponse:
        return JSONResponse({"commits": commits.pop(run_id, [])})


def profiled(main: Any) -> None:
    """Run it, and print what took its time, if that is asked for."""
    path = os.environ.get("PERDURE_BENCH_PROFILE")
    if not path:
        asyncio.run(main)
        return
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    try:
        asyncio.run(main)
    finally:
        profile.disable()
        profile.dump_stats(path)


if __name__ == "__main__":
    profiled(floor() if sys.argv[1] == "floor" else perdure(sys.argv[2], sys.argv[3]))
