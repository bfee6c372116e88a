"""An account of a run for people: what each step did, from the events of its journal, one after the other.

The fold of the journal (`perdure.journal.fold`) keeps what recovery needs and forgets the steps of nodes that have
ended. People want to see those too, so this is a second reading of the same events, for display only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from perdure.core import kinds
from perdure.core.events import Event

# Where a step stands.
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
RETRYING: Final = "retrying"
IN_DOUBT: Final = "in doubt"
WAITING: Final = "waiting"
TIMED_OUT: Final = "timed out"
CANCELLED: Final = "cancelled"
NOT_DONE: Final = "not done"
INTERRUPTED: Final = "interrupted"
VALUE_LOST: Final = "done, value lost"

SETTLED: Final = frozenset((DONE, FAILED, TIMED_OUT, CANCELLED, VALUE_LOST))
COUNTED: Final = frozenset(("step", "wait", "child"))
"""What counts as a step where steps are counted."""
MOST_PREVIEW: Final = 200
"""Characters of a value that are shown."""


@dataclass(slots=True)
class StepAccount:
    """One step, wait, child, artifact or event of a run.

    Attributes:
        seq: where it is first recorded.
        generation, node, scope, key: its place.
        what: `step`, `wait`, `child`, `artifact`, `patch` or `event`.
        kind: `pure`, `read`, `idempotent`, `once`; `question`, `signal`, `timer`, `child`; or the media type.
        name: of the step function, the question's text, the signal's name and so on.
        status: see the constants above.
        attempts: how many were begun.
        started_ms, ended_ms: milliseconds since 1970; `started_ms` of a pure or read step is reckoned from its end.
        duration_ms: of the last attempt, or of the wait.
        kept: how many interruptions of its node (crashes, stopped workers) it was kept over.
        due_ms: when it is tried again, or times out.
        detail: a result, an answer, or an error, in short.
        wait_id: of a wait, or of the question about a step in doubt.
        child: the child's run id.
        error: the recorded error.
        notes: what else happened.
    """

    seq: int
    generation: int
    node: str
    scope: str
    key: str
    what: str
    kind: str
    name: str
    status: str
    attempts: int = 1
    started_ms: int = 0
    ended_ms: int | None = None
    duration_ms: int | None = None
    kept: int = 0
    due_ms: int | None = None
    detail: str = ""
    wait_id: str | None = None
    child: str | None = None
    error: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in SETTLED

    @property
    def branch(self) -> tuple[str, ...]:
        """The branches within the node that it stands in."""
        return tuple(self.scope.split("/")[2:])

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)


@dataclass(slots=True)
class NodeAccount:
    """One visit of a node.

    Attributes:
        node: `name#visit`.
        attempt: how often it was entered.
        status: `active`, `completed`, `failed`, `skipped` or `interrupted`.
        crashes: how many attempts a crash ended.
        next: where it said to go.
        steps: in the order of their first record.
    """

    node: str
    generation: int
    attempt: int
    status: str
    entered_ms: int
    ended_ms: int | None = None
    crashes: int = 0
    next: tuple[str, ...] = ()
    error: dict[str, Any] | None = None
    steps: list[StepAccount] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self) | {"next": list(self.next)}


class Account:
    """The account of one run.

    Attributes:
        nodes: visits of nodes, in the order of their entry.
        steps: all of them, in the order of their first record.
        seq: of the last event.
        generation: the present one.
        signals: how many were received.
        crashes: how many attempts of nodes ended with their worker.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.nodes: list[NodeAccount] = []
        self.steps: list[StepAccount] = []
        self.seq = 0
        self.generation = 0
        self.signals = 0
        self.crashes = 0
        self._over = False
        self._visits: dict[tuple[int, str], NodeAccount] = {}
        self._places: dict[tuple[int, str, str], StepAccount] = {}
        self._waits: dict[str, StepAccount] = {}
        self._children: dict[str, StepAccount] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> StepAccount | None:
        """Take the next event; returns the step that it tells of, if any."""
        self.seq = event.seq
        if event.data is None:
            return None  # erased
        handler = _HANDLERS.get(event.kind)
        if handler is not None:
            return handler(self, event)
        if event.kind not in kinds.KINDS:
            return self._author_event(event)
        return None

    def done(self) -> list[StepAccount]:
        """The steps, waits and children that are settled."""
        return [step for step in self.steps if step.settled and step.what in COUNTED]

    def kept(self) -> list[StepAccount]:
        """The steps that an interruption came after and that were not done again."""
        return [step for step in self.done() if step.kept]

    # --- places -------------------------------------------------------------------------------------------------------

    def _node(self, event: Event) -> NodeAccount:
        name = event.node or ""
        visit = self._visits.get((self.generation, name))
        if visit is None:
            visit = NodeAccount(name, self.generation, 1, "active", event.time_ms)
            self._visits[(self.generation, name)] = visit
            self.nodes.append(visit)
        return visit

    def _step(self, event: Event, what: str, kind: str, name: str, status: str) -> StepAccount:
        place = (self.generation, event.scope or "", event.key or "")
        step = self._places.get(place)
        if step is None:
            step = self._places[place] = StepAccount(
                event.seq,
                self.generation,
                event.node or "",
                *place[1:],
                what,
                kind,
                name,
                status,
                started_ms=event.time_ms,
            )
            self.steps.append(step)
            self._node(event).steps.append(step)
        step.status = status
        return step

    # --- the run and its nodes ----------------------------------------------------------------------------------------

    def _continued(self, event: Event) -> None:
        self.generation = event.data["generation"]

    def _closed(self, event: Event) -> None:
        """The run has ended: what was under way then is under way no more."""
        self._over = True
        doubtful = {(doubt["scope"], doubt["key"]) for doubt in event.data.get("in_doubt") or ()}
        for step in self.steps:
            if (step.scope, step.key) in doubtful and not step.settled:
                step.status = IN_DOUBT
            elif step.status in (RUNNING, RETRYING):
                step.status, step.due_ms = INTERRUPTED, None
            elif step.status == WAITING and step.kind in ("signal", "timer"):
                step.status, step.due_ms = CANCELLED, None

    def _reopened(self, event: Event) -> None:
        self._over = False
        for scope, key in event.data["forgets"].get("records", ()):
            step = self._places.get((self.generation, scope, key))
            if step is not None:
                step.notes.append(f"{step.status}: {step.detail}; the run was opened again")
                step.status = RETRYING

    def _entered(self, event: Event) -> None:
        visit = self._node(event)
        visit.attempt = event.data["attempt"]
        visit.status = "active"

    def _interrupted(self, event: Event) -> None:
        visit = self._node(event)
        visit.status = "interrupted"
        if event.data.get("cause") != "drain":
            visit.crashes += 1
            self.crashes += 1
        for step in visit.steps:
            if step.settled:
                step.kept += 1
            elif step.status == RUNNING:
                step.status = INTERRUPTED

    def _ended(self, event: Event) -> None:
        visit = self._node(event)
        visit.status = event.kind.partition(".")[2]
        visit.ended_ms = event.time_ms
        visit.next = tuple(event.data.get("next") or ())
        visit.error = event.data.get("error")

    # --- steps --------------------------------------------------------------------------------------------------------

    def _intended(self, event: Event) -> StepAccount:
        data = event.data
        step = self._step(event, "step", data["step_kind"], data.get("step", event.key), RUNNING)
        step.attempts = data["attempt"]
        step.started_ms = event.time_ms
        step.due_ms = None
        return step

    def _settled(self, event: Event) -> StepAccount:
        data = event.data
        status = FAILED if event.kind == kinds.STEP_FAILED else VALUE_LOST if data.get("result_refused") else DONE
        step = self._step(event, "step", "", event.key or "", status)
        step.kind = data.get("step_kind") or step.kind
        step.name = data.get("step") or step.name
        step.attempts = data.get("attempt", step.attempts)
        step.duration_ms = data.get("duration_ms")
        step.ended_ms = event.time_ms
        step.due_ms = None
        step.error = data.get("error")
        if step.seq == event.seq:
            step.started_ms = event.time_ms - (step.duration_ms or 0)
        step.detail = _message(step.error) if step.error else preview(data.get("result"))
        return step

    def _retried(self, event: Event) -> StepAccount:
        data = event.data
        step = self._step(event, "step", "", event.key or "", RETRYING)
        step.attempts = data["attempt"]
        step.due_ms = data["due_ms"]
        step.detail = _message(data["error"])
        step.notes.append(f"attempt {data['attempt']}: {step.detail}")
        return step

    def _doubted(self, event: Event) -> StepAccount:
        step = self._step(event, "step", "once", event.key or "", IN_DOUBT)
        step.detail = event.data["cause"]
        return step

    def _resolved(self, event: Event) -> StepAccount:
        data = event.data
        settled = {"done": DONE, "fail": FAILED}.get(data["resolution"], NOT_DONE)
        step = self._step(event, "step", "once", event.key or "", settled if self._over else RUNNING)
        step.wait_id = None
        step.detail = f"resolved: {data['resolution'].replace('_', ' ')}"
        step.notes.append(f"{step.detail} (by {data.get('by', event.actor)})")
        return step

    def _remarked(self, event: Event) -> StepAccount | None:
        step = self._places.get((self.generation, event.scope or "", event.key or ""))
        if step is not None:
            step.notes.append(event.data.get("note") or f"abandoned: {event.data.get('cause')}")
        return step

    # --- waits, children and the rest ---------------------------------------------------------------------------------

    def _wait_opened(self, event: Event) -> StepAccount:
        data = event.data
        if data.get("subject") is not None:  # the question about a step in doubt
            step = self._step(event, "step", "once", event.key or "", IN_DOUBT)
        elif data.get("child") in self._children:  # one line for a child, not a second one for the wait
            step = self._children[data["child"]]
            step.status = WAITING
        else:
            step = self._step(event, "wait", data["wait"], _wait_name(data), WAITING)
            step.due_ms = data.get("deadline_ms")
        step.wait_id = data["wait_id"]
        self._waits[data["wait_id"]] = step
        return step

    def _wait_closed(self, event: Event) -> StepAccount | None:
        data = event.data
        step = self._waits.get(data["wait_id"])
        if step is None or step.kind in ("once", "child"):
            return step  # what became of it is told by an event of its own
        step.ended_ms = event.time_ms
        step.duration_ms = event.time_ms - step.started_ms
        step.due_ms = None
        if event.kind == kinds.WAIT_ANSWERED:
            step.status, step.detail = DONE, f"{preview(data['answer'])} (by {event.actor})"
        elif event.kind == kinds.WAIT_CANCELLED:
            step.status, step.detail = CANCELLED, data.get("reason") or ""
        elif data["outcome"] == "timed_out":
            step.status = TIMED_OUT
            step.detail = f"took its default: {preview(data['value'])}" if "value" in data else "timed out"
        else:
            step.status = DONE
            step.detail = "" if data["outcome"] == "fired" else preview(data.get("value"))
        return step

    def _spawned(self, event: Event) -> StepAccount:
        data = event.data
        step = self._step(event, "child", "child", data["workflow"], RUNNING)
        step.child = data["child"]
        self._children[data["child"]] = step
        return step

    def _child_settled(self, event: Event) -> StepAccount | None:
        data = event.data
        step = self._children.get(data["child"])
        if step is not None:
            step.status = {"completed": DONE, "failed": FAILED}.get(data["status"], CANCELLED)
            step.ended_ms = event.time_ms
            step.duration_ms = event.time_ms - step.started_ms
            step.error = data.get("error")
            step.detail = _message(step.error) if step.error else preview(data.get("output"))
        return step

    def _put(self, event: Event) -> StepAccount:
        data = event.data
        step = self._step(
            event, "artifact", data.get("media_type", ""), data.get("name") or data["artifact"][:12], DONE
        )
        step.detail = f"{data['size']} bytes, {data['artifact'][:12]}"
        return step

    def _patched(self, event: Event) -> StepAccount:
        step = self._step(event, "patch", "patch", event.data["patch"], DONE)
        step.detail = "new code" if event.data["active"] else "old code"
        return step

    def _signal(self, event: Event) -> None:
        self.signals += 1

    def _author_event(self, event: Event) -> StepAccount | None:
        if event.key is None:
            return None
        step = self._step(event, "event", "event", event.kind, DONE)
        step.detail = preview(event.data)
        return step


_HANDLERS: Final[dict[str, Callable[[Account, Event], StepAccount | None]]] = {
    kinds.RUN_CONTINUED: Account._continued,
    kinds.RUN_REOPENED: Account._reopened,
    kinds.RUN_COMPLETED: Account._closed,
    kinds.RUN_FAILED: Account._closed,
    kinds.RUN_CANCELLED: Account._closed,
    kinds.NODE_ENTERED: Account._entered,
    kinds.NODE_INTERRUPTED: Account._interrupted,
    kinds.NODE_COMPLETED: Account._ended,
    kinds.NODE_FAILED: Account._ended,
    kinds.NODE_SKIPPED: Account._ended,
    kinds.STEP_INTENDED: Account._intended,
    kinds.STEP_COMPLETED: Account._settled,
    kinds.STEP_FAILED: Account._settled,
    kinds.STEP_RETRIED: Account._retried,
    kinds.STEP_DOUBTED: Account._doubted,
    kinds.STEP_RESOLVED: Account._resolved,
    kinds.STEP_ABANDONED: Account._remarked,
    kinds.STEP_NOTED: Account._remarked,
    kinds.WAIT_OPENED: Account._wait_opened,
    kinds.WAIT_ANSWERED: Account._wait_closed,
    kinds.WAIT_RESOLVED: Account._wait_closed,
    kinds.WAIT_CANCELLED: Account._wait_closed,
    kinds.SIGNAL_RECEIVED: Account._signal,
    kinds.CHILD_SPAWNED: Account._spawned,
    kinds.CHILD_SETTLED: Account._child_settled,
    kinds.ARTIFACT_PUT: Account._put,
    kinds.PATCH_DECIDED: Account._patched,
}


def preview(value: Any) -> str:
    """A JSON value in one short line."""
    import orjson

    if isinstance(value, dict) and value.keys() == {"$artifact"}:
        return f"artifact {value['$artifact'][:12]}"
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= MOST_PREVIEW else text[: MOST_PREVIEW - 1] + "…"


def _message(error: dict[str, Any] | None) -> str:
    if not error:
        return ""
    return preview(f"{error.get('type', 'error')}: {error.get('message', '')}")


def _wait_name(data: dict[str, Any]) -> str:
    if data["wait"] == "question":
        return str(data["question"]["text"])
    if data["wait"] == "signal":
        name, match = data["name"], data.get("match")
        return f"{name} [{match}]" if match is not None else str(name)
    return str(data.get("child") or data["wait"])
