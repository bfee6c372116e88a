"""The one rule by which concurrent writes to a run's state come together.

Every branch starts from the same base. Writes to different keys merge, whatever the order in which branches finish;
two branches that wrote one key differently, with neither coming before the other, are a conflict. The rule serves the
states of a `Plan` and the joins of `run.gather`, `run.map` and `run.branch` alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.core.errors import MergeConflictError
from perdure.journal.state import DELETED


def merge_writes(
    base: Mapping[str, Any],
    writes: Mapping[str, Mapping[str, Any]],
    order: Sequence[str],
    precedes: Callable[[str, str], bool] | None = None,
) -> dict[str, Any]:
    """Merge what branches wrote into the state that they started from.

    Args:
        base: the state before the branches; not changed.
        writes: by branch, its last write of each key; `DELETED` where it removed the key.
        order: every branch that wrote, earlier ones first. It decides nothing but the order of new keys and which of
            two writes came later where `precedes` says that one came before the other.
        precedes: whether the first branch came before the second, and so was seen by it; `None`: none ever did.

    Returns:
        The merged state, a new dict.

    Raises:
        MergeConflictError: two branches wrote one key differently and neither came before the other; it names the key
            and all branches that are part of the conflict.
        ValueError: a branch that wrote is missing in `order`.
    """
    forgotten = writes.keys() - set(order)
    if forgotten:
        raise ValueError(f"branches that wrote are missing in the order: {sorted(forgotten)}")
    writers: dict[str, list[str]] = {}
    for branch in order:
        for key in writes.get(branch, ()):
            writers.setdefault(key, []).append(branch)
    merged = dict(base)
    for key, branches in writers.items():
        if len(branches) > 1 and not _is_chain(branches, precedes):
            _check_agreement(key, {branch: writes[branch][key] for branch in branches}, precedes)
        value = writes[branches[-1]][key]
        if value is DELETED:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _is_chain(branches: Sequence[str], precedes: Callable[[str, str], bool] | None) -> bool:
    """Whether each branch came before the next, so that the last one simply wins."""
    return precedes is not None and all(map(precedes, branches, branches[1:]))


def _check_agreement(key: str, values: Mapping[str, Any], precedes: Callable[[str, str], bool] | None) -> None:
    first, *others = values.values()
    if all(same_value(first, other) for other in others):
        return
    branches = list(values)
    involved = set()
    for place, later in enumerate(branches):
        for earlier in branches[:place]:
            ordered = precedes is not None and precedes(earlier, later)
            if not ordered and not same_value(values[earlier], values[later]):
                involved |= {earlier, later}
    if involved:
        names = [branch for branch in branches if branch in involved]
        raise MergeConflictError(
            f"branches {', '.join(map(repr, names))} wrote the state key {key!r} differently", key=key, branches=names
        )


class Merger:
    """The state of a run while its nodes end: what `merge_writes` would say, at a cost that does not grow with the run.

    Args:
        base: the state before any node; not changed.
        precedes: whether the first node came before the second, and so was seen by it; `None`: each sees all that
            ended before it.

    Attributes:
        state: the merged state so far; not to be changed.
    """

    def __init__(self, base: Mapping[str, Any], precedes: Callable[[str, str], bool] | None) -> None:
        self.state = dict(base)
        self._base = base
        self._precedes = precedes
        self._writers: dict[str, dict[str, Any]] = {}  # by key: who wrote what, in the order in which they ended
        self._chains: dict[str, str] = {}  # by key whose writers each came after the one before: the last of them

    def add(self, branch: str, writes: Mapping[str, Any]) -> None:
        """A node has ended.

        Args:
            branch: its name. Nodes that it depends on were added before.
            writes: as for `merge_writes`.

        Raises:
            MergeConflictError: it wrote a key differently than a node beside it; nothing was merged.
        """
        precedes = self._precedes
        if precedes is not None:
            for key, value in writes.items():
                self._check(key, branch, value, precedes)
        for key, value in writes.items():
            if precedes is not None:
                self._remember(key, branch, value, precedes)
            if value is DELETED:
                self.state.pop(key, None)
            else:
                self.state[key] = value

    def view(self, branch: str) -> dict[str, Any]:
        """The state that a node starts from; not to be changed, and valid until the next `add`.

        It costs nothing where each node sees all that ended before it; elsewhere it grows with the number of keys.
        """
        precedes = self._precedes
        if precedes is None:
            return self.state
        seen = dict(self._base)
        for key, writers in self._writers.items():
            for writer in reversed(writers):
                if precedes(writer, branch):
                    seen[key] = writers[writer]
                    break
        return {key: value for key, value in seen.items() if value is not DELETED}

    def _check(self, key: str, branch: str, value: Any, precedes: Callable[[str, str], bool]) -> None:
        last = self._chains.get(key)
        if last is None or not precedes(last, branch):
            _check_agreement(key, self._writers.get(key, {}) | {branch: value}, precedes)

    def _remember(self, key: str, branch: str, value: Any, precedes: Callable[[str, str], bool]) -> None:
        writers = self._writers.setdefault(key, {})
        last = self._chains.get(key)
        if not writers or (last is not None and precedes(last, branch)):
            self._chains[key] = branch
        else:
            self._chains.pop(key, None)
        writers[branch] = value


def same_value(one: object, other: object) -> bool:
    """Whether two values are the same JSON: unlike `==`, `True` is not `1`; like JSON, `1.0` is `1`."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_value(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if type(one) in (int, float) and type(other) in (int, float):
        return one == other
    # By exact type: what stands for a large value may be a kind of text, but is not the same as that text.
    return type(one) is type(other) and one == other
