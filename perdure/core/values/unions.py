"""Unions: a value of one of several types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from perdure.core.canonical import FOREIGN, PLAIN, JSONValue
from perdure.core.values.codec import Codec
from perdure.core.values.refusals import Refusal, is_same, mismatch, type_name
from perdure.core.values.scalars import FloatCodec
from perdure.core.values.trees import shape_of

T = TypeVar("T")


class UnionCodec(Codec[object]):
    """One of several types. Written by the value's exact type; read by the shape of the JSON.

    Where shapes overlap the value is read back at once, and refused if another member would claim it.
    """

    def __init__(self, declared: object, members: Sequence[Codec[object]]) -> None:
        super().__init__(declared)
        self.members = sorted(members, key=lambda member: isinstance(member, FloatCodec))  # 1 is an int before a float
        self.plain = all(member.plain for member in members)
        self._kinds = _all_of([member._kinds for member in members])
        self._shapes = _all_of([member._shapes for member in members])
        sizes = [len(member._shapes or ()) for member in members]
        self.ambiguous = self._shapes is None or sum(sizes) != len(self._shapes)
        if not self.ambiguous:
            self._exact = frozenset[type]().union(*(member._exact for member in members))

    def _members(self) -> Iterable[Codec[object]]:
        return self.members

    def _why_not_members(self, reasons: list[str | None]) -> str | None:
        return None if None in reasons else super()._why_not_members(reasons)

    def _survey(self, value: object, depth: int) -> int:
        kind = type(value)
        if kind in self._exact:
            return PLAIN
        if not self.ambiguous:
            for member in self.members:
                if member._kinds is not None and kind in member._kinds:
                    return member._survey(value, depth)
        return FOREIGN

    def _encode(self, value: object, depth: int) -> JSONValue:
        kind = type(value)
        likely = [member for member in self.members if member._kinds is not None and kind in member._kinds]
        candidates = likely or [member for member in self.members if member._kinds is None or kind is int]
        member, tree = self._first(candidates, value, lambda member: member._encode(value, depth))
        if self.ambiguous:
            reader, back = self._read_by(tree, False)
            if reader is not member and not is_same(back, value):
                raise Refusal(f"as {self.name}, it would come back as {type_name(type(back))}")
        return tree

    def _decode(self, tree: object, outside: bool) -> object:
        return self._read_by(tree, outside)[1]

    def _read_by(self, tree: object, outside: bool) -> tuple[Codec[object], object]:
        shape = shape_of(tree)
        likely = [member for member in self.members if member._shapes is None or shape in member._shapes]
        if outside:
            kind = type(tree)
            likely = [member for member in self.members if kind in (member._kinds or ()) or member in likely]
            likely += [member for member in self.members if member not in likely]
        return self._first(likely, tree, lambda member: member._decode(tree, outside))

    def _first(
        self, candidates: Sequence[Codec[object]], value: object, apply: Callable[[Codec[object]], T]
    ) -> tuple[Codec[object], T]:
        if len(candidates) == 1:
            return candidates[0], apply(candidates[0])  # whose error says more than that of a union
        for member in candidates:
            try:
                return member, apply(member)
            except Refusal as refusal:
                if refusal.too_deep:
                    raise
        raise mismatch(self.name, value)


def _all_of(sets: Sequence[frozenset[T] | None]) -> frozenset[T] | None:
    known = [each for each in sets if each is not None]
    return frozenset[T]().union(*known) if len(known) == len(sets) else None
