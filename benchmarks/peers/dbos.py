"""DBOS Transact with its SQLite system database.

Steps and workflows are async functions under `@DBOS.step` and `@DBOS.workflow`; the option `form="sync"` takes plain
functions instead, which DBOS runs in threads and which are its faster form. By default DBOS leaves the file in SQLite's
rollback journal. The option `journal_mode="wal"` creates it as a WAL file beforehand (SQLite remembers that in the
file), which is not what its users get, but shows how much of its cost is the journal.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy
from dbos import DBOS, SetWorkflowID
from dbos import _dbos as internals

from benchmarks.peers import Outcome

LOADED_RUN = "finished"
POLL_S = 0.02

marks: list[float] = []
hanging = False
held = 0
all_held = asyncio.Event()
hold_count = 0


@DBOS.step()
async def work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@DBOS.step()
async def hold(number: int) -> dict[str, int]:
    global held
    if hanging:
        held += 1
        if held == hold_count:
            all_held.set()
        await asyncio.Event().wait()
    return {"number": number}


@DBOS.workflow()
async def counting(steps: int, carried: str) -> int:
    for number in range(steps):
        await work(number)
    return steps


@DBOS.step()
def plain_work(number: int) -> dict[str, int]:
    marks.append(time.perf_counter())
    return {"number": number}


@DBOS.workflow()
def plain_counting(steps: int, carried: str) -> int:
    for number in range(steps):
        plain_work(number)
    return steps


@DBOS.workflow()
async def held_up(number: int) -> int:
    await work(number)
    await hold(number)
    return number


class Adapter:
    def __init__(self, journal_mode: str = "", form: str = "async") -> None:
        self.journal_mode = journal_mode
        self.plain = form == "sync"

    @asynccontextmanager
    async def opened(self, directory: Path) -> AsyncIterator[dict[str, str]]:
        """Launch DBOS on a file in `directory`; gives the settings that its own connections report."""
        path = directory / "dbos.db"
        if self.journal_mode:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(f"PRAGMA journal_mode={self.journal_mode}")
        DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR"})
        DBOS.launch()
        try:
            yield read_settings()
        finally:
            DBOS.destroy()

    async def chain(self, directory: Path, steps: int, carried_bytes: int = 0) -> Outcome:
        async with self.opened(directory) as settings:
            await (await DBOS.start_workflow_async(counting, 3, "")).get_result()
            marks.clear()
            began = time.perf_counter()
            if self.plain:
                DBOS.start_workflow(plain_counting, steps, "x" * carried_bytes).get_result()
            else:
                await (await DBOS.start_workflow_async(counting, steps, "x" * carried_bytes)).get_result()
            return Outcome(time.perf_counter() - began, steps, list(marks), settings)

    async def fan(self, directory: Path, runs: int, steps: int) -> Outcome:
        async with self.opened(directory) as settings:
            await (await DBOS.start_workflow_async(counting, 3, "")).get_result()
            began = time.perf_counter()
            if self.plain:
                for plain_handle in [DBOS.start_workflow(plain_counting, steps, "") for _ in range(runs)]:
                    plain_handle.get_result()
            else:
                handles = [await DBOS.start_workflow_async(counting, steps, "") for _ in range(runs)]
                await asyncio.gather(*(handle.get_result() for handle in handles))
            return Outcome(time.perf_counter() - began, runs * steps, settings=settings)

    async def start_latency(self, directory: Path, runs: int) -> Outcome:
        async with self.opened(directory) as settings:
            await (await DBOS.start_workflow_async(counting, 3, "")).get_result()
            latencies: list[float] = []
            for _ in range(runs):
                marks.clear()
                began = time.perf_counter()
                handle = await DBOS.start_workflow_async(counting, 1, "")
                await handle.get_result()
                latencies.append(marks[0] - began)
            return Outcome(sum(latencies), runs, latencies, settings)

    async def prepare_recovery(self, directory: Path, runs: int, die: Callable[[], NoReturn]) -> None:
        global hanging, hold_count
        hanging, hold_count = True, runs
        async with self.opened(directory):
            for number in range(runs):
                await DBOS.start_workflow_async(held_up, number)
            await all_held.wait()
            die()

    async def recover(self, directory: Path, runs: int) -> Outcome:
        began = time.perf_counter()
        async with self.opened(directory) as settings:
            await wait_for_success(directory / "dbos.db", runs)
            return Outcome(time.perf_counter() - began, runs, settings=settings)

    async def prepare_load(self, directory: Path, steps: int) -> None:
        async with self.opened(directory):
            with SetWorkflowID(LOADED_RUN):
                handle = await DBOS.start_workflow_async(counting, steps, "")
            await handle.get_result()

    async def load(self, directory: Path) -> Outcome:
        """DBOS keeps no run state: what a run knows are its steps' results, so these are listed."""
        async with self.opened(directory) as settings:
            began = time.perf_counter()
            steps = await DBOS.list_workflow_steps_async(LOADED_RUN)
            return Outcome(time.perf_counter() - began, len(steps), settings=settings)


async def wait_for_success(path: Path, runs: int) -> None:
    """Wait until `runs` workflows are recorded as ended well (its own handles poll once a second, too coarse here)."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        while True:
            await asyncio.sleep(POLL_S)
            row: tuple[int] = connection.execute(
                "SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"
            ).fetchone()
            if row[0] >= runs:
                return


def read_settings() -> dict[str, str]:
    engine: Any = internals._get_dbos_instance()._sys_db.engine
    with engine.connect() as connection:
        values = {
            name: str(connection.execute(sqlalchemy.text(f"PRAGMA {name}")).scalar())
            for name in ("journal_mode", "synchronous")
        }
    return {"SQLite": sqlite3.sqlite_version, **values}
