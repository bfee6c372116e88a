"""The command line on disks that are full, or that may only be read, and on terminals that know only ASCII."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.commandline import PERDURE, CommandLine, reach

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
PR_CAPBSET_DROP = 24
ROOM = 600_000  # bytes that a file of the store may hold

FILL = """
from perdure import Run, step, workflow


@step(kind="idempotent")
async def put(n: int) -> str:
    return "x" * 30_000


@workflow
async def fill(run: Run) -> int:
    return len([await run.step(put, n) for n in range(40)])
"""


@pytest.fixture
def perdure(tmp_path: Path) -> CommandLine:
    commands = CommandLine(tmp_path)
    (tmp_path / "fill.py").write_text(FILL)
    return commands


def without_room() -> None:
    """In the child: no file may grow over a bound that the parent can lift."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))


def bound_by_modes() -> None:
    """In the child: even root is bound by the modes of files and directories."""
    if os.geteuid() == 0:
        library = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")


@contextmanager
def started(perdure: CommandLine, *arguments: str, before: Callable[[], None]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PERDURE, *arguments],
        cwd=perdure.folder,
        env=perdure.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_run_says_that_the_store_cannot_be_written_and_goes_on_when_it_can(
    perdure: CommandLine, quiet: list[str]
) -> None:
    with started(perdure, "run", "fill.py", "--id", "f", *quiet, before=without_room) as process:
        lines = reach(process, "it is tried again, at least every 5 s; what is recorded is not lost")
        assert lines[-2].startswith("the store cannot be written: ")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "40\n")
    assert "cannot be written" not in err  # it is said once


def test_a_worker_says_that_the_store_cannot_be_written(perdure: CommandLine) -> None:
    perdure("run", "fill.py", "--id", "f", "--detach")
    with started(perdure, "worker", "fill.py", before=without_room) as process:
        reach(process, "the store cannot be written: ")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        reach(process, "run f: completed")
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


# --- a store that may only be read ------------------------------------------------------------------------------------


@pytest.fixture
def locked(perdure: CommandLine) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A store in a directory that may only be read, and commands that are bound by that."""
    perdure("run", "flows.py:who", "--id", "w", "--store", "sqlite:///sealed/runs.db", code=3)
    return lambda *arguments: subprocess.run(
        [*PERDURE, *arguments, "--store", "sqlite:///sealed/runs.db"],
        cwd=perdure.folder,
        env=perdure.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=bound_by_modes,
    )


def seal(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o500 if path.is_dir() else 0o400)


def unseal(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)


LOOKS = (
    ("ps", "who"),
    ("show w", "Who?"),
    ("events w", "wait.opened"),
    ("verify w", "journal verified"),
    ("verify --all", "journal verified"),
    ("state w", "{}"),
    ("questions", "Who?"),
    ("doctor", " waiting"),
)
CHANGES = (
    "answer w Ada",
    "pause w",
    "cancel w",
    "signal w s",
    "run flows.py --id w",
    "run flows.py:nap",
    "worker flows.py",
)


@pytest.mark.parametrize("log", ["no log", "log and its index", "log alone"])
def test_a_store_that_may_only_be_read_is_read_and_not_written(
    perdure: CommandLine, locked: Callable[..., subprocess.CompletedProcess[str]], log: str
) -> None:
    """Closed in order; or left by a worker that was killed, with SQLite's log and with or without the log's index."""
    sealed = perdure.folder / "sealed"
    if log != "no log":
        with perdure.started("worker", "flows.py", "--store", "sqlite:///sealed/runs.db") as worker:
            reach(worker, "executes")
            perdure("run", "flows.py:who", "--id", "late", "--store", "sqlite:///sealed/runs.db", code=3)
            shutil.copytree(sealed, perdure.folder / "copy")
        shutil.rmtree(sealed)
        (perdure.folder / "copy").rename(sealed)
        assert (sealed / "runs.db-wal").stat().st_size > 0
    if log == "log alone":
        (sealed / "runs.db-shm").unlink()
    seal(sealed)
    before = sorted(path.name for path in sealed.iterdir())
    try:
        assert ("late" in locked("ps").stdout) == (log != "no log")  # it stands in the log alone
        for command, words in LOOKS:
            done = locked(*command.split())
            assert (done.returncode, words in done.stdout) == (0, True), (command, done)
        for command in CHANGES:
            done = locked(*command.split())
            assert done.returncode == 2, (command, done)
            assert "code: store_read_only" in done.stderr, (command, done)
            assert "hint: commands that only look still work" in done.stderr, (command, done)
        assert sorted(path.name for path in sealed.iterdir()) == before
    finally:
        unseal(sealed)


# --- a terminal that knows only ASCII ---------------------------------------------------------------------------------


def test_columns_stand_where_they_should_on_a_terminal_that_knows_only_ascii(perdure: CommandLine) -> None:
    perdure("run", "flows.py:rich", "--id", "r")
    plain = CommandLine(perdure.folder, PYTHONIOENCODING="ascii")("show", "r").out
    assert plain.isascii()
    assert "\\u" not in plain
    assert "+ blob" in plain
    full = CommandLine(perdure.folder, PYTHONIOENCODING="utf-8")("show", "r").out
    assert "✓ blob" in full
    assert [line.find("done") for line in plain.splitlines()] == [line.find("done") for line in full.splitlines()]
