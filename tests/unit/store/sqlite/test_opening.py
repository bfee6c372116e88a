"""Opening a file: a new one, one of ours, and everything else."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import pytest

from perdure.core.errors import (
    ForkedProcessError,
    NotAStoreError,
    StoreClosedError,
    StoreCorruptError,
    StoreUrlError,
    StoreVersionError,
)
from perdure.store.port import Lease
from perdure.store.sqlite import SQLiteStore
from perdure.store.sqlite import store as store_module
from perdure.store.sqlite.schema import APPLICATION_ID
from perdure.testing.store_contract.base import commit, creation, start


def new_store(path: Path) -> SQLiteStore:
    return SQLiteStore(path, durability="process")


async def make(path: Path) -> None:
    """A store that was used and closed."""
    store = new_store(path)
    await store.open()
    await start(store, "a")
    await store.close()


def alter(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


async def test_new_directories_are_made_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = store_module.sync_directory

    def note(directory: str) -> None:
        synced.append(directory)
        sync(directory)

    monkeypatch.setattr(store_module, "sync_directory", note)
    await make(tmp_path / "one" / "two" / "runs.db")
    assert synced[:2] == [str(tmp_path), str(tmp_path / "one")]
    assert str(tmp_path / "one" / "two") in synced


async def test_files_belong_to_their_owner_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path / "runs.db")
    await store.open()
    await start(store, "a")
    await store.lease("w1", [])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"runs.db", "runs.db-wal", "w1.lock"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    await store.close()


async def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    await make(tmp_path / "runs.db")
    connection = apsw.Connection(str(tmp_path / "runs.db"))
    assert connection.pragma("application_id") == APPLICATION_ID
    assert connection.pragma("user_version") == 1
    assert connection.pragma("journal_mode") == "wal"
    connection.close()


async def test_a_closed_store_leaves_no_log_behind(tmp_path: Path) -> None:
    await make(tmp_path / "runs.db")
    assert not (tmp_path / "runs.db-wal").exists()


async def test_what_is_no_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, but somebody's notes\n" * 100)
    before = path.read_bytes()
    with pytest.raises(NotAStoreError):
        await new_store(path).open()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


async def test_a_database_of_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    alter(path, "CREATE TABLE events (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(NotAStoreError):
        await new_store(path).open()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["other.db"]


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    await make(tmp_path / "runs.db")


async def test_a_store_that_was_killed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    """The file is there and in WAL mode, its first transaction was never committed."""
    path = tmp_path / "runs.db"
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.close()
    assert path.stat().st_size > 0
    await make(path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    alter(path, "INSERT INTO migrations VALUES (99, 'future', 'x', 0)")
    with pytest.raises(StoreVersionError, match="99"):
        await new_store(path).open()


async def test_a_changed_migration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    alter(path, "UPDATE migrations SET checksum = 'other'")
    with pytest.raises(StoreVersionError, match="migration 1"):
        await new_store(path).open()


async def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * (4096 - 100)  # the root page of the schema
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError):
        await new_store(path).open()


async def test_a_cut_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    os.truncate(path, 4096 * 3)
    store = new_store(path)
    with pytest.raises(StoreCorruptError):
        await store.open()


async def test_a_path_where_no_file_can_be_is_no_store_url(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "file" / "runs.db", tmp_path / "directory", Path("/proc/runs.db"), tmp_path / ("x" * 300)):
        with pytest.raises(StoreUrlError) as caught:
            await new_store(path).open()
        assert "sqlite:///" in caught.value.hint


async def test_git_ignores_a_default_directory_that_was_made_here_and_no_other(tmp_path: Path) -> None:
    await make(tmp_path / ".perdure" / "runs.db")
    assert (tmp_path / ".perdure" / ".gitignore").read_text().splitlines()[-1] == "*"
    (tmp_path / "old" / ".perdure").mkdir(parents=True)
    await make(tmp_path / "old" / ".perdure" / "runs.db")
    await make(tmp_path / "data" / "runs.db")
    assert len(list(tmp_path.rglob(".gitignore"))) == 1


async def test_many_processes_may_make_one_store(tmp_path: Path) -> None:
    """They start at once on a path where nothing is; one of them makes it, all of them use it."""
    program = """
import asyncio, sys
from perdure.store.sqlite import SQLiteStore
from perdure.testing.store_contract.base import start
async def main():
    store = SQLiteStore(sys.argv[1], durability="process")
    sys.stdin.readline()
    await store.open()
    await start(store, "run-" + sys.argv[2])
    await store.close()
asyncio.run(main())
"""
    path = tmp_path / "deep" / "runs.db"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(number)], stdin=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    store = new_store(path)
    await store.open()
    assert await store.count_runs() == {"pending": 4}
    await store.close()


async def test_two_stores_of_one_process_share_a_file(tmp_path: Path) -> None:
    first, second = new_store(tmp_path / "runs.db"), new_store(tmp_path / "runs.db")
    await first.open()
    await second.open()
    for number in range(20):
        await start(first, f"a{number}")
        await start(second, f"b{number}")
    await first.close()
    await start(second, "last")
    assert await second.count_runs() == {"pending": 41}
    await second.close()


async def test_a_store_is_not_used_across_fork(tmp_path: Path) -> None:
    """The child is told so, and its copy of the descriptors keeps no lock of the parent alive."""
    store = new_store(tmp_path / "runs.db")
    await store.open()
    lease = await store.lease("w1", [])
    forked, stop = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = asyncio.run(_use_after_fork(store, lease))
            os.write(forked[1], b"x")
            os.read(stop[0], 1)
        finally:
            os._exit(code)
    os.close(forked[1])
    os.read(forked[0], 1)
    lease.abandon()  # type: ignore[attr-defined]
    (worker,) = await store.workers()
    assert not worker.alive
    await start(store, "parent")
    os.write(stop[1], b"x")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    for end in (forked[0], *stop):
        os.close(end)
    await store.close()


async def _use_after_fork(store: SQLiteStore, lease: Lease) -> int:
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: commit(store, creation("child")),
        lambda: store.read("a"),
        lambda: store.claim_run(lease, "a"),
        lambda: store.lease("w2", []),
        lambda: store.compact(),
    ]
    for use in uses:
        try:
            await use()
        except ForkedProcessError:
            continue
        return 2
    await store.close()
    for again in (store, new_store(Path(store.path))):
        try:
            await again.open()
        except ForkedProcessError:
            continue
        return 3
    other = new_store(Path(f"{store.path}.other"))
    await other.open()
    await start(other, "child")
    await other.close()
    return 0


async def test_a_store_that_failed_to_open_can_be_opened_later(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(b"garbage" * 1000)
    store = new_store(path)
    with pytest.raises(NotAStoreError):
        await store.open()
    with pytest.raises(StoreClosedError):
        await store.read("a")
    path.unlink()
    await store.open()
    await start(store, "a")
    await store.close()


def test_the_standard_library_has_no_part_in_it() -> None:
    """Two copies of SQLite in one process break each other's locks."""
    program = "import sys, perdure.store.sqlite; print('sqlite3' in sys.modules or '_sqlite3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"
