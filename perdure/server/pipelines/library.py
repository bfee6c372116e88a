"""The pipelines that this process knows: those of its unfinished runs, and a few that somebody has just looked at.

A submitted pipeline is a workflow of its own, so a service that is sent a new text with each request would know more
and more of them. So it forgets a pipeline when the last of its runs has ended, and makes it anew from what the run
carries when somebody looks at the run, or opens it again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from perdure.core.errors import PerdureError, StoreError
from perdure.engine.handle import RunHandle
from perdure.engine.runtime import Runtime
from perdure.pipeline.definition import Pipeline
from perdure.server.pipelines.loading import SUBMITTED, PipelineSettings, SubmittedPipeline, carried_by, submission
from perdure.server.pipelines.names import is_submitted
from perdure.store.port import RunFilter, RunRow

MOST_LOOKED_AT: Final = 64
"""How many pipelines are kept for who looks at runs that have ended."""
PAGE: Final = 500
SWEEP_S: Final = 10.0
"""How often runs are looked for that another process began, and left when it went away."""


class Library:
    """The pipelines of a runtime, as far as they are known here.

    Args:
        runtime: open.
        settings: what pipelines may do here.
    """

    def __init__(self, runtime: Runtime, settings: PipelineSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self._runs: dict[str, str] = {}  # by run, the workflow of those that have not ended
        self._unfinished: dict[str, int] = {}  # by workflow, how many those are, and starts under way
        self._beginning = 0
        self._ended_meanwhile: set[str] = set()
        self._looked_at: OrderedDict[str, Pipeline] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        runtime.on_ended(self._ended)

    # --- for executing ------------------------------------------------------------------------------------------------

    async def start(
        self, pipeline: SubmittedPipeline, raw: Mapping[str, Any], run_id: str | None, actor: str
    ) -> RunHandle[Any]:
        """Start a run of a submitted pipeline, which is known here until the run has ended.

        Raises:
            PerdureError: nothing was written.
        """
        async with self._held(pipeline.name) as runs:
            known = self.runtime.registry.register(pipeline)
            marked = {**raw, SUBMITTED: submission()}
            started = await self.runtime.start_bound(known, marked, id=run_id, actor=actor)
            runs.append(started.id)
        return started

    @asynccontextmanager
    async def opening(self, row: RunRow) -> AsyncIterator[None]:
        """Around what opens an ended run again: its pipeline is known here until it has ended once more.

        Raises:
            PerdureError: what the run carries cannot be read.
        """
        if not is_submitted(row.workflow):
            yield
            return
        async with self._held(row.workflow) as runs:
            await self._know(row)
            yield
            runs.append(row.run_id)

    async def know_unfinished(self) -> dict[str, PerdureError]:
        """Make known the pipeline of every run that has not ended: awaited before the first request is served.

        Returns:
            By run id, why a run's pipeline cannot be made known; that run stays pending, the others are not concerned.
        """
        failed: dict[str, PerdureError] = {}
        async for row in self._rows():
            try:
                async with self._held(row.workflow) as runs:
                    await self._know(row)
                    runs.append(row.run_id)
            except PerdureError as error:
                failed[row.run_id] = error
        return failed

    async def sweep(self) -> None:
        """Until cancelled: make known what other processes began, while there are any."""
        while True:
            await asyncio.sleep(SWEEP_S)
            with suppress(StoreError):  # a store that cannot be read now is asked again
                if len(await self.runtime.store.workers()) > 1:
                    await self.know_unfinished()

    async def _know(self, row: RunRow) -> None:
        if row.workflow not in self.runtime.registry:
            self.runtime.register(await carried_by(self.runtime, row, self.settings))

    async def _rows(self) -> AsyncIterator[RunRow]:
        """The unfinished runs of submitted pipelines that are not counted yet."""
        where = RunFilter(statuses=("pending", "running", "waiting", "paused"), limit=PAGE)
        while True:
            rows = await self.runtime.store.list_runs(where)
            for row in rows:
                if is_submitted(row.workflow) and row.run_id not in self._runs:
                    yield row
            if len(rows) < PAGE:
                return
            where.before = (rows[-1].created_ms, rows[-1].run_id)

    # --- for looking --------------------------------------------------------------------------------------------------

    def is_pipeline(self, row: RunRow) -> bool:
        """Whether a run is one of a pipeline."""
        if is_submitted(row.workflow):
            return True
        registry = self.runtime.registry
        return row.workflow in registry and isinstance(registry.definition(row.workflow), Pipeline)

    async def find(self, row: RunRow) -> Pipeline | None:
        """The pipeline of a run, to look at; `None` if it cannot be made here, or is none."""
        name, registry = row.workflow, self.runtime.registry
        if name in registry:
            found = registry.definition(name)
            return found if isinstance(found, Pipeline) else None
        if not is_submitted(name):
            return None
        if name not in self._looked_at:
            try:
                made = await carried_by(self.runtime, row, self.settings)
            except PerdureError:
                return None
            self._looked_at[name] = made
            while len(self._looked_at) > MOST_LOOKED_AT:
                self._looked_at.popitem(last=False)
        self._looked_at.move_to_end(name)
        return self._looked_at[name]

    # --- forgetting ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[list[str]]:
        """Keep a pipeline known while a run of it begins; which one, stands in the list in the end."""
        runs: list[str] = []
        self._count(name)
        self._beginning += 1
        try:
            yield runs
        finally:
            for run_id in runs:
                if run_id not in self._runs and run_id not in self._ended_meanwhile:
                    self._runs[run_id] = name
                    self._count(name)
            self._beginning -= 1
            if not self._beginning:
                self._ended_meanwhile.clear()
            self._uncount(name)

    def _ended(self, run_id: str, _: str) -> None:
        name = self._runs.pop(run_id, None)
        if name is not None:
            self._uncount(name)
        elif self._beginning:  # it may be one whose start is not back yet
            self._ended_meanwhile.add(run_id)

    def _count(self, name: str) -> None:
        self._unfinished[name] = self._unfinished.get(name, 0) + 1

    def _uncount(self, name: str) -> None:
        self._unfinished[name] -= 1
        if not self._unfinished[name]:
            task = asyncio.ensure_future(self._forget(name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forget(self, name: str) -> None:
        """Forget a pipeline of which no run is left, here or in the store."""
        where = RunFilter(statuses=("pending", "running", "waiting", "paused"), workflow=name, limit=1)
        try:
            left = await self.runtime.store.list_runs(where)
        except StoreError:
            return  # it is forgotten with its next run
        if not left and self._unfinished.get(name) == 0:
            del self._unfinished[name]
            self.runtime.registry.forget(name)
