"""One process of a crash matrix: it starts or resumes the run, lives until its crash point or the end, and reports."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from perdure.core.errors import (
    CorruptRecordError,
    CrashMatrixError,
    NotSettledError,
    RunCancelled,
    RunFailed,
    RunParkedError,
)
from perdure.engine import calling, stepping
from perdure.engine.handle import RunHandle
from perdure.engine.runtime import Runtime
from perdure.journal.chain import check
from perdure.journal.fold import fold_all
from perdure.store.port import Durability, RunFilter, RunRow, Store
from perdure.store.url import open_store
from perdure.testing.clock import START, VirtualClock
from perdure.testing.crash.people import People
from perdure.testing.crash.points import CrashingStore, CrashPoint
from perdure.testing.crash.reference import load_definition, load_function
from perdure.testing.crash.witness import Line, Witness, read_lines, watched
from perdure.testing.randomness import SeededRandomness
from perdure.workflow.loading import load_file, split_spec

RUN_ID: Final = "crash-matrix"
PATIENCE: Final = "10s"


@dataclass(slots=True)
class Job:
    """What a process is to do; it travels as JSON.

    Args:
        directory: of the point; the store and the witness's file lie in it.
        store: a URL; `{directory}` stands for that one.
        process: which one of its point, from 0.
        workflow: `path.py:NAME`.
        input: raw, as JSON by parameter name.
        point: where to die, if anywhere.
        reference: the witness's file of the run that nothing disturbed.
        trace: whether lines and writes are witnessed, to find crash points.
    """

    directory: str
    store: str
    workflow: str
    input: dict[str, Any]
    process: int = 0
    point: str | None = None
    durability: Durability = "process"
    answers: dict[str, Any] = field(default_factory=dict)
    signals: dict[str, Any] = field(default_factory=dict)
    respond: str | None = None
    setup: str | None = None
    reference: str | None = None
    trace: bool = False
    seed: int = 0
    timeout_s: float = 30.0
    patience_s: float = 10.0

    def to_json(self) -> bytes:
        """The job in one line."""
        return orjson.dumps(asdict(self))

    @property
    def url(self) -> str:
        """The store's URL."""
        return self.store.replace("{directory}", self.directory)

    def file(self, name: str) -> Path:
        """A file of the point."""
        return Path(self.directory) / name


def witness_file(directory: str | Path) -> Path:
    """Where the processes of a point say what happens."""
    return Path(directory) / "witness.jsonl"


def report_file(directory: str | Path, process: int) -> Path:
    """Where a process that lives to the end says how it ended."""
    return Path(directory) / f"report-{process}.json"


def live(job: Job) -> None:
    """Do the job in this process, which has a folder of its own to work in and nothing open."""
    faulthandler.enable(sys.stderr)
    faulthandler.dump_traceback_later(job.timeout_s, exit=True)
    os.environ["PERDURE_CRASH_AT"] = job.point or ""
    folder = job.file("work")
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    if job.setup is not None:
        load_function(job.setup)()
    report = asyncio.run(_Process(job).live())
    report_file(job.directory, job.process).write_bytes(orjson.dumps(report))
    faulthandler.cancel_dump_traceback_later()


class _Process:
    def __init__(self, job: Job) -> None:
        point = None if job.point is None else CrashPoint.parse(job.point)
        self.job = job
        self.witness = Witness(
            witness_file(job.directory), job.process, point, tracing=job.trace, sync=job.durability == "full"
        )
        self.store: Store = CrashingStore(
            open_store(job.url, durability=job.durability), point, self._written if job.trace else None
        )
        self.people = People(
            job.answers,
            job.signals,
            None if job.respond is None else load_function(job.respond),
            [] if job.reference is None else read_lines(Path(job.reference)),
        )

    def _written(self, site: str, number: int, what: str) -> None:
        self.witness.write("written", site=site, number=number, holds=what)

    async def live(self) -> dict[str, Any]:
        """Run to the end; the report."""
        job = self.job
        await self.store.open()
        clock = VirtualClock(await _now(self.store), patience=job.patience_s)
        definition = load_definition(job.workflow)
        random = SeededRandomness(f"{job.seed}/{job.process}")
        _watch_steps(self.witness)
        beside = load_file(split_spec(job.workflow)[0]).definitions  # children, for example
        workflows = [definition, *(one for one in beside if one.name != definition.name)]
        async with Runtime(self.store, workflows=workflows, clock=clock, random=random) as runtime:
            graph = runtime.registry.get(definition.name)
            handle = await runtime.start_bound(graph, graph.load_input(job.input), id=RUN_ID)
            self.witness.told("started", run=RUN_ID)
            outcome = await self._conduct(runtime, clock, handle)
            self.witness.told("ended", run=RUN_ID, status=outcome["status"])
            await clock.settle()
            report = {"outcome": outcome, "runs": [await _examined(runtime, row) for row in await _all_runs(runtime)]}
        return report

    async def _conduct(self, runtime: Runtime, clock: VirtualClock, handle: RunHandle[Any]) -> dict[str, Any]:
        """Let people and time do their part until the run has ended; its outcome."""
        result = asyncio.ensure_future(_outcome(handle))
        try:
            while True:
                await clock.settle(result)
                if result.done():
                    return result.result()
                if await self.people.help(runtime, self.witness, self._lines):
                    continue
                if not await clock.advance_to_next() and not result.done():
                    raise NotSettledError(f"nothing moves any more: {await _standing(runtime)}")
        finally:
            result.cancel()

    def _lines(self) -> list[Line]:
        return read_lines(witness_file(self.job.directory))


def _watch_steps(witness: Witness) -> None:
    """From now on every call of a step in this process is witnessed."""
    call: Callable[..., Coroutine[Any, Any, Any]] = calling.call

    async def witnessed(services: Any, step: Any, args: Any, kwargs: Any, info: Any, *hooks: Any) -> Any:
        if step.policy.isolation != "process" or step.is_async:
            step = watched(witness, step, info)
        return await call(services, step, args, kwargs, info, *hooks)

    vars(stepping)["call"] = witnessed  # no hook for tests stands in the engine itself


async def _now(store: Store) -> datetime:
    """Where the clock of the process before stood, as far as the store knows."""
    newest = round(START.timestamp() * 1000)
    after = 0
    while entries := await store.read_feed(after=after):
        newest = max(newest, *(entry.event.time_ms for entry in entries))
        after = entries[-1].position
    return datetime.fromtimestamp(newest / 1000, UTC)


async def _outcome(handle: RunHandle[Any]) -> dict[str, Any]:
    """How a run ended, as plain data."""
    try:
        await handle.result()
    except RunFailed as failed:
        error = {name: value for name, value in failed.ids["error"].items() if name != "origin"}
        return {"status": "failed", "error": error}
    except RunCancelled:
        return {"status": "cancelled"}
    except RunParkedError as parked:
        return {"status": "paused", "reason": parked.ids["reason"], "message": parked.message}
    return {"status": "completed", "output": (await handle.fold()).outcome()["output"]}


async def _standing(runtime: Runtime) -> str:
    """Where each run stands, in one line."""
    waits = await runtime.store.open_waits()
    return "; ".join(
        " ".join([row.run_id, row.status, *(f"({w.wait.kind} {w.wait.name})" for w in waits if w.run_id == row.run_id)])
        for row in await _all_runs(runtime)
    )


async def _all_runs(runtime: Runtime) -> list[RunRow]:
    rows = await runtime.runs(RunFilter(limit=1000))
    if len(rows) == 1000:
        raise CrashMatrixError("a crash matrix is for workflows with less than a thousand runs")
    return rows


async def _examined(runtime: Runtime, row: RunRow) -> dict[str, Any]:
    """A run's journal, and what is wrong with it or with its index."""
    run_id = row.run_id
    events = await runtime.store.read(run_id)
    problems = []
    try:
        check(run_id, events)
    except CorruptRecordError as error:
        problems.append(f"the journal does not verify: {error.message}")
    waits = [place.wait.wait_id for place in await runtime.store.open_waits(run_id=run_id)]
    problems += _index_problems(row, waits, fold_all(run_id, events))
    return {"run_id": run_id, "status": row.status, "problems": problems, "events": [e.to_dict() for e in events]}


def _index_problems(row: RunRow, waits: list[str], state: Any) -> list[str]:
    problems = []
    if (row.status, row.reason) != (state.status, state.reason):
        problems.append(f"the index says {row.status} {row.reason!r}, the journal {state.status} {state.reason!r}")
    if sorted(waits) != sorted(wait.wait_id for wait in state.open_waits()):
        problems.append(f"the index has the open waits {waits}, the journal {[w.wait_id for w in state.open_waits()]}")
    return problems


Live = Callable[[Job], None]
