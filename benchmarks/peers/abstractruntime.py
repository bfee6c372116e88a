"""AbstractRuntime on its SQLite stores: one node that asks for one effect per turn.

Every effect is journaled by it as started and completed, and the run is saved behind it. It opens its file with
`synchronous=NORMAL`: in WAL mode the last transactions may be lost in a power cut. The option `synchronous="full"`
changes that on its connection, which is not what its users get, but is the promise that the others make.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from abstractruntime import (
    Effect,
    EffectType,
    RunState,
    RunStatus,
    Runtime,
    SqliteDatabase,
    SqliteLedgerStore,
    SqliteRunStore,
    StepPlan,
    WorkflowSpec,
)
from abstractruntime.core.runtime import EffectOutcome

from benchmarks.peers import Outcome

RUN_FILE = "run.txt"
marks: list[float] = []
die_at = -1


class Killed(BaseException):
    """Stands for the death of the process in the middle of an effect: nothing behind it is written."""


def turn(run: RunState, context: Any) -> StepPlan:
    number = run.vars.get("number", 0)
    if number >= run.vars["steps"]:
        return StepPlan(node_id="turn", complete_output={"steps": number})
    run.vars["number"] = number + 1
    effect = Effect(type=EffectType.TOOL_INVOKE, payload={"number": number}, result_key="result")
    return StepPlan(node_id="turn", effect=effect, next_node="turn")


def work(run: RunState, effect: Effect, next_node: str | None) -> EffectOutcome:
    number = effect.payload["number"]
    if number == die_at:
        raise Killed
    marks.append(time.perf_counter())
    return EffectOutcome.completed({"number": number})


WORKFLOW = WorkflowSpec(workflow_id="counting", entry_node="turn", nodes={"turn": turn})


class Opened:
    """A runtime on a file in `directory`."""

    def __init__(self, directory: Path, synchronous: str) -> None:
        self.database = SqliteDatabase(directory / "abstractruntime.db")
        connection = self.database.connection()
        if synchronous:
            connection.execute(f"PRAGMA synchronous={synchronous}")
        self.store = SqliteRunStore(self.database)
        self.runtime = Runtime(
            run_store=self.store,
            ledger_store=SqliteLedgerStore(self.database),
            effect_handlers={EffectType.TOOL_INVOKE: work},
        )
        self.settings = {
            "SQLite": sqlite3.sqlite_version,
            **{
                name: str(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("journal_mode", "synchronous")
            },
        }

    def start(self, steps: int, carried: str | None = None) -> str:
        variables: dict[str, Any] = {"steps": steps}
        if carried is not None:
            variables["carried"] = carried
        run_id: str = self.runtime.start(workflow=WORKFLOW, vars=variables)
        return run_id

    def finish(self, run_id: str, steps: int) -> None:
        state = self.runtime.tick(workflow=WORKFLOW, run_id=run_id, max_steps=steps + 2)
        assert state.status == RunStatus.COMPLETED, state

    def close(self) -> None:
        self.database.close()


class Adapter:
    def __init__(self, synchronous: str = "") -> None:
        self.synchronous = synchronous

    def open(self, directory: Path) -> Opened:
        opened = Opened(directory, self.synchronous)
        opened.finish(opened.start(3), 3)
        marks.clear()
        return opened

    async def chain(self, directory: Path, steps: int, carried_bytes: int = 0) -> Outcome:
        opened = self.open(directory)
        began = time.perf_counter()
        opened.finish(opened.start(steps, "x" * carried_bytes if carried_bytes else None), steps)
        seconds = time.perf_counter() - began
        opened.close()
        return Outcome(seconds, steps, list(marks), opened.settings)

    async def fan(self, directory: Path, runs: int, steps: int) -> Outcome:
        opened = self.open(directory)
        began = time.perf_counter()
        for run_id in [opened.start(steps) for _ in range(runs)]:
            opened.finish(run_id, steps)
        seconds = time.perf_counter() - began
        opened.close()
        return Outcome(seconds, runs * steps, settings=opened.settings)

    async def start_latency(self, directory: Path, runs: int) -> Outcome:
        opened = self.open(directory)
        latencies: list[float] = []
        for _ in range(runs):
            marks.clear()
            began = time.perf_counter()
            opened.finish(opened.start(1), 1)
            latencies.append(marks[0] - began)
        opened.close()
        return Outcome(sum(latencies), runs, latencies, opened.settings)

    async def prepare_recovery(self, directory: Path, runs: int, die: Callable[[], NoReturn]) -> None:
        global die_at
        opened = Opened(directory, self.synchronous)
        die_at = 1
        for _ in range(runs):
            run_id = opened.start(2)
            try:
                opened.finish(run_id, 2)
            except Killed:
                continue
        die()

    async def recover(self, directory: Path, runs: int) -> Outcome:
        began = time.perf_counter()
        opened = Opened(directory, self.synchronous)
        unfinished = opened.store.list_runs(status=RunStatus.RUNNING, limit=runs + 1)
        assert len(unfinished) == runs, len(unfinished)
        for run in unfinished:
            opened.finish(run.run_id, 2)
        seconds = time.perf_counter() - began
        opened.close()
        return Outcome(seconds, runs, settings=opened.settings)

    async def prepare_load(self, directory: Path, steps: int) -> None:
        opened = self.open(directory)
        run_id = opened.start(steps)
        opened.finish(run_id, steps)
        (directory / RUN_FILE).write_text(run_id)
        opened.close()

    async def load(self, directory: Path) -> Outcome:
        """The run's row holds the whole state as one JSON document."""
        run_id = (directory / RUN_FILE).read_text()
        opened = Opened(directory, self.synchronous)
        began = time.perf_counter()
        state = opened.runtime.get_state(run_id)
        seconds = time.perf_counter() - began
        opened.close()
        return Outcome(seconds, state.vars["number"], settings=opened.settings)
