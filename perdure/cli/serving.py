"""What `worker` does: execute runs until told to stop, and say what becomes of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from perdure.cli.definitions import definitions_of
from perdure.cli.exits import COMPLETED
from perdure.cli.interrupts import Interrupts
from perdure.cli.orders import check_durability
from perdure.cli.output import Output
from perdure.cli.place import Place
from perdure.cli.recording import set_up_logs
from perdure.cli.times import now_ms
from perdure.cli.trouble import Trouble
from perdure.core.errors import RunNotFoundError, StoreError
from perdure.engine.execution import Execution
from perdure.engine.loading import read_ending
from perdure.engine.runtime import Runtime
from perdure.engine.services import Limits
from perdure.store.port import RunFilter

LOOK_S: Final = 0.1
"""How often it is seen what was claimed, and whether anything is left to do."""
IDLE_LOOKS: Final = 3
"""With `--once`: nothing to do so many times one after the other is the end."""
MOST_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Service:
    """What `perdure worker` was asked for; see its options."""

    files: tuple[str, ...]
    concurrency: int = 1000
    once: bool = False
    durability: str = "full"
    log_format: str | None = None
    log_level: str | None = None


async def serve(place: Place, output: Output, service: Service) -> int:
    """Execute runs until told to stop."""
    set_up_logs(service.log_format, service.log_level)
    runtime = Runtime(
        place.store(durability=check_durability(service.durability), must_exist=False),
        workflows=definitions_of(service.files),
        limits=Limits(concurrency=service.concurrency),
    )
    stopping = asyncio.Event()

    def interrupted(name: str) -> None:
        output.note(f"{name}: letting what is in flight end; once more to leave at once")
        stopping.set()

    with Interrupts(interrupted) as interrupts:
        async with runtime:
            journal = _Journal(runtime, output)
            journal.began(runtime.registry.names(), place.url)
            trouble = Trouble(runtime.store, output)
            watching = asyncio.ensure_future(_watch(runtime, journal, trouble, stopping, once=service.once))
            await stopping.wait()
            if interrupts.received is not None:
                await runtime.drain()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            with suppress(StoreError):
                await journal.look()
            journal.ended()
    if trouble.damage is not None:
        raise trouble.damage
    return COMPLETED


class _Journal:
    """Says what this worker does."""

    def __init__(self, runtime: Runtime, output: Output) -> None:
        self._runtime = runtime
        self.output = output
        self._held: dict[str, Execution | None] = {}
        self._news: list[tuple[str, str]] = []
        runtime.on_ended(self._heard)
        runtime.on_waiting(lambda run_id: self._heard(run_id, "waiting"))

    def began(self, workflows: list[str], url: str) -> None:
        """The worker is ready."""
        worker = self._runtime.worker_id
        data = {"event": "began", "worker": worker, "workflows": workflows, "store": url}
        self._write(data, f"worker {worker} executes {', '.join(workflows)} from {url}")

    def ended(self) -> None:
        """The worker has let go of everything."""
        self._write({"event": "ended", "worker": self._runtime.worker_id}, f"worker {self._runtime.worker_id} ended")

    async def look(self) -> None:
        """Say what was claimed, waits, was let go of, or ended since the last look."""
        executions = self._runtime.worker.executions
        for run_id in executions:
            self._see(run_id)
        news, self._news = self._news, []
        gone = [run_id for run_id in self._held if run_id not in executions]
        for run_id in gone:
            del self._held[run_id]
        for run_id, what in news:
            self._tell(run_id, what, await self._cause(run_id) if what == "failed" else "")
        told = {run_id for run_id, _ in news}
        for run_id in gone:
            if run_id not in told:
                await self._tell_if_paused(run_id)

    def _heard(self, run_id: str, what: str) -> None:
        """At the instant of the commit: whatever a run does, it was claimed before."""
        self._see(run_id)
        self._news.append((run_id, what))

    def _see(self, run_id: str) -> None:
        """Note a claim that was not noted yet; each claim has an execution of its own, except where it only ended."""
        execution = self._runtime.worker.executions.get(run_id)
        if run_id not in self._held or (execution is not None and self._held[run_id] is not execution):
            self._held[run_id] = execution
            self._news.append((run_id, "claimed"))

    async def _tell_if_paused(self, run_id: str) -> None:
        with suppress(RunNotFoundError):
            row = await self._runtime.run(run_id).row()
            if row.status == "paused":
                self._tell(run_id, "paused", "" if row.reason == "paused" else row.reason)

    async def _cause(self, run_id: str) -> str:
        data = (await read_ending(self._runtime.store, run_id)).data or {}
        return str((data.get("error") or {}).get("message", ""))

    def _tell(self, run_id: str, what: str, reason: str = "") -> None:
        data = {"event": what, "run_id": run_id} | ({"reason": reason} if reason else {})
        self._write(data, f"run {run_id}: {what}" + (f" ({reason})" if reason else ""))

    def _write(self, data: dict[str, Any], text: str) -> None:
        if self.output.json:
            self.output.record(data)
        else:
            self.output.note(text)


async def _watch(runtime: Runtime, journal: _Journal, trouble: Trouble, stopping: asyncio.Event, *, once: bool) -> None:
    idle = stuck = 0
    while not stopping.is_set():
        trouble.look()
        with suppress(StoreError):  # the engine asks a store that cannot be read again, and so does this
            await journal.look()
            idle = idle + 1 if once and await _is_idle(runtime) else 0
        if once and trouble.damage is not None and not runtime.worker.executions:
            stuck += 1  # what cannot be read is asked for again and again
        if max(idle, stuck) >= IDLE_LOOKS:
            stopping.set()
        await asyncio.sleep(LOOK_S)


async def _is_idle(runtime: Runtime) -> bool:
    """Whether nothing is executed here and nothing is due; runs that wait do not count."""
    store, names = runtime.store, runtime.registry.names()
    due_ms = await store.next_due_ms(names)
    if due_ms is not None and due_ms <= now_ms():
        return False
    rows = [
        row for name in names for row in await store.list_runs(RunFilter(("pending", "running"), name, limit=MOST_ROWS))
    ]
    return not any(row.owner in (None, runtime.worker_id) and not row.caller_owned for row in rows)
