"""Trees: recorded JSON, what a tree of it stands for, and where two of them differ."""

from __future__ import annotations

import json

from perdure.core.canonical import JSONValue

_SHAPE_OF_KIND = {str: "text", int: "number", float: "number", bool: "bool", type(None): "null", list: "list"}


def shape_of(tree: object) -> str:
    """The shape of a JSON value: `text`, `number`, `bool`, `null`, `list`, `object`, or the tag of a tagged scalar."""
    if type(tree) is dict:
        if len(tree) == 1 and type(key := next(iter(tree))) is str and key[:1] == "$" and key[:2] != "$$":
            return key
        return "object"
    return _SHAPE_OF_KIND.get(type(tree), "none")


def differing_path(a: JSONValue, b: JSONValue) -> str:
    """The first place in which two recorded values differ.

    Args:
        a: a JSON tree, as `Codec.tree` gives it.
        b: another.

    Returns:
        A path from `$`, for example `$.items[3].price`; `""` where they are the same JSON.
    """
    steps = _difference(a, b)
    return "" if steps is None else "$" + "".join(step_text(step) for step in steps)


def _difference(a: JSONValue, b: JSONValue) -> tuple[str | int, ...] | None:
    if type(a) is dict and type(b) is dict and shape_of(a) == shape_of(b) == "object":
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b:
                return (_shown_key(key),)
            if (steps := _difference(a[key], b[key])) is not None:
                return (_shown_key(key), *steps)
        return None
    if type(a) is list and type(b) is list:
        for index, (item, other) in enumerate(zip(a, b, strict=False)):
            if (steps := _difference(item, other)) is not None:
                return (index, *steps)
        return None if len(a) == len(b) else (min(len(a), len(b)),)
    # 1 and 1.0 are one number in JSON, 1 and true are not.
    same = a == b and (type(a) is bool) == (type(b) is bool)
    return None if same else ()


def _shown_key(key: str) -> str:
    return key[1:] if key[:2] == "$$" else key


def step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step[:80])}]"
