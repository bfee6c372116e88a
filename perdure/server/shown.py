"""What was shown of runs, kept for whoever asks again while nothing has changed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Request

from perdure.core.errors import CorruptRecordError, StoreCorruptError
from perdure.core.events import Head
from perdure.engine.runtime import Runtime
from perdure.server.responses import Json
from perdure.server.views import run_view
from perdure.store.port import RunRow, WorkerRow

MOST_KEPT: Final = 512
LONGEST_KEPT: Final = 32_768
"""Longer answers are made anew, in bytes: they are for few, and would fill the memory."""
WORKERS_S: Final = 0.1
"""For how long the list of workers is taken to hold, in seconds: nobody announces the death of one, anyway."""


class _Kept(NamedTuple):
    row: RunRow
    head: Head
    workers: list[WorkerRow]
    body: bytes


class Shown:
    """The views of runs as they were last shown.

    What a view is made of is compared with what stands in the store now: the index row, the head of the journal and the
    workers. So nothing is shown that has been overtaken, whoever wrote it.

    Args:
        runtime: open.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._workers: list[WorkerRow] = []
        self._workers_until_s = 0.0

    def __len__(self) -> int:
        return len(self._kept)

    async def run(self, run_id: str) -> bytes:
        """The view of a run, as JSON; see `run_view`.

        Raises:
            RunNotFoundError: there is no such run.
        """
        row = await self._runtime.run(run_id).row()
        head = await self._head(run_id)
        workers = await self._known_workers()
        kept = self._kept.get(run_id)
        if kept is not None and kept.head == head and kept.row == row and kept.workers is workers:
            self._kept.move_to_end(run_id)
            return kept.body
        body = bytes(Json(await run_view(self._runtime, run_id)).body)
        self._kept.pop(run_id, None)
        if head is not None and len(body) <= LONGEST_KEPT:
            # Filed under what was read before: where more was committed meanwhile, it is made once more, not shown.
            self._kept[run_id] = _Kept(row, head, workers, body)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return body

    async def _head(self, run_id: str) -> Head | None:
        """The head of a journal; `None` for one that is damaged there."""
        try:
            return await self._runtime.store.head(run_id)
        except (CorruptRecordError, StoreCorruptError):
            return None

    async def _known_workers(self) -> list[WorkerRow]:
        """The same list as long as nothing has changed in it."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._workers_until_s:
            workers = await self._runtime.store.workers()
            if workers != self._workers:
                self._workers = workers
            self._workers_until_s = now_s + WORKERS_S
        return self._workers


async def shown_of(request: Request) -> Shown:
    """What was shown by this application."""
    shown: Shown = request.app.state.shown
    return shown


Views = Annotated[Shown, Depends(shown_of)]
