"""The contestants: one module each, all with the same operations.

A peer is used as its own documentation shows it, with its own defaults, and with the setting that makes each step
durable before the next one starts wherever it offers one. Where a default costs it speed or safety, a second
contestant ("variant") runs beside it with that one setting changed, so that both can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NoReturn, Protocol


@dataclass(frozen=True)
class Outcome:
    """What one operation measured.

    `seconds` is the wall time of the work alone (no import, no opening or closing of the store); `count` how many units
    it did; `marks` the instants (seconds on the monotonic clock) at which steps began, or latencies, as the operation
    says; `settings` the durability that was read back from the live connection.
    """

    seconds: float
    count: int
    marks: list[float] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """The operations of a contestant. Every directory is empty at first and belongs to this operation alone."""

    async def chain(self, directory: Path, steps: int, carried_bytes: int = 0) -> Outcome:
        """One run of `steps` steps, each returning a small dict; `marks` are their starts.

        `carried_bytes` is the size of a value that the run carries along and never changes.
        """

    async def fan(self, directory: Path, runs: int, steps: int) -> Outcome:
        """`runs` runs of `steps` steps, started together; `count` is the number of steps."""

    async def start_latency(self, directory: Path, runs: int) -> Outcome:
        """One run after the other on a warm runtime; `marks` are the seconds from `start` to the first step's code."""

    async def prepare_recovery(self, directory: Path, runs: int, die: Callable[[], NoReturn]) -> None:
        """Bring `runs` runs to the middle of their second and last step, then call `die` (kill -9)."""

    async def recover(self, directory: Path, runs: int) -> Outcome:
        """Open the store that `prepare_recovery` left behind and bring every run to its end."""

    async def prepare_load(self, directory: Path, steps: int) -> None:
        """Finish one run of `steps` steps."""

    async def load(self, directory: Path) -> Outcome:
        """Load the finished run's state from the store, cold."""


@dataclass(frozen=True)
class Contestant:
    """A line of the tables: a peer with options."""

    name: str
    title: str
    module: str
    options: dict[str, str] = field(default_factory=dict)
    imports: str = ""
    distributions: tuple[str, ...] = ()

    def open(self) -> Peer:
        """Import the peer (this may take a second) and give its adapter."""
        adapter: Peer = import_module(self.module).Adapter(**self.options)
        return adapter


def _perdure(name: str, title: str, **options: str) -> Contestant:
    return Contestant(name, title, "benchmarks.peers.perdure", options, "import perdure; assert perdure.__file__")


CONTESTANTS: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        Contestant("floor", "floor (raw SQLite commits)", "benchmarks.peers.floor", distributions=("apsw",)),
        _perdure("perdure", "Perdure, `idempotent`"),
        _perdure("perdure-once", "Perdure, `once`", kind="once"),
        _perdure("perdure-pure", "Perdure, `pure` (async)", kind="pure"),
        _perdure("perdure-read", "Perdure, `read` (async)", kind="read"),
        _perdure("perdure-inline", "Perdure, `pure` (inline)", kind="inline"),
        Contestant(
            "dbos",
            "DBOS Transact",
            "benchmarks.peers.dbos",
            imports="import dbos",
            distributions=("dbos",),
        ),
        Contestant(
            "dbos-sync",
            "DBOS Transact, plain functions in threads",
            "benchmarks.peers.dbos",
            options={"form": "sync"},
            distributions=("dbos",),
        ),
        Contestant(
            "dbos-wal",
            "DBOS Transact, file switched to WAL",
            "benchmarks.peers.dbos",
            options={"journal_mode": "wal"},
            distributions=("dbos",),
        ),
        Contestant(
            "langgraph",
            "LangGraph, SqliteSaver",
            "benchmarks.peers.langgraph",
            imports="import langgraph.graph, langgraph.checkpoint.sqlite",
            distributions=("langgraph", "langgraph-checkpoint-sqlite"),
        ),
        Contestant(
            "abstractruntime",
            "AbstractRuntime",
            "benchmarks.peers.abstractruntime",
            imports="import abstractruntime",
            distributions=("abstractruntime",),
        ),
        Contestant(
            "abstractruntime-full",
            "AbstractRuntime, switched to full sync",
            "benchmarks.peers.abstractruntime",
            options={"synchronous": "full"},
            distributions=("abstractruntime",),
        ),
    )
}
