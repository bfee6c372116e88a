"""Where a commit runs, in which order, and what it costs on the disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from perdure.core.errors import StoreBusyError, StoreClosedError
from perdure.core.events import IndexChange
from perdure.store.port import Appended, NewRun
from perdure.store.sqlite import SQLiteStore
from perdure.store.sqlite.gate import Gate
from perdure.testing.store_contract.base import (
    WORKFLOW,
    claim_one,
    command,
    commit,
    draft,
    execution,
    raises,
    start,
    written,
)

PAYLOAD = b'"' + b"p" * 98 + b'"'


@asynccontextmanager
async def opened(path: Path, *, busy_s: float = 30.0) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(path, durability="process", busy_s=busy_s)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_a_commit_runs_in_place_when_nobody_is_in_the_way(store_path: Path) -> None:
    async with opened(store_path) as store:
        head = await start(store, "a")
        assert isinstance(store.append([command("a", head)]), list)


async def test_a_commit_does_not_block_the_loop_for_another_process(store_path: Path) -> None:
    """It waits for its turn on the store's thread; later commits queue behind it."""
    async with opened(store_path) as store:
        head = await start(store, "a")
        other = Gate(str(store_path))
        assert other.try_take()
        first = store.append([command("a", head)])
        assert not isinstance(first, list)
        await asyncio.sleep(0)
        other.give_back()
        second = store.append([command("a", head)])
        assert not isinstance(second, list)
        outcomes = [*await first, *await second]
        assert [isinstance(outcome, Appended) for outcome in outcomes] == [True, False]
        other.close()


async def test_when_asked_not_to_block_it_runs_on_the_thread(store_path: Path) -> None:
    async with opened(store_path) as store:
        head = await start(store, "a")
        assert "perdure-store-writer" not in {thread.name for thread in threading.enumerate()}
        answer = store.append([command("a", head)], in_place=False)
        assert not isinstance(answer, list)
        assert "perdure-store-writer" in {thread.name for thread in threading.enumerate()}
        (outcome,) = await answer
        assert isinstance(outcome, Appended)


async def test_waiting_for_another_process_is_bounded(store_path: Path) -> None:
    """And nothing of the commit happens later."""
    async with opened(store_path, busy_s=0.05) as store:
        head = await start(store, "a")
        other = Gate(str(store_path))
        assert other.try_take()
        error = await raises(StoreBusyError, commit(store, command("a", head)))
        assert error.retryable
        other.give_back()
        other.close()
        assert await store.head("a") == head
        await written(store, command("a", head))
        assert len(await store.read("a")) == 2


async def test_another_program_may_lock_the_file_for_a_while(store_path: Path) -> None:
    """Say, somebody's shell on the database: SQLite's own lock, without our gate."""
    async with opened(store_path, busy_s=0.05) as store:
        head = await start(store, "a")
        shell = apsw.Connection(str(store_path))
        shell.execute("BEGIN IMMEDIATE")
        await raises(StoreBusyError, commit(store, command("a", head)))
        await raises(StoreBusyError, store.lease("w1", []))
        assert await store.head("a") == head
        shell.execute("COMMIT")
        shell.close()
        head = await written(store, command("a", head))
        assert head.seq == 2


async def test_a_cancelled_wait_does_not_undo_the_commit(store_path: Path) -> None:
    """Whoever stops waiting does not know; the journal does."""
    async with opened(store_path) as store:
        head = await start(store, "a")
        task = asyncio.ensure_future(commit(store, command("a", head), in_place=False))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer = store.append([command("a", head)], in_place=False)
        assert not isinstance(answer, list)
        (outcome,) = await answer
        assert not isinstance(outcome, Appended)
        assert len(await store.read("a")) == 2


async def test_closing_commits_what_is_queued(store_path: Path) -> None:
    store = SQLiteStore(store_path, durability="process")
    await store.open()
    heads = [await start(store, f"r{number}") for number in range(50)]
    answers = [store.append([command(f"r{number}", head)], in_place=False) for number, head in enumerate(heads)]
    await store.close()
    for answer in answers:
        assert not isinstance(answer, list)
        (outcome,) = await answer
        assert isinstance(outcome, Appended)
    await raises(StoreClosedError, commit(store, command("r0", heads[0]), in_place=False))


# --- what it costs ----------------------------------------------------------------------------------------------------


async def test_a_plain_append_writes_two_pages(store_path: Path) -> None:
    """One of events and one of their index: the index rows of the run are not touched, nor is anything else."""
    async with opened(store_path) as store:
        head = await start(store, "a", new=NewRun(WORKFLOW, "1", 1))
        claimed = await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        pages: list[int] = []

        def note(_connection: apsw.Connection, _database: str, log_pages: int) -> int:
            pages.append(log_pages)
            return 0

        session = store._commits._session
        assert session is not None
        session.connection.set_wal_hook(note)
        for _ in range(100):
            head = await written(store, execution(claimed, head, draft(payload=PAYLOAD), draft(payload=PAYLOAD)))
        written_pages = [after - before for before, after in pairwise(pages)]
        assert min(written_pages) == 2
        assert sum(written_pages) / len(written_pages) < 3


async def test_an_effect_grows_the_file_by_little(store_path: Path) -> None:
    """Two events with a hundred bytes each: at most 1.5 KB in all, over many runs at once."""
    async with opened(store_path) as store:
        heads = {f"01arz3ndektsv4rrffq69g5f{number:02}": None for number in range(20)}
        current = {run_id: await start(store, run_id) for run_id in heads}
        await store.compact()
        before = store_path.stat().st_size
        for _ in range(100):
            appends = [
                command(run_id, head, *(draft(payload=PAYLOAD, key="charge#2") for _ in range(2)))
                for run_id, head in current.items()
            ]
            for append, outcome in zip(appends, await commit(store, *appends), strict=True):
                assert isinstance(outcome, Appended)
                current[append.run_id] = outcome.head
        await store.compact()
        assert (store_path.stat().st_size - before) / (20 * 100) <= 1536


async def test_the_log_does_not_grow_without_bound(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits follow one another without a pause, so the log never starts anew by itself."""
    monkeypatch.setattr("perdure.store.sqlite.checkpoint.RESTART_PAGES", 512)
    monkeypatch.setattr("perdure.store.sqlite.checkpoint.PASSIVE_PAGES", 64)
    async with opened(store_path) as store:
        head = await start(store, "a")
        payload = b'"' + b"x" * 20_000 + b'"'
        largest = 0
        for _ in range(3000):
            head = await written(store, command("a", head, draft(payload=payload)))
            largest = max(largest, Path(f"{store_path}-wal").stat().st_size)
        assert store._checkpointer.restarts > 0
        assert largest < head.seq * 20_000 / 2  # the thread that checkpoints may be late on a busy machine


async def test_checkpoints_happen_beside_the_commits(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database file grows while the store is open, though no commit copies a page."""
    monkeypatch.setattr("perdure.store.sqlite.checkpoint.PASSIVE_PAGES", 16)
    async with opened(store_path) as store:
        session = store._commits._session
        assert session is None or session.connection.pragma("wal_autocheckpoint") == 0
        before = store_path.stat().st_size
        head = await start(store, "a")
        for _ in range(5000):
            head = await written(store, command("a", head, draft(payload=b'"' + b"x" * 5000 + b'"')))
            if store_path.stat().st_size > before:
                break
        assert store_path.stat().st_size > before


async def test_a_reader_that_stays_does_not_stop_commits(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log cannot start anew then; it is tried, given up within its limit, and tried again later."""
    monkeypatch.setattr("perdure.store.sqlite.checkpoint.RESTART_PAGES", 64)
    monkeypatch.setattr("perdure.store.sqlite.checkpoint.PASSIVE_PAGES", 16)
    monkeypatch.setattr("perdure.store.sqlite.checkpoint.WAIT_FOR_READERS_MS", 1)
    async with opened(store_path) as store:
        head = await start(store, "a")
        reader = apsw.Connection(str(store_path))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        for _ in range(300):
            change = IndexChange(status="running")
            head = await written(store, command("a", head, draft(payload=b'"' + b"x" * 5000 + b'"', change=change)))
        assert store._checkpointer.restarts == 0
        reader.execute("COMMIT")
        reader.close()
        assert head.seq == 301
