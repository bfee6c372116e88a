"""How each figure is measured: which processes run, and what is made of their outcomes.

A procedure gives named numbers ("rate", "seconds", …), in SI units unless the name says otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from benchmarks.figures import Entry, Figure
from benchmarks.peers import CONTESTANTS

PROJECT = Path(__file__).resolve().parent.parent
SCRATCH = Path(__file__).resolve().parent / "results" / "scratch"
MEMORY = Path("/dev/shm")
TIME_LIMIT_S = 300
# The cost of a step is taken over this many steps: from the 100th on, and up to the last.
WINDOW_STEPS = 1000
WINDOW_BEGINS = 100
# Figures per step are a difference between a long and a short run, so that what a store costs empty drops out.
SHORT_RUN_STEPS = 20
IMPORT_PROBE = "import time; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


class MeasurementFailed(Exception):
    """A contestant's process ended without a result; the text is the tail of what it said."""


@dataclass(frozen=True)
class Sample:
    """The numbers of one contestant in one round of one figure."""

    figure: str
    contestant: str
    round: int
    arguments: Mapping[str, int]
    values: Mapping[str, float]
    settings: Mapping[str, str]
    took_s: float
    error: str = ""


@dataclass
class Bench:
    """The places where stores are put, and what is kept from round to round."""

    disk: Path
    memory: Path
    finished_runs: dict[str, Path]

    def root(self, figure: Figure) -> Path:
        return self.memory if figure.place == "memory" else self.disk

    @contextmanager
    def directory(self, figure: Figure, entry: Entry) -> Iterator[Path]:
        """A fresh directory, gone afterwards."""
        path = Path(tempfile.mkdtemp(prefix=f"{figure.name}-{entry.contestant}-", dir=self.root(figure)))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def opened_bench() -> Iterator[Bench]:
    """Scratch places on the disk that holds this project and on a RAM disk (if the machine has one)."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    disk = Path(tempfile.mkdtemp(dir=SCRATCH))
    memory = Path(tempfile.mkdtemp(prefix="perdure-bench-", dir=MEMORY)) if MEMORY.is_dir() else disk
    try:
        yield Bench(disk, memory, {})
    finally:
        shutil.rmtree(disk, ignore_errors=True)
        shutil.rmtree(memory, ignore_errors=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0", "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}


def operate(
    figure: Figure, entry: Entry, operation: str, directory: Path, arguments: Mapping[str, int], *wrapper: str
) -> dict[str, Any]:
    """Run one operation in a fresh process and give its outcome."""
    handle, name = tempfile.mkstemp(suffix=".json")
    os.close(handle)
    result = Path(name)
    command = [*wrapper, sys.executable, "-m", "benchmarks.worker", entry.contestant, operation]
    command += [str(result), str(directory), json.dumps(dict(arguments))]
    if figure.one_core:
        command.append(str(max(os.sched_getaffinity(0))))
    try:
        ended = subprocess.run(
            command, cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=TIME_LIMIT_S
        )
        text = result.read_text()
    except subprocess.TimeoutExpired as expired:
        raise MeasurementFailed(f"{operation} took longer than {TIME_LIMIT_S} s") from expired
    finally:
        result.unlink(missing_ok=True)
    if not text:
        raise MeasurementFailed((ended.stderr or ended.stdout or f"exit code {ended.returncode}")[-2000:])
    outcome: dict[str, Any] = json.loads(text)
    return outcome


def throughput(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    with bench.directory(figure, entry) as directory:
        operation = "fan" if "runs" in entry.arguments else "chain"
        outcome = operate(figure, entry, operation, directory, entry.arguments)
    return {"rate": outcome["count"] / outcome["seconds"], "settings": outcome["settings"]}


def flatness(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    with bench.directory(figure, entry) as directory:
        marks: list[float] = operate(figure, entry, "chain", directory, entry.arguments)["marks"]
    early = marks[WINDOW_BEGINS + WINDOW_STEPS] - marks[WINDOW_BEGINS]
    late = marks[-1] - marks[-1 - WINDOW_STEPS]
    return {
        "late_over_early": late / early,
        "early_us": 1e6 * early / WINDOW_STEPS,
        "late_us": 1e6 * late / WINDOW_STEPS,
    }


def stored_bytes(directory: Path) -> int:
    """What the store takes on disk once its write-ahead log is folded into the file."""
    for file in directory.rglob("*.db"):
        if file.is_file():
            connection = apsw.Connection(str(file))
            connection.pragma("wal_checkpoint(TRUNCATE)")
            connection.close()
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def growth(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    sizes: list[tuple[int, int]] = []
    more_steps = entry.arguments["steps"]
    for steps in (SHORT_RUN_STEPS, SHORT_RUN_STEPS + more_steps):
        with bench.directory(figure, entry) as directory:
            outcome = operate(figure, entry, "chain", directory, {**entry.arguments, "steps": steps})
            sizes.append((stored_bytes(directory), outcome["written_bytes"]))
    (stored_before, written_before), (stored, written) = sizes
    return {
        "stored_per_step": (stored - stored_before) / more_steps,
        "written_per_step": (written - written_before) / more_steps,
    }


def recovery(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    with bench.directory(figure, entry) as directory:
        operate(figure, entry, "prepare_recovery", directory, entry.arguments)
        outcome = operate(figure, entry, "recover", directory, entry.arguments)
    return {"seconds": outcome["seconds"], "ms_per_run": 1e3 * outcome["seconds"] / outcome["count"]}


def taking_up(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    with bench.directory(figure, entry) as directory:
        operate(figure, entry, "prepare_pending", directory, entry.arguments)
        outcome = operate(figure, entry, "recover", directory, entry.arguments)
    return {"seconds": outcome["seconds"], "ms_per_run": 1e3 * outcome["seconds"] / outcome["count"]}


def start(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    if "runs" not in entry.arguments:
        return throughput(bench, figure, entry)
    with bench.directory(figure, entry) as directory:
        outcome = operate(figure, entry, "start_latency", directory, entry.arguments)
    return {"ms": 1e3 * statistics.median(outcome["marks"])}


def importing(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    probe = IMPORT_PROBE.format(CONTESTANTS[entry.contestant].imports)
    command = [sys.executable, "-c", probe]
    ended = subprocess.run(command, cwd=PROJECT, env=environment(), capture_output=True, text=True, timeout=60)
    if ended.returncode:
        raise MeasurementFailed(ended.stderr[-2000:])
    return {"ms": 1e3 * float(ended.stdout)}


def loading(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    """The finished run is made once and read in every round."""
    directory = bench.finished_runs.get(entry.contestant)
    if directory is None:
        directory = bench.disk / f"finished-{entry.contestant}"
        directory.mkdir()
        operate(figure, entry, "prepare_load", directory, entry.arguments)
        bench.finished_runs[entry.contestant] = directory
    return {"ms": 1e3 * operate(figure, entry, "load", directory, {})["seconds"]}


def syncs(bench: Bench, figure: Figure, entry: Entry) -> dict[str, Any]:
    """How often a step has the disk confirm, counted at the system call; needs `strace`."""
    if shutil.which("strace") is None:
        raise MeasurementFailed("strace is not installed")
    counts: list[int] = []
    more_steps = entry.arguments["steps"]
    settings: dict[str, str] = {}
    for steps in (SHORT_RUN_STEPS, SHORT_RUN_STEPS + more_steps):
        with bench.directory(figure, entry) as directory, tempfile.TemporaryDirectory() as notes:
            trace = Path(notes) / "trace"
            wrapper = ("strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,msync,sync_file_range", "-o", str(trace))
            settings = operate(figure, entry, "chain", directory, {"steps": steps}, *wrapper)["settings"]
            counts.append(sum("resumed>" not in line and "sync" in line for line in trace.read_text().splitlines()))
    return {"per_step": (counts[1] - counts[0]) / more_steps, "settings": settings}


PROCEDURES: dict[str, Callable[[Bench, Figure, Entry], dict[str, Any]]] = {
    "throughput": throughput,
    "flatness": flatness,
    "growth": growth,
    "recovery": recovery,
    "taking_up": taking_up,
    "start": start,
    "importing": importing,
    "loading": loading,
    "syncs": syncs,
}


def measure(bench: Bench, figure: Figure, entry: Entry, round_number: int) -> Sample:
    """One contestant, one round; a failure is a sample too, with its reason."""
    began = time.monotonic()
    values: dict[str, Any] = {}
    error = ""
    try:
        values = PROCEDURES[figure.procedure](bench, figure, entry)
    except MeasurementFailed as failure:
        error = str(failure).strip() or "no reason given"
    settings = values.pop("settings", {})
    took_s = time.monotonic() - began
    return Sample(figure.name, entry.contestant, round_number, entry.arguments, values, settings, took_s, error)
