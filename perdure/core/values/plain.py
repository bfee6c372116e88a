"""Plain data: values that nothing declares, and how objects and lists are written whatever is in them."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping

from perdure.core.canonical import SAFE_INTEGER, JSONValue, parse, survey
from perdure.core.values.codec import Codec
from perdure.core.values.refusals import Refusal, check_depth, check_text, type_name
from perdure.core.values.scalars import finite
from perdure.core.values.tags import TAG_OF_KIND, TAG_OF_NAME, WIDE_INTEGER, write_tagged
from perdure.core.values.trees import shape_of

_SCALARS: frozenset[type] = frozenset((str, int, bool, type(None)))


class PlainCodec(Codec[object]):
    """Undeclared values: plain JSON data and the tagged scalars, by exact type."""

    _exact = _SCALARS

    def __init__(self, declared: object) -> None:
        super().__init__(declared)
        self.name = "JSON data"

    def schema(self) -> dict[str, object]:
        return {}

    def load(self, data: bytes) -> object:
        return parse(data) if b'"$' not in data else super().load(data)

    def _survey(self, value: object, depth: int) -> int:
        return survey(value, depth)

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is str:
            check_text(value)
            return value
        if type(value) is int:
            return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else write_tagged(WIDE_INTEGER, value)
        if value is None or type(value) is bool:
            return value
        if type(value) is float:
            return finite(value)
        if type(value) is dict:
            return encode_members(value, _members_of_plain(value), depth)
        if type(value) is list:
            return encode_items(value, self, depth)
        tag = TAG_OF_KIND.get(type(value))
        if tag is None:
            raise Refusal(f"a value of type {type_name(type(value))}, which nothing declares, cannot be recorded")
        return write_tagged(tag, value)

    def _decode(self, tree: object, outside: bool) -> object:
        if outside:
            # From outside, a key that begins with "$" is the user's own.
            return self._decode(self._encode(tree, 0), False)
        if type(tree) is dict:
            shape = shape_of(tree)
            if shape == "object":
                return {unescape_key(key): self._decode(child, False) for key, child in tree.items()}
            if shape not in TAG_OF_NAME:
                raise Refusal(f"{shape[:80]!r} is no tag of a recorded value")
            return TAG_OF_NAME[shape].read(tree[shape])
        if type(tree) is list:
            return [self._decode(child, False) for child in tree]
        return tree


UNDECLARED = PlainCodec(typing.Any)


def _members_of_plain(value: Mapping[object, object]) -> Iterable[tuple[str, object, Codec[object]]]:
    for key, child in value.items():
        yield text_key(key), child, UNDECLARED


def text_key(key: object) -> str:
    if type(key) is not str:
        raise Refusal(f"a key of type {type_name(type(key))} is no text")
    check_text(key)
    return key


def escape_key(key: str) -> str:
    return f"${key}" if key[:1] == "$" else key


def unescape_key(key: str) -> str:
    if key[:1] != "$":
        return key
    if key[:2] != "$$":
        raise Refusal(f"{key[:80]!r} is no tag of a recorded value")
    return key[1:]


def encode_members(
    container: object, members: Iterable[tuple[str, object, Codec[object]]], depth: int
) -> dict[str, JSONValue]:
    """An object of members: the key as user code has it, the value, its codec."""
    check_depth(depth)
    written: dict[str, JSONValue] = {}
    for key, child, codec in members:
        try:
            written[escape_key(key)] = codec._encode(child, depth + 1)
        except Refusal as refusal:
            refusal.at(key, container)
            raise
    return written


def encode_items(items: Iterable[object], codec: Codec[object], depth: int) -> list[JSONValue]:
    check_depth(depth)
    written: list[JSONValue] = []
    try:
        for item in items:
            written.append(codec._encode(item, depth + 1))
    except Refusal as refusal:
        refusal.at(len(written), items)
        raise
    return written


def decode_items(items: Iterable[object], codec: Codec[object], outside: bool) -> list[object]:
    read: list[object] = []
    try:
        for item in items:
            read.append(codec._decode(item, outside))
    except Refusal as refusal:
        refusal.at(len(read), items)
        raise
    return read
