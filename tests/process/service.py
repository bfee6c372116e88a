"""`perdure serve` in a process of its own, and the command line in this process, asked with and without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.process.commandline import LIMIT_S, PERDURE, ROOT

OWN = ("PERDURE_STORE", "PERDURE_SERVER", "PERDURE_TOKEN")


class Serving(NamedTuple):
    """A service that serves.

    Attributes:
        start_url: as it says it, with the token.
    """

    process: subprocess.Popen[str]
    start_url: str

    @property
    def url(self) -> str:
        """Without the token."""
        return self.start_url.partition("/#")[0]

    @property
    def token(self) -> str:
        """Of the first key."""
        return self.start_url.partition("#token=")[2]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(LIMIT_S)


@contextmanager
def serving(folder: Path, *words: str, port: int = 0) -> Iterator[Serving]:
    """A service in a folder; it is told to stop in the end, if it still lives."""
    environ = {name: value for name, value in os.environ.items() if name not in OWN}
    process = subprocess.Popen(
        [*PERDURE, "serve", *words, "--port", str(port), "--json"],
        cwd=folder,
        env=environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=LIMIT_S)
        yield Serving(process, json.loads(line)["url"])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            print(process.communicate(), file=sys.stderr)
            raise
