"""What a run must do, in as little Python as possible: no journal, no store, no tasks, no crashes but one line.

A model run is a place in its script and what it has found so far. `settle` takes it as far as it goes by itself.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.model.script import Op

GRACE_S = 5
BACKOFF_S = 10
TRIES = 3


@dataclass
class ModelRun:
    """One run: what it does, how far it is, and what the world has seen of it."""

    run_id: str
    ops: list[Op]
    at: int = 0
    results: list[Any] = field(default_factory=list)
    written: int = 0
    done: Counter[str] = field(default_factory=Counter)
    status: str = "running"
    due_s: int | None = None
    """When what it waits for is over by itself."""
    waiting: str | None = None
    """`question`, `signal`, `timer`, `backoff`, `doubt`, `failure`, or `gate` for a step that hangs."""
    in_flight: bool = False
    """A step that hangs is being executed."""
    tries: int = 0
    signals: list[int] = field(default_factory=list)
    senders: set[str] = field(default_factory=set)
    cancel_by_s: int | None = None
    open_gates: set[str] = field(default_factory=set)
    """Steps that hung and would not any more."""

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")

    @property
    def op(self) -> str:
        return str(self.ops[self.at][0]) if self.at < len(self.ops) else "end"

    @property
    def number(self) -> int:
        return int(self.ops[self.at][1])

    @property
    def place(self) -> str:
        return f"{self.at}-{self.op}"

    @property
    def output(self) -> list[Any]:
        return [self.results, {"written": self.written} if self.written else {}]

    # --- what happens by itself ---------------------------------------------------------------------------------------

    def settle(self, now_s: int) -> None:
        """Go on until it waits, ends, or is not allowed to."""
        while self.status in ("running", "waiting") and self.cancel_by_s is None and self._goes_on(now_s):
            pass

    def _goes_on(self, now_s: int) -> bool:
        if self.op == "end":
            self.status = "completed"
            return False
        if self.waiting is None:
            self._begin(now_s)
        if self.waiting is None:
            return not self.ended
        if self.waiting == "failure":
            self.status, self.waiting = "failed", None
            return False
        if self.waiting == "signal" and self.signals:
            self.found(self.signals.pop(0))
        elif self.due_s is not None and self.due_s <= now_s:
            self._due(now_s)
        else:
            self.status = "running" if self.waiting in ("gate", "backoff") else "waiting"
            return False
        return True

    def _begin(self, now_s: int) -> None:
        if self.op in ("compute", "charge", "post"):
            self.done[self.place] += 1
            self.found(self.place)
        elif self.op == "lose":
            self.done[self.place] += 1
            self.waiting = "doubt"
        elif self.op == "stutter":
            self._try(now_s)
        elif self.op == "stumble":
            self.done[self.place] += 1
            if self.done[self.place] <= self.number:
                self.status = "failed"
            else:
                self.found(self.place)
        elif self.op in ("hang", "hold"):
            self.done[self.place] += 1
            if self.place in self.open_gates:
                self.found(self.place)
            else:
                self.waiting, self.in_flight = "gate", True
        elif self.op == "write":
            self.written += 1
            self.found(self.written)
        else:
            self.waiting = {"ask": "question", "signal": "signal", "sleep": "timer"}[self.op]
            self.due_s = now_s + self.number if self.number else None

    def _try(self, now_s: int) -> None:
        self.done[self.place] += 1
        self.tries += 1
        if self.done[self.place] > self.number:
            self.found(self.place)
        elif self.tries == TRIES:
            self.found("gave up")
        else:
            self.waiting, self.due_s = "backoff", now_s + BACKOFF_S

    def _due(self, now_s: int) -> None:
        if self.waiting == "backoff":
            self.waiting = self.due_s = None
            self._try(now_s)
        else:
            self.found({"question": "b", "signal": "none", "timer": None}[str(self.waiting)])

    def found(self, value: Any) -> None:
        """The op is done."""
        self.results.append(value)
        self.at += 1
        self.waiting = self.due_s = None
        self.in_flight = False
        self.tries = 0
        if self.status == "waiting":
            self.status = "running"

    # --- what others do -----------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """The process that executes it dies, and another one takes it up, if it may."""
        if self.in_flight:
            self.in_flight = False
            self.waiting = "doubt" if self.op == "hold" else None
        if self.cancel_by_s is not None:
            self.status, self.cancel_by_s = "cancelled", None

    def resolve(self, resolution: str) -> None:
        """Somebody says what became of the step in doubt."""
        if resolution == "done":
            self.found("said")
        else:
            self.waiting = "failure" if resolution == "fail" else None

    def cancel(self, now_s: int) -> None:
        """It is to end: at once, unless a `once` step is in flight, which is given a grace."""
        if self.in_flight and self.op == "hold":
            self.cancel_by_s = now_s + GRACE_S
            self.status = "running"
        else:
            self.in_flight = False
            self.status = "cancelled"

    def reopen(self) -> None:
        """A failed or cancelled run goes on."""
        self.status = "running"
        if self.waiting == "gate" and not self.in_flight:
            self.waiting = "doubt" if self.op == "hold" else None
