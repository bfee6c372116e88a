"""What a run has done, put into the picture of its workflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, NamedTuple

from perdure.core import kinds
from perdure.core.events import Event
from perdure.journal.state import NodeResult, RunState, Wait
from perdure.pipeline.drawing.picture import NodeStatus, Picture, PictureEdge, PictureNode
from perdure.pipeline.stage_events import STAGE_ENDED, STAGE_ENTERED

UNDEFINED: Final = "not in this definition"
"""The detail of a node that the run entered and the workflow, as it is drawn, does not have."""

Visit = tuple[int, str]
"""A visit of a node: the generation, and `name#visit`."""

HasFailed = Callable[[NodeResult], bool]


def with_run(
    picture: Picture, events: Iterable[Event], state: RunState, *, has_failed: HasFailed | None = None
) -> Picture:
    """A picture that shows what ran, what runs, what waits and what failed, with the counts of visits and edges.

    Where several edges lead from one node to the same other one, the count stands at the first: the journal tells where
    a run went, not by which of them. Nodes and edges that the run used and the picture lacks are added.

    Args:
        picture: of the run's workflow.
        events: of the run, from the first.
        state: folded from the same events.
        has_failed: whether a node that completed counts as failed all the same, for example a stage by its outcome.
    """
    trail = _Trail(_incoming(picture))
    for event in events:
        trail.follow(event)
    before = {name: _Condition("done") for name in trail.visits}  # also in generations that the state has let go
    conditions = before | _in_branches(trail, state) | _conditions(state, has_failed)
    known = [_run_node(node, trail, conditions) for node in picture.nodes]
    unknown = [
        _run_node(PictureNode(name, name, detail=UNDEFINED), trail, conditions)
        for name in trail.visits
        if name not in picture.places
    ]
    nodes = [*known, *unknown]
    edges = _run_edges(picture.edges, trail.walked(), {node.id for node in nodes})
    return replace(picture, nodes=nodes, edges=edges, note=_note(picture, state))


# --- where the run went -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trail:
    """Follows a journal from its beginning.

    Attributes:
        incoming: by node, where its edges come from.
        visits: by node, how often it was entered.
        in_branches: by node that is a stage of a branch, the status of its last visit; empty while it runs.
    """

    incoming: dict[str, list[str]]
    in_branches: dict[str, str] = field(default_factory=dict)
    visits: Counter[str] = field(default_factory=Counter)
    _generation: int = 0
    _entered: set[Visit] = field(default_factory=set)
    _following: dict[Visit, tuple[str, ...]] = field(default_factory=dict)
    _open_ended: set[str] = field(default_factory=set)
    _by_dependency: Counter[tuple[str, str]] = field(default_factory=Counter)
    _strands: dict[str, str] = field(default_factory=dict)
    _last: str | None = None
    _continued_from: str | None = None

    def follow(self, event: Event) -> None:
        """Take in one event."""
        if event.kind == kinds.RUN_CONTINUED:
            self._generation = int((event.data or {}).get("generation", self._generation + 1))
            self._continued_from = self._last
            self._open_ended.clear()
        elif event.kind == kinds.NODE_ENTERED and event.node:
            self._enter(event.node)
        elif event.kind == kinds.NODE_COMPLETED and event.node:
            self._complete(event.node, event.data or {})
        elif event.kind == STAGE_ENTERED and event.node and event.scope:
            self._enter_in_branch(event.node, event.scope, event.data["node"])
        elif event.kind == STAGE_ENDED:
            self.in_branches[event.data["node"]] = event.data["status"]

    def _enter_in_branch(self, node: str, scope: str, stage: str) -> None:
        """A stage of a branch comes after the one before it in its strand; the first after the fan-out's own."""
        above = scope.rpartition("/")[0]
        start = self._strands.get(scope) or self._strands.get(above) or _name(node)
        self._by_dependency[start, stage] += 1
        self._strands[scope] = stage
        self.in_branches[stage] = ""
        self.visits[stage] += 1

    def _enter(self, node: str) -> None:
        if (self._generation, node) in self._entered:
            return  # another attempt of the same visit
        self._entered.add((self._generation, node))
        name = _name(node)
        self.visits[name] += 1
        sources = self.incoming.get(name, ())
        if self._open_ended:  # in a plan nodes do not say where to go; an edge is taken when its end is entered
            for start in sources:
                if start in self._open_ended:
                    self._by_dependency[start, name] += 1
        if self._continued_from is not None and self._continued_from in sources:
            self._by_dependency[self._continued_from, name] += 1
        self._last, self._continued_from = name, None

    def _complete(self, node: str, data: dict[str, object]) -> None:
        following = data.get("next")
        strands = [scope for scope in self._strands if scope.startswith(f"{self._generation}/{node}/")]
        ends = [self._strands.pop(scope) for scope in strands if scope.count("/") == 2]
        for scope in strands:
            self._strands.pop(scope, None)
        if ends and isinstance(following, list):  # the branches lead to the join, not the fan-out
            self._by_dependency.update((start, str(end)) for start in ends for end in following)
        elif isinstance(following, list):
            # By visit: one that was opened again and ends anew goes there once, not twice.
            self._following[self._generation, node] = tuple(map(str, following))
        elif data.get("end") is None:
            self._open_ended.add(_name(node))

    def walked(self) -> Counter[tuple[str, str]]:
        """How often each way was taken: by start and end."""
        ways = Counter(self._by_dependency)
        for (_, node), following in self._following.items():
            start = _name(node)
            ways.update((start, end) for end in following)
        return ways


def _name(node: str) -> str:
    return node.rpartition("#")[0]


def _incoming(picture: Picture) -> dict[str, list[str]]:
    incoming: dict[str, list[str]] = {}
    for start, end in dict.fromkeys((edge.start, edge.end) for edge in picture.edges):
        incoming.setdefault(end, []).append(start)
    return incoming


def _run_edges(edges: Iterable[PictureEdge], walked: Counter[tuple[str, str]], nodes: set[str]) -> list[PictureEdge]:
    left = dict(walked)
    counted = [replace(edge, count=left.pop((edge.start, edge.end), 0)) for edge in edges]
    unknown = [PictureEdge(start, end, count=count) for (start, end), count in left.items()]
    return [*counted, *(edge for edge in unknown if edge.start in nodes and edge.end in nodes)]


# --- what became of the nodes -----------------------------------------------------------------------------------------


class _Condition(NamedTuple):
    status: NodeStatus
    detail: str = ""


def _run_node(node: PictureNode, trail: _Trail, conditions: dict[str, _Condition]) -> PictureNode:
    found = conditions.get(node.id, _Condition("none"))
    return replace(node, status=found.status, visits=trail.visits[node.id], detail=found.detail or node.detail)


def _conditions(state: RunState, has_failed: HasFailed | None) -> dict[str, _Condition]:
    """By node, the most telling of all that can be said of it: what comes later in this function wins."""
    found = {name: _ended(result, has_failed) for name, result in state.results.items()}
    if state.terminal:
        for node in (*state.reenter, *state.active):
            found[_name(node)] = _Condition("failed", "stopped with the run")
        return found
    for node in state.reenter:
        found[_name(node)] = _Condition("running", "interrupted")
    for node in state.active:
        found[_name(node)] = _Condition("running")
    waiting: dict[str, list[Wait]] = {}
    for wait in state.open_waits():
        if wait.node:
            waiting.setdefault(_name(wait.node), []).append(wait)
    for name, waits in waiting.items():
        more = f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""
        found[name] = _Condition("waiting", _waits_for(waits[0]) + more)
    return found


def _in_branches(trail: _Trail, state: RunState) -> dict[str, _Condition]:
    """What can be said of stages in branches, which are no nodes of the run."""
    going_on = _Condition("failed", "stopped with the run") if state.terminal else _Condition("running")
    named = {"": going_on, "fail": _Condition("failed"), "skipped": _Condition("skipped")}
    return {stage: named.get(status, _Condition("done")) for stage, status in trail.in_branches.items()}


def _ended(result: NodeResult, has_failed: HasFailed | None) -> _Condition:
    if result.status == "skipped":
        return _Condition("skipped")
    error = (result.end or {}).get("error")
    if error is not None or result.status == "failed":
        message = error.get("message") if isinstance(error, dict) else None
        return _Condition("failed", str(message or ""))
    if has_failed is not None and has_failed(result):
        return _Condition("failed")
    return _Condition("done")


def _waits_for(wait: Wait) -> str:
    """What a wait waits for, in one line."""
    data = wait.data
    if wait.kind == "question":
        question = data.get("question")
        text = question.get("text", "") if isinstance(question, dict) else ""
        return f"asks: {text}"
    if wait.kind == "signal":
        match = data.get("match")
        return f"waits for signal {data.get('name')}" + (f" ({match})" if match is not None else "")
    if wait.kind == "child":
        return f"waits for run {data.get('child')}"
    return f"waits until {_instant(wait.deadline_ms)}" if wait.deadline_ms is not None else "waits"


def _instant(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "a day that no calendar has"


def _note(picture: Picture, state: RunState) -> str:
    reason = f" ({state.reason})" if state.reason else ""
    return ", ".join(_parts(picture.note, f"run {state.run_id}: {state.status}{reason}"))


def _parts(*given: str) -> Iterator[str]:
    return (part for part in given if part)
