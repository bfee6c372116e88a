"""Who wants to hear of which run: notices inside one process that something was committed.

A notice carries no data. Whoever hears it reads the journal, so nobody ever learns of an event that is not durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class Hub:
    """Notices of commits, by run."""

    def __init__(self) -> None:
        # Dictionaries for their order: a set's depends on where in memory things lie, and no two runs would be alike.
        self._watchers: dict[str, dict[asyncio.Event, None]] = {}
        self._all: dict[asyncio.Event, None] = {}
        self._outcomes: dict[str, dict[asyncio.Event, None]] = {}
        self._listeners: dict[str, dict[Callable[[], None], None]] = {}

    @property
    def watched(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._watchers or self._outcomes or self._all or self._listeners)

    @contextmanager
    def watch_outcome(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the run has ended or was paused; whoever watches clears it."""
        event = asyncio.Event()
        place = self._outcomes.setdefault(run_id, {})
        place[event] = None
        try:
            yield event
        finally:
            place.pop(event, None)
            if not place:
                self._outcomes.pop(run_id, None)

    @contextmanager
    def watch(self, run_id: str | None) -> Iterator[asyncio.Event]:
        """An event that is set when the run (any run, for `None`) has grown; whoever watches clears it."""
        event = asyncio.Event()
        place = self._all if run_id is None else self._watchers.setdefault(run_id, {})
        place[event] = None
        try:
            yield event
        finally:
            place.pop(event, None)
            if run_id is not None and not place:
                self._watchers.pop(run_id, None)

    def listen(self, run_id: str, callback: Callable[[], None]) -> None:
        """Call back when somebody other than its executor has appended to a run, or when it has ended."""
        self._listeners.setdefault(run_id, {})[callback] = None

    def unlisten(self, run_id: str, callback: Callable[[], None]) -> None:
        """Not any more."""
        place = self._listeners.get(run_id, {})
        place.pop(callback, None)
        if not place:
            self._listeners.pop(run_id, None)

    def grown(self, run_ids: Iterable[str]) -> None:
        """Runs have grown."""
        if self._watchers:
            for run_id in run_ids:
                for event in self._watchers.get(run_id, ()):
                    event.set()
        for event in self._all:
            event.set()

    def settled(self, run_id: str) -> None:
        """A run has ended or was paused, or may have."""
        for event in self._outcomes.get(run_id, ()):
            event.set()

    def changed(self, run_id: str) -> None:
        """A run may have grown in any way, by whomever."""
        self.touched(run_id)
        self.settled(run_id)
        self.grown([run_id])

    def touched(self, run_id: str) -> None:
        """Somebody other than its executor has appended to a run."""
        for listener in tuple(self._listeners.get(run_id, ())):
            listener()
