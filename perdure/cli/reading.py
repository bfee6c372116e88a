"""What the commands that only look do: read the store, fold, and print."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from rich.text import Text

from perdure.cli import story
from perdure.cli.account import Account, preview
from perdure.cli.explanation import Circumstances, deadline, following, why
from perdure.cli.findings import artifacts_of
from perdure.cli.output import Output, table
from perdure.cli.place import Place
from perdure.cli.times import instant, now_ms, span, until
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, InputError
from perdure.core.events import Event
from perdure.engine.large import resolved
from perdure.engine.runtime import Runtime
from perdure.journal.chain import check
from perdure.journal.fold import fold_all
from perdure.journal.state import TERMINAL, RunState
from perdure.store.port import OpenWait, RunFilter, RunRow, Status, Store, WorkerRow

STATUSES: Final = ("pending", "running", "waiting", "paused", "completed", "failed", "cancelled")
FOLLOW_S: Final = 0.1
"""How often a run is asked for new events."""


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
            output.record(run_data(row) | {"waits": [wait_data(one) for one in waits.get(row.run_id, ())]})
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


def run_data(row: RunRow) -> dict[str, Any]:
    """A run's index row as plain JSON data."""
    return {
        "run_id": row.run_id,
        "workflow": row.workflow,
        "version": row.version,
        "status": row.status,
        "reason": row.reason or None,
        "created_ms": row.created_ms,
        "updated_ms": row.updated_ms,
        "due_ms": deadline(row),
        "owner": row.owner,
        "parent_id": row.parent_id,
        "caller_owned": row.caller_owned,
        "tags": list(row.tags),
    }


def wait_data(place: OpenWait) -> dict[str, Any]:
    """An open wait's index row as plain JSON data."""
    wait = place.wait
    return {
        "wait_id": wait.wait_id,
        "kind": wait.kind,
        "name": wait.name,
        "match": wait.key,
        "deadline_ms": wait.deadline_ms,
    }


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


@dataclass(slots=True)
class Portrait:
    """All that is known of a run.

    Attributes:
        row: its index row.
        state: folded from its journal.
        account: of its steps.
        context: the author's key-value state.
        circumstances: for the explanation.
    """

    row: RunRow
    state: RunState
    account: Account
    context: dict[str, Any]
    circumstances: Circumstances


async def portray(runtime: Runtime, place: Place, run_id: str, *, file: str | None = None) -> Portrait:
    """Read all about a run.

    Args:
        file: of its workflow, where it is known.

    Raises:
        RunNotFoundError: there is no such run.
    """
    store = runtime.store
    row = await runtime.run(run_id).row()
    events, damage = _sound(run_id, await store.read(run_id))
    state, account = fold_all(run_id, events), Account(events)
    children = {child.run_id: child for child in await store.list_runs(RunFilter(parent_id=run_id, limit=10_000))}
    seen = Circumstances(row, state, account, await store.workers(), children, now_ms(), place, damage=damage)
    if file is not None:
        seen.file = file
    context = {name: await resolved(store, value) for name, value in state.view().items()}
    return Portrait(row, state, account, context, seen)


def _sound(run_id: str, events: list[Event]) -> tuple[list[Event], CorruptRecordError | None]:
    """The events before the first bad record, and what is wrong with that."""
    try:
        check(run_id, events)
    except CorruptRecordError as error:
        return events[: error.ids["seq"] - 1], error
    return events, None


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
        story.head(found.row, found.account, found.state.last_ms, seen.now_ms),
        "",
        story.steps(found.account, all_rows=everything),
    ]
    if found.context:
        shown += ["", Text("state", style="bold")]
        shown += [Text(f"  {name} = {preview(value)}") for name, value in found.context.items()]
    if "output" in result:
        shown += ["", Text("output", style="bold"), Text(f"  {preview(result['output'])}")]
    shown += story.points("why", why(seen)) + story.points("next", following(seen))
    output.show(*shown)
    return 0


def portrait_data(found: Portrait) -> dict[str, Any]:
    """A portrait as plain JSON data."""
    row, state, seen = found.row, found.state, found.circumstances
    parked = None
    if state.paused is not None:
        data = state.paused.data
        parked = {
            "reason": state.reason,
            "message": data.get("message"),
            "detail": state.detail or None,
            "actor": state.paused.actor,
            "time_ms": state.paused.time_ms,
        }
    return run_data(row) | {
        "seq": found.account.seq,
        "last_ms": state.last_ms,
        "generation": found.account.generation,
        "crashes": found.account.crashes,
        "input": state.input,
        "nodes": [node.to_dict() for node in found.account.nodes],
        "waits": [
            {
                "wait_id": wait.wait_id,
                "kind": wait.kind,
                "deadline_ms": wait.deadline_ms,
                "scope": wait.scope,
                "key": wait.key,
            }
            | _asked(wait.data)
            for wait in state.open_waits()
        ],
        "in_doubt": [{"scope": scope, "key": key} for scope, key, _ in state.in_doubt()],
        "children": [
            {"run_id": child.run_id, "workflow": child.workflow, "status": child.status}
            for child in seen.children.values()
        ],
        "state": found.context,
        "paused": parked,
        "why": [point.to_dict() for point in why(seen)],
        "next": [point.to_dict() for point in following(seen)],
    }


def _asked(data: dict[str, Any]) -> dict[str, Any]:
    names = ("question", "name", "match", "child", "subject", "default")
    return {name: data[name] for name in names if data.get(name) is not None}


async def outcome_of(store: Store, state: RunState) -> dict[str, Any]:
    """How a run ended: `output` or `error`, resolved; nothing while it has not."""
    return {
        name: await resolved(store, value)
        for name, value in state.outcome().items()
        if value not in (None, "") or name == "output"
    }


# --- events -----------------------------------------------------------------------------------------------------------


async def print_events(place: Place, output: Output, run_id: str, *, after: int, follow: bool) -> int:
    """Print a run's events; with `follow` until it has ended."""
    async with place.reading() as runtime:
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
            await asyncio.sleep(FOLLOW_S)


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
        state = await runtime.run(run_id).fold(at=at)
        context = {name: await resolved(runtime.store, value) for name, value in state.view().items()}
    output.value(state.to_dict() | {"state": context} if output.json else context)
    return 0


# --- artifacts --------------------------------------------------------------------------------------------------------


async def list_artifacts(place: Place, output: Output, run_id: str) -> int:
    """List the artifacts that a run's payloads name."""
    async with place.reading() as runtime:
        await runtime.run(run_id).row()
        named = artifacts_of(_sound(run_id, await runtime.store.read(run_id))[0])
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
        events, _ = _sound(run_id, await runtime.store.read(run_id))
        names = [name for name in artifacts_of(events) if name.startswith(prefix.lower())]
        if len(names) != 1:
            problem = "names no artifact" if not names else f"names {len(names)} artifacts"
            raise ArtifactNotFoundError(
                f"run {run_id} {problem} that begin with {prefix!r}",
                run_id=run_id,
                hint=f"list them with '{place.command('artifacts', run_id)}'",
            )
        content = await runtime.store.get_artifact(names[0])
    if path is None:
        output.data(content)
        return 0
    try:
        await asyncio.to_thread(path.write_bytes, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error
    output.note(f"{len(content)} bytes written to {path}")
    if output.json:
        output.value({"sha256": names[0], "size": len(content), "path": str(path)})
    return 0
