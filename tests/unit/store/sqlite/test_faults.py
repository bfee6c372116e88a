"""Disks that fail: one typed error, nothing half done, and the store goes on afterwards."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from perdure.core.errors import OutcomeUnknownError, StoreError, StoreReadError, StoreWriteError
from perdure.core.events import IndexChange
from perdure.journal.chain import check
from perdure.store.port import ArtifactRow
from perdure.store.sqlite import SQLiteStore
from perdure.testing.store_contract.base import command, commit, draft, raises, start, written

from .faulty import Faulty, io_error

WRITE_FAULTS: dict[str, tuple[str, apsw.Error | OSError]] = {
    "disk full": ("write", apsw.FullError("injected")),
    "io error": ("write", io_error(apsw.SQLITE_IOERR_WRITE)),
    "sync fails": ("sync", io_error(apsw.SQLITE_IOERR_FSYNC)),
    "os error": ("write", OSError(errno.EDQUOT, "quota")),
}


@pytest.fixture
def vfs() -> Iterator[Faulty]:
    vfs = Faulty()
    yield vfs
    vfs.unregister()


async def opened(path: Path, vfs: Faulty) -> SQLiteStore:
    store = SQLiteStore(path, durability="full", vfs=vfs.name)
    await store.open()
    return store


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("fault", WRITE_FAULTS)
async def test_a_failed_commit_is_a_typed_error_and_the_store_goes_on(
    store_path: Path, vfs: Faulty, fault: str, in_place: bool
) -> None:
    """After a fault that passes, the commit certainly did not happen, and the next one works."""
    operation, error = WRITE_FAULTS[fault]
    store = await opened(store_path, vfs)
    head = await start(store, "a")
    append = command("a", head, draft(change=IndexChange(status="running", wake="b")))
    append.artifacts.append(ArtifactRow("00" * 32, b"x"))
    with vfs.failing(operation, "-wal", error, once=True):
        failure = await raises(StoreError, commit(store, append, in_place=in_place))
    assert vfs.failed == 1
    assert type(failure) is StoreWriteError
    assert failure.retryable
    row = await store.get_run("a")
    assert row is not None
    assert row.status == "pending"
    assert await store.head("a") == head
    assert await store.artifact_info(["00" * 32]) == []
    head = await written(store, append)
    head = await written(store, command("a", head))
    assert check("a", await store.read("a")) == head
    assert await store.integrity() == []
    await store.close()


async def test_failed_writes_are_counted_and_the_newest_error_is_known(store_path: Path, vfs: Faulty) -> None:
    store = await opened(store_path, vfs)
    head = await start(store, "a")
    assert (store.failures, store.failure) == (0, None)
    with vfs.failing("write", "-wal", apsw.FullError("no room")):
        for _ in range(2):
            await raises(StoreWriteError, commit(store, command("a", head)))
    await written(store, command("a", head))
    assert store.failures == 2
    assert store.failure is not None
    assert "no room" in store.failure.message
    await store.close()


@pytest.mark.parametrize("fault", ["io error", "sync fails"])
async def test_a_commit_that_cannot_be_settled_is_unknown(store_path: Path, vfs: Faulty, fault: str) -> None:
    """While the fault lasts nobody can say what the log holds; every append fails, and none does later."""
    operation, error = WRITE_FAULTS[fault]
    store = await opened(store_path, vfs)
    head = await start(store, "a")
    with vfs.failing(operation, "-wal", error):
        failure = await raises(StoreError, commit(store, command("a", head)))
        assert type(failure) is OutcomeUnknownError
        for _ in range(2):
            assert type(await raises(StoreError, commit(store, command("a", head)))) is StoreWriteError
    assert await store.head("a") == head
    head = await written(store, command("a", head))
    assert check("a", await store.read("a")) == head
    await store.close()


async def test_a_full_disk_is_never_unknown(store_path: Path, vfs: Faulty) -> None:
    """A log without room for a commit's last frame does not hold the commit."""
    store = await opened(store_path, vfs)
    head = await start(store, "a")
    with vfs.failing("write", "-wal", apsw.FullError("injected")):
        for _ in range(3):
            assert type(await raises(StoreError, commit(store, command("a", head)))) is StoreWriteError
    await written(store, command("a", head))
    await store.close()


async def test_a_failed_commit_does_not_come_back(store_path: Path, vfs: Faulty) -> None:
    """Frames of a commit whose sync failed are overwritten before anything else is acknowledged.

    Else a crash later on could bring back, from the log, what was reported as not written.
    """
    store = await opened(store_path, vfs)
    head = await start(store, "a")
    with vfs.failing("sync", "-wal", io_error(apsw.SQLITE_IOERR_FSYNC), once=True):
        await raises(StoreWriteError, commit(store, command("a", head)))
    # What a crash leaves: the database and its log, without the index of the log in shared memory.
    crashed = store_path.parent / "crashed.db"
    for ending in ("", "-wal"):
        crashed.with_name(f"crashed.db{ending}").write_bytes(Path(f"{store_path}{ending}").read_bytes())
    await store.close()
    after = SQLiteStore(crashed)
    await after.open()
    assert await after.head("a") == head
    await after.close()


async def test_a_fault_concerns_the_batch_and_not_the_next_one(store_path: Path, vfs: Faulty) -> None:
    """Batches that wait behind the failing one are committed."""
    store = await opened(store_path, vfs)
    heads = {run_id: await start(store, run_id) for run_id in ("a", "b")}
    with vfs.failing("write", "-wal", apsw.FullError("injected"), once=True):
        answers = [store.append([command(run_id, heads[run_id])], in_place=False) for run_id in ("a", "b")]
        assert not isinstance(answers[0], list)
        await raises(StoreWriteError, answers[0])
    assert not isinstance(answers[1], list)
    await answers[1]
    assert [len(await store.read(run_id)) for run_id in ("a", "b")] == [1, 2]
    await store.close()


async def test_a_failed_read_is_a_typed_error_and_the_next_one_works(store_path: Path, vfs: Faulty) -> None:
    store = await opened(store_path, vfs)
    await start(store, "a", draft(payload=b'"' + b"x" * 50_000 + b'"'))
    await store.close()
    await store.open()
    with vfs.failing("read", ".db", io_error(apsw.SQLITE_IOERR_READ)):
        failure = await raises(StoreReadError, store.read("a"))
    assert failure.retryable
    assert len(await store.read("a")) == 2
    await store.close()


async def test_claims_and_leases_fail_with_the_same_error(store_path: Path, vfs: Faulty) -> None:
    store = await opened(store_path, vfs)
    await start(store, "a")
    lease = await store.lease("w1", ["article"])
    end_s = lease.remaining_s()
    with vfs.failing("write", "-wal", apsw.FullError("injected")):
        await raises(StoreWriteError, store.claim(lease, ["article"], 0))
        with pytest.raises(StoreWriteError):
            lease.renew()
        assert lease.remaining_s() <= end_s
    assert len(await store.claim(lease, ["article"], 0)) == 1
    lease.renew()
    await store.close()


async def test_a_checkpoint_that_fails_harms_no_commit(store_path: Path, vfs: Faulty) -> None:
    """Writing to the database file fails; the log goes on, and is copied when the fault has passed."""
    store = await opened(store_path, vfs)
    head = await start(store, "a")
    big = b'"' + b"x" * 1_000_000 + b'"'
    with vfs.failing("write", ".db", io_error(apsw.SQLITE_IOERR_WRITE)):
        for _ in range(12):
            head = await written(store, command("a", head, draft(payload=big)))
        await raises(StoreWriteError, store.compact())
    assert vfs.failed > 0
    await store.compact()
    assert Path(f"{store_path}-wal").stat().st_size == 0
    assert check("a", await store.read("a")) == head
    await store.close()
