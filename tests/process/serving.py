"""`perdure serve` and `perdure dev` as processes, and requests to them."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.process.commandline import LIMIT_S, CommandLine


class Served:
    """A process that serves, and its address.

    Attributes:
        began: what it told when it began.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, err = process.communicate(timeout=LIMIT_S)
            raise AssertionError(f"it did not begin: {err}")
        self.began: dict[str, Any] = json.loads(line)
        self.url, _, self.token = self.began["url"].partition("/#token=")

    def __call__(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        """Send a request; the status and the JSON of its answer."""
        status, text = self.text(method, path, body, token=token)
        return status, json.loads(text)

    def text(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, str]:
        """Send a request; the status and the text of its answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        if data is not None:
            headers["content-type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def get(self, path: str) -> Any:
        """What stands at a path."""
        status, found = self("GET", path)
        assert status == 200, found
        return found

    def start(self, workflow: str, run_id: str, **given: Any) -> None:
        """Start a run."""
        status, told = self("POST", "/runs", {"workflow": workflow, "input": given, "id": run_id})
        assert status == 201, told

    def reaches(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """Ask until a run has one of these statuses; returns the run."""
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            run: dict[str, Any] = self.get(f"/runs/{run_id}")
            if run["status"] in statuses:
                return run
            assert time.monotonic() < deadline_s, f"run {run_id} is still {run['status']}, not {statuses}"
            time.sleep(0.02)


@contextmanager
def serving(perdure: CommandLine, *arguments: str, command: str = "serve") -> Iterator[Served]:
    """A service in a process of its own; killed in the end, if it still lives."""
    port = () if "--port" in arguments or "--fd" in arguments else ("--port", "0")
    with perdure.started(command, *arguments, *port, "--json") as process:
        yield Served(process)
