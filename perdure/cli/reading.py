"""What the commands that only look do: read the store, fold, and print."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from rich.text import Text

from perdure.cli import story
from perdure.cli.account import preview
from perdure.cli.changes import changes
from perdure.cli.explanation import following, why
from perdure.cli.output import Output, table
from perdure.cli.place import Place
from perdure.cli.portrait import outcome_of, portrait_data, portray, sound_events, wait_data
from perdure.cli.times import instant, now_ms, span, until
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, InputError
from perdure.core.events import Event
from perdure.engine.large import resolved
from perdure.engine.verification import artifacts_named
from perdure.journal.chain import check
from perdure.journal.state import TERMINAL
from perdure.store.port import OpenWait, RunFilter, RunRow, Status, WorkerRow

STATUSES: Final = ("pending", "running", "waiting", "paused", "completed", "failed", "cancelled")

# --- ps ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to list.

    Args:
        statuses, workflow, tags: all must fit; without a status those that have not ended.
        everything: also those that have ended.
        limit: at most so many.
    """

    statuses: tuple[str, ...]
    workflow: str | None
    tags: tuple[str, ...]
    everything: bool
    limit: int

    def filter(self) -> RunFilter:
        """As the store understands it; raises `InputError` for a status that there is not."""
        unknown = [status for status in self.statuses if status not in STATUSES]
        if unknown:
            raise InputError(f"there is no status {unknown[0]!r}", hint=f"it is one of: {', '.join(STATUSES)}")
        unfinished = tuple(status for status in STATUSES if status not in TERMINAL)
        statuses = self.statuses or (() if self.everything else unfinished)
        return RunFilter(cast("tuple[Status, ...]", statuses), self.workflow, self.tags, limit=self.limit + 1)


async def list_runs(place: Place, output: Output, wanted: Wanted) -> int:
    """List runs."""
    where = wanted.filter()
    async with place.reading() as runtime:
        rows = await runtime.store.list_runs(where)
        workers = {worker.worker_id: worker for worker in await runtime.store.workers()}
        shown = rows[: wanted.limit]
        waits = {
            row.run_id: await runtime.store.open_waits(run_id=row.run_id) for row in shown if row.status == "waiting"
        }
    if output.json:
        for row in shown:
            output.record(row.to_dict() | {"waits": [wait_data(one) for one in waits.get(row.run_id, ())]})
    elif shown:
        now = now_ms()
        output.show(
            table(
                ("run", "workflow", "status", "age", "why", "tags"),
                [
                    (
                        row.run_id,
                        row.workflow,
                        story.status_text(row.status, row.reason),
                        span(now - row.created_ms),
                        _in_short(row, waits.get(row.run_id, ()), workers, now),
                        ", ".join(row.tags),
                    )
                    for row in shown
                ],
            )
        )
    if len(rows) > wanted.limit:
        output.note(f"there are more; --limit {wanted.limit * 10} shows more of them")
    elif not rows and not output.json:
        output.note("no runs" if wanted.everything else "no runs that have not ended; --all lists the others too")
    return 0


def _in_short(row: RunRow, waits: Sequence[OpenWait], workers: dict[str, WorkerRow], now: int) -> str:
    if row.status == "waiting":
        return "; ".join(_wait_in_short(one, now) for one in waits)
    if row.status not in ("pending", "running"):
        return ""
    if row.owner is not None:
        owner = workers.get(row.owner)
        alive = owner is not None and owner.alive
        return f"worker {row.owner}" if alive else "its worker is gone"
    if row.caller_owned:
        return "its caller's loop"
    able = any(worker.alive and row.workflow in worker.workflows for worker in workers.values())
    return "" if able else "no worker for it"


def _wait_in_short(place: OpenWait, now: int) -> str:
    wait = place.wait
    if wait.kind == "timer":
        return f"timer {until(wait.deadline_ms or 0, now)}"
    if wait.kind == "question":
        return "step in doubt" if wait.name == "doubt" else "question"
    text = f"{wait.kind} {wait.name}"
    return text + (f" [{wait.key}]" if wait.key is not None else "")


# --- show -------------------------------------------------------------------------------------------------------------


async def show_run(place: Place, output: Output, run_id: str, *, everything: bool) -> int:
    """Show a run."""
    async with place.reading() as runtime:
        found = await portray(runtime, place, run_id)
        result = await outcome_of(runtime.store, found.state)
    if output.json:
        output.value(portrait_data(found) | result)
        return 0
    seen = found.circumstances
    shown: list[Any] = [
        story.head(found.row, found.account, found.state, seen.now_ms),
        "",
        story.steps(found.account, all_rows=everything, width=output.console.width),
    ]
    if found.context:
        shown += ["", Text("state", style="bold")]
        shown += [Text(f"  {name} = {preview(value)}") for name, value in found.context.items()]
    if "output" in result:
        shown += ["", Text("output", style="bold"), Text(f"  {preview(result['output'])}")]
    shown += story.points("why", why(seen)) + story.points("next", following(seen))
    output.show(*shown)
    return 0


# --- events -----------------------------------------------------------------------------------------------------------


async def print_events(place: Place, output: Output, run_id: str, *, after: int, follow: bool) -> int:
    """Print a run's events; with `follow` until it has ended."""
    async with changes(place, run_id, after=after, follow=follow) as (runtime, changed):
        handle = runtime.run(run_id)
        seq = after
        while True:
            row = await handle.row()  # read before the events, so that none of an ended run is missed
            found = await runtime.store.read(run_id, after=seq, limit=1000)
            for event in found:
                seq = event.seq
                _check_readable(event)
                output.record(event.to_dict()) if output.json else output.line(event_line(event))
            if len(found) == 1000:
                continue
            if not follow or row.status in TERMINAL:
                return 0
            await changed()


def _check_readable(event: Event) -> None:
    try:
        event.data  # noqa: B018  is parsed at its first use
    except ValueError as error:
        raise CorruptRecordError(
            f"record {event.seq} of run {event.run_id}: its payload is no JSON", run_id=event.run_id, seq=event.seq
        ) from error


def event_line(event: Event) -> str:
    """An event in one line."""
    where = "/".join(part for part in (event.scope or event.node, event.key) if part)
    data = preview(event.data) if event.data is not None else "(erased)"
    return f"{event.seq:>5}  {instant(event.time_ms)}  {event.kind:<20}  {where}  {data}".rstrip()


# --- state ------------------------------------------------------------------------------------------------------------


async def print_state(place: Place, output: Output, run_id: str, *, at: int | None) -> int:
    """Print a run's key-value state, as it is recorded."""
    async with place.reading() as runtime:
        handle = runtime.run(run_id)
        state = await handle.fold(at=at)
        check(run_id, await runtime.store.read(run_id, until=state.seq))  # nothing is told that cannot be vouched for
        context = {name: await resolved(runtime.store, value) for name, value in state.view().items()}
    output.value(state.to_dict() | {"state": context} if output.json else context)
    return 0


# --- artifacts --------------------------------------------------------------------------------------------------------


async def list_artifacts(place: Place, output: Output, run_id: str) -> int:
    """List the artifacts that a run's payloads name."""
    async with place.reading() as runtime:
        await runtime.run(run_id).row()
        named = artifacts_named(sound_events(run_id, await runtime.store.read(run_id))[0])
        known = {info.sha256: info for info in await runtime.store.artifact_info(named)}
    found = [
        {
            "sha256": sha256,
            "size": known[sha256].size if sha256 in known else None,
            "media_type": known[sha256].media_type if sha256 in known else None,
        }
        | about.to_dict()
        for sha256, about in named.items()
    ]
    if output.json:
        output.value(found)
    elif found:
        output.show(
            table(
                ("artifact", "bytes", "type", "name", "named by"),
                [
                    (one["sha256"], str(one["size"]), str(one["media_type"]), one["name"] or "", one["named_by"])
                    for one in found
                ],
            )
        )
    else:
        output.note(f"run {run_id} names no artifacts")
    return 0


async def get_artifact(place: Place, output: Output, run_id: str, prefix: str, path: Path | None) -> int:
    """Give the bytes of one artifact."""
    async with place.reading() as runtime:
        await runtime.run(run_id).row()
        events, _ = sound_events(run_id, await runtime.store.read(run_id))
        names = [name for name in artifacts_named(events) if name.startswith(prefix.lower())]
        if len(names) != 1:
            problem = "names no artifact" if not names else f"names {len(names)} artifacts"
            raise ArtifactNotFoundError(
                f"run {run_id} {problem} that begin with {prefix!r}",
                run_id=run_id,
                hint=f"list them with '{place.command('artifacts', run_id)}'",
            )
        content = await runtime.store.get_artifact(names[0])
    if path is None and output.json:
        output.value({"sha256": names[0], "size": len(content), "data": b64encode(content).decode()})
        return 0
    if path is None:
        output.data(content)
        return 0
    try:
        await asyncio.to_thread(path.write_bytes, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
    if output.json:
        output.value({"sha256": names[0], "size": len(content), "path": str(path)})
    else:
        output.note(f"{len(content)} bytes written to {path}")
    return 0
