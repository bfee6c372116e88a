"""Following all runs at once: one tail reads the feed of the store, and all who follow it share what it reads.

It is to all runs what `tails` is to one: the tail keeps the newest entries, and whoever is further back reads the store
for itself until it has caught up. The feed has no end.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from perdure.core.errors import CorruptRecordError
from perdure.core.events import Event
from perdure.engine.feed import Damaged, read_feed
from perdure.engine.runtime import Runtime
from perdure.server.following.tails import event_data, frame, set_within
from perdure.server.responses import error_body
from perdure.store.port import FeedEntry, Store

PAGE: Final = 500
KEPT: Final = 1000
"""How many of the newest entries the tail keeps."""
LOOKED_AT: Final = 20_000
"""How many entries one request looks through, at most, for those that it wants."""
WORKFLOWS_KNOWN: Final = 10_000
DAMAGE: Final = "damage"
"""The name of the frame that stands for a record which cannot be read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events a reader wants; nothing said is all of them.

    Args:
        workflows: names of their runs' workflows.
        kinds: of the events.
    """

    workflows: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.workflows or self.kinds)


class FeedItem(NamedTuple):
    """A place of the feed.

    Args:
        position: in the feed.
        event: `None` where it cannot be read.
        data: as JSON data, with its position.
        frame: in which a stream sends it.
    """

    position: int
    event: Event | None
    data: dict[str, Any]
    frame: bytes


class FeedPage(NamedTuple):
    """A page of the feed.

    Args:
        items: that are wanted.
        next: the position behind which the next page begins.
        more: whether something stands behind it already.
    """

    items: list[FeedItem]
    next: int
    more: bool


class Feed:
    """The feed of all runs, for those who follow it.

    Args:
        runtime: open; it tells of what is committed.
        heartbeat_s: how long a reader waits for news before it is given nothing.
    """

    def __init__(self, runtime: Runtime, *, heartbeat_s: float) -> None:
        self._runtime = runtime
        self._heartbeat_s = heartbeat_s
        self._workflows = _Workflows(runtime.store)
        self._closing = asyncio.Event()
        self._tail: _FeedTail | None = None

    @property
    def readers(self) -> int:
        """How many follow it."""
        return self._tail.readers if self._tail is not None else 0

    def close(self) -> None:
        """End all streams; their readers come again with the last position that they saw."""
        self._closing.set()
        if self._tail is not None:
            self._tail.changed()

    async def follow(self, after: int = 0, wanted: Wanted | None = None) -> AsyncGenerator[list[FeedItem], None]:
        """The events behind a position in commit order, then of live ones as they are committed; no gap and
        no repeat. It has no end. An empty list says that nothing came for a while.

        Args:
            after: the last position that was seen.
            wanted: which events; the places of others are told without an event, so that a reader that comes again
                does not begin before them.

        Raises:
            StoreError: the store cannot be read.
        """
        tail = await self._joined()
        try:
            while not self._closing.is_set():
                moved = tail.moved
                items = await self._behind(tail, after)
                if items:
                    after = items[-1].position
                    yield await self._chosen(items, wanted)
                elif not await set_within(moved, self._heartbeat_s):
                    yield []
        finally:
            tail.readers -= 1
            if not tail.readers:
                tail.stop()
                if self._tail is tail:
                    self._tail = None

    async def page(self, after: int, limit: int, wanted: Wanted | None = None) -> FeedPage:
        """Events behind a position.

        Args:
            after: the last position that was seen.
            limit: at most so many.
            wanted: which events. When few of very many are, a page may hold fewer than there are, and say that there
                are more.

        Raises:
            StoreError: the store cannot be read.
        """
        found: list[FeedItem] = []
        looked_at = 0
        while looked_at < LOOKED_AT:
            size = min(PAGE, limit + 1 - len(found)) if not wanted else PAGE
            items = await _items(self._runtime.store, after, size)
            for item in items:
                if await self._is_wanted(item, wanted):
                    if len(found) == limit:
                        return FeedPage(found, after, more=True)
                    found.append(item)
                after = item.position
            looked_at += len(items)
            if not items:
                return FeedPage(found, after, more=False)
        return FeedPage(found, after, more=True)

    async def _joined(self) -> _FeedTail:
        tail = self._tail
        if tail is None or tail.failed:
            position = await self._runtime.store.feed_position()
            tail = self._tail  # another reader may have come first
            if tail is None or tail.failed:
                tail = self._tail = _FeedTail(self._runtime, position)
        tail.readers += 1
        return tail

    async def _behind(self, tail: _FeedTail, after: int) -> list[FeedItem]:
        """What comes next: from the tail, or from the store for whoever is behind the tail."""
        tail.check()
        if after >= tail.floor:
            return tail.behind(after)
        return await _items(self._runtime.store, after, PAGE)

    async def _chosen(self, items: list[FeedItem], wanted: Wanted | None) -> list[FeedItem]:
        """Those that are wanted, and where the last of all stands."""
        if not wanted:
            return items
        chosen = [item for item in items if await self._is_wanted(item, wanted)]
        if not chosen or chosen[-1] is not items[-1]:
            position = items[-1].position
            chosen.append(FeedItem(position, None, {}, b"id: %d\n\n" % position))  # no data: a reader sees no event
        return chosen

    async def _is_wanted(self, item: FeedItem, wanted: Wanted | None) -> bool:
        if not wanted or item.event is None:
            return True
        if wanted.kinds and item.event.kind not in wanted.kinds:
            return False
        return not wanted.workflows or await self._workflows.of(item.event.run_id) in wanted.workflows


class _FeedTail:
    """Reads the feed as it grows."""

    def __init__(self, runtime: Runtime, position: int) -> None:
        self.floor = position
        self.readers = 0
        self.moved = asyncio.Event()
        self._position = position
        self._kept: list[FeedItem] = []
        self._runtime = runtime
        self._task = asyncio.ensure_future(self._read())
        self._task.add_done_callback(lambda _: self.changed())

    @property
    def failed(self) -> bool:
        """Whether it reads no more."""
        return self._task.done()

    def check(self) -> None:
        """Raises what the reading met."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    def stop(self) -> None:
        """Nobody follows it any more."""
        self._task.cancel()

    def changed(self) -> None:
        """Wake all readers."""
        self.moved.set()
        self.moved = asyncio.Event()

    def behind(self, after: int) -> list[FeedItem]:
        """The kept items behind a position that is not below the floor, a page of them."""
        place = bisect_right(self._kept, after, key=_position_of)
        return self._kept[place : place + PAGE]

    async def _read(self) -> None:
        with self._runtime.hub.watch(None) as grown:
            while True:
                grown.clear()
                items = await _items(self._runtime.store, self._position, PAGE)
                if not items:
                    await grown.wait()
                    continue
                self._kept += items
                self._position = items[-1].position
                if len(self._kept) > 2 * KEPT:  # half of it at once: what is cut off a list costs its length
                    self.floor = self._kept[-KEPT - 1].position
                    self._kept = self._kept[-KEPT:]
                self.changed()


class _Workflows:
    """The names of runs' workflows; a run's never changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, str] = OrderedDict()

    async def of(self, run_id: str) -> str | None:
        """Of one run."""
        name = self._known.get(run_id)
        if name is not None:
            self._known.move_to_end(run_id)
            return name
        row = await self._store.get_run(run_id)
        if row is None:
            return None
        self._known[run_id] = row.workflow
        while len(self._known) > WORKFLOWS_KNOWN:
            self._known.popitem(last=False)
        return row.workflow


def _position_of(item: FeedItem) -> int:
    return item.position


async def _items(store: Store, after: int, limit: int) -> list[FeedItem]:
    return [_item(entry) for entry in await read_feed(store, after=after, limit=limit)]


def _item(entry: FeedEntry | Damaged) -> FeedItem:
    position = entry.position
    if isinstance(entry, Damaged):
        return _damaged(position, entry.error)
    try:
        data = {"position": position, **event_data(entry.event)}
    except CorruptRecordError as error:
        return _damaged(position, error)
    return FeedItem(position, entry.event, data, frame(position, entry.event.kind, data))


def _damaged(position: int, error: CorruptRecordError) -> FeedItem:
    data = {"position": position, "run_id": error.ids.get("run_id"), "kind": DAMAGE, "damage": error_body(error)}
    return FeedItem(position, None, data, frame(position, DAMAGE, data))
