"""The portraits of runs, kept up to date: each journal is read once, and all who look at a run share what was read.

A portrait that nobody has looked at for a while is dropped and folded again when it is asked for. Whoever follows a run
holds nothing but a number; so a slow reader slows nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

from perdure.core.errors import PerdureError
from perdure.engine.handle import PAGE
from perdure.engine.runtime import Runtime
from perdure.journal.state import TERMINAL
from perdure.pipeline.definition import Pipeline
from perdure.server.pipelines.loading import PipelineSettings, load
from perdure.server.pipelines.names import is_submitted
from perdure.server.pipelines.portrait import Portrait
from perdure.server.pipelines.records import Record
from perdure.server.pipelines.summary import summary_data
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
        self.news = asyncio.Event()
        self.tail: asyncio.Task[None] | None = None


class Followed:
    """The pipelines' runs of a runtime, as `/pipelines` shows them.

    Args:
        runtime: open.
        settings: what pipelines may do here.
    """

    def __init__(self, runtime: Runtime, settings: PipelineSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self._closing = False
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._summaries: OrderedDict[str, tuple[int, dict[str, Any]]] = OrderedDict()

    def close(self) -> None:
        """End all streams; their readers come again with the last id that they saw."""
        self._closing = True
        for place in self._places.values():
            _wake(place)

    # --- one run ------------------------------------------------------------------------------------------------------

    async def row(self, run_id: str) -> RunRow | None:
        """The index row of a pipeline's run; `None` if there is no run of this id, or it is none of a pipeline."""
        row = await self.runtime.store.get_run(run_id)
        return row if row is not None and self._is_pipeline(row) else None

    async def pipeline(self, row: RunRow) -> Pipeline | None:
        """The pipeline of a run; `None` if it cannot be made here."""
        with suppress(PerdureError):
            return await load(self.runtime, row, self.settings)
        return None

    async def portrait(self, row: RunRow) -> Portrait:
        """The portrait of a run up to the present end of its journal.

        Raises:
            CorruptRecordError, StoreError: the journal cannot be read.
        """
        place = await self._place(row)
        await self._refresh(place)
        return place.portrait

    def _is_pipeline(self, row: RunRow) -> bool:
        if is_submitted(row.workflow):
            return True
        registry = self.runtime.registry
        return row.workflow in registry and isinstance(registry.definition(row.workflow), Pipeline)

    async def _place(self, row: RunRow) -> _Place:
        place = self._places.get(row.run_id)
        if place is None:
            pipeline = await self.pipeline(row)
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
                    portrait.feed(event)
                if events:
                    grew = True
                    _wake(place)
                if len(events) < PAGE:
                    return grew

    # --- all runs -----------------------------------------------------------------------------------------------------

    async def summaries(self) -> list[dict[str, Any]]:
        """The summaries of the newest runs, newest first; at most 1,000."""
        found: list[dict[str, Any]] = []
        before: tuple[int, str] | None = None
        while len(found) < MOST_LISTED:
            rows = await self.runtime.store.list_runs(RunFilter(before=before, limit=MOST_LISTED))
            for row in rows:
                if self._is_pipeline(row) and len(found) < MOST_LISTED:
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
        portrait, pipeline = await self.portrait(row), await self.pipeline(row)
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
                place.tail.add_done_callback(lambda _: _wake(place))
            seen = after
            while not self._closing:
                news = place.news
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


def _wake(place: _Place) -> None:
    place.news.set()
    place.news = asyncio.Event()
