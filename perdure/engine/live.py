"""What a step tells while it runs: pieces of text for whoever watches the run in this process just now.

Nothing of it is kept, and nothing depends on it. A run that nobody watches costs a look into a dictionary; whoever is
slow loses the oldest pieces. What was told may be told again, by the next attempt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from perdure.core.redacted_stream import RedactedStream
from perdure.core.secrets import Redactor

MOST_WAITING: Final = 64 * 1024
"""Characters that are kept for one who watches until they are taken; beyond that the oldest pieces are dropped."""
MOST_PIECE: Final = 8 * 1024
"""Characters of one piece."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text that a step told.

    Attributes:
        run_id: the run.
        scope, step: the step's place in it; `step` is its key.
        attempt: from 1; another attempt tells from the beginning.
        offset: how many characters the attempt had told before this piece, so that a gap can be seen.
        text: redacted.
    """

    run_id: str
    scope: str
    step: str
    attempt: int
    offset: int
    text: str

    def follows(self, other: Piece) -> bool:
        """Whether this piece goes on directly where another ended."""
        return (
            other.offset + len(other.text) == self.offset
            and (other.step, other.attempt) == (self.step, self.attempt)
            and other.scope == self.scope
        )

    def to_dict(self) -> dict[str, object]:
        """The piece as JSON data; half of a surrogate pair, which JSON cannot hold, becomes a question mark."""
        text = self.text.encode("utf-8", "replace").decode()
        place = {"run_id": self.run_id, "scope": self.scope, "step": self.step}
        return {**place, "attempt": self.attempt, "offset": self.offset, "text": text}


class Watch:
    """One who watches a run.

    Attributes:
        told: set when there are pieces; whoever watches clears it before taking them.
    """

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self._waiting: deque[Piece] = deque()
        self._size = 0

    def take(self) -> list[Piece]:
        """What was told since the last call, as far as it was kept; pieces that follow each other are joined."""
        pieces: list[Piece] = []
        for piece in self._waiting:
            if pieces and piece.follows(pieces[-1]):
                pieces[-1] = replace(pieces[-1], text=pieces[-1].text + piece.text)
            else:
                pieces.append(piece)
        self._waiting.clear()
        self._size = 0
        return pieces

    def add(self, piece: Piece) -> None:
        """Something was told."""
        self._waiting.append(piece)
        self._size += len(piece.text)
        while self._size > MOST_WAITING:
            self._size -= len(self._waiting.popleft().text)
        self.told.set()


class Live:
    """Pieces of text by run, inside one process."""

    def __init__(self) -> None:
        self._watches: dict[str, dict[Watch, None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Steps are going to run in the present event loop."""
        self._loop = asyncio.get_running_loop()

    def call(self, tell: Callable[[], None]) -> None:
        """Call in the event loop of the steps: at once if this is it, else soon."""
        loop = self._loop
        if loop is None or loop is _running_loop():
            tell()
        else:
            with suppress(RuntimeError):  # the loop is closed: the process is going away and nobody watches any more
                loop.call_soon_threadsafe(tell)

    def tell(self, piece: Piece) -> None:
        """Tell all who watch the run."""
        for watch in self._watches.get(piece.run_id, ()):
            watch.add(piece)

    @contextmanager
    def watch(self, run_id: str) -> Iterator[Watch]:
        """Hear what the steps of a run tell from now on, as far as they run in this process.

        Args:
            run_id: the run; there need not be one of that name yet.
        """
        watch = Watch()
        place = self._watches.setdefault(run_id, {})
        place[watch] = None
        try:
            yield watch
        finally:
            place.pop(watch, None)
            if not place and self._watches.get(run_id) is place:
                del self._watches[run_id]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Teller:
    """What one attempt of a step tells. Belongs to the event loop that it is made in.

    Args:
        live: where it is told.
        place: of the step; its text is empty.
        redactor: of the process.
    """

    def __init__(self, live: Live, place: Piece, redactor: Redactor) -> None:
        self._live = live
        self._place = place
        self._stream = RedactedStream(redactor)
        self._fresh: list[str] = []
        self._told = 0
        self._loop = asyncio.get_running_loop()

    def feed(self, text: str) -> None:
        """Tell this text; what comes within one turn of the loop is told as one piece."""
        if not self._fresh:
            self._loop.call_soon(self._flush)
        self._fresh.append(text)

    def end(self) -> None:
        """The attempt has ended: tell what was held back."""
        self._flush()
        self._tell(self._stream.end())

    def _flush(self) -> None:
        if self._fresh:
            text = "".join(self._fresh)
            self._fresh.clear()
            self._tell(self._stream.feed(text))

    def _tell(self, text: str) -> None:
        for start in range(0, len(text), MOST_PIECE):
            part = text[start : start + MOST_PIECE]
            self._live.tell(replace(self._place, offset=self._told, text=part))
            self._told += len(part)
