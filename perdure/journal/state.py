"""What a journal says, folded: the state of a run at a seq. Plain data, no behaviour beyond reading it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from perdure.core.events import Event

Status = Literal["pending", "running", "waiting", "paused", "completed", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset(("completed", "failed", "cancelled"))


class Record:
    """What is recorded under one key of a scope.

    Attributes:
        what: `step`, `wait`, `child`, `state`, `put`, `patch`, `join` or `emit`.
        step_kind: of a step; effects, waits and children count for drift.
        fingerprint: of the input that was recorded under this key.
        intent: the newest `step.intended`, `wait.opened` or `child.spawned`.
        fact: the event that settled it, if any.
        attempt: how many attempts were begun (effects) or failed (reads).
        due_ms: when the next attempt is due, if a retry is pending.
        since_ms: when the first attempt began.
        doubt: the `step.doubted` that is not resolved yet.
    """

    __slots__ = (
        "attempt",
        "doubt",
        "due_ms",
        "fact",
        "fingerprint",
        "free_waits",
        "intent",
        "resolution",
        "since_ms",
        "step_kind",
        "what",
    )

    def __init__(self, what: str, fingerprint: str, step_kind: str = "") -> None:
        self.what = what
        self.step_kind = step_kind
        self.fingerprint = fingerprint
        self.intent: Event | None = None
        self.fact: Event | None = None
        self.attempt = 0
        self.free_waits = 0
        self.due_ms: int | None = None
        self.since_ms: int | None = None
        self.doubt: Event | None = None
        self.resolution: Event | None = None

    @property
    def in_flight_once(self) -> bool:
        """Whether a `once` step was begun and neither answered nor found not to have happened."""
        return self.intent is not None and self.step_kind == "once" and self.due_ms is None

    @property
    def binding(self) -> bool:
        """Whether the code must ask for it again: effects, waits and children; not what merely computes or reads."""
        return self.what in ("wait", "child") or self.step_kind in ("idempotent", "once")


class NodeResult(NamedTuple):
    """How a visit of a node ended."""

    name: str
    visit: int
    status: str
    output: Any
    next: tuple[str, ...]
    end: dict[str, Any] | None


class Before(NamedTuple):
    """What a node found that ended the run by a failure; a retry puts it back.

    Attributes:
        result: of its visit before.
        order: of the nodes that had ended.
        last: the node that had ended last.
        context: what it changed of the state, as that was; `DELETED` where there was nothing.
        writes: of its visit before.
    """

    result: NodeResult | None
    order: tuple[str, ...]
    last: str | None
    context: dict[str, Any]
    writes: dict[str, Any] | None


def error_of(result: NodeResult) -> dict[str, Any] | None:
    """The failure by which a node ended the run, if it did: its code raised it, or returned `Fail`."""
    error: dict[str, Any] | None = (result.end or {}).get("error")
    return error


class Wait:
    """A wait that was opened; `closed` holds the event that settled it."""

    __slots__ = ("closed", "data", "deadline_ms", "key", "kind", "node", "opened", "scope", "wait_id")

    def __init__(self, opened: Event) -> None:
        data = opened.data
        self.wait_id: str = data["wait_id"]
        self.kind: str = data["wait"]
        self.deadline_ms: int | None = data.get("deadline_ms")
        self.data: dict[str, Any] = data
        self.scope = opened.scope or ""
        self.node = opened.node or ""
        self.key = opened.key or ""
        self.opened = opened
        self.closed: Event | None = None

    @property
    def closed_seq(self) -> int:
        """The seq of the event that settled it; 0 while it is open."""
        return 0 if self.closed is None else self.closed.seq


class Child:
    """A child run as its parent's journal knows it; `settled` is the event that took its outcome."""

    __slots__ = ("child_id", "detached", "settled", "spawned", "workflow")

    def __init__(self, spawned: Event) -> None:
        data = spawned.data
        self.child_id: str = data["child"]
        self.workflow: str = data["workflow"]
        self.detached: bool = data.get("detached", False)
        self.spawned = spawned
        self.settled: Event | None = None


class RunState:
    """The state of a run, folded from its events up to `seq`."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.seq = 0
        self.last_ms = 0
        self.status: Status = "pending"
        self.reason = ""
        self.detail: dict[str, Any] = {}
        self.started: Event | None = None
        self.workflow = ""
        self.version = ""
        self.fingerprint = ""
        self.input: dict[str, Any] = {}
        self.manifest: dict[str, Any] = {}
        self.generation = 0
        self.context: dict[str, Any] = {}
        self.writes: dict[str, dict[str, Any]] = {}
        self.visits: dict[str, int] = {}
        self.active: dict[str, int] = {}
        self.attempts: dict[str, int] = {}
        self.results: dict[str, NodeResult] = {}
        self.last: NodeResult | None = None
        self.scopes: dict[str, dict[str, Record]] = {}
        self.node_scopes: dict[str, set[str]] = {}
        self.waits: dict[str, Wait] = {}
        self.signals: dict[str, list[Event]] = {}
        self.senders: dict[str, int] = {}
        self.children: dict[str, Child] = {}
        self.commands: dict[str, Event] = {}
        self.cancel_requested: Event | None = None
        self.paused: Event | None = None
        self.ended: Event | None = None
        self.suspended = False
        self.reopened = 0
        self.secrets: set[str] = set()
        self.interruptions = 0
        self.facts = 0
        self.base: dict[str, Any] = {}
        self.node_writes: dict[str, dict[str, Any]] = {}
        self.reenter: dict[str, int] = {}
        self.before: dict[str, Before] = {}
        self.forgotten: dict[str, list[dict[str, Any]]] = {}

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.status in TERMINAL

    def open_waits(self) -> Iterator[Wait]:
        """Waits that are not settled, in the order in which they opened."""
        return (wait for wait in self.waits.values() if wait.closed is None)

    def in_doubt(self) -> list[tuple[str, str, Record]]:
        """Steps whose doubt is not resolved: scope, key and record. When the run has ended, also `once` steps that were
        begun and have no answer."""
        return [
            (scope, key, record)
            for scope, records in self.scopes.items()
            for key, record in records.items()
            if record.fact is None
            and record.resolution is None
            and (record.doubt is not None or (self.terminal and record.in_flight_once))
        ]

    def unread_signals(self) -> list[dict[str, Any]]:
        """Signals that nobody has read, as they are listed at the end of a run."""
        events = sorted((event for queue in self.signals.values() for event in queue), key=lambda event: event.seq)
        return [{"name": event.data["name"], "seq": event.seq} for event in events]

    def live_children(self) -> list[str]:
        """Ids of the children whose outcome was not taken."""
        return [child.child_id for child in self.children.values() if child.settled is None]

    def view(self) -> dict[str, Any]:
        """The state of the author's key-value context as of `seq`: what nodes completed wrote, and what the active ones
        have written so far."""
        merged = dict(self.context)
        for node in self.active:
            scope = f"{self.generation}/{node}"
            merged.update(self.writes.get(scope, {}))
        return {name: value for name, value in merged.items() if value is not DELETED}

    def outcome(self) -> dict[str, Any]:
        """How the run ended: `output` or `error`; empty while it has not."""
        if self.ended is None or self.ended.data is None:
            return {}
        return {name: self.ended.data[name] for name in ("output", "error", "reason") if name in self.ended.data}

    def to_dict(self) -> dict[str, Any]:
        """The state as plain JSON data."""
        return {
            "run_id": self.run_id,
            "seq": self.seq,
            "status": self.status,
            "reason": self.reason,
            "workflow": self.workflow,
            "version": self.version,
            "generation": self.generation,
            "input": self.input,
            "state": self.view(),
            "nodes": {
                "active": {node: attempt for node, attempt in self.active.items()},
                "ended": {name: result.status for name, result in self.results.items()},
            },
            "waits": [
                {"wait_id": wait.wait_id, "kind": wait.kind, "deadline_ms": wait.deadline_ms, "scope": wait.scope}
                for wait in self.open_waits()
            ],
            "in_doubt": [{"scope": scope, "key": key} for scope, key, _ in self.in_doubt()],
            "children": {
                child.child_id: child.settled.data["status"] if child.settled else "running"
                for child in self.children.values()
            },
            "steps": self.facts,
            "last_ms": self.last_ms,
        } | self.outcome()


class _Deleted:
    """The mark of a state key that was deleted."""

    def __repr__(self) -> str:
        return "DELETED"

    def __deepcopy__(self, memo: object) -> _Deleted:
        return self


DELETED = _Deleted()
