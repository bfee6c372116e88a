"""Following runs: one tail for each run reads its journal, and all who follow the run share what it reads.

A tail keeps the newest entries. Whoever is further back than those, because it began there or reads slowly, reads the
journal for itself until it has caught up. So nobody waits for a slow reader, and nothing is kept for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import orjson

from perdure.core.errors import CorruptRecordError, RunNotFoundError
from perdure.core.events import Event
from perdure.engine.live import Piece
from perdure.engine.runtime import Runtime
from perdure.journal.state import TERMINAL
from perdure.server.following.waking import Waking

PAGE: Final = 500
KEPT: Final = 1000
"""How many of a run's newest entries its tail keeps."""


class Entry(NamedTuple):
    """An event, and the frame in which a stream of events sends it."""

    event: Event
    frame: bytes


class Passing(NamedTuple):
    """What a step tells while it runs; its frame has no id, because nothing of it is kept."""

    piece: Piece

    @property
    def frame(self) -> bytes:
        """As it goes over the wire."""
        return b"event: token\ndata: %s\n\n" % orjson.dumps(self.piece.to_dict())


class Tails:
    """The tails of all runs that somebody follows.

    Args:
        runtime: open; it tells of what is committed.
        heartbeat_s: how long a reader waits for news before it is given an empty list.
    """

    def __init__(self, runtime: Runtime, *, heartbeat_s: float) -> None:
        self._runtime = runtime
        self._heartbeat_s = heartbeat_s
        self._tails: dict[str, _Tail] = {}
        self._closing = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def readers(self) -> int:
        """How many follow a run."""
        return sum(tail.readers for tail in self._tails.values())

    def close(self) -> None:
        """End all streams; their readers come again with the last id that they saw."""
        self._closing.set()
        for tail in self._tails.values():
            tail.wake()

    async def follow(self, run_id: str, after: int = 0) -> AsyncGenerator[list[Entry], None]:
        """A run's events behind a seq as they stand in the journal, then live ones as they are committed; no gap and no
        repeat. It ends when the run has ended and all was given. An empty list says that nothing came for a while.

        Args:
            run_id: the run.
            after: the last seq that was seen.

        Raises:
            RunNotFoundError: there is no such run.
            CorruptRecordError, StoreError: the journal cannot be read.
        """
        with self._reading(await self._tail(run_id)) as tail:
            while not self._closing.is_set():
                moved = tail.waking.moved
                entries = await self._behind(tail, after)
                if entries:
                    after = entries[-1].event.seq
                    yield entries
                elif tail.ended:
                    return
                elif not await set_within(moved, self._heartbeat_s):
                    yield []

    async def follow_live(self, run_id: str, after: int = 0) -> AsyncGenerator[list[Entry | Passing], None]:
        """As `follow`, and between the events what the run's steps tell while they run here.

        Only a reader that has caught up is given that. What a step told comes before its fact; what is told while the
        reader is busy with more than it can take is left out.
        """
        with (
            self._runtime.live.watch(run_id) as watch,
            self._reading(await self._tail(run_id), watch.told) as tail,
        ):
            while not self._closing.is_set():
                watch.told.clear()
                caught_up = after >= tail.floor
                entries = await self._behind(tail, after)
                told = watch.take()
                passing = [Passing(piece) for piece in told] if caught_up else []
                if entries or passing:
                    after = entries[-1].event.seq if entries else after
                    yield [*passing, *entries]
                elif tail.ended:
                    return
                elif not await set_within(watch.told, self._heartbeat_s):
                    yield []

    @contextmanager
    def _reading(self, tail: _Tail, told: asyncio.Event | None = None) -> Iterator[_Tail]:
        """One more reads a tail; an event of its own is set when the tail has moved."""
        tail.readers += 1
        if told is not None:
            tail.told[told] = None
        try:
            yield tail
        finally:
            if told is not None:
                tail.told.pop(told, None)
            tail.readers -= 1
            if not tail.readers:
                tail.stop()
                if self._tails.get(tail.run_id) is tail:
                    del self._tails[tail.run_id]

    async def _tail(self, run_id: str) -> _Tail:
        tail = self._tails.get(run_id)
        if tail is None or tail.ended:
            head = await self._runtime.store.head(run_id)
            if head is None:
                raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
            tail = self._tails.get(run_id)  # another reader may have come first
            if tail is None or tail.ended:
                tail = self._tails[run_id] = _Tail(self._runtime, run_id, head.seq)
        return tail

    async def _behind(self, tail: _Tail, after: int) -> list[Entry]:
        """What comes next behind a seq: from the tail, or from the journal for whoever is behind the tail."""
        if after >= tail.floor:
            return tail.behind(after)
        until = None if after + PAGE >= tail.seq else after + PAGE
        return entries_of(await self._runtime.store.read(tail.run_id, after=after, until=until, limit=PAGE))


class _Tail:
    """Reads one run's journal as it grows."""

    def __init__(self, runtime: Runtime, run_id: str, seq: int) -> None:
        self.run_id = run_id
        self.floor = self.seq = seq
        self.readers = 0
        self.waking = Waking(lambda: self.readers)
        self.told: dict[asyncio.Event, None] = {}
        self._kept: deque[Entry] = deque()
        self._runtime = runtime
        self._task = asyncio.ensure_future(self._read())
        self._task.add_done_callback(lambda _: self.changed())

    @property
    def ended(self) -> bool:
        """Whether the run has ended and all was read; raises what the reading met."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()
        return self._task.done()

    def stop(self) -> None:
        """Nobody follows it any more."""
        self._task.cancel()
        self.waking.stop()

    def changed(self) -> None:
        """There is news for all readers."""
        self.waking.news()
        for told in self.told:
            told.set()

    def wake(self) -> None:
        """Wake all readers at once."""
        self.waking.now()
        for told in self.told:
            told.set()

    def behind(self, after: int) -> list[Entry]:
        """The kept entries behind a seq that is not below the floor; seqs have no gaps."""
        return [self._kept[place] for place in range(after - self.seq, 0)]  # from its end, where most readers are

    async def _read(self) -> None:
        store, seq = self._runtime.store, self.seq
        with self._runtime.hub.watch(self.run_id) as grown:
            while True:
                grown.clear()
                row = await store.get_run(self.run_id)  # before the events: none of an ended run is missed
                entries = entries_of(await store.read(self.run_id, after=seq, limit=PAGE))
                if entries:
                    self._kept.extend(entries)
                    while len(self._kept) > KEPT:
                        self.floor = self._kept.popleft().event.seq
                    self.seq = seq = entries[-1].event.seq
                    self.changed()
                elif row is None or row.status in TERMINAL:
                    return
                else:
                    await grown.wait()


async def set_within(moved: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long; whether it was set."""
    try:
        async with asyncio.timeout(seconds):
            await moved.wait()
    except TimeoutError:
        return False
    return True


def entries_of(events: list[Event]) -> list[Entry]:
    """Events with their frames."""
    return [Entry(event, frame(event.seq, event.kind, event_data(event))) for event in events]


def event_data(event: Event) -> dict[str, object]:
    """An event as plain JSON data.

    Raises:
        CorruptRecordError: its payload is no JSON.
    """
    try:
        return event.to_dict()
    except ValueError as error:
        raise CorruptRecordError(
            f"record {event.seq} of run {event.run_id}: its payload is no JSON", run_id=event.run_id, seq=event.seq
        ) from error


def frame(identity: int, kind: str, data: object) -> bytes:
    """One frame of a stream of events.

    Args:
        identity: with what a reader that comes again says where it was.
        kind: of the event.
        data: JSON.
    """
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (identity, kind.encode(), orjson.dumps(data))
