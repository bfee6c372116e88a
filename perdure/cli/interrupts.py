"""Ctrl-C and SIGTERM: the first one asks to stop in order, the second one leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
SHOW_CURSOR: Final = "\x1b[?25h"


class Interrupts:
    """While entered, signals are taken here.

    Args:
        asked: called in the event loop at the first signal, with its name.
        leaving: called at the second one, before the process ends.

    Attributes:
        received: the first signal that came.
    """

    def __init__(self, asked: Callable[[str], None], *, leaving: Callable[[], None] = lambda: None) -> None:
        self._asked = asked
        self._leaving = leaving
        self.received: signal.Signals | None = None

    def __enter__(self) -> Interrupts:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._receive, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.remove_signal_handler(number)

    def _receive(self, number: signal.Signals) -> None:
        if self.received is not None:
            if sys.stderr.isatty():
                sys.stderr.write(SHOW_CURSOR)
                sys.stderr.flush()
            self._leaving()
            os._exit(128 + number)  # nothing is lost: what counts is in the journal
        self.received = number
        self._asked(number.name)
