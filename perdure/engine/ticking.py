"""The caller's own loop: a host that wants to own the loop starts, ticks and resumes runs itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from perdure.core.errors import (
    InputError,
    RunNotFoundError,
    StateError,
    WaitNotFoundError,
)
from perdure.engine.commanding import Commanding
from perdure.engine.execution import Execution
from perdure.engine.loading import load_state
from perdure.engine.recovery import recover
from perdure.journal.state import TERMINAL

P = ParamSpec("P")
R = TypeVar("R")
Profile = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tick:
    """What `Runtime.tick` found when it stopped.

    Attributes:
        status: of the run.
        waits: ids of the waits that are open.
        ended: whether the run has ended.
    """

    status: str
    waits: tuple[str, ...]
    ended: bool


class Ticking(Commanding):
    """The face for hosts that own the loop."""

    _owned_tasks: dict[str, asyncio.Task[Any]]

    async def tick(self, run_id: str, *, max_steps: int = 1) -> Tick:
        """Let a run whose loop the caller owns do at most so many steps; what was done is durable when this returns.

        Args:
            max_steps: how many steps, waits or children may begin.

        Raises:
            StateError: the run's loop belongs to workers.
        """
        if max_steps < 1:
            raise InputError(f"max_steps must be at least 1, not {max_steps}")
        row = await self.run(run_id).row()
        if not row.caller_owned:
            raise StateError(f"run {run_id} belongs to workers; start it with caller_owned=True", run_id=run_id)
        if row.status in TERMINAL or row.status == "paused":
            return await self._found(run_id)
        execution = self._owned.get(run_id) or await self._own(run_id)
        if execution is None:
            return await self._found(run_id)
        task = self._owned_tasks[run_id]  # it may be over, and forgotten, once what others appended is known
        if execution.log.error is None:
            await execution.log.caught_up()
        execution.admit(max_steps)
        idle = asyncio.ensure_future(execution.idle.wait())
        await asyncio.wait({task, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        if task.done():
            task.result()
        else:
            execution.permits = 0  # what was not used now is not used between this tick and the next
            await execution.log.barrier()
        return await self._found(run_id)

    async def _own(self, run_id: str) -> Execution | None:
        assert self._services.lease is not None
        claimed = await self.store.claim_run(self._services.lease, run_id)
        if claimed is None:
            raise StateError(f"run {run_id} is executed by another process", run_id=run_id)
        execution = await recover(self._services, claimed)
        if execution is None:
            return None
        execution.admit(0)
        self._owned[run_id] = execution
        self._owned_tasks[run_id] = asyncio.ensure_future(self._drive_owned(execution))
        return execution

    async def _drive_owned(self, execution: Execution) -> None:
        assert self._services.lease is not None
        try:
            if await execution.drive() not in ("ended", "lost"):
                await self.store.release(self._services.lease, [execution.run_id])
        finally:
            self._owned.pop(execution.run_id, None)
            self._owned_tasks.pop(execution.run_id, None)

    async def _leave(self, run_id: str) -> None:
        self._owned[run_id].stop("drain")
        await asyncio.wait({self._owned_tasks[run_id]})

    async def _found(self, run_id: str) -> Tick:
        row = await self.run(run_id).row()
        waits = await self.store.open_waits(run_id=run_id)
        return Tick(row.status, tuple(place.wait.wait_id for place in waits), row.status in TERMINAL)

    async def resume(self, run_id: str, wait_key: str, payload: Any = None, *, saw: str | None = None) -> None:
        """Settle a wait of a run whose loop the caller owns: the answer to a question, or the payload of a signal.

        Args:
            wait_key: the wait's id, as `tick` reported it.
            saw: the hash of what was looked at, for a question that asks to approve something.

        Raises:
            WaitNotFoundError: the run has no such wait open; nothing was written.
        """
        loaded = await load_state(self.store, run_id)
        if loaded is None:
            raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
        wait = loaded[0].waits.get(wait_key)
        if wait is None:
            raise WaitNotFoundError(f"run {run_id} has no wait {wait_key!r}", run_id=run_id, wait_id=wait_key)
        if wait.kind == "signal" and wait.closed is None:
            await self.signal(wait.data["name"], payload, run_id=run_id, match=wait.data.get("match"))
        else:
            await self.answer(run_id, payload, wait_id=wait_key, saw=saw)
