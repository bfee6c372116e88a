"""A pipeline that failed is retried in a process that is killed, wherever that is."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure import RunHandle, Runtime
from perdure.core.errors import RunFailed
from tests.crash.reopened import RUN_ID, declined
from tests.unit.engine.evidence import check_journals
from tests.unit.engine.staging import on_disk

SCRIPT = Path(__file__).with_name("reopened.py")
ROOT = SCRIPT.parents[2]
ONCE_MORE = {"a": 1, "b": 3, "c": 1}
"""How often each command has been run when the run has ended well."""


def lines(folder: Path) -> dict[str, int]:
    """How often each command was run."""
    return {name: len((folder / name).read_text().splitlines()) for name in "abc" if (folder / name).exists()}


async def failed(folder: Path) -> None:
    """A run whose second stage has failed, twice."""
    async with Runtime(on_disk(folder / "runs.db"), workflows=[declined]) as runtime:
        handle = await runtime.start(declined, id=RUN_ID)
        with pytest.raises(RunFailed):
            await handle.result()
    assert lines(folder) == {"a": 1, "b": 2}


def killed(folder: Path, moment: str, number: int) -> bool:
    """Retry in a process of its own; whether it was killed."""
    command = [sys.executable, str(SCRIPT), str(folder / "runs.db"), moment, str(number)]
    done = subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


async def _answer_doubts(runtime: Runtime, handle: RunHandle[Any], folder: Path) -> None:
    """A person who can look says of a command in doubt whether it was run."""
    async for event in handle.events():
        if event.kind == "wait.opened" and event.data.get("subject"):
            node = str(event.node).partition("#")[0]
            done = lines(folder).get(node, 0) == ONCE_MORE[node]
            await runtime.resolve(RUN_ID, "done" if done else "not_done")


@pytest.mark.time_limit(60)
@pytest.mark.clause("ruling-running-at-crash")
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_stage_that_is_executed_again_is_so_once_wherever_its_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    work, snapshot = tmp_path / "work", tmp_path / "failed"
    work.mkdir()
    with monkeypatch.context() as there:
        there.chdir(work)  # that is where its commands run from then on
        await failed(work)
    (work / "mended").touch()
    work.rename(snapshot)
    number, dies = 0, True
    while dies:
        number += 1
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(snapshot, work)
        dies = await asyncio.to_thread(killed, work, moment, number)
        async with Runtime(on_disk(work / "runs.db"), workflows=[declined]) as runtime:
            handle = runtime.run(RUN_ID)
            await handle.retry(command_id="again")  # a resend, but where the first one was cut off
            person = asyncio.ensure_future(_answer_doubts(runtime, handle, work))
            output = await handle.result()
            person.cancel()
        assert not output["completed_with_failures"]
        assert lines(work) == ONCE_MORE, f"killed {moment} commit {number}"
        await check_journals(on_disk(work / "runs.db"))
    assert number > 5
