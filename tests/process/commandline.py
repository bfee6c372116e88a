"""The command line in processes of its own, and workflows that say on standard error where they are."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PERDURE = [sys.executable, "-m", "perdure"]
LIMIT_S = 30.0

WORKFLOWS = """
import asyncio
import sys
from pathlib import Path
from typing import Any

from perdure import Run, step, workflow


def say(text):
    print("AT", text, file=sys.stderr, flush=True)


def did(text):
    with Path("effects").open("a") as file:
        file.write(text + "\\n")


@step(kind="read")
async def look(n: int) -> int:
    did(f"look {n}")
    return n


@step(kind="idempotent")
async def write(n: int) -> str:
    did(f"write {n}")
    if n == 2 and not Path("go").exists():
        say("write 2")
        await asyncio.sleep(60)
    return f"w{n}"


@step(kind="once")
async def pay(amount: int) -> str:
    did(f"pay {amount}")
    if not Path("go").exists():
        say("pay")
        await asyncio.sleep(60)
    return f"paid {amount}"


@step(kind="read", retries=0)
async def break_() -> None:
    if not Path("go").exists():
        raise ValueError("no good")


@workflow
async def job(run: Run, count: int = 3) -> list[str]:
    written = []
    for n in range(1, count + 1):
        await run.step(look, n)
        written.append(await run.step(write, n))
    return written


@workflow
async def payer(run: Run, amount: int = 5) -> str:
    await run.step(look, amount)
    return await run.step(pay, amount)


@workflow
async def publish(run: Run, topic: str) -> str:
    run.state["topic"] = topic
    answer = await run.ask("Publish this?", choices=["yes", "no"], timeout="3d", default="no")
    return f"{topic}: {answer}"


@workflow
async def who(run: Run) -> str:
    return await run.ask("Who?")


@workflow
async def order(run: Run) -> dict[str, Any]:
    return {"paid": await run.wait_for("paid", match="o1")}


@workflow
async def nap(run: Run, time: str = "50ms") -> str:
    await run.sleep(time)
    return "rested"


@workflow
async def broken(run: Run) -> str:
    await run.step(break_)
    return "whole"


@workflow
async def child(run: Run, n: int) -> int:
    return n if await run.ask(f"Count {n}?", kind="confirm", default=True) else 0


@workflow
async def parent(run: Run) -> int:
    first = await run.spawn(child, 1)
    second = await run.spawn(child, 2)
    return await first.result() + await second.result()


@step(kind="pure")
def blob() -> str:
    return "x" * 100_000


@workflow
async def rich(run: Run) -> int:
    run.put(b"hello", name="greeting.txt", media_type="text/plain")
    await run.step(blob)
    run.emit("noted", {"a": 1})
    return len(await run.map(look, [1, 2]))
"""


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON value on standard output."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """The JSON values on standard output, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs the command line in one folder.

    Args:
        folder: the working folder; it gets `flows.py`.
        environ: more variables.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if name not in ("PERDURE_STORE", "NO_COLOR")}
        self.environ |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"} | environ
        (folder / "flows.py").write_text(WORKFLOWS)

    def __call__(self, *arguments: str, code: int | None = 0, input: str | None = None) -> Ended:
        """Run a command to its end."""
        done = subprocess.run(
            [*PERDURE, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            input="" if input is None else input,
            timeout=LIMIT_S,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if code is not None:
            assert done.returncode == code, (arguments, done)
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command; it is killed in the end, if it still lives."""
        process = subprocess.Popen(
            [*PERDURE, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def await_event(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """Follow a run's events up to one of a kind; returns them."""
        found = []
        with self.started("events", run_id, "--follow", "--json") as process:
            assert process.stdout is not None
            for line in process.stdout:
                found.append(json.loads(line))
                if found[-1]["kind"] == kind:
                    return found
        raise AssertionError(f"run {run_id} ended without {kind}: {[event['kind'] for event in found]}")

    def effects(self) -> list[str]:
        """What step functions did in the world, in order."""
        file = self.folder / "effects"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def go(self) -> None:
        """Let the steps that hang go through from now on."""
        (self.folder / "go").touch()


def reach(process: subprocess.Popen[str], text: str) -> list[str]:
    """Read a process's standard error up to a line that holds a text; returns the lines."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError(f"it ended before it said {text!r}: {lines}")


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> Ended:
    """Send a signal and wait for the end."""
    process.send_signal(number)
    out, err = process.communicate(timeout=LIMIT_S)
    return Ended(process.returncode, out, err)


class Terminal:
    """A command with a person before it: a pseudo-terminal for standard input, output and error."""

    def __init__(self, commands: CommandLine, *arguments: str) -> None:
        self.text = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:  # the child
            os.chdir(commands.folder)
            os.execve(sys.executable, [*PERDURE, *arguments], commands.environ)

    def reach(self, text: str) -> str:
        """Read until a text appears behind what was read before; returns all that was read for it."""
        deadline_s = time.monotonic() + LIMIT_S
        read = ""
        while text not in read:
            assert time.monotonic() < deadline_s, f"never saw {text!r} in {read!r}"
            piece = self._piece(0.5)
            if piece is None:
                raise AssertionError(f"it ended before it said {text!r}: {read!r}")
            read += piece
        return read

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._terminal, text.encode())

    def rest(self) -> tuple[int, str]:
        """Read to the end; returns the exit code, and all that was ever printed."""
        while self._piece(LIMIT_S) is not None:
            pass
        _, status = os.waitpid(self._pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status), self.text

    def _piece(self, limit_s: float) -> str | None:
        ready, _, _ = select.select([self._terminal], [], [], limit_s)
        if not ready:
            return ""
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # the other side is closed
            return None
        self.text += data.decode("utf-8", "replace")
        return data.decode("utf-8", "replace") if data else None
