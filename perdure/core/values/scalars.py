"""Scalars: text, numbers, `bool` and `None`, which JSON has."""

from __future__ import annotations

from typing import cast

from perdure.core.canonical import FLOATS, FOREIGN, SAFE_INTEGER, JSONValue
from perdure.core.values.codec import Codec
from perdure.core.values.refusals import Refusal, check_text, mismatch
from perdure.core.values.tags import WIDE_INTEGER, write_tagged
from perdure.core.values.trees import shape_of


def is_scalar(value: object) -> bool:
    """Whether a value is an immutable JSON scalar: `str`, `bool`, `None` or an `int` within ±(2^53-1), by exact type.

    When such a value was dumped by a codec that is `plain`, loading it again would give the same value.
    """
    kind = type(value)
    return kind is str or kind is bool or value is None or (kind is int and -SAFE_INTEGER <= value <= SAFE_INTEGER)  # type: ignore[operator]


class ScalarCodec(Codec[object]):
    """`str`, `bool` and `None`: JSON has them."""

    def __init__(self, kind: type, shape: str) -> None:
        super().__init__(kind)
        self._kinds = self._exact = frozenset((kind,))
        self._shapes = frozenset((shape,))
        self.kind = kind

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            raise mismatch(self.name, value)
        if type(value) is str:
            check_text(value)
        return cast("JSONValue", value)

    def _decode(self, tree: object, outside: bool) -> object:
        if type(tree) is not self.kind:
            raise mismatch(self.name, tree)
        if outside and type(tree) is str:
            check_text(tree)
        return tree


class IntegerCodec(Codec[object]):
    _kinds = _exact = frozenset((int,))
    _shapes = frozenset(("number", "$int"))

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not int:
            raise mismatch(self.name, value)
        return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else write_tagged(WIDE_INTEGER, value)

    def _decode(self, tree: object, outside: bool) -> object:
        if type(tree) is int:
            return tree
        if shape_of(tree) == "$int":
            return WIDE_INTEGER.read(cast("dict[str, object]", tree)["$int"])
        raise mismatch(self.name, tree)


class FloatCodec(Codec[object]):
    """Takes an `int` for a float, and gives a float back."""

    plain = False
    _kinds = frozenset((float,))
    _shapes = frozenset(("number",))

    def _survey(self, value: object, depth: int) -> int:
        return FLOATS if type(value) is float else FOREIGN

    def _encode(self, value: object, depth: int) -> JSONValue:
        return self._decode(value, False)

    def _decode(self, tree: object, outside: bool) -> float:
        if type(tree) is float:
            return finite(tree)
        if type(tree) is not int:
            raise mismatch(self.name, tree)
        if abs(tree) > SAFE_INTEGER and (tree.bit_length() > 1023 or int(float(tree)) != tree):
            raise Refusal("as a float, the integer would lose digits", mismatch=True)
        return float(tree)


def finite(number: float) -> float:
    if number - number != 0:  # NaN and the infinities
        raise Refusal(f"{number} is no JSON number")
    return number


TEXT = ScalarCodec(str, "text")
INTEGER = IntegerCodec(int)
