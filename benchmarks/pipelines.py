"""What pipelines cost: `python -m benchmarks.pipelines [--rounds N]`.

Medians over rounds, on SQLite with full fsync beside this file; the floor is what the same file system needs for one
commit, measured in the same round. No other engine of this dialect is installed here: figures that are known of one
stand beside.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from perdure import Runtime
from perdure.pipeline import Outcome, Pipeline, Stage, handler
from perdure.pipeline.syntax import parse
from perdure.pipeline.transforms import prepare
from perdure.pipeline.validation import validate

SCRATCH = Path(__file__).resolve().parent / "results" / "scratch"
ENDS = "start [shape=Mdiamond] exit [shape=Msquare]"
STAGES, VISITS, NODES = 200, 10_000, 10_000
marks: list[float] = []
"""When each visit began."""


@handler("benchmark.count")
async def count(stage: Stage) -> Outcome:
    """A stage that does nothing but count its visits."""
    marks.append(time.perf_counter())
    number = int(str(stage.context.view.get("n") or 0)) + 1
    return Outcome(context_updates={"n": number, "go": number < VISITS})


def chain(stages: int) -> str:
    names = [f"n{number}" for number in range(stages)]
    nodes = " ".join(f'{name} [prompt="Do what is to be done"]' for name in names)
    return f"digraph chain {{ {ENDS} {nodes} {' -> '.join(['start', *names, 'exit'])} }}"


LOOP = f"""digraph loop {{ max_steps={VISITS * 2} max_visits={VISITS * 2} {ENDS} a [type="benchmark.count"]
    start -> a  a -> a [condition="go=true"]  a -> exit [condition="go!=true"] }}"""
TWO_TOOLS = f"""digraph two {{ {ENDS} fan [shape=component] join [shape=tripleoctagon]
    a [shape=parallelogram, tool_command="sleep 2"] b [shape=parallelogram, tool_command="sleep 2"]
    start -> fan  fan -> a -> join  fan -> b -> join  join -> exit }}"""


def large(nodes: int) -> str:
    names = [f"n{number}" for number in range(nodes)]
    lines = [f'{name} [label="Stage {name}", prompt="Do {name}", max_retries=2, timeout=30s]' for name in names]
    edges = [f'{one} -> {other} [label="next", weight=2]' for one, other in itertools.pairwise(names)]
    back = [f'{name} -> {names[place // 2]} [condition="outcome=fail"]' for place, name in enumerate(names)]
    ways = [f"start -> {names[0]}", *edges, *back, f"{names[-1]} -> exit"]
    return "\n".join(["digraph large {", ENDS, *lines, *ways, "}"])


async def executed(text: str) -> tuple[float, int]:
    """Seconds of a run on a fresh store, and bytes of its file after a checkpoint."""
    pipeline = Pipeline.parse(text)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        path = Path(folder) / "runs.db"
        async with Runtime(f"sqlite:///{path}", workflows=[pipeline], environ={}) as runtime:
            began = time.perf_counter()
            await (await runtime.start(pipeline)).result()
            took_s = time.perf_counter() - began
            await runtime.store.compact()
        return took_s, path.stat().st_size


def floor_s(commits: int = 300) -> float:
    """Seconds of one commit of one row, with full fsync."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        connection = apsw.Connection(str(Path(folder) / "floor.db"))
        list(connection.execute("pragma journal_mode=wal; pragma synchronous=full; create table t (x)"))
        began = time.perf_counter()
        for number in range(commits):
            connection.execute("insert into t values (?)", (number,))
        took_s = time.perf_counter() - began
        connection.close()
    return took_s / commits


def stages_s() -> dict[str, float]:
    took_s, size = asyncio.run(executed(chain(STAGES)))
    return {"200 stages, seconds": took_s, "200 stages, MB": size / 1e6, "floor, ms a commit": floor_s() * 1000}


def flatness() -> dict[str, float]:
    marks.clear()
    asyncio.run(executed(LOOP))
    early, late = marks[1100] - marks[100], marks[-1] - marks[-1001]
    return {"10,000th visit / 100th": late / early, "a visit, us": (marks[-1] - marks[100]) / (VISITS - 101) * 1e6}


def two_tools_s() -> dict[str, float]:
    return {"two branches of 2 s, seconds": asyncio.run(executed(TWO_TOOLS))[0]}


def reading_s() -> dict[str, float]:
    text = large(NODES)
    began = time.perf_counter()
    document = parse(text)
    read = time.perf_counter()
    found = validate(prepare(document))
    assert not [one for one in found if one.severity == "error"]
    checked = time.perf_counter()
    return {"10,000 nodes read, seconds": read - began, "10,000 nodes checked, seconds": checked - read}


FIGURES: tuple[Callable[[], dict[str, float]], ...] = (stages_s, flatness, two_tools_s, reading_s)
WANTED = {
    "200 stages, seconds": "<= 1 (an existing engine: 63)",
    "200 stages, MB": "< 1 (an existing engine: 16.7)",
    "two branches of 2 s, seconds": "< 2.5",
    "10,000th visit / 100th": "flat",
    "10,000 nodes read, seconds": "<= 1 with the next",
}


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipelines", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = {}
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for number in range(1, rounds + 1):
        for figure in FIGURES:
            print(f"round {number} of {rounds}: {figure.__name__}", file=sys.stderr)
            for name, value in figure().items():
                found.setdefault(name, []).append(value)
    print("| figure (SQLite, full fsync) | median | least | most | wanted |\n|---|---|---|---|---|")
    for name, values in found.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:.3g} | {min(values):.3g} | {max(values):.3g} | {WANTED.get(name, '')} |")


if __name__ == "__main__":
    main()
