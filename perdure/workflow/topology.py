"""The two shapes of graphs: a walk goes from node to node as the nodes say, a dag goes as its edges say."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Final, Literal

from perdure.journal.state import NodeResult
from perdure.workflow.graph import Break, Enter, Finish, Hold, Progress, Route, Router

Mode = Literal["sequential", "fan_out"]
MODES: Final[tuple[Mode, ...]] = ("sequential", "fan_out")


def has_failed(result: NodeResult) -> bool:
    """Whether a node ended the run with an error: its code raised one, or it returned `Fail`."""
    return result.status == "failed" or (result.end is not None and "error" in result.end)


def broken_by(result: NodeResult) -> Break:
    """The route after a node that failed."""
    error = (result.end or {}).get("error")
    return Break(error or _error("node_failed", f"node {result.name!r} failed", node=result.name))


def _error(code: str, message: str, **details: Any) -> dict[str, Any]:
    return {"code": code, "type": "Fail", "message": message, "details": details}


# --- walks ------------------------------------------------------------------------------------------------------------


class Walk:
    """One node at a time; where to go is what the last one said. Cycles are welcome.

    Args:
        entry: the first node.
        targets: by node, where it may go as far as is known.
    """

    def __init__(self, entry: str, targets: Mapping[str, Sequence[str]]) -> None:
        self.entry = entry
        self.targets = targets
        self.order: Sequence[str] = tuple(targets)

    def router(self) -> Router:
        """Routing a walk looks at the last result alone."""
        return self._route

    def _route(self, progress: Progress) -> Route:
        last = progress.last
        if progress.active:
            return Hold()
        if last is None:
            return Enter((self.entry,))
        if has_failed(last):
            return broken_by(last)
        if last.end is not None:
            return Finish(last.end.get("output"))
        if len(last.next) != 1:
            message = f"node {last.name!r} says {len(last.next)} nodes to go to; a walk takes one"
            return Break(_error("no_next", message, node=last.name, next=list(last.next)))
        if last.next[0] not in self.targets:
            message = f"node {last.name!r} goes to {last.next[0]!r}, which does not exist"
            return Break(_error("unknown_node", message, node=last.name, target=last.next[0], known=list(self.order)))
        return Enter(last.next)

    @property
    def linear(self) -> bool:
        """One node at a time."""
        return True

    def precedes(self, earlier: str, later: str) -> bool:
        """On a walk everything that was written before is seen."""
        return True

    def sort(self, names: Iterable[str]) -> list[str]:
        """A walk knows no order but that of what has happened."""
        return list(names)

    def edges(self) -> Iterable[tuple[str, str]]:
        """The known ways."""
        return [(name, target) for name, targets in self.targets.items() for target in targets]

    def structure(self) -> dict[str, Any]:
        """Entry, nodes, and where they may go."""
        return {"entry": self.entry, "nodes": {name: sorted(targets) for name, targets in self.targets.items()}}


# --- dags -------------------------------------------------------------------------------------------------------------


def find_cycles(dependencies: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Cycles, each in the direction of execution and beginning with its earliest member; no two share a member.

    Args:
        dependencies: by node, what it depends on; all of them are keys too.

    Returns:
        At least one member of every cycle that there is stands in one of these.
    """
    place = {name: index for index, name in enumerate(dependencies)}
    left = set(dependencies) - set(topological_order(dependencies))
    cycles = []
    while left:
        path: dict[str, None] = {}
        name = min(left, key=place.__getitem__)
        while name not in path:
            path[name] = None
            # Whatever is left depends on something that is left.
            name = next(one for one in dependencies[name] if one in left)
        backwards = list(path)[list(path).index(name) :]
        start = backwards.index(min(backwards, key=place.__getitem__))
        cycles.append([backwards[(start - step) % len(backwards)] for step in range(len(backwards))])
        left -= set(backwards)
        left -= set(topological_order({one: [of for of in dependencies[one] if of in left] for one in left}))
    return cycles


def topological_order(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """Nodes so that each comes after what it depends on; where that leaves a choice, in the order of the mapping.

    Nodes on cycles, and what depends on them, are left out.
    """
    names = list(dependencies)
    place = {name: index for index, name in enumerate(names)}
    missing = {name: len(set(of)) for name, of in dependencies.items()}
    dependents = _dependents(dependencies)
    ready = [place[name] for name in names if not missing[name]]
    order = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for dependent in dependents[name]:
            missing[dependent] -= 1
            if not missing[dependent]:
                heapq.heappush(ready, place[dependent])
    return order


def _dependents(dependencies: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {name: [] for name in dependencies}
    for name, of in dependencies.items():
        for one in dict.fromkeys(of):
            dependents[one].append(name)
    return dependents


class Dag:
    """Each node once, after all that it depends on.

    Args:
        dependencies: by node, in the order of declaration, what it depends on. Free of cycles.
        mode: `sequential`, one at a time in one fixed order; or `fan_out`, side by side.
        limit: how many nodes may be active at once in `fan_out`.
        tags: by node.
        kinds: by node, the kind of its step; the empty string for a node of code.
        output: the node whose output is the run's; `None`: a mapping of the outputs of all nodes that nothing depends
            on.
    """

    def __init__(
        self,
        dependencies: Mapping[str, Sequence[str]],
        *,
        mode: Mode,
        limit: int,
        tags: Mapping[str, Sequence[str]],
        kinds: Mapping[str, str],
        output: str | None = None,
    ) -> None:
        self.dependencies = dependencies
        self.mode = mode
        self.limit = limit if mode == "fan_out" else 1
        self.tags = tags
        self.kinds = kinds
        self.output = output
        self.order: Sequence[str] = tuple(topological_order(dependencies))
        self.place = {name: index for index, name in enumerate(self.order)}
        self.dependents = _dependents(dependencies)
        self.sinks = tuple(name for name in dependencies if not self.dependents[name])

    def router(self) -> Router:
        """A router that remembers which nodes are ready, so that each routing costs what is new, not what there is."""
        return _DagRouter(self)

    def finish(self, completed: Mapping[str, NodeResult]) -> Finish:
        """The end of the run, when every node has ended."""
        if self.output is not None:
            return Finish(completed[self.output].output)
        return Finish({name: completed[name].output for name in self.sinks})

    @property
    def linear(self) -> bool:
        """Whether states are executed one at a time."""
        return self.mode == "sequential"

    def sort(self, names: Iterable[str]) -> list[str]:
        """Nodes so that each comes after those that it depends on."""
        return sorted(names, key=self.place.__getitem__)

    @cached_property
    def _ancestors(self) -> dict[str, int]:
        """By node, all that it depends on, directly or not, as a bit set over `order`."""
        found: dict[str, int] = {}
        for name in self.order:
            bits = 0
            for of in self.dependencies[name]:
                bits |= found[of] | 1 << self.place[of]
            found[name] = bits
        return found

    def precedes(self, earlier: str, later: str) -> bool:
        """In sequence everything before is seen; side by side only what a node depends on, directly or not."""
        if self.mode == "sequential":
            return self.place[earlier] < self.place[later]
        return bool(self._ancestors[later] >> self.place[earlier] & 1)

    def edges(self) -> Iterable[tuple[str, str]]:
        """From dependency to dependent."""
        return [(of, name) for name, all_of in self.dependencies.items() for of in all_of]

    def structure(self) -> dict[str, Any]:
        """Nodes with edges, kinds and tags; the order where the order can be seen."""
        nodes = {
            name: {"after": sorted(of), "kind": self.kinds[name], "tags": sorted(self.tags[name])}
            for name, of in self.dependencies.items()
        }
        return {
            "mode": self.mode,
            "nodes": nodes,
            "order": list(self.order) if self.mode == "sequential" else [],
            "output": self.output,
        }


class _DagRouter:
    """Follows the results of one run.

    `completed` only grows at its end while a run executes, so new results are read from there. Whenever it looks as if
    it had not (a run was opened again and forgot its failure), everything is read anew.
    """

    def __init__(self, dag: Dag) -> None:
        self._dag = dag
        self._reset()

    def _reset(self) -> None:
        dag = self._dag
        self._seen = 0
        self._last: str | None = None
        self._failed: str | None = None
        self._missing = {name: len(set(of)) for name, of in dag.dependencies.items()}
        self._ready = sorted(dag.place[name] for name, missing in self._missing.items() if not missing)

    def __call__(self, progress: Progress) -> Route:
        dag, completed = self._dag, progress.completed
        self._follow(completed)
        if self._failed is not None:
            return broken_by(completed[self._failed])
        if len(completed) == len(dag.order):
            return dag.finish(completed)
        skip_tags = frozenset(progress.skip_tags)
        room = dag.limit - len(progress.active)
        enter: list[str] = []
        skip: list[str] = []
        for place in self._ready:
            if len(enter) >= room:
                break
            name = dag.order[place]
            if name in progress.active:
                continue
            if skip_tags and not skip_tags.isdisjoint(dag.tags[name]):
                skip.append(name)
            else:
                enter.append(name)
        if skip:
            # What was ready behind a skipped node comes after what the skip makes ready.
            return Enter((), tuple(skip))
        return Enter(tuple(enter)) if enter else Hold()

    def _follow(self, completed: dict[str, NodeResult]) -> None:
        fresh = list(islice(reversed(completed), max(len(completed) - self._seen, 0) + 1))
        known = fresh.pop() if self._seen and len(fresh) == len(completed) - self._seen + 1 else None
        undone = self._failed is not None and (self._failed not in completed or not has_failed(completed[self._failed]))
        if known != self._last or undone:
            self._reset()
            fresh = list(reversed(completed))
        for name in reversed(fresh):
            self._take(name, completed[name])

    def _take(self, name: str, result: NodeResult) -> None:
        dag = self._dag
        self._seen += 1
        self._last = name
        if self._missing[name] == 0:
            del self._ready[bisect_left(self._ready, dag.place[name])]
        if self._failed is None and has_failed(result):
            self._failed = name
        for dependent in dag.dependents[name]:
            self._missing[dependent] -= 1
            if not self._missing[dependent]:
                insort(self._ready, dag.place[dependent])
