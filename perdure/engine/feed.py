"""The feed of all runs, read past what cannot be read: one damaged record is told and never ends anybody's reading."""

from __future__ import annotations

from typing import NamedTuple

from perdure.core.errors import CorruptRecordError
from perdure.store.port import FeedEntry, Store


class Damaged(NamedTuple):
    """A place of the feed whose record cannot be read.

    Args:
        position: in the feed.
        error: what is wrong with it; it names the run where that is known.
    """

    position: int
    error: CorruptRecordError


async def read_feed(store: Store, *, after: int, limit: int) -> list[FeedEntry | Damaged]:
    """What comes behind a position, in commit order.

    Args:
        store: open.
        after: the last position that was seen; 0 for none.
        limit: at most so many.

    Raises:
        StoreError: the store cannot be read at all.
    """
    found: list[FeedEntry | Damaged] = []
    while len(found) < limit:
        wanted = limit - len(found)
        try:
            entries = await store.read_feed(after=after, limit=wanted)
        except CorruptRecordError:
            return found + await _around_damage(store, after, wanted)
        found += entries
        if len(entries) < wanted:
            break
        after = entries[-1].position
    return found


async def _around_damage(store: Store, after: int, limit: int) -> list[FeedEntry | Damaged]:
    """What stands before a record that cannot be read, and that record; the rest is for the next reading."""
    found: list[FeedEntry | Damaged] = []
    step = limit
    while step:
        try:
            entries = await store.read_feed(after=after, limit=step)
        except CorruptRecordError as error:
            if step == 1:
                # Positions of one store have no gaps, so the record that cannot be read stands in the next place.
                return [*found, Damaged(after + 1, error)]
        else:
            if not entries:
                break
            found += entries
            after = entries[-1].position
        step = max(step // 2, 1) if len(found) < limit else 0
    return found
