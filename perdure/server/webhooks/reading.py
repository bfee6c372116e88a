"""What the deliveries of all endpoints read from the store. They mostly stand at one place of the feed, so the newest
page is kept, and each of them is given it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from perdure.core.events import Event
from perdure.engine.feed import Damaged, read_feed
from perdure.server.webhooks.messages import About, type_of
from perdure.store.port import Store

PAGE: Final = 100
RUNS_KNOWN: Final = 10_000


class Notable(NamedTuple):
    """An event of the feed that is to be told."""

    position: int
    run_id: str
    seq: int
    type: str
    about: About


class Page(NamedTuple):
    """A page of the feed.

    Args:
        notable: the events in it that are to be told.
        position: of its last event.
    """

    notable: list[Notable]
    position: int


class Reading:
    """Reads the store.

    Args:
        store: open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest: tuple[int, Page] | None = None
        self._known: OrderedDict[str, About] = OrderedDict()

    async def position(self) -> int:
        """The end of the feed; raises `StoreError`."""
        return await self._store.feed_position()

    async def page(self, after: int) -> Page | None:
        """What comes behind a position; `None` if nothing does.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._newest is not None and self._newest[0] == after:
            return self._newest[1]
        entries = await read_feed(self._store, after=after, limit=PAGE)
        if not entries:
            return None
        notable: list[Notable] = []
        for entry in entries:
            if isinstance(entry, Damaged):
                continue  # what is wrong with it is told where the run is looked at
            event = entry.event
            type_ = type_of(event)
            about = await self.about(event.run_id) if type_ is not None else None
            if type_ is not None and about is not None:
                notable.append(Notable(entry.position, event.run_id, event.seq, type_, about))
        page = Page(notable, entries[-1].position)
        self._newest = (after, page)
        return page

    async def about(self, run_id: str) -> About | None:
        """What is told of a run; `None` if there is no such run any more."""
        found = self._known.get(run_id)
        if found is None:
            row = await self._store.get_run(run_id)
            if row is None:
                return None
            found = self._known[run_id] = About(row.workflow, row.parent_id)
            while len(self._known) > RUNS_KNOWN:
                self._known.popitem(last=False)
        return found

    async def event(self, run_id: str, seq: int) -> Event | None:
        """One event; `None` if it is there no more.

        Raises:
            CorruptRecordError, StoreError: it cannot be read.
        """
        found = await self._store.read(run_id, after=seq - 1, until=seq, limit=1)
        return found[0] if found else None
