"""`View`: what the service told, typed, with whatever else it said beside it."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Final, Self

from perdure.core.errors import ReplyInvalidError


@dataclass(frozen=True)
class View:
    """Base of what the service tells. A member that this version does not know stands in `raw` alone.

    Attributes:
        raw: all that was told, as plain JSON data.
    """

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    @classmethod
    def read(cls, tree: object) -> Self:
        """Read what was told.

        Raises:
            ReplyInvalidError: it is no such thing.
        """
        if not isinstance(tree, dict):
            raise ReplyInvalidError(f"the server's answer is no {cls.__name__}")
        given: dict[str, Any] = {}
        for name, (hint, optional) in _members(cls).items():
            if name in tree:
                given[name] = _fitted(hint, tree[name], f"{cls.__name__}.{name}")
            elif not optional:
                raise ReplyInvalidError(f"the server's answer lacks {cls.__name__}.{name}")
        return cls(raw=tree, **given)

    def to_dict(self) -> dict[str, Any]:
        """All that was told, as plain JSON data."""
        return dict(self.raw)


_MEMBERS: Final[dict[type, dict[str, tuple[Any, bool]]]] = {}


def _members(cls: type[View]) -> dict[str, tuple[Any, bool]]:
    """By name: the declared type, and whether it may be missing."""
    found = _MEMBERS.get(cls)
    if found is None:
        hints = typing.get_type_hints(cls)
        found = {one.name: (hints[one.name], _is_optional(one)) for one in fields(cls) if one.name != "raw"}
        _MEMBERS[cls] = found
    return found


def _is_optional(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def _fitted(hint: Any, value: Any, place: str) -> Any:
    """A value as its declared type has it: arrays become tuples, objects the views that they are."""
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (hint,) = (one for one in arguments if one is not type(None))
        return _fitted(hint, value, place)
    if origin is tuple and isinstance(value, list):
        return tuple(_fitted(arguments[0], one, place) for one in value)
    if origin is dict and isinstance(value, dict):
        return {name: _fitted(arguments[1], one, place) for name, one in value.items()}
    if origin is None and issubclass(hint, View):
        return hint.read(value)
    if hint is float and isinstance(value, int):
        hint = int
    if origin is None and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ReplyInvalidError(f"{place} of the server's answer is of another type")
