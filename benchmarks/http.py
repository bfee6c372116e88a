"""What the HTTP service costs: `python -m benchmarks.http [--rounds N] [--only NAME …] [--memory-runs N]`.

The service runs in a process of its own, on SQLite beside this file, and the load comes from another one. What is
compared with a floor is measured beside it in the same round: the floor is an empty route of the same framework on the
same server with the same settings. Medians over rounds.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.pipelines import STAGES, chain

SCRATCH = Path(__file__).resolve().parent / "results" / "scratch"
CONNECTIONS: Final = 16
STARTS, LOOKS = 2000, 4000
RUNS_LOOKED_AT: Final = 50
WRITERS, EVENTS_EACH, EVENTS_PER_S = 10, 300, 1000
READERS, READ_EVENTS, READ_PER_S = 1000, 500, 50
MEMORY_RUNS: Final = 10_000
SAMPLES: Final = 10
BESIDE: Final = 5
"""How many pipelines run one after the other while other requests are made."""
durability = "full"

Request = tuple[str, str, str]
START: Final[Request] = ("POST", "/runs", '{"workflow":"listen","input":{}}')
ADD: Final[Request] = ("POST", "/runs", '{"workflow":"add","input":{"a":1}}')
SLOWEST_MS: Final = 100.0


class Place:
    """A process that answers requests.

    Args:
        process: it.
        facts: where it is found.
    """

    def __init__(self, process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
        self._process = process
        self._facts = facts

    def processor_s(self) -> float:
        """The seconds that the process has kept a processor busy."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """The memory that the process holds, in MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def send(
        self, *requests: Request, count: int = 1, connections: int = 1, keep_ids: bool = False, beside: bool = False
    ) -> Any:
        """Send requests in turn from another process; see `http_load.send`.

        Args:
            beside: do not wait for the end; what is returned does.
        """
        order = {"what": "send", "count": count, "connections": connections, "keep_ids": keep_ids}
        load = self._load(order, requests)
        return (lambda: _result(load)) if beside else _result(load)

    def given(self, path: str) -> Any:
        """The JSON that stands at a path."""
        asked = urllib.request.Request(f"http://{self._facts['host']}:{self._facts['port']}{path}")
        asked.add_header("authorization", f"Bearer {self._facts['token']}")
        with urllib.request.urlopen(asked) as answer:
            return json.load(answer)

    def follow(self, *requests: Request, timed: bool = False) -> Callable[[], Any]:
        """Open streams in another process; returns when all have begun, and what is returned waits for their ends."""
        load = self._load({"what": "follow", "timed": timed}, requests)
        assert load.stdout is not None
        line = load.stdout.readline()
        if line != "begun\n":
            raise RuntimeError(f"the streams did not begin: {line}")
        return lambda: _result(load)

    def _load(self, order: dict[str, Any], requests: Sequence[Request]) -> subprocess.Popen[str]:
        load = _process("benchmarks.http_load")
        assert load.stdin is not None
        load.stdin.write(json.dumps(self._facts | order | {"requests": requests}))
        load.stdin.close()
        load.stdin = None
        return load


def _process(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _result(load: subprocess.Popen[str]) -> Any:
    out, _ = load.communicate()
    if load.returncode:
        raise RuntimeError("the load failed; see above")
    return json.loads(out)


@contextmanager
def running(*arguments: str) -> Iterator[Place]:
    """A service in a process of its own."""
    process = _process("benchmarks.http_service", *arguments)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Place(process, json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


@contextmanager
def perdure() -> Iterator[Place]:
    """The service over a fresh store."""
    with (
        tempfile.TemporaryDirectory(dir=SCRATCH) as folder,
        running("perdure", f"sqlite:///{folder}/runs.db", durability) as place,
    ):
        yield place


def rate(answers: dict[str, Any], status: str) -> float:
    """Requests per second; all of them must have been answered well."""
    if set(answers["statuses"]) != {status}:
        raise RuntimeError(f"answers other than {status}: {answers['statuses']}")
    return len(answers["ms"]) / float(answers["seconds"])


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which that part of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


# --- figures ----------------------------------------------------------------------------------------------------------


def starts() -> dict[str, float]:
    """Starts of runs that wait at once on a signal, over the floor."""
    load = {"connections": CONNECTIONS}
    with running("floor") as floor, perdure() as place:
        empty: Request = ("POST", "/empty", START[2])
        floor.send(empty, count=300, **load)
        place.send(START, count=300, **load)
        before = floor.processor_s(), place.processor_s()
        least = rate(floor.send(empty, count=STARTS, **load), "200")
        ours = place.send(START, count=STARTS, **load)
        found = rate(ours, "201")
        return {
            "start, per s": found,
            "start, floor per s": least,
            "start / floor": found / least,
            "start / floor, by processor time": _by_processor(before, floor, place),
            "start, p50 ms": percentile(ours["ms"], 0.5),
            "start, p99 ms": percentile(ours["ms"], 0.99),
        }


def shows() -> dict[str, float]:
    """`GET /runs/:id` over the floor."""
    load = {"connections": CONNECTIONS}
    with running("floor") as floor, perdure() as place:
        ids = place.send(START, count=RUNS_LOOKED_AT, keep_ids=True, **load)["ids"]
        ours: list[Request] = [("GET", f"/runs/{run_id}", "") for run_id in ids]
        empty: Request = ("GET", "/empty", "")
        floor.send(empty, count=300, **load)
        place.send(*ours, count=300, **load)
        before = floor.processor_s(), place.processor_s()
        least = rate(floor.send(empty, count=LOOKS, **load), "200")
        found = rate(place.send(*ours, count=LOOKS, **load), "200")
        return {
            "show, per s": found,
            "show, floor per s": least,
            "show / floor": found / least,
            "show / floor, by processor time": _by_processor(before, floor, place),
        }


def _by_processor(before: tuple[float, float], floor: Place, place: Place) -> float:
    """The same ratio in processor time, which what else the machine does changes less."""
    return (floor.processor_s() - before[0]) / (place.processor_s() - before[1])


def speaking(place: Place, runs: int, events: int, per_s: float) -> list[str]:
    """Runs that emit events once they are given a signal."""
    body = json.dumps({"workflow": "speak", "input": {"events": events, "rate": per_s}})
    ids: list[str] = place.send(("POST", "/runs", body), count=runs, keep_ids=True)["ids"]
    return ids


def go(place: Place, ids: Sequence[str]) -> None:
    """Give runs their signal."""
    place.send(*(("POST", f"/runs/{run_id}/signal", '{"name":"go"}') for run_id in ids), count=len(ids))


def latency() -> dict[str, float]:
    """From the end of the commit to the client's socket: runs that emit side by side, and a reader of each."""
    with perdure() as place:
        ids = speaking(place, WRITERS, EVENTS_EACH, EVENTS_PER_S / WRITERS)
        place.send(*(("POST", f"/marks/{run_id}", "") for run_id in ids), count=len(ids))
        ends = place.follow(*(("GET", f"/runs/{run_id}/events?stream=true", "") for run_id in ids), timed=True)
        go(place, ids)
        took_ms: list[float] = []
        seconds: list[float] = []
        for run_id, marks in zip(ids, ends()["marks"], strict=True):
            committed = place.given(f"/marks/{run_id}")["commits"]
            seqs = [seq for seq, _ in committed]
            came = {int(seq): at for seq, at in marks.items() if int(seq) > (seqs[0] if seqs else 0)}
            took_ms += [(at - committed[bisect.bisect_left(seqs, seq)][1]) / 1e6 for seq, at in came.items()]
            seconds.append((max(came.values()) - min(came.values())) / 1e9)
    assert len(took_ms) >= WRITERS * EVENTS_EACH
    return {
        "commit to client, p50 ms": percentile(took_ms, 0.5),
        "commit to client, p99 ms": percentile(took_ms, 0.99),
        "commit to client, events per s": len(took_ms) / max(seconds),
    }


def readers() -> dict[str, float]:
    """Many readers of one run: that each gets every event is checked by the readers."""
    with perdure() as place:
        (run_id,) = speaking(place, 1, READ_EVENTS, READ_PER_S)
        place.send(("POST", f"/marks/{run_id}", ""))
        ends = place.follow(*[("GET", f"/runs/{run_id}/events?stream=true", "")] * READERS, timed=True)
        go(place, [run_id])
        told = ends()
        committed = place.given(f"/marks/{run_id}")["commits"]
        resident = place.resident_mb()
    seqs = [seq for seq, _ in committed]
    last = set(told["last"])
    if len(last) != 1 or last.pop() < READ_EVENTS:
        raise RuntimeError(f"readers ended at different places: {set(told['last'])}")
    took_ms = [
        (at - committed[bisect.bisect_left(seqs, int(seq))][1]) / 1e6
        for marks in told["marks"]
        for seq, at in marks.items()
        if int(seq) > seqs[0]
    ]
    span_s = max(at for marks in told["marks"] for at in marks.values()) / 1e9 - committed[0][1] / 1e9
    return {
        f"{READERS} readers, MB": resident,
        f"{READERS} readers, p50 ms": percentile(took_ms, 0.5),
        f"{READERS} readers, p99 ms": percentile(took_ms, 0.99),
        f"{READERS} readers, seconds over those of the writing": span_s / (READ_EVENTS / READ_PER_S),
    }


def memory(runs: int) -> dict[str, float]:
    """Memory of the service while runs come and end: the last tenth's over the second's."""
    with perdure() as place:
        found: list[float] = []
        began = time.perf_counter()
        for _ in range(SAMPLES):
            place.send(ADD, count=runs // SAMPLES, connections=CONNECTIONS)
            found.append(place.resident_mb())
        took_s = time.perf_counter() - began
        counted = place.given("/runs?status=completed&limit=1")
        assert counted["runs"]
    return {
        f"memory after {runs:,} runs, MB": found[-1],
        f"memory after {runs:,} runs / after {2 * runs // SAMPLES:,}": found[-1] / found[1],
        f"{runs:,} runs from start to end, per s": runs / took_s,
    }


def beside() -> dict[str, float]:
    """Every other request while a long pipeline runs."""
    start: Request = ("POST", "/pipelines", json.dumps({"dot": chain(STAGES)}))
    with perdure() as place:
        (first,) = place.send(start, keep_ids=True)["ids"]
        (run,) = place.send(START, keep_ids=True)["ids"]
        paths = [f"/pipelines/{first}", "/pipelines", f"/runs/{run}", "/runs", f"/pipelines/{first}/context"]
        paths += ["/healthz", f"/pipelines/{first}/checkpoint", "/questions", "/metrics", "/workflows"]
        others: list[Request] = [("GET", path, "") for path in paths] + [START]
        place.send(*others, count=2 * len(others))
        ends = place.send(*others, count=600, connections=2, beside=True)
        began = time.perf_counter()
        ids = place.send(start, count=BESIDE, keep_ids=True)["ids"]
        for run_id in ids:
            place.follow(("GET", f"/pipelines/{run_id}/events", ""))()
        took_s = time.perf_counter() - began
        ms = ends()["ms"]
    return {
        "beside pipelines of 200 stages, p50 ms": percentile(ms, 0.5),
        "beside pipelines of 200 stages, most ms": max(ms),
        f"{BESIDE} pipelines of 200 stages over HTTP, seconds": took_s,
    }


FIGURES: dict[str, Callable[[], dict[str, float]]] = {
    "start": starts,
    "show": shows,
    "latency": latency,
    "readers": readers,
    "memory": lambda: memory(memory_runs),
    "beside": beside,
}
memory_runs = MEMORY_RUNS
WANTED = {
    "start / floor": ">= 0.4",
    "show / floor": ">= 0.6",
    "commit to client, p50 ms": "<= 5",
    "commit to client, p99 ms": "<= 25",
    f"{READERS} readers, MB": "< 500, each gets all",
    f"memory after {MEMORY_RUNS:,} runs / after {2 * MEMORY_RUNS // SAMPLES:,}": "flat",
    "memory after 100,000 runs / after 20,000": "flat",
    "beside pipelines of 200 stages, most ms": "< 100",
}


def main() -> None:
    """Measure, and print a table in Markdown."""
    global durability, memory_runs
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--memory-runs", type=int, default=MEMORY_RUNS, help="100000 for the whole figure")
    parser.add_argument("--durability", choices=("full", "process"), default="full")
    asked = parser.parse_args()
    durability, memory_runs = asked.durability, asked.memory_runs
    found: dict[str, list[float]] = {}
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for number in range(1, asked.rounds + 1):
        for name in asked.only:
            print(f"round {number} of {asked.rounds}: {name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
            for figure, value in FIGURES[name]().items():
                found.setdefault(figure, []).append(value)
    print(f"{machine.processor()}, {machine.usable_cores()} cores; SQLite, durability {durability}\n")
    print("| figure | median | least | most | wanted |\n|---|---|---|---|---|")
    for figure, values in found.items():
        middle = statistics.median(values)
        print(f"| {figure} | {middle:.3g} | {min(values):.3g} | {max(values):.3g} | {WANTED.get(figure, '')} |")


if __name__ == "__main__":
    main()
