"""Which visit of a node a stage is: a number of its own, across branches, nested fan-outs and restarted loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Visits:
    """Counts the visits that one strand makes.

    Branches run side by side, so none knows what the others count. Where two of them can come to one node, they take
    turns: of two branches the first has the odd numbers and the second the even ones. So the numbers do not depend on
    who comes first.

    Args:
        before: by node, the visits before this strand; of the top level.
        parent: the strand that fanned out.
        shared: nodes that more than one of the branches can come to.
        place: of this branch among them, from 0.
        of: how many branches there are.

    Attributes:
        counts: by node, how often this strand has visited it.
    """

    before: Mapping[str, int] = field(default_factory=dict)
    parent: Visits | None = None
    shared: frozenset[str] = frozenset()
    place: int = 0
    of: int = 1
    counts: dict[str, int] = field(default_factory=dict)

    def enter(self, node: str) -> int:
        """Count a visit; returns its number, from 1."""
        self.counts[node] = self.counts.get(node, 0) + 1
        return self._number(node, self.counts[node])

    def made(self, node: str) -> int:
        """How often a node was visited by this strand and before it."""
        before = self.parent.made(node) if self.parent is not None else self.before.get(node, 0)
        return before + self.counts.get(node, 0)

    def taken(self, node: str) -> int:
        """How many numbers of the parent's this strand has used up, at most."""
        return self._in_parent(node, self.counts.get(node, 0))

    def _in_parent(self, node: str, count: int) -> int:
        return (count - 1) * self.of + self.place + 1 if count and node in self.shared else count

    def _number(self, node: str, count: int) -> int:
        inner = self._in_parent(node, count)
        if self.parent is None:
            return self.before.get(node, 0) + inner
        return self.parent._number(node, self.parent.counts.get(node, 0) + inner)
