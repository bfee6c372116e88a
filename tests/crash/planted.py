"""Bugs to plant, each as a `setup` function of a crash matrix: called first in every process, it breaks the engine.

And small workflows on which they show.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

from perdure import Run, step, workflow
from perdure.core.events import Head
from perdure.engine import context, stepping
from perdure.engine.calling import TimedOut
from perdure.engine.scopes import Scope
from perdure.journal.chain import seal
from perdure.store.port import Append, Appended
from perdure.store.writer import Source, Writer
from perdure.testing import Doubt, record_effect

# --- workflows --------------------------------------------------------------------------------------------------------


@step(kind="pure")
def prepare(order: str) -> str:
    upper = order.upper()
    return upper


@step(kind="idempotent")
async def charge(order: str) -> str:
    receipt = f"receipt for {order}"
    return receipt


@step(kind="once")
async def ship(order: str) -> str:
    parcel = f"parcel of {order}"
    return parcel


@workflow
async def shop(run: Run, order: str) -> list[Any]:
    run.state["order"] = order
    prepared = await run.step(prepare, order)
    receipt = await run.step(charge, prepared)
    return [receipt, await run.step(ship, prepared), dict(run.state)]


@step(kind="once", timeout="30s")
async def ring() -> str:
    """The bell rings, and the answer is lost the first time."""
    first = not Path("rung").exists()
    Path("rung").touch()
    record_effect("rung")
    if first:
        await asyncio.Event().wait()
    return "rung"


def it_rang(what: object) -> tuple[str, str] | None:
    """Whoever is asked heard the bell, if it rang."""
    return ("done", "rung") if isinstance(what, Doubt) and what.happened else None


@workflow
async def bell(run: Run) -> str:
    return await run.step(ring)


# --- bugs -------------------------------------------------------------------------------------------------------------


def acknowledge_before_commit() -> None:
    """Say that an append is durable, and write it a little later; only the start of a run is written at once."""
    really = Writer._flush

    def flush(self: Writer) -> None:
        taken = [(source, source.take()) for source in self._queue]
        batch = [append for _, append in taken if append is not None]
        if any(append.create for append in batch):
            self._queue = deque(_Taken(source, append) for source, append in taken)
            self._urgent = True
            return really(self)
        self._scheduled = self._urgent = False
        self._queue.clear()
        self._queued.clear()
        for source, append in taken:
            if append is not None:
                source.settled(_as_if_committed(append))
        self._busy = True
        asyncio.get_running_loop().create_task(write(self, batch))
        return None

    async def write(self: Writer, batch: list[Append]) -> None:
        await asyncio.sleep(0.02)
        answer = self._store.append(batch, in_place=False)
        if not isinstance(answer, list):
            await answer
        self._busy = False
        assert self._on_commit is not None
        self._on_commit(batch)
        self._rest()

    Writer._flush = flush  # type: ignore[method-assign]


class _Taken:
    """A source that was asked already."""

    def __init__(self, source: Source, append: Append | None) -> None:
        self._append = append
        self.settled = source.settled
        self.lost = source.lost

    def take(self) -> Append | None:
        return self._append


def _as_if_committed(append: Append) -> Appended:
    seq, previous = append.expected
    for draft in append.drafts:
        seq += 1
        _, previous = seal(append.run_id, draft, seq, previous, append.epoch or 0)
    return Appended(append.expected.seq + 1, Head(seq, previous))


def skip_the_intent() -> None:
    """Begin an effect without saying so first."""

    async def intend(made: object) -> None:
        return None

    stepping._intend = intend


def number_steps_by_position() -> None:
    """A step's key is how many came before it."""

    def key_for(self: Scope, name: str, explicit: str | None) -> str:
        self._counts["all"] = self._counts.get("all", 0) + 1
        return explicit or f"step-{self._counts['all']}"

    Scope.key_for = key_for  # type: ignore[method-assign]


def write_state_again_when_executed_again() -> None:
    """Append a state write also when it is recorded already."""
    really = context.State._write

    def write(self: context.State, name: str, data: bytes | None) -> None:
        scope = self._run._scope()
        records, scope.records = scope.records, None
        try:
            really(self, name, data)
        finally:
            scope.records = records

    context.State._write = write  # type: ignore[method-assign]


def retry_once_after_a_timeout() -> None:
    """A timeout is an error like any other."""
    really = stepping._failed

    async def failed(made: stepping.StepCall, error: BaseException) -> Any:
        if isinstance(error, TimedOut):
            return await stepping._retry(made, error, 0.0, free=False)
        return await really(made, error)

    stepping._failed = failed
