"""LangGraph with `SqliteSaver`: a graph whose only node loops, one checkpoint per turn.

`durability="sync"` is asked for on every call: LangGraph's default, "async", starts the next step while the last
checkpoint is still being written, and would not be the same work. Threads of the pool do not make it faster (one
connection behind one lock), so runs go one after the other.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.peers import Outcome

LOADED_RUN = "finished"
marks: list[float] = []


class State(TypedDict, total=False):
    number: int
    steps: int
    result: dict[str, int]
    carried: str


def work(state: State) -> State:
    marks.append(time.perf_counter())
    number = state["number"]
    return {"number": number + 1, "result": {"number": number}}


def after_work(state: State) -> str:
    return END if state["number"] >= state["steps"] else "work"


class Graph:
    """The compiled graph and its store."""

    def __init__(self, saver: SqliteSaver) -> None:
        builder: Any = StateGraph(State)
        builder.add_node("work", work)
        builder.add_edge(START, "work")
        builder.add_conditional_edges("work", after_work, ["work", END])
        self.graph: Any = builder.compile(checkpointer=saver)
        self.settings = {
            "SQLite": sqlite3.sqlite_version,
            **{
                name: str(saver.conn.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("journal_mode", "synchronous")
            },
        }

    def config(self, thread: str, steps: int) -> dict[str, Any]:
        return {"configurable": {"thread_id": thread}, "recursion_limit": steps + 10}

    def run(self, thread: str, steps: int, carried: str | None = None, **options: Any) -> None:
        state: State = {"number": 0, "steps": steps}
        if carried is not None:
            state["carried"] = carried
        self.graph.invoke(state, self.config(thread, steps), durability="sync", **options)

    def resume(self, thread: str, steps: int) -> None:
        end = self.graph.invoke(None, self.config(thread, steps), durability="sync")
        assert end["number"] == steps, end


@contextmanager
def opened(directory: Path) -> Iterator[Graph]:
    with SqliteSaver.from_conn_string(str(directory / "langgraph.db")) as saver:
        saver.setup()
        yield Graph(saver)


class Adapter:
    async def chain(self, directory: Path, steps: int, carried_bytes: int = 0) -> Outcome:
        with opened(directory) as graph:
            graph.run("warm", 3)
            marks.clear()
            began = time.perf_counter()
            graph.run("chain", steps, "x" * carried_bytes if carried_bytes else None)
            return Outcome(time.perf_counter() - began, steps, list(marks), graph.settings)

    async def fan(self, directory: Path, runs: int, steps: int) -> Outcome:
        with opened(directory) as graph:
            graph.run("warm", 3)
            began = time.perf_counter()
            for number in range(runs):
                graph.run(f"run-{number}", steps)
            return Outcome(time.perf_counter() - began, runs * steps, settings=graph.settings)

    async def start_latency(self, directory: Path, runs: int) -> Outcome:
        with opened(directory) as graph:
            graph.run("warm", 3)
            latencies: list[float] = []
            for number in range(runs):
                marks.clear()
                began = time.perf_counter()
                graph.run(f"run-{number}", 1)
                latencies.append(marks[0] - began)
            return Outcome(sum(latencies), runs, latencies, graph.settings)

    async def prepare_recovery(self, directory: Path, runs: int, die: Callable[[], NoReturn]) -> None:
        """Stops behind the first checkpointed step: LangGraph keeps no record of a step that is under way."""
        with opened(directory) as graph:
            for number in range(runs):
                graph.run(f"run-{number}", 2, interrupt_after=["work"])
            die()

    async def recover(self, directory: Path, runs: int) -> Outcome:
        """It has no list of unfinished runs: their names are given, which saves it the search."""
        began = time.perf_counter()
        with opened(directory) as graph:
            for number in range(runs):
                graph.resume(f"run-{number}", 2)
            return Outcome(time.perf_counter() - began, runs, settings=graph.settings)

    async def prepare_load(self, directory: Path, steps: int) -> None:
        with opened(directory) as graph:
            graph.run(LOADED_RUN, steps)

    async def load(self, directory: Path) -> Outcome:
        """The newest checkpoint holds the whole state, so one row is read."""
        with opened(directory) as graph:
            began = time.perf_counter()
            snapshot = graph.graph.get_state(graph.config(LOADED_RUN, 1))
            return Outcome(time.perf_counter() - began, snapshot.values["number"], settings=graph.settings)
