"""The context of a pipeline's run: one JSON object, in which a dotted key is a path.

Pure functions: what they are given stays as it is; what they return shares with it whatever did not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from perdure.core.canonical import JSONValue
from perdure.core.pipeline_errors import ContextKeyError

Context: TypeAlias = dict[str, JSONValue]


def find(context: Mapping[str, JSONValue], key: str) -> JSONValue:
    """The value at a dotted key; `None` where there is none.

    Args:
        context: an object without dotted keys of its own.
        key: a path, for example `human.gate.label`.
    """
    place: Mapping[str, JSONValue] = context
    *parents, last = key.split(".")
    for name in parents:
        inner = place.get(name)
        if not isinstance(inner, dict):
            return None
        place = inner
    return place.get(last)


def written(context: Mapping[str, JSONValue], key: str, value: JSONValue) -> Context:
    """A copy in which a value stands at a dotted key; objects on the way are made where they are missing.

    Raises:
        ContextKeyError: a part of the key is empty, or the way leads through a value that is not an object.
    """
    *parents, last = _parts(key)
    result: Context = dict(context)
    place = result
    for depth, name in enumerate(parents, 1):
        inner = place.get(name, {})
        if not isinstance(inner, dict):
            raise _in_the_way(key, ".".join(parents[:depth]))
        place[name] = copied = dict(inner)
        place = copied
    place[last] = value
    return result


def updated(context: Mapping[str, JSONValue], updates: Mapping[str, JSONValue]) -> Context:
    """A copy with all updates of a stage written, in their order. Each replaces the value at its key.

    Raises:
        ContextKeyError: one of them cannot be written; none is.
    """
    result: Context = dict(context)
    for key, value in updates.items():
        result = written(result, key, value)
    return result


def nested(submitted: Mapping[str, JSONValue]) -> Context:
    """The context that a caller hands in: its dotted keys become paths, and what meets in one object is merged.

    Only its own keys are paths. Objects among its values are data and stay as they are.

    Raises:
        ContextKeyError: a part of a key is empty, or two keys want different things of one place.
    """
    result: Context = {}
    for key, value in submitted.items():
        branch = value
        for name in reversed(_parts(key)):
            branch = {name: branch}
        assert isinstance(branch, dict)
        result = _merged(result, branch, key, strict=True)
    return result


def merged(base: Mapping[str, JSONValue], over: Mapping[str, JSONValue]) -> Context:
    """Two contexts as one: objects are merged, key by key and at every depth; anything else of `over` wins."""
    return _merged(dict(base), dict(over), "", strict=False)


def _merged(base: Context, over: Context, key: str, *, strict: bool) -> Context:
    result = dict(base)
    pending = [(result, over, "")]
    while pending:
        place, additions, path = pending.pop()
        for name, value in additions.items():
            here = f"{path}{name}"
            present = place.get(name)
            if isinstance(present, dict) and isinstance(value, dict):
                place[name] = copied = dict(present)
                pending.append((copied, value, f"{here}."))
            elif strict and name in place:
                raise _in_the_way(key, here)
            else:
                place[name] = value
    return result


def _parts(key: str) -> list[str]:
    parts = key.split(".")
    if not all(parts):
        raise ContextKeyError(f"the context key {key[:80]!r} has an empty part", key=key)
    return parts


def _in_the_way(key: str, place: str) -> ContextKeyError:
    return ContextKeyError(
        f"the context key {key!r} cannot be written: there is already a value at {place!r}", key=key, place=place
    )
