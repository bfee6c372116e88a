"""The feed of all runs is read past records that cannot be read."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from perdure import Run, Runtime, workflow
from perdure.engine.feed import Damaged, read_feed
from perdure.store.sqlite import SQLiteStore


@workflow
async def chatter(run: Run, words: int) -> None:
    for number in range(words):
        run.emit("word.said", {"number": number})


async def filled(path: Path) -> int:
    async with Runtime(SQLiteStore(path, durability="process"), workflows=[chatter]) as runtime:
        for _ in range(2):
            await (await runtime.start(chatter, words=10)).result()
        return await runtime.store.feed_position()


def spoil(path: Path, positions: set[int]) -> None:
    connection = apsw.Connection(str(path))
    for position in positions:
        connection.execute("UPDATE events SET header = X'7B' WHERE pos = ?", (position,))
    connection.close()


@pytest.mark.parametrize("limit", [1, 3, 8, 1000])
@pytest.mark.parametrize("bad", [set(), {1}, {2}, {7}, {7, 8}, {1, 2, 3, 12}, {-1}])
async def test_every_place_is_told_once_whatever_is_damaged(store_path: Path, bad: set[int], limit: int) -> None:
    end = await filled(store_path)
    bad = {end if position == -1 else position for position in bad}
    spoil(store_path, bad)
    store = SQLiteStore(store_path, durability="process")
    await store.open()
    try:
        found: list[int] = []
        damaged: set[int] = set()
        while True:
            page = await read_feed(store, after=found[-1] if found else 0, limit=limit)
            assert len(page) <= limit
            if not page:
                break
            found += [one.position for one in page]
            damaged |= {one.position for one in page if isinstance(one, Damaged)}
        assert found == list(range(1, end + 1))
        assert damaged == bad
    finally:
        await store.close()
