"""Kill the worker of a run in the middle of a step, twice, and see the run end as if nothing had happened.

    make crash-demo

The run is that of `examples/release_notes.py`, on this repository. It is executed

1. once undisturbed, to know what is right;
2. by a first worker, which is killed (SIGKILL) while a `read` step waits for git;
3. by a second worker, which is killed after the `once` step has replaced the file, before its answer is recorded;
4. by a third worker, to the end.

No luck and no sleeping is needed to hit those instants: the workers find a `git` of this demo's own, which does what the
real one does, keeps a list of what it was asked, and stands still at one command, until the demo has killed the worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from perdure import Runtime
from perdure.core.events import Event

HERE = Path(__file__).parent
WORK = Path(".perdure", "crash-demo")
NOTES = WORK / "RELEASE_NOTES.md"
RUN = "notes"
PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]

GIT = """#!/bin/sh
# As git, but it keeps a list of what it was asked, and stands still at one command.
printf '%s\\n' "$*" >> "{asked}"
case "$*" in *"{still_at}"*)
    : > "{reached}"       # a pipe: tells the demo, which waits for it
    read -r _ < "{never}" # a pipe that nobody writes to
esac
exec "{git}" "$@"
"""


class Act:
    """One worker's turn with the run: `perdure run`, in a process of its own.

    Args:
        name: of the act, for its files.
        store: the store's file.
        still_at: the git command at which it stands still, if any.
    """

    def __init__(self, name: str, store: Path, still_at: str | None) -> None:
        self.folder = (WORK / name).absolute()
        self.folder.mkdir(parents=True)
        self.asked = self.folder / "asked"
        self.reached = self.folder / "reached"
        os.mkfifo(self.reached)
        os.mkfifo(self.folder / "never")
        git = self.folder / "git"
        git.write_text(
            GIT.format(
                asked=self.asked,
                still_at=still_at or "no such command",
                reached=self.reached,
                never=self.folder / "never",
                git=shutil.which("git"),
            )
        )
        git.chmod(0o755)
        program = [*PERDURE, "run", str(HERE / "release_notes.py"), "--id", RUN, "--store", f"sqlite:///{store}"]
        self.process = subprocess.Popen(
            [*program, "--input", "repo=.", "--input", f"output={NOTES}"],
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    async def stands_still(self) -> None:
        """Wait until git stands still."""
        await asyncio.to_thread(self.reached.read_bytes)

    def kill(self) -> None:
        """End it as a power cut would: no warning, no clean-up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.killpg(self.process.pid, signal.SIGKILL)  # the git that stands still
        print(f"      killed the worker (process {self.process.pid}) with SIGKILL")

    def finish(self) -> None:
        """Wait for its end, which should be a good one."""
        output, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise SystemExit(f"the worker ended with code {self.process.returncode}:\n{output.decode()}")

    @property
    def calls(self) -> Counter[str]:
        """What it asked git."""
        return Counter(self.asked.read_text().splitlines())


def outcome_of(events: list[Event]) -> Any:
    """The output of the run, as it is recorded."""
    return events[-1].data["output"]


def newest_commit() -> str:
    """The commit at whose reading the first worker is killed."""
    command = ["git", "log", "--no-merges", "--max-count=1", "--format=%H"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


async def journal(runtime: Runtime) -> list[Event]:
    """The events of the run."""
    return [event async for event in runtime.run(RUN).events(follow=False)]


async def undisturbed(store: Path) -> tuple[Any, bytes, Counter[str]]:
    """Execute the run once, and take its file away again."""
    print("1. The run, undisturbed")
    act = Act("undisturbed", store, None)
    act.finish()
    async with Runtime(f"sqlite:///{store}", execute=False) as runtime:
        outcome = outcome_of(await journal(runtime))
    content = NOTES.read_bytes()
    NOTES.unlink()
    print(f"      {outcome['commits']} commits, {len(content)} bytes of release notes, git was asked {act.calls.total()} times")
    return outcome, content, act.calls


async def until_recorded(runtime: Runtime, facts: int) -> None:
    """Wait until so many steps are durable."""
    async for event in runtime.run(RUN).events():
        facts -= event.kind == "step.completed"
        if facts == 0:
            return
