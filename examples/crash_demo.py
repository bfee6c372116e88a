"""Kill the worker of a run in the middle of a step, twice, and see the run end as if nothing had happened.

    make crash-demo

The run is that of `examples/release_notes.py`, on the repository of the present folder. It is executed

1. undisturbed, to know what is right;
2. by a worker that is killed (SIGKILL) while a `read` step waits for git;
3. by a worker that is killed after the `once` step has replaced the file, and before its answer is recorded;
4. by a worker that brings it to its end.

It needs neither luck nor sleep to hit those instants. The workers find a `git` of this demo's own, which does what the
real one does, lists what it was asked, and stands still at one command until the demo has killed the worker.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from perdure import RunHandle, Runtime
from perdure.core.events import Event

RELEASE_NOTES = Path(__file__).with_name("release_notes.py")
FOLDER = Path(".perdure/crash-demo").resolve()
NOTES = FOLDER / "RELEASE_NOTES.md"
RUN = "notes"

GIT = """#!/bin/sh
printf '%s\\n' "$*" >> '{folder}/asked'
case "$*" in *'{still_at}'*)
    echo here > '{folder}/reached' # a pipe at which the demo listens
    read -r _ < '{folder}/never'   # a pipe to which nobody writes
esac
exec '{git}' "$@"
"""


class Worker:
    """A process that executes the run: `perdure run`, with its own git.

    Args:
        name: of its folder.
        store: URL of the store.
        still_at: the git command at which it stands still.
    """

    def __init__(self, name: str, store: str, still_at: str = "no command at all") -> None:
        self.folder = FOLDER / name
        self.folder.mkdir(parents=True)
        self.store = store
        for pipe in ("reached", "never"):
            os.mkfifo(self.folder / pipe)
        git = self.folder / "git"
        git.write_text(GIT.format(folder=self.folder, still_at=still_at, git=shutil.which("git")))
        git.chmod(0o755)
        self.output = (self.folder / "output").open("wb")

    async def start(self) -> None:
        """Start the process, in a session of its own."""
        perdure = [sys.executable, "-c", "from perdure.cli import main; main()"]
        inputs = ["--input", "repo=.", "--input", f"output={NOTES.relative_to(top())}"]
        self.process = await asyncio.create_subprocess_exec(
            *[*perdure, "run", str(RELEASE_NOTES), "--id", RUN, "--store", self.store, *inputs],
            env=os.environ | {"PATH": f"{self.folder}:{os.environ['PATH']}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            start_new_session=True,
        )
        self.output.close()

    async def stand_still(self) -> None:
        """Wait until its git stands still."""
        reached = asyncio.Event()
        pipe = os.open(self.folder / "reached", os.O_RDONLY | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(pipe, reached.set)
        ended = asyncio.ensure_future(self.process.wait())
        still = asyncio.ensure_future(reached.wait())
        await asyncio.wait({ended, still}, return_when=asyncio.FIRST_COMPLETED)
        asyncio.get_running_loop().remove_reader(pipe)
        os.close(pipe)
        if not reached.is_set():
            raise SystemExit(f"the worker ended by itself:\n{(self.folder / 'output').read_text()}")
        ended.cancel()

    async def kill(self) -> None:
        """End it as a power cut would: without warning, and with all that it started."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        os.killpg(self.process.pid, signal.SIGKILL)
        print(f"   killed the worker, process {self.process.pid}, with SIGKILL")

    async def finish(self) -> None:
        """Wait for its good end."""
        if await self.process.wait() != 0:
            raise SystemExit(f"the worker failed:\n{(self.folder / 'output').read_text()}")

    @property
    def asked(self) -> Counter[str]:
        """What git was asked."""
        return Counter((self.folder / "asked").read_text().splitlines())


# --- looking at the run -----------------------------------------------------------------------------------------------


def top() -> Path:
    """The repository's folder."""
    command = ["git", "rev-parse", "--show-toplevel"]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode != 0:
        raise SystemExit(f"this demo needs a git repository: {found.stderr.strip()}")
    return Path(found.stdout.strip()).resolve()


@asynccontextmanager
async def looking_at(store: str) -> AsyncIterator[RunHandle[Any]]:
    """The run, as somebody sees it who does not execute it."""
    async with Runtime(store, execute=False) as runtime:
        yield runtime.run(RUN)


async def facts_of(store: str) -> dict[tuple[str, str], Event]:
    """The recorded results of its steps, by scope and key."""
    async with looking_at(store) as run:
        events = [event async for event in run.events(follow=False)]
    return {(event.scope or "", event.key or ""): event for event in events if event.kind == "step.completed"}


async def until_recorded(store: str, count: int) -> None:
    """Wait until the results of so many steps are durable."""
    async with looking_at(store) as run:
        async for event in run.events():
            count -= event.kind == "step.completed"
            if count == 0:
                return


async def verified_outcome(store: str) -> Any:
    """Check the journal's hash chain, and give the run's output."""
    async with looking_at(store) as run:
        head = await run.verify()
        print(f"   journal verified: {head.seq} records, head {head.hash.hex()[:16]}")
        return [event async for event in run.events(follow=False)][-1].data["output"]


# --- the acts ---------------------------------------------------------------------------------------------------------


async def undisturbed(store: str) -> tuple[Any, bytes, Counter[str]]:
    """What is right: the output, the file, and what git is asked for it. The file is taken away again."""
    print("1. The run, undisturbed")
    worker = Worker("undisturbed", store)
    await worker.start()
    await worker.finish()
    outcome = await verified_outcome(store)
    content = NOTES.read_bytes()
    NOTES.unlink()
    print(f"   {outcome['commits']} commits, {len(content)} bytes written, git was asked {worker.asked.total()} times")
    return outcome, content, worker.asked


async def killed_while_reading(store: str, asked: Counter[str]) -> Counter[str]:
    """Kill a worker in the middle of the read of one commit, when all others are recorded."""
    print("2. The same run; its worker is killed in the middle of a read step")
    reads = [command for command in asked if " diff-tree " in command]
    command = (reads or [one for one in asked if " log " in one])[0]
    worker = Worker("killed-while-reading", store, still_at=command)
    await worker.start()
    await worker.stand_still()
    await until_recorded(store, 3 + len(reads) - 1 if reads else 2)
    await worker.kill()
    step = "read_change" if reads else "list_commits"
    print(f"   recorded: {_steps(await facts_of(store))}")
    print(f"   cut off: {step}, which waited for 'git{_short(command)}'")
    return worker.asked


async def killed_while_writing(store: str) -> Counter[str]:
    """Kill the next worker when the file is replaced and the answer of the step is not recorded."""
    print("3. A second worker goes on; it is killed in the middle of the once step")
    before = await facts_of(store)
    worker = Worker("killed-while-writing", store, still_at=" hash-object ")
    await worker.start()
    await worker.stand_still()
    await worker.kill()
    after = await facts_of(store)
    kept = {place: fact for place, fact in before.items() if place in after and after[place].seq == fact.seq}
    print(f"   kept: {_steps(kept)}")
    print(f"   repeated, or new: {_steps({place: fact for place, fact in after.items() if place not in kept})}")
    print(f"   cut off: write_notes; the file is there ({NOTES.stat().st_size} bytes), but nobody was told")
    return worker.asked


async def brought_to_its_end(store: str) -> Counter[str]:
    """Let a third worker finish: the step in doubt is resolved by its probe."""
    print("4. A third worker goes on")
    before, inode = await facts_of(store), NOTES.stat().st_ino
    worker = Worker("brought-to-its-end", store)
    await worker.start()
    await worker.finish()
    async with looking_at(store) as run:
        events = [event async for event in run.events(follow=False)]
    resolved = [event for event in events if event.kind == "step.resolved"]
    print(f"   kept: {_steps(before)}")
    print(f"   in doubt: write_notes; its probe looked, and found: {resolved[0].data['resolution']}")
    print(f"   the file was not written a second time: {NOTES.stat().st_ino == inode}")
    return worker.asked


def _steps(facts: dict[tuple[str, str], Event]) -> str:
    counted = Counter(key.partition("#")[0] for _, key in facts)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())


def _short(command: str) -> str:
    words = command.split()[2:]
    return " " + " ".join(word.rpartition("/")[2][:16] for word in (words[0], words[-1]))


async def main() -> None:
    """All four acts, and the comparison."""
    top()
    shutil.rmtree(FOLDER, ignore_errors=True)
    right_store, store = f"sqlite:///{FOLDER}/undisturbed.db", f"sqlite:///{FOLDER}/killed.db"
    outcome, content, asked = await undisturbed(right_store)
    asked_in_all = await killed_while_reading(store, asked)
    asked_in_all += await killed_while_writing(store)
    asked_in_all += await brought_to_its_end(store)
    print("5. The comparison")
    same_output, same_file = await verified_outcome(store) == outcome, NOTES.read_bytes() == content
    again = asked_in_all - asked
    print(f"   same output: {same_output}; same file: {same_file}")
    print(f"   git was asked {again.total()} times more: " + ", ".join(f"git{_short(one)}" for one in again.elements()))
    print(f"   look for yourself: perdure show {RUN} --store sqlite:///{FOLDER.relative_to(Path.cwd())}/killed.db")
    if not (same_output and same_file and again.total() == 2 and not asked - asked_in_all):
        raise SystemExit("the run did not end as if nothing had happened")


if __name__ == "__main__":
    asyncio.run(main())
