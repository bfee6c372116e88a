"""What `verify`, `doctor` and `version` do."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

from perdure.cli.exits import COMPLETED, FAILED
from perdure.cli.findings import compare_index, verified_line
from perdure.cli.output import Output, count
from perdure.cli.place import Place
from perdure.cli.times import now_ms, span
from perdure.core.errors import CorruptRecordError, StoreCorruptError, StoreError
from perdure.core.version import VERSION
from perdure.engine.runtime import Runtime
from perdure.engine.verification import verify_run
from perdure.journal.state import TERMINAL
from perdure.store.port import RunFilter, RunRow, Store, WorkerRow
from perdure.store.sqlite.readonly import integrity_of
from perdure.store.sqlite.version import sqlite_version

T = TypeVar("T")

PAGE: Final = 500
DAY_MS: Final = 86_400_000
LARGE_LOG_BYTES: Final = 256 * 1024 * 1024
"""A write-ahead log of this size says that something keeps it from starting anew."""


# --- verify -----------------------------------------------------------------------------------------------------------


async def verify_one(place: Place, output: Output, run_id: str) -> int:
    """Check one run; raises `CorruptRecordError` for the first bad record."""
    async with place.reading() as runtime:
        verified = await verify_run(runtime.store, run_id)
    if output.json:
        output.value(verified.to_dict())
    else:
        output.line(f"{run_id}: {verified_line(verified)}")
    return COMPLETED


async def verify_all(place: Place, output: Output) -> int:
    """Check all runs, and go on behind a bad one."""
    bad = checked = 0
    async with place.reading() as runtime:
        async for row in all_runs(runtime.store):
            checked += 1
            try:
                verified = await verify_run(runtime.store, row.run_id)
            except (CorruptRecordError, StoreCorruptError) as error:
                bad += 1
                if output.json:
                    output.record(
                        {"run_id": row.run_id, "ok": False, "seq": error.ids.get("seq"), "problem": error.message}
                    )
                else:
                    output.line(f"{row.run_id}: BAD: {error.message}")
                continue
            if output.json:
                output.record(verified.to_dict())
            else:
                output.line(f"{row.run_id}: {verified_line(verified)}")
    output.note(f"{count(checked, 'run')} checked, {bad or 'none'} bad")
    return FAILED if bad else COMPLETED


async def all_runs(store: Store, statuses: Sequence[Any] = ()) -> AsyncIterator[RunRow]:
    """Index rows of all runs, newest first, a page at a time."""
    before: tuple[int, str] | None = None
    while True:
        rows = await store.list_runs(RunFilter(tuple(statuses), before=before, limit=PAGE))
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        before = (rows[-1].created_ms, rows[-1].run_id)


# --- doctor -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Finding:
    """Something that the examination found.

    Args:
        check: which check found it.
        text: in words.
        broken: it must be put right; otherwise it only needs attention.
        commands: what helps.
    """

    check: str
    text: str
    broken: bool = False
    commands: list[str] = field(default_factory=list)


async def examine(place: Place, output: Output, *, everything: bool) -> int:
    """Examine the store and print what was found."""
    if place.server is not None:
        from perdure.cli.remote.diagnosis import examine_service

        return await examine_service(place, output, everything=everything)
    findings: list[Finding] = []
    about = versions() | _files(place)
    try:
        async with place.reading() as runtime:
            store = runtime.store
            findings += [Finding("integrity", problem, broken=True) for problem in await store.integrity()]
            about |= {"store": store.url, "durability": store.durability}
            about["runs"] = await part(findings, "the index of runs", store.count_runs(), {})
            workers = await part(findings, "the list of workers", store.workers(), [])
            about["workers"] = [worker_data(worker) for worker in workers]
            findings += _log_size(about)
            findings += await examine_runs(place, runtime, workers, everything=everything)
            findings += await old_questions(place, runtime)
    except StoreCorruptError as error:  # not even opened
        findings.append(Finding("store", error.message, broken=True))
        findings += [Finding("integrity", problem, broken=True) for problem in _problems(place)]
    return conclude(output, about, findings)


def conclude(output: Output, about: dict[str, Any], findings: Sequence[Finding]) -> int:
    """Print what was found; returns the exit code."""
    broken = any(finding.broken for finding in findings)
    if output.json:
        output.value(about | {"ok": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(output, about, findings)
    return FAILED if broken else COMPLETED


def versions() -> dict[str, str]:
    """Of Perdure and of what it stands on."""
    return {"perdure": VERSION, "python": platform.python_version(), "sqlite": sqlite_version()}


async def part(findings: list[Finding], what: str, reading: Awaitable[T], otherwise: T) -> T:
    """A part of the examination; when it cannot be read, that is a finding, and the others go on."""
    try:
        return await reading
    except (StoreError, CorruptRecordError) as error:
        findings.append(Finding("store", f"{what} cannot be read: {error.message}", broken=True))
        return otherwise


def _files(place: Place) -> dict[str, Any]:
    path = place.file(place.store(read_only=True))
    if path is None:
        return {}
    return {"path": path, "bytes": _size(path), "log_bytes": _size(f"{path}-wal")}


def _problems(place: Place) -> list[str]:
    """What is wrong with a file that cannot be opened as a store."""
    path = place.file(place.store(read_only=True))
    return integrity_of(path) if path is not None else []


def worker_data(worker: WorkerRow) -> dict[str, Any]:
    return {
        "worker": worker.worker_id,
        "pid": worker.pid,
        "host": worker.host,
        "alive": worker.alive,
        "draining": worker.draining,
        "workflows": list(worker.workflows),
    }


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _log_size(about: dict[str, Any]) -> list[Finding]:
    size = about.get("log_bytes", 0)
    if size < LARGE_LOG_BYTES:
        return []
    return [Finding("log", f"the write-ahead log holds {size // 1_000_000} MB: something reads without an end")]


async def examine_runs(
    place: Place, runtime: Runtime, workers: Sequence[WorkerRow], *, everything: bool
) -> list[Finding]:
    """What is wrong with runs: index rows, chains, owners, parked ones."""
    store, now = runtime.store, now_ms()
    alive = {worker.worker_id for worker in workers if worker.alive}
    loaded = {name for worker in workers if worker.alive and not worker.draining for name in worker.workflows}
    findings: list[Finding] = []
    lost: set[str] = set()
    nobody: dict[str, list[str]] = {}
    for row in await _listed(findings, store):
        ended = row.status in TERMINAL
        if ended and not everything and now - row.updated_ms > DAY_MS:
            continue
        findings += await _journal(place, store, row, everything=everything)
        if ended:
            continue
        if row.owner is not None and row.owner not in alive:
            lost.add(row.owner)
        if row.status == "paused":
            text = f"run {row.run_id} ({row.workflow}) is {'paused' if row.reason == 'paused' else 'parked'}"
            text += f" for {span(now - row.updated_ms)}" + ("" if row.reason == "paused" else f": {row.reason}")
            findings.append(Finding("paused", text, commands=[place.command("show", row.run_id)]))
        elif row.owner not in alive and row.workflow not in loaded and not row.caller_owned:
            nobody.setdefault(row.workflow, []).append(row.run_id)
    for worker_id in sorted(lost):
        findings.append(
            Finding("workers", f"worker {worker_id} is gone and left runs in the middle; the next one goes on")
        )
    for workflow, run_ids in sorted(nobody.items()):
        text = f"{count(len(run_ids), 'run')} of workflow {workflow!r}: no live worker has loaded it"
        findings.append(Finding("workers", text, commands=place.executing("FILE")))
    return findings


async def _listed(findings: list[Finding], store: Store) -> list[RunRow]:
    """The index rows of all runs, up to where they cannot be read."""
    rows: list[RunRow] = []
    try:
        async for row in all_runs(store):
            rows.append(row)
    except StoreError as error:
        findings.append(Finding("store", f"not all runs can be listed: {error.message}", broken=True))
    return rows


async def _journal(place: Place, store: Store, row: RunRow, *, everything: bool) -> list[Finding]:
    try:
        problems = await compare_index(store, row)
        if everything:
            await verify_run(store, row.run_id)
    except (CorruptRecordError, StoreError) as error:
        text = error.message if f"run {row.run_id}" in error.message else f"run {row.run_id}: {error.message}"
        return [Finding("journal", text, broken=True, commands=[place.command("verify", row.run_id)])]
    return [Finding("index", f"run {row.run_id}: {problem}", broken=True) for problem in problems]


async def old_questions(place: Place, runtime: Runtime) -> list[Finding]:
    """Questions that are open for more than a day."""
    findings: list[Finding] = []
    now = now_ms()
    waits = await part(findings, "the index of open questions", runtime.store.open_waits(kind="question"), [])
    for run_id in dict.fromkeys(one.run_id for one in waits):
        try:
            state = await runtime.run(run_id).fold()
        except (CorruptRecordError, StoreError):
            continue  # that is told already
        if state.terminal:
            continue
        for wait in state.open_waits():
            age_ms = now - wait.opened.time_ms
            if wait.kind == "question" and age_ms > DAY_MS:
                text = f"run {run_id} waits for {span(age_ms)} for an answer: {wait.data['question']['text']}"
                findings.append(Finding("questions", text, commands=[place.command("questions", run_id)]))
    return findings


def _print(output: Output, about: dict[str, Any], findings: Sequence[Finding]) -> None:
    output.line(f"perdure {about['perdure']}, Python {about['python']}, SQLite {about['sqlite']}")
    if "server" in about:
        service = about["server"]
        output.line(f"service {service['url']} (perdure {service['version']}): {service['status']}")
        output.line(f"runs: {_counts(about)}")
        output.line(f"not checked over HTTP: {', '.join(about['not_checked'])}")
    else:
        _print_store(output, about)
    for worker in about.get("workers", ()):
        state = "draining" if worker["draining"] else "alive" if worker["alive"] else "gone"
        names = ", ".join(worker["workflows"]) or "no workflows of its own"
        output.line(f"worker {worker['worker']} (process {worker['pid']} on {worker['host']}): {state}; {names}")
    for finding in sorted(findings, key=lambda one: not one.broken):
        output.line(f"{'BROKEN' if finding.broken else 'note'} [{finding.check}] {finding.text}")
        for command in finding.commands:
            output.line(f"    $ {command}")
    if not findings:
        output.line("nothing found that needs attention")


def _counts(about: dict[str, Any]) -> str:
    return ", ".join(f"{number} {status}" for status, number in sorted(about["runs"].items())) or "none"


def _print_store(output: Output, about: dict[str, Any]) -> None:
    size = f", {about['bytes']} bytes, log {about['log_bytes']} bytes" if "bytes" in about else ""
    if "store" in about:
        output.line(f"store {about['store']} (durability {about['durability']}{size})")
        output.line(f"runs: {_counts(about)}")
    else:
        output.line(f"store {about['path']}, which cannot be opened{size}")
