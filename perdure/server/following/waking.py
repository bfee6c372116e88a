"""Waking those who follow something, without stopping everything else when they are very many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

FEW: Final = 32
"""So many are woken for each piece of news."""
REST_S: Final = 0.0002
"""For each of more than these, how long they are left alone after they were woken, in seconds: about twice of what it
takes to send one what is new. What comes meanwhile is sent together."""


class Waking:
    """Tells all who wait that there is news.

    Args:
        readers: how many wait now.

    Attributes:
        moved: set at the next news; whoever looks for more takes it before looking, and waits for it after.
    """

    def __init__(self, readers: Callable[[], int]) -> None:
        self.moved = asyncio.Event()
        self._readers = readers
        self._later: asyncio.TimerHandle | None = None
        self._rested_s = 0.0

    def news(self) -> None:
        """There is news: all who wait are woken, at once or after their rest."""
        if self._later is not None:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._rested_s:
            self.now()
        else:
            self._later = asyncio.get_running_loop().call_at(self._rested_s, self.now)

    def now(self) -> None:
        """Wake all, whether they have rested or not."""
        self.stop()
        readers = self._readers()
        rest_s = readers * REST_S if readers > FEW else 0.0
        self._rested_s = asyncio.get_running_loop().time() + rest_s
        self.moved.set()
        self.moved = asyncio.Event()

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
