"""The other end of a fork server: how the matrix asks it for processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any

import orjson

from perdure.core.errors import CrashMatrixError
from perdure.testing.crash.process import Job


class ForkServer:
    """A subprocess that forks processes for one crash point after the other.

    Args:
        definitions, functions: what the processes load, by reference; it is imported once.

    Raises:
        CrashMatrixError: something of that cannot be imported.
    """

    def __init__(self, definitions: Sequence[str], functions: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perdure.testing.crash.forkserver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        hello = {"path": sys.path, "definitions": list(definitions), "functions": list(functions)}
        answer = self._ask(hello)
        if "error" in answer:
            self.close()
            raise CrashMatrixError(f"a process cannot load what it is to run:\n{answer['error']}")

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, jobs: Sequence[Job]) -> list[int]:
        """Let processes live one after the other, up to the first that reaches its end; how each ended."""
        endings: list[int] = self._ask([asdict(job) for job in jobs])["endings"]
        return endings

    def close(self) -> None:
        """End the server."""
        self._pipe(self._process.stdin).close()
        self._process.wait()
        self._pipe(self._process.stdout).close()

    def _ask(self, request: object) -> dict[str, Any]:
        stdin = self._pipe(self._process.stdin)
        stdin.write(orjson.dumps(request) + b"\n")
        stdin.flush()
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise CrashMatrixError(f"the fork server ended with status {self._process.wait()}")
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe
