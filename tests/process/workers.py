"""Worker processes as tests hold them: started, listened to, stopped, woken and killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from perdure import Runtime
from perdure.store.sqlite import SQLiteStore

ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0


class World:
    """One store and one ledger, and the processes around them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "runs.db"
        self._workers: list[WorkerProcess] = []
        self.make("start")

    def worker(self, *, said_ready: bool = True, **limits: Any) -> WorkerProcess:
        """Start a worker, and wait until it executes runs."""
        worker = WorkerProcess(self, limits)
        self._workers.append(worker)
        if said_ready:
            worker.says("ready")
        return worker

    def clerk(self) -> Runtime:
        """A runtime of this process that executes nothing."""
        return Runtime(SQLiteStore(self.path), execute=False)

    def ledger(self) -> list[str]:
        """What happened so far, in order."""
        path = self.directory / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def counts(self) -> Counter[str]:
        """How often each thing happened."""
        return Counter(line.strip() for line in self.ledger())

    def make(self, name: str) -> None:
        """Let those through who wait for this file."""
        (self.directory / name).touch()

    def close(self) -> None:
        """End the processes that are left."""
        for worker in self._workers:
            worker.kill()


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, world: World, limits: dict[str, Any]) -> None:
        self._heard = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.worker_program", f"sqlite:///{world.path}", json.dumps(limits)],
            cwd=ROOT,
            env={**os.environ, "PERDURE_TEST_DIRECTORY": str(world.directory)},
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def says(self, beginning: str) -> list[str]:
        """Wait for a line with this beginning; gives its words."""
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            while b"\n" in self._heard:
                line, self._heard = self._heard.split(b"\n", 1)
                if line.decode().startswith(beginning):
                    return line.decode().split()
            left_s = deadline_s - time.monotonic()
            assert select.select([self._process.stdout], [], [], max(0.0, left_s))[0], f"it did not say {beginning!r}"
            read = os.read(self._process.stdout.fileno(), 65536)
            assert read, f"it ended before it said {beginning!r}"
            self._heard += read

    def stop(self) -> None:
        """SIGSTOP; returns when it has stopped."""
        self.signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def wake(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; gives its return code."""
        return self._process.wait(LIMIT_S)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(LIMIT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


@contextmanager
def world_in(directory: Path) -> Iterator[World]:
    """A world whose processes end with it."""
    world = World(directory)
    try:
        yield world
    finally:
        world.close()
