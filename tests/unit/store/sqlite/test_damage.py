"""Records that are not what was written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from perdure.core.errors import CorruptRecordError, InputError, StoreCorruptError, StoreError
from perdure.core.events import IndexChange, WaitRow
from perdure.journal.chain import check
from perdure.store.port import NewRun, RunFilter
from perdure.store.sqlite import SQLiteStore
from perdure.testing.store_contract.base import draft, raises, start


@asynccontextmanager
async def damaged(path: Path, sql: str, *bindings: bytes) -> AsyncIterator[SQLiteStore]:
    """A store with a run of six events, after somebody changed its file."""
    store = SQLiteStore(path, durability="process")
    await store.open()
    await start(store, "a", *(draft(payload=b'{"amount":%d}' % number) for number in range(5)))
    connection = apsw.Connection(str(path))
    connection.execute(sql, bindings)
    connection.close()
    try:
        yield store
    finally:
        await store.close()


EDITS = {
    "payload": """UPDATE events SET payload = CAST('{"amount":9}' AS BLOB) WHERE seq = 4""",
    "salt": "UPDATE events SET salt = zeroblob(16) WHERE seq = 4",
    "a field of the header": (
        "UPDATE events SET header = CAST(replace(CAST(header AS TEXT), 'test', 'best') AS BLOB) WHERE seq = 4"
    ),
    "a removed record": "DELETE FROM events WHERE seq = 4",
    "swapped records": "UPDATE events SET seq = CASE seq WHEN 4 THEN -5 WHEN 5 THEN 4 END WHERE seq IN (4, 5)",
}


@pytest.mark.parametrize("what", EDITS)
async def test_the_chain_names_the_first_bad_record(store_path: Path, what: str) -> None:
    async with damaged(store_path, EDITS[what]) as store:
        with pytest.raises(CorruptRecordError) as caught:
            check("a", await store.read("a"))
        # An edited header still follows the one before it: the record after it is the first that does not fit.
        assert caught.value.ids["seq"] == (5 if what == "a field of the header" else 4)


@pytest.mark.parametrize("header", [b"", b"\xff\x00", b"[]", b'{"run":"a"}', b"{" * 40])
async def test_an_unreadable_header_is_a_typed_error(store_path: Path, header: bytes) -> None:
    async with damaged(store_path, "UPDATE events SET header = ? WHERE seq = 4", header) as store:
        for reading in (store.read("a"), store.read("a", after=2), store.read_feed()):
            error = await raises(CorruptRecordError, reading)
            assert error.ids["seq"] == 4
            assert error.ids["run_id"] == "a"
        assert len(await store.read("a", until=3)) == 3


async def test_a_run_whose_events_are_gone_is_a_typed_error(store_path: Path) -> None:
    async with damaged(store_path, "DELETE FROM events") as store:
        await raises(CorruptRecordError, store.head("a"))


async def test_every_flipped_byte_of_the_file_is_noticed_or_harmless(store_path: Path) -> None:
    """Wherever one byte of the file flips: a typed error, a check that fails, or exactly what was written."""
    store = SQLiteStore(store_path, durability="process")
    await store.open()
    opened = IndexChange(opened=(WaitRow("w", "question", "", None, None),))
    events = (draft(payload=b'{"amount":%d}' % number, change=opened) for number in range(5))
    await start(store, "a", *events, new=NewRun("article", "1", 1, tags=("x", "y")))
    await store.lease("w1", ["article"])
    written = [(event.header, event.salt, event.payload) for event in await store.read("a")]
    await store.close()
    sound = store_path.read_bytes()
    noticed = 0
    for offset in range(0, len(sound), 211):
        flipped = bytearray(sound)
        flipped[offset] ^= 0x10
        store_path.write_bytes(flipped)
        store = SQLiteStore(store_path, durability="process")
        try:
            await store.open()
            found = await store.read("a")
            check("a", found)
            if found:
                assert [(event.header, event.salt, event.payload) for event in found] == written[: len(found)]
            else:
                assert await store.get_run("a") is None
            await store.list_runs(RunFilter())
            await store.open_waits()
            await store.workers()
            await store.next_due_ms(["article"])
            noticed += bool(await store.integrity())
        except (StoreError, CorruptRecordError):
            noticed += 1
        finally:
            await store.close()
    assert noticed > 0


async def test_a_renamed_field_of_a_header_is_noticed(store_path: Path) -> None:
    sql = """UPDATE events SET header = CAST(replace(CAST(header AS TEXT), '"prev"', '"prfv"') AS BLOB) WHERE seq = 4"""
    async with damaged(store_path, sql) as store:
        with pytest.raises(CorruptRecordError):
            check("a", await store.read("a"))


async def test_integrity_says_what_is_wrong(store_path: Path) -> None:
    """An index that does not agree with its table, and a page that is none."""
    store = SQLiteStore(store_path, durability="process")
    await store.open()
    await start(store, "a", *(draft() for _ in range(200)))
    assert await store.integrity() == []
    await store.close()
    connection = apsw.Connection(str(store_path))
    ((found,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'events_by_run'").fetchall()
    assert isinstance(found, int)
    root = found
    connection.close()
    content = bytearray(store_path.read_bytes())
    content[(root - 1) * 4096 + 8 : root * 4096] = b"\x00" * (4096 - 8)
    store_path.write_bytes(content)
    await store.open()
    problems = await store.integrity()
    assert problems
    await store.close()


async def test_a_damaged_page_is_a_typed_error_when_it_is_read(store_path: Path) -> None:
    store = SQLiteStore(store_path, durability="process")
    await store.open()
    await start(store, "a", *(draft(payload=b'"' + b"x" * 3000 + b'"') for _ in range(50)))
    await store.close()
    content = bytearray(store_path.read_bytes())
    half = len(content) // 8192 * 4096
    content[half : half + 4096 * 4] = b"\xff" * 4096 * 4
    store_path.write_bytes(content)
    await store.open()
    await raises(StoreCorruptError, store.read("a"))
    await store.close()


async def test_what_no_column_can_hold_is_a_typed_error(store_path: Path) -> None:
    """It is the caller's mistake, not the disk's, and the store goes on."""
    store = SQLiteStore(store_path, durability="process")
    await store.open()
    lease = await store.lease("w1", [])
    await start(store, "a")
    await raises(InputError, store.get_run("\ud800"))
    await raises(InputError, store.read("a", after=1 << 80))
    await raises(InputError, store.list_runs(RunFilter(limit=1 << 80)))
    await raises(InputError, store.claim_run(lease, "\ud800"))
    await raises(InputError, store.release(lease, ["\ud800"]))
    await start(store, "b")
    await store.close()
