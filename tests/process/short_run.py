"""A short run that leaves evidence, and the judgement of that evidence after whatever befell the run.

What it does to the world goes to `ledger`, and what was acknowledged goes to `witness`: both are plain files outside of
the store, each line one write. `python -m tests.process.short_run` executes or judges it in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from perdure import Backoff, Done, Limits, NotDone, Run, RunHandle, Runtime, step, workflow
from perdure.core.errors import PerdureError, StoreError
from perdure.core.events import Event
from perdure.store.port import Durability
from perdure.store.sqlite import SQLiteStore, claims, leases

EFFECTS = 4
RUN_ID = "short"
LIMITS = Limits(lease_s=600.0, drain_grace_s=0.05, crash_budget=100)


def store_path(directory: Path) -> Path:
    """Where the store is; its own directory is made with it."""
    return directory / "store" / "made" / "runs.db"


class Evidence:
    """Two files that only grow.

    Args:
        directory: where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, name: str, line: str) -> None:
        """Append a line in one write."""
        file = os.open(self.directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)

    def lines(self, name: str) -> list[str]:
        """What was appended so far."""
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def effects(self) -> list[int]:
        """The numbers of the effects in the order in which they happened."""
        return [int(line) for line in self.lines("ledger")]


def workflow_for(evidence: Evidence) -> Any:
    """Reads, effects that may be repeated, effects that must not, a wait, state and an artifact."""

    async def happened(number: int) -> Any:
        return Done(number) if number in evidence.effects() else NotDone

    @step(kind="idempotent")
    async def post(number: int) -> int:
        evidence.add("ledger", str(number))
        return number

    @step(kind="once", probe=happened, timeout="1s", retries=5, backoff=Backoff(initial_s=0.0))
    async def charge(number: int) -> int:
        evidence.add("ledger", str(number))
        return number

    @step(kind="read")
    async def look(number: int) -> int:
        return number

    @workflow(name="short")
    async def short(run: Run) -> int:
        total = 0
        for number in range(EFFECTS):
            total += await run.step(look, number)
            await run.step(charge if number % 2 else post, number)
            run.state["done"] = number
        await run.sleep(0)
        run.put(b"x" * 5000)
        await run.wait_for("go")
        return total

    return short


async def witnessed(evidence: Evidence, handle: RunHandle[Any]) -> None:
    """Write down every event that this process was shown."""
    async for event in handle.events():
        evidence.add("witness", f"{event.seq} {event.kind} {event.salt.hex()}")


async def execute(directory: Path, *, durability: Durability = "full", vfs: str | None = None) -> int:
    """Start the run, or go on with it, and give its result; a store that fails is asked again."""
    evidence = Evidence(directory)
    tries = 0
    while True:
        store = SQLiteStore(store_path(directory), durability=durability, vfs=vfs)
        try:
            async with Runtime(store, workflows=[workflow_for(evidence)], limits=LIMITS) as runtime:
                handle = await runtime.start("short", id=RUN_ID)
                watching = asyncio.ensure_future(witnessed(evidence, handle))
                try:
                    await handle.signal("go", command_id="go")
                    evidence.add("witness", "signalled")
                    return int(await handle.result())
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
        except StoreError as error:
            tries += 1
            if tries > 200:
                raise AssertionError(f"the store never came back: {error!r}") from error
            await asyncio.sleep(0.002)


async def judge(directory: Path, *, lost: str = "") -> list[str]:
    """Go on with the run over a sound store, and say what is wrong with what is found.

    Args:
        lost: what befell it, for messages.
    """
    evidence = Evidence(directory)
    witness = [line.split() for line in evidence.lines("witness")]
    before = len(evidence.effects())
    wrong: list[str] = []
    try:
        total = await execute(directory)
    except PerdureError as error:
        return [f"{lost}: it does not go on: {error!r}"]
    if total != sum(range(EFFECTS)):
        wrong.append(f"it gives {total}")
    async with Runtime(SQLiteStore(store_path(directory)), execute=False) as runtime:
        handle = runtime.run(RUN_ID)
        await handle.verify()
        wrong += await runtime.store.integrity()
        events = {event.seq: event async for event in handle.events(follow=False)}
        wrong += missing(witness, events)
    wrong += done_twice(evidence.effects(), before)
    return [f"{lost}: {one}" for one in wrong]


def missing(witness: list[list[str]], events: dict[int, Event]) -> list[str]:
    """Events that were acknowledged and are not in the journal as they were."""
    wrong = []
    for words in witness:
        if words == ["signalled"]:
            if not any(event.kind == "signal.received" for event in events.values()):
                wrong.append("the signal that was acknowledged is lost")
            continue
        seq, kind, salt = words
        event = events.get(int(seq))
        if event is None or (event.kind, event.salt.hex()) != (kind, salt):
            wrong.append(f"event {seq} {kind} was seen and is lost")
    return wrong


def done_twice(effects: list[int], before: int) -> list[str]:
    """Effects that were done again although something behind them had begun, or that must not be done again at all."""
    wrong = []
    if effects != sorted(effects) or set(effects) != set(range(EFFECTS)):
        wrong.append(f"effects were forgotten: {effects}, of which {before} before")
    wrong += [f"effect {number} happened twice" for number in range(1, EFFECTS, 2) if effects.count(number) != 1]
    return wrong


def rebooted() -> None:
    """From now on this process believes that the machine was started anew, as after a power cut."""
    claims.boot_id = leases.boot_id = lambda: "the boot after the power cut"


if __name__ == "__main__":
    # `execute full DIRECTORY` or, after a power cut, `judge WHAT DIRECTORY`
    if sys.argv[1] == "execute":
        print(asyncio.run(execute(Path(sys.argv[3]), durability=cast("Durability", sys.argv[2]))))
    else:
        rebooted()
        print(json.dumps(asyncio.run(judge(Path(sys.argv[3]), lost=sys.argv[2]))))
