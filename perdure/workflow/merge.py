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
