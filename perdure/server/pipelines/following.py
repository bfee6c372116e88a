"""The portraits of runs, kept up to date: each journal is read once, and all who look at a run share what was read.

A portrait that nobody has looked at for a while is dropped and folded again when it is asked for. Whoever follows a run
holds nothing but a number; so a slow reader slows nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any, Final

from perdure.core.errors import CorruptRecordError
from perdure.core.events import Event
from perdure.engine.handle import PAGE
from perdure.journal.state import TERMINAL
from perdure.server.following.waking import Waking
from perdure.server.pipelines.library import Library
from perdure.server.pipelines.portrait import Portrait
from perdure.server.pipelines.records import Record
from perdure.server.pipelines.summary import corrupt_summary, summary_data
from perdure.store.port import RunFilter, RunRow

MOST_PORTRAITS: Final = 64
MOST_SUMMARIES: Final = 2_000
MOST_LISTED: Final = 1_000
BATCH: Final = 200


class _Place:
    """Where a run's portrait is kept, and who follows it."""

    def __init__(self, portrait: Portrait) -> None:
        self.portrait = portrait
        self.reading = asyncio.Lock()
        self.readers = 0
        self.waking = Waking(lambda: self.readers)
        self.tail: asyncio.Task[None] | None = None


class Followed:
    """The pipelines' runs of a runtime, as `/pipelines` shows them.

    Args:
        library: of the runtime.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.runtime = library.runtime
        self._closing = False
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._summaries: OrderedDict[str, tuple[int, dict[str, Any]]] = OrderedDict()

    def close(self) -> None:
        """End all streams; their readers come again with the last id that they saw."""
        self._closing = True
        for place in self._places.values():
            place.waking.now()

    # --- one run ------------------------------------------------------------------------------------------------------

    async def row(self, run_id: str) -> RunRow | None:
        """The index row of a pipeline's run; `None` if there is no run of this id, or it is none of a pipeline."""
        row = await self.runtime.store.get_run(run_id)
        return row if row is not None and self.library.is_pipeline(row) else None

    async def portrait(self, row: RunRow) -> Portrait:
        """The portrait of a run up to the present end of its journal.

        Raises:
            CorruptRecordError, StoreError: the journal cannot be read.
        """
        place = await self._place(row)
        await self._refresh(place)
        return place.portrait

    async def _place(self, row: RunRow) -> _Place:
        place = self._places.get(row.run_id)
        if place is None:
            pipeline = await self.library.find(row)
            portrait = Portrait(row.run_id, None if pipeline is None else pipeline.blueprint)
            place = self._places.setdefault(row.run_id, _Place(portrait))
        self._places.move_to_end(row.run_id)
        self._drop_old()
        return place

    def _drop_old(self) -> None:
        spare = [run_id for run_id, place in self._places.items() if not place.readers and not place.reading.locked()]
        for run_id in spare[: max(0, len(self._places) - MOST_PORTRAITS)]:
            del self._places[run_id]

    async def _refresh(self, place: _Place) -> bool:
        """Read what is new, and wake who follows; whether there was anything."""
        async with place.reading:
            portrait, grew = place.portrait, False
            while True:
                events = await self.runtime.store.read(portrait.run_id, after=portrait.state.seq, limit=PAGE)
                for event in events:
                    self._feed(portrait, event)
                if events:
                    grew = True
                    place.waking.news()
                if len(events) < PAGE:
                    return grew

    def _feed(self, portrait: Portrait, event: Event) -> None:
        """Feed an event to a portrait; one that is not what was written ends it, and harms no other."""
        try:
            portrait.feed(event)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self._places.pop(portrait.run_id, None)
            raise CorruptRecordError(
                f"record {event.seq} of run {portrait.run_id} cannot be read", run_id=portrait.run_id, seq=event.seq
            ) from error

    # --- all runs -----------------------------------------------------------------------------------------------------

    async def summaries(self) -> list[dict[str, Any]]:
        """The summaries of the newest runs, newest first; at most 1,000."""
        found: list[dict[str, Any]] = []
        before: tuple[int, str] | None = None
        while len(found) < MOST_LISTED:
            rows = await self.runtime.store.list_runs(RunFilter(before=before, limit=MOST_LISTED))
            for row in rows:
                if self.library.is_pipeline(row) and len(found) < MOST_LISTED:
                    found.append(await self.summary(row))
            if len(rows) < MOST_LISTED:
                break
            before = (rows[-1].created_ms, rows[-1].run_id)
        return found

    async def summary(self, row: RunRow) -> dict[str, Any]:
        """The summary of a run; that of a journal which has not grown is not made again."""
        head = await self.runtime.store.head(row.run_id)
        kept = self._summaries.get(row.run_id)
        if kept is not None and head is not None and kept[0] == head.seq:
            self._summaries.move_to_end(row.run_id)
            return kept[1]
        pipeline = await self.library.find(row)
        try:
            portrait = await self.portrait(row)
        except CorruptRecordError as error:
            return corrupt_summary(row, error)
        warnings = [one.to_dict() for one in pipeline.warnings] if pipeline is not None else []
        told = summary_data(portrait, warnings)
        self._summaries[row.run_id] = (portrait.state.seq, told)
        while len(self._summaries) > MOST_SUMMARIES:
            self._summaries.popitem(last=False)
        return told

    # --- live ---------------------------------------------------------------------------------------------------------

    async def follow(self, row: RunRow, after: int, quiet_s: float) -> AsyncIterator[list[Record]]:
        """A run's records behind a sequence: those that there are, then live ones; no gap, no repeat. It ends when the
        run has ended and all was given. An empty list says that nothing came for a while.

        Args:
            row: of the run.
            after: the last sequence that was seen.
            quiet_s: seconds without news after which an empty list comes.
        """
        place = await self._place(row)
        place.readers += 1
        try:
            if place.tail is None or place.tail.done():
                place.tail = asyncio.ensure_future(self._tail(place))
                place.tail.add_done_callback(lambda _: place.waking.news())
            seen = after
            while not self._closing:
                news = place.waking.moved
                batch = place.portrait.log[seen : seen + BATCH]
                if batch:
                    seen += len(batch)
                    yield batch
                elif place.tail.done():
                    if not place.tail.cancelled():
                        place.tail.result()
                    return
                else:
                    try:
                        async with asyncio.timeout(quiet_s):
                            await news.wait()
                    except TimeoutError:
                        yield []
        finally:
            place.readers -= 1
            if not place.readers and place.tail is not None:
                place.tail.cancel()
                place.tail = None
                place.waking.stop()

    async def _tail(self, place: _Place) -> None:
        """Read one run's journal as it grows, for all who follow it, until it has ended."""
        run_id = place.portrait.run_id
        with self.runtime.hub.watch(run_id) as grown:
            while True:
                grown.clear()
                row = await self.runtime.store.get_run(run_id)  # before the events: none of an ended run is missed
                if await self._refresh(place):
                    continue
                if row is None or row.status in TERMINAL:
                    return
                await grown.wait()
