"""What a worker says of its runs, in the order in which it happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from perdure.cli.output import Output
from perdure.cli.serving import _Journal
from perdure.store.memory import MemoryStore


class Engine:
    """A runtime as far as the notes need it; what happens in it is told by hand."""

    def __init__(self) -> None:
        self.worker_id = "w1"
        self.worker = SimpleNamespace(executions={})
        self.store = MemoryStore()
        self._ended: list[Callable[[str, str], None]] = []
        self._waiting: list[Callable[[str], None]] = []
        self.on_ended = self._ended.append
        self.on_waiting = self._waiting.append

    def claim(self, run_id: str) -> None:
        self.worker.executions[run_id] = object()

    def wait(self, run_id: str) -> None:
        self._waiting[0](run_id)

    def let_go(self, run_id: str) -> None:
        del self.worker.executions[run_id]

    def end(self, run_id: str) -> None:
        self._ended[0](run_id, "completed")
        self.worker.executions.pop(run_id, None)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def notes(engine: Engine) -> Any:
    return _Journal(engine, Output(json=True))  # type: ignore[arg-type]


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [f"{line['run_id']} {line['event']}" for line in lines]


async def test_a_claim_comes_before_what_the_run_does(
    engine: Engine, notes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when a run is claimed, waits, is let go of and is claimed again between two looks."""
    engine.claim("b")
    engine.wait("b")
    engine.claim("a")
    engine.let_go("b")
    engine.wait("a")
    engine.claim("b")
    engine.end("b")
    await notes.look()
    assert said(capsys) == ["b claimed", "b waiting", "a claimed", "a waiting", "b claimed", "b completed"]


async def test_a_claim_is_told_once(engine: Engine, notes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    engine.claim("a")
    await notes.look()
    await notes.look()
    engine.wait("a")
    await notes.look()
    engine.end("a")
    engine.end("c")  # it was ended by its recovery, and never executed
    await notes.look()
    assert said(capsys) == ["a claimed", "a waiting", "a completed", "c claimed", "c completed"]
