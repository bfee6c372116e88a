"""Nothing that a command began outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perdure.pipeline.commands import running, strays
from tests.unit.pipeline.commands.commands import ends, is_gone, line_of, open_descriptors, run

# A grandchild that ignores SIGTERM. Its parent, the leader, waits for it.
STUBBORN = "sh -c 'trap \"\" TERM; echo $$ > pid; exec sleep 100' & wait"

NEW_GROUP = "import os, sys; os.setpgid(0, 0); os.execve('/bin/sh', ['sh', '-c', sys.argv[1]], {})"


def written_id(folder: Path, name: str = "pid") -> int:
    return int((folder / name).read_text())


async def test_a_timeout_kills_a_grandchild_that_ignores_the_request_to_end(tmp_path: Path) -> None:
    result = await run(tmp_path, shell=STUBBORN, timeout_s=1.0, grace_s=0.1)
    assert result.timed_out
    assert not result.succeeded
    assert is_gone(written_id(tmp_path))
    assert result.duration_s < 10


async def test_the_group_is_killed_where_processes_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "kill_strays", lambda *_, **__: set())
    result = await run(tmp_path, shell=STUBBORN, timeout_s=1.0, grace_s=0.1)
    assert result.timed_out
    assert ends(written_id(tmp_path))


def test_what_is_older_than_the_command_is_never_its_own() -> None:
    process_id = os.getpid()
    mine = strays._stat(process_id)
    assert mine is not None
    assert strays._is_of(process_id, "mark", mine.session, mine.start)
    assert not strays._is_of(process_id, "mark", mine.session, mine.start + 1)


async def test_a_cancelled_command_is_gone_when_the_cancellation_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    grandchild = "sh -c 'trap \"\" TERM; echo $PPID $$ > ready; exec sleep 100' & wait"
    task = asyncio.create_task(run(tmp_path, shell=grandchild, grace_s=0.3))
    both = [int(one) for one in (await line_of(tmp_path / "ready")).split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [is_gone(one) for one in both] == [True, True]


async def test_a_second_cancellation_does_not_leave_anything_behind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    before = open_descriptors()
    task = asyncio.create_task(run(tmp_path, shell="trap '' TERM; echo $$ > ready; sleep 100 & wait; wait"))
    leader = int(await line_of(tmp_path / "ready"))
    for _ in range(3):
        task.cancel()
        await asyncio.wait({task}, timeout=0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert is_gone(leader)
    assert open_descriptors() == before


async def test_a_command_may_tidy_up_when_its_time_is_up(tmp_path: Path) -> None:
    script = "trap 'echo tidied; exit 5' TERM; echo begun; sleep 100 & wait"
    result = await run(tmp_path, shell=script, timeout_s=0.5, grace_s=30.0)
    assert (result.stdout, result.exit_code, result.timed_out) == ("begun\ntidied\n", 5, True)
    assert result.duration_s < 20


async def test_a_grandchild_may_tidy_up_after_its_parent(tmp_path: Path) -> None:
    (tmp_path / "child").write_text("trap 'echo tidied > note; exit' TERM; sleep 100 & wait")
    result = await run(tmp_path, shell="sh child & wait", timeout_s=0.5, grace_s=10.0)
    assert result.signal == signal.SIGTERM
    assert (tmp_path / "note").read_text() == "tidied\n"


async def test_what_holds_the_pipe_in_the_background_is_killed(tmp_path: Path) -> None:
    result = await run(tmp_path, shell="sleep 100 & echo $! > pid; echo done")
    assert (result.stdout, result.exit_code) == ("done\n", 0)
    assert is_gone(written_id(tmp_path))
    assert result.duration_s < 10


async def test_a_silent_process_in_the_background_is_killed(tmp_path: Path) -> None:
    await run(tmp_path, shell="sleep 100 > /dev/null 2>&1 & echo $! > pid")
    assert is_gone(written_id(tmp_path))


@pytest.mark.parametrize(
    "escape",
    [
        pytest.param("setsid sh -c '{}'", id="a session of its own"),
        pytest.param("env -i sh -mc \"sh -c '{}' & wait\"", id="a group of its own and no environment"),
    ],
)
@pytest.mark.parametrize("everywhere", [False, True])
async def test_what_left_the_group_is_killed(
    tmp_path: Path, escape: str, everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if everywhere:
        monkeypatch.setattr(running, "_SHORT_S", 0.0)
    os.mkfifo(tmp_path / "ready")
    inner = escape.format("echo $$ > pid; echo > ready; exec sleep 100")
    await run(tmp_path, shell=f"{inner} > /dev/null 2>&1 & read -r line < ready")
    assert ends(written_id(tmp_path))


async def test_a_pipe_that_an_escaped_process_holds_is_not_waited_for_long(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    escaped = "env -i setsid sh -c 'echo $$ > pid; echo > ready; exec sleep 100' &"
    try:
        result = await run(tmp_path, shell=f"{escaped} read -r line < ready; echo done")
        assert result.stdout == "done\n"
        assert result.duration_s < 20
        assert not is_gone(written_id(tmp_path))  # the limit that is documented
    finally:
        os.kill(written_id(tmp_path), signal.SIGKILL)


async def test_other_processes_are_left_alone(tmp_path: Path) -> None:
    neighbour = await asyncio.create_subprocess_exec("sleep", "100", env={strays.MARK: "of another call"})
    try:
        await run(tmp_path, shell="sleep 100 &")
        assert not is_gone(neighbour.pid)
    finally:
        neighbour.kill()
        await neighbour.wait()


# --- when this process is killed --------------------------------------------------------------------------------------

WORKER = """
import asyncio, os, sys
from pathlib import Path
from perdure.pipeline.commands import Command, run_command
script = sys.argv[1]
asyncio.run(run_command(Command(cwd=Path.cwd(), shell=script, environ=dict(os.environ))))
"""


def killed_worker(folder: Path, script: str) -> None:
    """Start a process that runs the command; kill it when the command has written into the FIFO `ready`."""
    os.mkfifo(folder / "ready")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, script], cwd=folder, env=environ)
    try:
        (folder / "ready").read_text()
    finally:
        worker.kill()
        worker.wait()


def test_a_command_ends_with_the_process_that_ran_it(tmp_path: Path) -> None:
    killed_worker(tmp_path, "trap '' TERM HUP; echo $$ > pid; env -i sleep 100 & echo $! > child; echo > ready; wait")
    assert ends(written_id(tmp_path))
    assert ends(written_id(tmp_path, "child"))


def test_a_command_ends_with_a_process_that_died_before_it_had_named_the_group(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    script = "trap '' TERM HUP; echo $$ > pid; env -i sleep 100 & echo $! > child; echo > go; wait"
    dying = "from perdure.pipeline.commands import guard, running\n"
    dying += "guard.Guard.watch = lambda *_: (open('go').read(), os.kill(os.getpid(), 9))\n"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    program = WORKER.replace("script = sys.argv[1]\n", dying + "script = sys.argv[1]\n")
    worker = subprocess.run([sys.executable, "-c", program, script], cwd=tmp_path, env=environ, check=False)
    assert worker.returncode == -signal.SIGKILL
    assert ends(written_id(tmp_path))
    assert ends(written_id(tmp_path, "child"))


def test_what_left_the_group_ends_with_the_process_that_ran_the_command(tmp_path: Path) -> None:
    killed_worker(tmp_path, "setsid sh -c 'echo $$ > pid; echo > ready; exec sleep 100' & wait")
    assert ends(written_id(tmp_path))
