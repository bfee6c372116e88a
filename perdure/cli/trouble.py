"""Telling that the store cannot be written: the engine tries again by itself, and nobody should wonder why."""

from __future__ import annotations

import time
from typing import Final

from perdure.cli.output import Output
from perdure.core.errors import StoreCorruptError, StoreReadError
from perdure.engine.worker import LONGEST_RETRY_S
from perdure.store.port import Store
from perdure.store.sqlite import SQLiteStore

QUIET_S: Final = 2 * LONGEST_RETRY_S
"""Nothing failed for so long: the trouble is over."""


class Trouble:
    """Says once when the store begins to fail, and once when it has not failed for a while.

    Args:
        store: whose writes and reads.
        output: where it is said, also when it is to be quiet: nobody should wait for a full disk without knowing.

    Attributes:
        damage: the store's file is damaged: it does not help to try again.
    """

    def __init__(self, store: Store, output: Output) -> None:
        self._store = store if isinstance(store, SQLiteStore) else None
        self._output = output
        self._seen = 0
        self._last_s: float | None = None
        self.damage: StoreCorruptError | None = None

    def look(self) -> None:
        """Ask the store; not more often than a few times a second is needed."""
        if self._store is None:
            return
        failure, failures = self._store.failure, self._store.failures
        now_s = time.monotonic()
        if failure is not None and failures != self._seen:
            if isinstance(failure, StoreCorruptError):
                self.damage = failure
            if self._last_s is None:
                verb = "read" if isinstance(failure, StoreReadError) else "written"
                self._output.warn(f"the store cannot be {verb}: {failure.message}")
                self._output.warn(
                    f"it is tried again, at least every {LONGEST_RETRY_S:g} s; what is recorded is not lost"
                )
            self._seen, self._last_s = failures, now_s
        elif self._last_s is not None and now_s - self._last_s > QUIET_S:
            self._last_s = None
            self._output.warn("the store works again")
