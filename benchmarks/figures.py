"""What is measured: every figure with its contestants and the size of the work that each is given.

A peer that is slow gets fewer steps where the figure is a rate; where the number of runs itself matters (runs side by
side, recovery), all get the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MEGABYTE = 1_000_000
FLOOR_COMMITS = 2000


@dataclass(frozen=True)
class Entry:
    """A contestant in a figure. `rounds` limits how often it takes part (default: in every round)."""

    contestant: str
    arguments: Mapping[str, int] = field(default_factory=dict)
    rounds: int | None = None


@dataclass(frozen=True)
class Figure:
    """One thing that is measured.

    `procedure` names the function in `procedures` that measures it. `place` is where the store lies: "disk" (beside
    this file) or "memory" (a RAM disk). With `one_core` the process may use a single core.
    """

    name: str
    procedure: str
    entries: tuple[Entry, ...]
    place: str = "disk"
    one_core: bool = False


def steps(count: int, **more: int) -> dict[str, int]:
    return {"steps": count, **more}


def fan(runs: int) -> dict[str, int]:
    return {"runs": runs, "steps": 10}


CHAIN = Figure(
    "chain",
    "throughput",
    (
        Entry("floor", steps(FLOOR_COMMITS)),
        Entry("perdure", steps(1000)),
        Entry("perdure-once", steps(1000)),
        Entry("dbos", steps(300)),
        Entry("langgraph", steps(500)),
        Entry("abstractruntime", steps(500)),
        Entry("dbos-sync", steps(300), rounds=3),
        Entry("dbos-wal", steps(300), rounds=3),
        Entry("abstractruntime-full", steps(300), rounds=3),
    ),
)
FAN = Figure(
    "fan",
    "throughput",
    (
        Entry("floor", steps(FLOOR_COMMITS)),
        Entry("perdure", fan(200)),
        Entry("dbos", fan(200)),
        Entry("dbos-sync", fan(200)),
        Entry("langgraph", fan(100)),
        Entry("abstractruntime", fan(200)),
        Entry("dbos-wal", fan(200), rounds=3),
        Entry("abstractruntime-full", fan(100), rounds=3),
    ),
)
MEMORY_FAN = Figure(
    "fan-memory",
    "throughput",
    (
        Entry("perdure", fan(200)),
        Entry("dbos", fan(100)),
        Entry("langgraph", fan(100)),
        Entry("abstractruntime", fan(200)),
    ),
    place="memory",
    one_core=True,
)
PURE = Figure(
    "pure",
    "throughput",
    (
        Entry("floor", steps(FLOOR_COMMITS)),
        Entry("perdure-pure", steps(5000)),
        Entry("perdure-read", steps(5000)),
        Entry("perdure-inline", steps(5000)),
    ),
)
FLAT = Figure("flat", "flatness", (Entry("perdure", steps(10_000)),))
FLAT_MEMORY = Figure(
    "flat-memory",
    "flatness",
    (
        Entry("perdure", steps(10_000)),
        Entry("dbos", steps(3000), rounds=3),
        Entry("langgraph", steps(5000), rounds=3),
        Entry("abstractruntime", steps(5000), rounds=3),
    ),
    place="memory",
)
GROWTH = Figure(
    "growth",
    "growth",
    (
        Entry("perdure", steps(5000, carried_bytes=0), rounds=3),
        Entry("perdure-once", steps(5000, carried_bytes=0), rounds=3),
        Entry("dbos", steps(300, carried_bytes=0), rounds=1),
        Entry("langgraph", steps(300, carried_bytes=0), rounds=1),
        Entry("abstractruntime", steps(300, carried_bytes=0), rounds=1),
    ),
)
GROWTH_CARRYING = Figure(
    "growth-carrying",
    "growth",
    (
        Entry("perdure", steps(5000, carried_bytes=MEGABYTE), rounds=3),
        Entry("perdure-once", steps(5000, carried_bytes=MEGABYTE), rounds=3),
        Entry("dbos", steps(300, carried_bytes=MEGABYTE), rounds=1),
        Entry("langgraph", steps(60, carried_bytes=MEGABYTE), rounds=1),
        Entry("abstractruntime", steps(60, carried_bytes=MEGABYTE), rounds=1),
    ),
)
RECOVERY = Figure(
    "recovery",
    "recovery",
    (
        Entry("perdure", {"runs": 1000}),
        Entry("dbos", {"runs": 1000}, rounds=3),
        Entry("langgraph", {"runs": 1000}, rounds=3),
        Entry("abstractruntime", {"runs": 1000}, rounds=3),
    ),
)
PENDING = Figure("pending", "taking_up", (Entry("perdure", {"runs": 1000}),))
START = Figure(
    "start",
    "start",
    (
        Entry("floor", steps(FLOOR_COMMITS)),
        Entry("perdure", {"runs": 200}),
        Entry("dbos", {"runs": 50}),
        Entry("langgraph", {"runs": 100}),
        Entry("abstractruntime", {"runs": 100}),
    ),
)
IMPORT = Figure(
    "import",
    "importing",
    (Entry("perdure"), Entry("dbos"), Entry("langgraph"), Entry("abstractruntime")),
)
LOAD = Figure(
    "load",
    "loading",
    (
        Entry("perdure", steps(10_000)),
        Entry("dbos", steps(10_000)),
        Entry("langgraph", steps(10_000)),
        Entry("abstractruntime", steps(10_000)),
    ),
)
SYNCS = Figure(
    "syncs",
    "syncs",
    tuple(
        Entry(name, steps(100), rounds=1)
        for name in (
            "floor",
            "perdure",
            "perdure-once",
            "perdure-pure",
            "dbos",
            "dbos-wal",
            "langgraph",
            "abstractruntime",
            "abstractruntime-full",
        )
    ),
)

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        CHAIN,
        FAN,
        MEMORY_FAN,
        PURE,
        FLAT,
        FLAT_MEMORY,
        GROWTH,
        GROWTH_CARRYING,
        RECOVERY,
        PENDING,
        START,
        IMPORT,
        LOAD,
        SYNCS,
    )
}
