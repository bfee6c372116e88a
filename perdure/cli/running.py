"""What `run` does: start a run or go on with one, supervise it here, and say how it stands in the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final

from perdure.cli.exits import COMPLETED, FAILED, OF_ENDING, WAITING
from perdure.cli.explanation import following, why
from perdure.cli.findings import verified_line
from perdure.cli.interrupts import Interrupts
from perdure.cli.orders import Order, Prepared, check_durability, prepare
from perdure.cli.output import Output, count
from perdure.cli.place import Place
from perdure.cli.portrait import Portrait, outcome_of, portrait_data, portray
from perdure.cli.story import duration_ms
from perdure.cli.supervision import Look, Supervisor, code_of_waits
from perdure.cli.times import span
from perdure.cli.trouble import Trouble
from perdure.core.durations import parse_duration
from perdure.core.errors import (
    CorruptRecordError,
    StateError,
)
from perdure.engine.runtime import Runtime
from perdure.engine.services import Limits
from perdure.engine.verification import Verified, verify_run
from perdure.journal.state import TERMINAL
from perdure.store.port import RunFilter, RunRow, Store

FOREVER_S: Final = 1e9
"""Runs that wait are kept in memory: this process has no others to make room for."""


async def run_workflow(place: Place, output: Output, order: Order) -> int:
    """Start or go on; see `perdure run --help`."""
    patience_s = _patience_s(order)
    durability = check_durability(order.durability)
    if place.server is not None:
        from perdure.cli.remote.running import run_remotely

        return await run_remotely(place.server, place, output, order, patience_s)
    prepared = await prepare(place, order)
    if prepared.row is not None and prepared.row.status in TERMINAL:
        return await tell_ended(place, output, order, prepared.row)
    runtime = Runtime(
        place.store(durability=durability, must_exist=False),
        workflows=prepared.definitions,
        execute=False,
        limits=Limits(linger_s=FOREVER_S),
    )
    async with runtime:
        run_id = await _begin(runtime, place, output, order, prepared)
        if order.detach:
            if output.json:
                output.value({"run_id": run_id, "status": await runtime.run(run_id).status()})
            else:
                output.line(run_id)
            return COMPLETED
        return await Stay(runtime, place, output, order, run_id).until_settled(patience_s)


def _patience_s(order: Order) -> float | None:
    if order.patience is not None:
        return parse_duration(order.patience, name="patience")
    return math.inf if on_terminal() else None


def on_terminal() -> bool:
    """Whether there is a person who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


# --- a run that has ended ---------------------------------------------------------------------------------------------


async def tell_ended(place: Place, output: Output, order: Order, row: RunRow) -> int:
    """Print the recorded outcome; nothing is written."""
    async with place.reading() as runtime:
        output.note(f"run {row.run_id} has ended already; this is its recorded outcome")
        return await report(runtime, place, output, row.run_id, order.file)


# --- beginning --------------------------------------------------------------------------------------------------------


async def _begin(runtime: Runtime, place: Place, output: Output, order: Order, prepared: Prepared) -> str:
    """Start the run, or make one that exists ready to go on; returns its id."""
    row = prepared.row
    if row is None:
        assert prepared.raw is not None
        handle = await runtime.start_bound(
            prepared.graph, prepared.raw, id=order.run_id, tags=order.tags, skip_tags=order.skip_tags, actor="person"
        )
        output.note(f"run {handle.id} ({prepared.graph.name}) started")
        if order.run_id is None:
            await _mention_lost(runtime, place, output, order, handle.id, prepared.graph.name)
        return handle.id
    if row.caller_owned:
        raise StateError(
            f"the loop of run {row.run_id} belongs to the program that started it",
            hint="that program goes on with it by Runtime.tick()",
            run_id=row.run_id,
        )
    head = await runtime.store.head(row.run_id)
    seq = head.seq if head is not None else 0
    if row.status == "paused":
        output.note(f"run {row.run_id} was {'paused' if row.reason == 'paused' else f'parked: {row.reason}'}")
        if not order.detach:
            await runtime.unpause(row.run_id)
    output.note(f"run {row.run_id} ({row.workflow}) goes on behind record {seq}")
    return row.run_id


async def _mention_lost(
    runtime: Runtime, place: Place, output: Output, order: Order, run_id: str, workflow: str
) -> None:
    """Say which earlier runs of the workflow lost their process: the new one does not go on with them."""
    alive = {worker.worker_id for worker in await runtime.store.workers() if worker.alive}
    rows = await runtime.store.list_runs(RunFilter(("running", "pending"), workflow, limit=20))
    lost = [
        row
        for row in rows
        if row.run_id != run_id
        and not row.caller_owned
        and row.parent_id is None
        and row.owner not in alive
        and row.owner is not None
    ]
    if lost:
        output.note(
            f"(run {lost[0].run_id} of the same workflow lost its process; go on with it: "
            f"{place.command('run', order.file, '--id', lost[0].run_id)})"
        )


# --- staying until it settles -----------------------------------------------------------------------------------------


class Stay:
    """This process's time with a run.

    Args:
        runtime: open.
        run_id: the run.
    """

    leaving = "letting what is in flight end; once more to leave at once"
    """Said at Ctrl-C."""

    def __init__(self, runtime: Runtime, place: Place, output: Output, order: Order, run_id: str) -> None:
        self._runtime = runtime
        self._place = place
        self._output = output
        self._order = order
        self._run_id = run_id

    async def until_settled(self, patience_s: float | None) -> int:
        """Supervise the run, and report how it stands."""
        runtime, output = self._runtime, self._output
        with ExitStack() as stack:
            progress = None
            if sys.stderr.isatty() and not output.quiet:
                from perdure.cli.progress import Progress

                known = await self.known()
                progress = stack.enter_context(Progress(output.notes, runtime.store, self._run_id, known))
            await self._supervise(patience_s, progress)
        return await report(runtime, self._place, output, self._run_id, self._order.file)

    async def known(self) -> int:
        """Up to which seq the run was recorded before it began, or went on, here; 0 for a new run."""
        head = await self._runtime.store.head(self._run_id)
        return head.seq if head is not None and head.seq > 1 else 0

    def supervisor(self, patience_s: float | None, look: Look, asking: Callable[[], bool]) -> Supervisor:
        """Who goes on with the run."""
        return Supervisor(self._runtime, self._run_id, patience_s=patience_s, look=look, asking=asking)

    async def let_go(self, *, interrupted: bool) -> None:
        """Do nothing more for the run.

        Args:
            interrupted: by Ctrl-C or SIGTERM.
        """
        await self._runtime.worker.drain(record=interrupted)

    async def _supervise(self, patience_s: float | None, progress: Any) -> None:
        from perdure.cli.answering import Answering

        runtime, output = self._runtime, self._output

        trouble = Trouble(runtime.store, output)

        async def look(tree: Sequence[RunRow]) -> bool:
            trouble.look()
            if trouble.damage is not None:
                raise trouble.damage
            if progress is not None and not answering.busy:
                await progress.look(tree)
            return await answering.look(tree)

        supervisor = self.supervisor(patience_s, look, lambda: answering.busy)
        answering = Answering(
            runtime,
            output,
            self._order.answers,
            _prompter(output),
            **({"hiding": progress.hidden} if progress is not None else {}),
            declined=supervisor.stop,
            woken=supervisor.wake,
        )

        def interrupted(name: str) -> None:
            output.note(f"{name}: {self.leaving}")
            supervisor.stop()

        with Interrupts(interrupted) as interrupts:
            try:
                await supervisor.supervise()
            finally:
                await answering.stop()
                await self.let_go(interrupted=interrupts.received is not None)
            if progress is not None:
                await progress.look(await supervisor.tree())
        if answering.unused:
            output.note(f"answers that nothing was asked for: {', '.join(answering.unused)}")


def _prompter(output: Output) -> Any:
    if not on_terminal():
        return None
    from perdure.cli.prompts import Prompter

    return Prompter(output.notes)


# --- the end ----------------------------------------------------------------------------------------------------------


async def report(runtime: Runtime, place: Place, output: Output, run_id: str, file: str) -> int:
    """Print how a run stands, and verify its journal."""
    found = await portray(runtime, place, run_id, file=file)
    code = await _code(runtime.store, found)
    result = await outcome_of(runtime.store, found.state)
    try:
        verified = await verify_run(runtime.store, run_id)
    except CorruptRecordError:
        if not output.json:
            _print_outcome(output, found, result, FAILED)
        raise
    if output.json:
        output.value(_data(found, verified, code) | result)
        return code
    _print_outcome(output, found, result, code)
    output.note(verified_line(verified))
    return code


async def _code(store: Store, found: Portrait) -> int:
    """The exit code that a run's status, and what it waits for, stand for."""
    row = found.row
    if row.status in OF_ENDING:
        return OF_ENDING[row.status]
    if row.status != "waiting":
        return WAITING
    tree = [row]
    for one in tree:
        if one.status not in TERMINAL:
            tree += await store.list_runs(RunFilter(parent_id=one.run_id, limit=10_000))
    waits = [wait for one in tree if one.status == "waiting" for wait in await store.open_waits(run_id=one.run_id)]
    return code_of_waits(waits, tree)


def _data(found: Portrait, verified: Verified, code: int) -> dict[str, Any]:
    data = portrait_data(found)
    names = ("run_id", "workflow", "status", "reason", "crashes", "waits", "in_doubt", "why", "next")
    settled = found.account.done()
    return {name: data[name] for name in names} | {
        "exit_code": code,
        "steps": len(settled),
        "kept": len(found.account.kept()),
        "verified": verified.to_dict(),
    }


def _print_outcome(output: Output, found: Portrait, result: dict[str, Any], code: int) -> None:
    row, seen = found.row, found.circumstances
    if row.status == "completed" and result.get("output") is not None:
        value = result["output"]
        if isinstance(value, str):
            output.line(value)
        else:
            output.value(value)
    settled = found.account.done()
    kept = len(found.account.kept())
    tale = count(len(settled), "step")
    if row.status in ("pending", "running"):
        tale += " recorded, which are not done again" if settled else " recorded"
    elif kept:
        tale += f", {kept} of them kept from before an interruption"
    style = {COMPLETED: "green", FAILED: "red"}.get(code, "yellow")
    lasted_ms = duration_ms(row, found.state)
    took = f" in {span(lasted_ms)}" if lasted_ms is not None else ""
    output.note(f"run {row.run_id} {_standing(row)}{took}: {tale}", style=style)
    for heading, points in (("why", why(seen)), ("next", following(seen))):
        for point in points:
            output.note(f"  {heading}: {point.text}")
            for detail in point.details:
                output.note(f"    {detail}")
            for command in point.commands:
                output.note(f"    $ {command}")


def _standing(row: RunRow) -> str:
    if row.status == "paused":
        return "is paused" if row.reason == "paused" else f"is parked ({row.reason})"
    return {"waiting": "waits", "running": "is not finished", "pending": "has not begun"}.get(row.status, row.status)
