"""Choosing: which codec a declared type has.

Codecs of composite types ask here for those of their parts; so their modules are imported where the first one is made.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeVar, overload

from perdure.core.canonical import JSONValue
from perdure.core.values.codec import Codec, UnusableCodec
from perdure.core.values.plain import UNDECLARED
from perdure.core.values.refusals import Refusal
from perdure.core.values.scalars import INTEGER, TEXT, FloatCodec, ScalarCodec
from perdure.core.values.tags import TAG_OF_KIND, TaggedCodec

T = TypeVar("T")


@overload
def codec_for(declared: type[T]) -> Codec[T]: ...
@overload
def codec_for(declared: object) -> Codec[object]: ...
def codec_for(declared: object) -> Codec[object]:
    """The codec of a declared type; the same one each time.

    Args:
        declared: an annotation with its names resolved; `typing.Any` or `inspect.Parameter.empty` where there is none.

    Returns:
        A codec. That of a type which cannot be recorded refuses every value; asking for it is no error.
    """
    key = cache_key(declared)
    codec = _codecs.get(key)
    if codec is None:
        codec = _codecs.setdefault(key, _make_codec(declared))
    return codec


def cache_key(declared: object) -> object:
    """Annotations that are equal may still differ in the order of their unions, which their text shows."""
    if isinstance(declared, type):
        return declared
    try:
        hash(declared)
    except TypeError:
        _kept[id(declared)] = declared
        return id(declared)
    return declared, repr(declared)


_kept: dict[int, object] = {}  # annotations that are known by their id, which must not be used again

_SIMPLE: dict[object, Codec[object]] = {
    str: TEXT,
    int: INTEGER,
    float: FloatCodec(float),
    bool: ScalarCodec(bool, "bool"),
    None: ScalarCodec(type(None), "null"),
    type(None): ScalarCodec(type(None), "null"),
    typing.Any: UNDECLARED,
    object: UNDECLARED,
    inspect.Parameter.empty: UNDECLARED,
    typing.LiteralString: TEXT,
    **{kind: TaggedCodec(tag) for kind, tag in TAG_OF_KIND.items()},
}
_codecs: dict[object, Codec[object]] = {cache_key(declared): codec for declared, codec in _SIMPLE.items()}
_LISTS = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS: dict[object, type[set[object]] | type[frozenset[object]]] = {
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
}


def _make_codec(declared: object) -> Codec[object]:
    if isinstance(declared, (str, typing.ForwardRef)):
        return UnusableCodec(declared, f"the annotation {declared!r} is not resolved")
    if isinstance(declared, TypeVar):
        return codec_for(declared.__bound__ or typing.Any)
    if isinstance(declared, typing.NewType):
        return codec_for(declared.__supertype__)
    if type(declared).__name__ == "TypeAliasType":
        of_pydantic = str(getattr(declared, "__module__", "")).startswith("pydantic")  # its JsonValue
        return UNDECLARED if of_pydantic else AliasCodec(declared)
    origin = typing.get_origin(declared) or declared
    arguments = typing.get_args(declared)
    if origin is typing.Annotated:
        return _annotated_codec(declared, arguments)
    if origin in (typing.Union, types.UnionType):
        from perdure.core.values.unions import UnionCodec

        return UnionCodec(declared, [codec_for(argument) for argument in arguments])
    if origin is typing.Literal:
        from perdure.core.values.choices import literal_codec

        return literal_codec(declared, arguments)
    if isinstance(origin, type):
        return _container_codec(declared, origin, arguments) or _class_codec(declared, origin)
    return _foreign_codec(declared)


def _annotated_codec(declared: object, arguments: Sequence[object]) -> Codec[object]:
    inner: Codec[object] = codec_for(arguments[0])
    if all(isinstance(remark, str) for remark in arguments[1:]):
        return inner
    from perdure.core.values.foreign import ConstrainedCodec, ForeignCodec

    return ForeignCodec(declared) if isinstance(inner, ForeignCodec) else ConstrainedCodec(declared, inner)


def _foreign_codec(declared: object) -> Codec[object]:
    from perdure.core.values.foreign import ForeignCodec

    return ForeignCodec(declared)


def _container_codec(declared: object, origin: type, arguments: Sequence[object]) -> Codec[object] | None:
    from perdure.core.values.containers import ItemsCodec, MappingCodec, RowCodec, SetCodec

    if origin in _LISTS:
        return ItemsCodec(declared, list, codec_for(arguments[0] if arguments else typing.Any))
    if origin in _MAPPINGS:
        key, value = arguments or (str, typing.Any)
        return MappingCodec(declared, TEXT if key is typing.Any else codec_for(key), codec_for(value))
    if origin in _SETS:
        return SetCodec(declared, _SETS[origin], codec_for(arguments[0] if arguments else typing.Any))
    if origin is not tuple:
        return None
    if declared is tuple or (not arguments and not isinstance(declared, types.GenericAlias)):
        return ItemsCodec(declared, tuple, UNDECLARED)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return ItemsCodec(declared, tuple, codec_for(arguments[0]))
    return RowCodec(declared, tuple, lambda: [codec_for(argument) for argument in arguments])


def _class_codec(declared: object, kind: type) -> Codec[object]:
    from perdure.core.values.records import DataclassCodec, ModelCodec, TypedDictCodec

    pydantic = sys.modules.get("pydantic")
    if issubclass(kind, Enum):
        from perdure.core.values.choices import enum_codec

        return enum_codec(kind)
    if dataclasses.is_dataclass(kind):
        return DataclassCodec(declared, kind)
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        return TypedDictCodec(declared, dict, kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple_codec(declared, kind)
    if pydantic is not None and issubclass(kind, pydantic.BaseModel) and not issubclass(kind, pydantic.RootModel):
        return ModelCodec(declared, kind)
    return _foreign_codec(declared)


def _named_tuple_codec(declared: object, kind: type[tuple[object, ...]]) -> Codec[object]:
    from perdure.core.values.containers import RowCodec
    from perdure.core.values.records import RecordCodec

    names: Sequence[str] = kind._fields  # type: ignore[attr-defined]

    def items() -> list[Codec[object]]:
        hints = RecordCodec(declared, kind).hints()
        return [codec_for(hints.get(name, typing.Any)) for name in names]

    return RowCodec(declared, kind, items, names)


class AliasCodec(Codec[object]):
    """A `type` alias, which may stand in its own definition."""

    plain = False

    def __init__(self, declared: typing.Any) -> None:
        super().__init__(declared)
        self.alias = declared
        self._target: Codec[object] | None = None

    @property
    def target(self) -> Codec[object]:
        if self._target is None:
            named = types.SimpleNamespace(__annotations__={"value": self.alias.__value__})
            names = vars(sys.modules[self.alias.__module__])
            try:
                hints = typing.get_type_hints(named, globalns=names, include_extras=True)
            except NameError as error:
                raise Refusal(f"the type alias {self.name} cannot be resolved: {error}") from error
            self._target = codec_for(hints["value"])
        return self._target

    def _encode(self, value: object, depth: int) -> JSONValue:
        return self.target._encode(value, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        return self.target._decode(tree, outside)

    def _members(self) -> Iterable[Codec[object]]:
        return (self.target,)
