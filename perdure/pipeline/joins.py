"""Where the branches of each fan-out meet again.

A branch of a `parallel` node ends at the first fan-in that it comes to, where a fan-out inside of the branch counts as
one step: what it opens, its own fan-in closes. The join of a fan-out is a fan-in at which all of its branches can end;
of several, the one that a walk from the start comes to first.

For each node, the fan-ins at which a walk from it can end are held as the bits of one number, and grow until nothing
changes. A fan-out whose branches have a fan-in in common is thereby settled, and lets walks through, which may settle
the one around it. So every edge is looked at a few times, however many fan-outs lead over it, and loops need no care.

What changed is gone over from the end of the graph to its start and back again, since what lies on a loop hears of it
either way. In a tangle that was made to be slow this does not help; there, nodes stop growing after `MAX_GROWTH` times.
No node with that many fan-ins or fewer to end at is concerned.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from perdure.pipeline.document import Document
from perdure.pipeline.handler_types import FAN_IN, PARALLEL, START, handler_type

MAX_GROWTH: Final = 64
"""So many fan-ins a node learns of one after the other; together it may learn of any number."""


def parallel_joins(document: Document, registered: Collection[str] = ()) -> dict[str, str | None]:
    """The fan-in of each `parallel` node; `None` where its branches have none in common, or where it has no branch.

    Args:
        document: a pipeline, valid or not.
        registered: handler types beside those of the dialect.
    """
    types = {name: handler_type(node, registered) for name, node in document.nodes.items()}
    leaving: dict[str, list[str]] = {name: [] for name in document.nodes}
    for edge in document.edges:
        leaving[edge.start].append(edge.end)
    return joins_of(types, leaving)


def joins_of(types: Mapping[str, str], leaving: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """The same, of a graph given by the handler type and the successors of each node."""
    return _Joins(types, leaving).found()


class _Joins:
    def __init__(self, types: Mapping[str, str], leaving: Mapping[str, Sequence[str]]) -> None:
        self._types = types
        self._leaving = leaving
        order = self._in_order_of_a_walk()
        self._places = {name: place for place, name in enumerate(order)}
        self._order = order
        self._fan_ins = [name for name in order if types[name] == FAN_IN]
        self._growth = dict.fromkeys(types, 0)
        self._bits = {name: 1 << place for place, name in enumerate(self._fan_ins)}
        self._ends = dict.fromkeys(types, 0)
        self._joins: dict[str, str | None] = {name: None for name, kind in types.items() if kind == PARALLEL}
        self._joined_at: dict[str, list[str]] = {name: [] for name in self._fan_ins}
        self._entering: dict[str, list[str]] = {name: [] for name in types}
        for name, targets in leaving.items():
            for target in targets:
                self._entering[target].append(name)

    def found(self) -> dict[str, str | None]:
        changed: Collection[str] = self._order
        while changed:
            changed = self._settle(self._spread(changed))
        return self._joins

    def _in_order_of_a_walk(self) -> list[str]:
        """All nodes, nearest to the start first."""
        seen = dict.fromkeys(name for name, kind in self._types.items() if kind == START)
        queue = deque(seen)
        while queue:
            for target in self._leaving[queue.popleft()]:
                if target not in seen:
                    seen[target] = None
                    queue.append(target)
        return [*seen, *(name for name in self._types if name not in seen)]

    def _spread(self, changed: Collection[str]) -> dict[str, None]:
        """Let `_ends` grow from these nodes on. Returns the open fan-outs of which a branch may have changed."""
        touched: dict[str, None] = {}
        waiting = set(changed)
        direction = -1
        ahead = [direction * self._places[name] for name in changed]
        while ahead:
            heapq.heapify(ahead)
            behind: list[int] = []
            while ahead:
                rank = heapq.heappop(ahead)
                name = self._order[direction * rank]
                waiting.discard(name)
                if self._joins.get(name, "") is None:
                    touched[name] = None
                elif self._grow(name):
                    for other in self._joined_at[name] if name in self._bits else self._entering[name]:
                        if other not in waiting:
                            waiting.add(other)
                            other_rank = direction * self._places[other]
                            if other_rank > rank:
                                heapq.heappush(ahead, other_rank)
                            else:
                                behind.append(-other_rank)
            ahead, direction = behind, -direction
        return touched

    def _grow(self, name: str) -> bool:
        """Has a node more fan-ins to end at than it had?"""
        ends = self._ends_of(name)
        if ends == self._ends[name] or self._growth[name] == MAX_GROWTH:
            return False
        self._ends[name] = ends
        self._growth[name] += 1
        return True

    def _ends_of(self, name: str) -> int:
        join = self._joins.get(name)
        if join is not None:
            return self._ends[join]
        ends = 0
        for target in self._leaving[name]:
            ends |= self._by_way_of(target)
        return ends

    def _by_way_of(self, target: str) -> int:
        return self._bits.get(target) or self._ends[target]

    def _settle(self, touched: Collection[str]) -> list[str]:
        """Give a join to each fan-out that can have one now, and return those."""
        settled = []
        for name in touched:
            branches = self._leaving[name]
            common = -1 if branches else 0
            for target in branches:
                common &= self._by_way_of(target)
            if common:
                join = self._fan_ins[(common & -common).bit_length() - 1]
                self._joins[name] = join
                self._joined_at[join].append(name)
                settled.append(name)
        return settled
