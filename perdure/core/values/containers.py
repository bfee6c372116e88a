"""Containers: lists, tuples, sets and dicts of declared types."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

from perdure.core.canonical import FOREIGN, PLAIN, JSONValue, canonical, parse
from perdure.core.errors import ValueRefusedError
from perdure.core.values.codec import Codec
from perdure.core.values.plain import decode_items, encode_items, encode_members, text_key, unescape_key
from perdure.core.values.refusals import Refusal, check_depth, is_same, mismatch, type_name
from perdure.core.values.tags import TAG_OF_NAME
from perdure.core.values.trees import shape_of

T = TypeVar("T")


class ItemsCodec(Codec[object]):
    """`list[X]` and `tuple[X, ...]`."""

    _shapes = frozenset(("list",))

    def __init__(self, declared: object, kind: type[list[object]] | type[tuple[object, ...]], item: Codec[object]):
        super().__init__(declared)
        self._kinds = frozenset((kind,))
        self.kind = kind
        self.item = item

    def _survey(self, value: object, depth: int) -> int:
        if type(value) is not self.kind or depth <= 0:
            return FOREIGN
        if self.item._exact.issuperset(map(type, value)):
            return PLAIN
        if self.kind is not list:
            return FOREIGN  # `canonical` writes lists
        return _survey_children(value, self.item, depth)

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            raise mismatch(self.name, value)
        return encode_items(value, self.item, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if not (type(tree) is list or (outside and type(tree) is self.kind)):
            raise mismatch(self.name, tree)
        if not outside and self.item._exact.issuperset(map(type, tree)):
            return self.kind(tree)
        return self.kind(decode_items(tree, self.item, outside))

    def _members(self) -> Iterable[Codec[object]]:
        return (self.item,)


def _survey_children(children: Iterable[object], codec: Codec[object], depth: int) -> int:
    found = PLAIN
    for child in children:
        found |= codec._survey(child, depth - 1)
        if found & FOREIGN:
            return FOREIGN
    return found


class RowCodec(Codec[object]):
    """`tuple[A, B]` and named tuples: a list of fixed length."""

    _shapes = frozenset(("list",))

    def __init__(
        self, declared: object, kind: type, items: Callable[[], Sequence[Codec[object]]], names: Sequence[str] = ()
    ) -> None:
        super().__init__(declared)
        self._kinds = frozenset((kind,))
        self.kind = kind
        self._items_of = items  # asked late: the type may contain itself
        self._items: Sequence[Codec[object]] | None = None
        self.names = names

    def _members(self) -> Sequence[Codec[object]]:
        if self._items is None:
            self._items = self._items_of()
        return self._items

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            raise mismatch(self.name, value)
        check_depth(depth)
        return self._each(value, lambda codec, item: codec._encode(item, depth + 1))

    def _decode(self, tree: object, outside: bool) -> object:
        if not (type(tree) is list or (outside and type(tree) is self.kind)):
            raise mismatch(self.name, tree)
        items = self._each(tree, lambda codec, item: codec._decode(item, outside))
        return tuple(items) if self.kind is tuple else self.kind(*items)

    def _each(self, items: typing.Any, apply: Callable[[Codec[object], object], T]) -> list[T]:
        codecs = self._members()
        if len(items) != len(codecs):
            raise Refusal(f"expected {len(codecs)} items, got {len(items)}", mismatch=True)
        done: list[T] = []
        try:
            for codec, item in zip(codecs, items, strict=True):
                done.append(apply(codec, item))
        except Refusal as refusal:
            refusal.at(self.names[len(done)] if self.names else len(done), items)
            raise
        return done


class SetCodec(Codec[object]):
    """`set[X]` and `frozenset[X]`: a list, sorted by the items' canonical bytes."""

    _shapes = frozenset(("list",))

    def __init__(self, declared: object, kind: type[set[object]] | type[frozenset[object]], item: Codec[object]):
        super().__init__(declared)
        self._kinds = frozenset((kind,))
        self.kind = kind
        self.item = item

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            raise mismatch(self.name, value)
        by_bytes: dict[bytes, JSONValue] = {}
        for item in encode_items(value, self.item, depth):
            if by_bytes.setdefault(canonical(item), item) is not item:
                raise Refusal("two of its items are recorded alike")
        return [by_bytes[data] for data in sorted(by_bytes)]

    def _decode(self, tree: object, outside: bool) -> object:
        if not (type(tree) is list or (outside and type(tree) in (set, frozenset))):
            raise mismatch(self.name, tree)
        items = decode_items(cast("Iterable[object]", tree), self.item, outside)
        try:
            read = self.kind(items)
        except TypeError:
            raise Refusal("an item is not hashable", mismatch=True) from None
        if len(read) != len(items) and not outside:
            raise Refusal("two of its items are equal", mismatch=True)
        return read

    def _members(self) -> Iterable[Codec[object]]:
        return (self.item,)


class MappingCodec(Codec[object]):
    """`dict[K, V]`. Keys other than text are written as text, and must come back from it."""

    _kinds = frozenset((dict,))
    _shapes = frozenset(("object",))

    def __init__(self, declared: object, key: Codec[object], value: Codec[object]) -> None:
        super().__init__(declared)
        self.key = key
        self.value = value
        self._text_keys = key._exact == frozenset((str,))

    def _survey(self, value: object, depth: int) -> int:
        if type(value) is not dict or depth <= 0 or not self._text_keys:
            return FOREIGN
        if self.value._exact.issuperset(map(type, value.values())):
            return PLAIN
        return _survey_children(value.values(), self.value, depth)

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not dict:
            raise mismatch(self.name, value)
        members = ((self._write_key(key), child, self.value) for key, child in value.items())
        return encode_members(value, members, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if type(tree) is not dict or (not outside and shape_of(tree) != "object"):
            raise mismatch(self.name, tree)
        if self._text_keys and not outside and self.value._exact.issuperset(map(type, tree.values())):
            return {key if key[:1] != "$" else unescape_key(key): child for key, child in tree.items()}
        read: dict[object, object] = {}
        for name, child in tree.items():
            key = self._read_key(name if outside else unescape_key(name), outside)
            try:
                read[key] = self.value._decode(child, outside)
            except Refusal as refusal:
                refusal.at(str(name), tree)
                raise
        if len(read) != len(tree):
            raise Refusal("two of its keys are equal", mismatch=True)
        return read

    def _write_key(self, key: object) -> str:
        if self._text_keys:
            return text_key(key)
        text = self._text_of(self.key._encode(key, 0))
        # The text is read as one key alone: of two keys that are written alike, one fails here.
        back = self._read_key(text, False)
        if not is_same(back, key):
            raise Refusal(f"a key of type {type_name(type(key))} would come back as {type_name(type(back))}")
        return text

    @staticmethod
    def _text_of(tree: JSONValue) -> str:
        shape = shape_of(tree)
        if shape in TAG_OF_NAME:
            tree = cast("dict[str, JSONValue]", tree)[shape]
        return tree if type(tree) is str else canonical(tree).decode()

    def _read_key(self, text: object, outside: bool) -> object:
        if self._text_keys or type(text) is not str:
            return text_key(text) if self._text_keys else self.key._decode(text, outside)
        for candidate in _key_trees(text):
            try:
                key = self.key._decode(candidate, outside)
            except Refusal:
                continue
            if outside or self._text_of(self.key._encode(key, 0)) == text:
                return key
        raise Refusal(f"expected a key of type {self.key.name}", mismatch=True)

    def _members(self) -> Iterable[Codec[object]]:
        return (self.key, self.value)


def _key_trees(text: str) -> Iterable[JSONValue]:
    """What a key that is written as this text may have been."""
    yield text
    for name in TAG_OF_NAME:
        yield {name: text}
    try:
        yield parse(text.encode())
    except (ValueRefusedError, UnicodeEncodeError):
        return
