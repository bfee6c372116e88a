"""Records: classes with named and typed fields, from typed dicts to models."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from perdure.core.canonical import JSONValue
from perdure.core.values.choosing import codec_for
from perdure.core.values.codec import Codec
from perdure.core.values.foreign import ForeignCodec, adapter_of, validate_outside
from perdure.core.values.plain import UNDECLARED, encode_members, text_key, unescape_key
from perdure.core.values.refusals import Refusal, first_line, mismatch, refusal_by, shown_cause
from perdure.core.values.trees import shape_of

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")


class _Field(NamedTuple):
    codec: Codec[object]
    required: bool


class RecordCodec(Codec[object]):
    """A class with named and typed fields, written as an object."""

    _shapes = frozenset(("object",))

    def __init__(self, declared: object, kind: type, annotated: type | None = None) -> None:
        super().__init__(declared)
        self._kinds = frozenset((kind,))
        self.kind = kind
        self.annotated = annotated or kind
        self._fields: dict[str, _Field] | None = None

    def fields(self) -> dict[str, _Field]:
        """The fields, found at first use: a class may contain itself."""
        if self._fields is None:
            self._fields = self._resolved(self._find_fields)
        return self._fields

    def hints(self) -> dict[str, object]:
        """The annotations, with the parameters of a generic class replaced by its arguments."""
        return self._resolved(self._find_hints)

    def _resolved(self, find: Callable[[], T]) -> T:
        try:
            return find()
        except (NameError, TypeError, AttributeError) as error:
            raise Refusal(f"the annotations of {self.name} cannot be resolved: {error}") from error

    def _find_hints(self) -> dict[str, object]:
        hints = typing.get_type_hints(self.annotated, include_extras=True)
        parameters = getattr(self.annotated, "__parameters__", ())
        arguments = dict(zip(parameters, typing.get_args(self.declared), strict=False))
        return {name: _substituted(hint, arguments) for name, hint in hints.items()}

    def _find_fields(self) -> dict[str, _Field]:
        raise NotImplementedError

    def _values(self, value: typing.Any) -> Iterable[tuple[str, object]]:
        """The members of an instance that are there."""
        try:
            return [(name, getattr(value, name)) for name in self.fields()]
        except AttributeError as error:
            raise Refusal(str(error)) from error

    def _build(self, values: dict[str, object]) -> object:
        raise NotImplementedError

    def _members(self) -> Iterable[Codec[object]]:
        return [field.codec for field in self.fields().values()]

    def _codec_of(self, name: str) -> Codec[object]:
        field = self.fields().get(name)
        if field is None:
            raise Refusal(f"{self.name} declares no {name[:80]!r}", mismatch=True)
        return field.codec

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            inherits = isinstance(value, self.kind)
            lost = f"{type(value).__name__}, whose own fields would be lost" if inherits else type(value).__name__
            raise Refusal(f"expected {self.name}, got {lost}", mismatch=True)
        members = [(name, child, self._codec_of(name)) for name, child in self._values(value)]
        return encode_members(value, members, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if outside and type(tree) is self.kind and self.kind is not dict:
            self._encode(tree, 0)
            return tree
        if type(tree) is not dict or (not outside and shape_of(tree) != "object"):
            raise mismatch(self.name, tree)
        values: dict[str, object] = {}
        for name, child in tree.items():
            name = str(name) if outside else unescape_key(name)
            codec = self._codec_of(name)
            try:
                values[name] = codec._decode(child, outside)
            except Refusal as refusal:
                refusal.at(name, tree)
                raise
        self._check_complete(values, tree)
        return self._construct(values)

    def _check_complete(self, values: Mapping[str, object], container: object) -> None:
        for name, field in self.fields().items():
            if field.required and name not in values:
                refusal = Refusal("it is missing", mismatch=True)
                refusal.at(name, container)
                raise refusal

    def _construct(self, values: dict[str, object]) -> object:
        try:
            return self._build(values)
        except Refusal:
            raise
        except Exception as error:  # the class's own code
            raise refusal_by(error, self.name) from shown_cause(error)


_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")  # the last one may be that of typing_extensions


class TypedDictCodec(RecordCodec):
    def _find_fields(self) -> dict[str, _Field]:
        required_keys: frozenset[str] = getattr(self.annotated, "__required_keys__", frozenset())
        fields = {}
        for name, hint in self.hints().items():
            required = name in required_keys
            while (qualifier := getattr(typing.get_origin(hint), "_name", "")) in _QUALIFIERS:
                # With postponed annotations, `__required_keys__` does not see the first two.
                required = qualifier == "Required" or (required and qualifier != "NotRequired")
                (hint,) = typing.get_args(hint)
            fields[name] = _Field(codec_for(hint), required)
        return fields

    def _values(self, value: typing.Any) -> Iterable[tuple[str, object]]:
        self._check_complete(value, value)
        return [(text_key(name), child) for name, child in value.items()]

    def _build(self, values: dict[str, object]) -> object:
        return values


class DataclassCodec(RecordCodec):
    def __init__(self, declared: object, kind: type) -> None:
        super().__init__(declared, kind)
        self._of_pydantic = hasattr(kind, "__pydantic_fields__")
        parameters = kind.__dataclass_params__  # type: ignore[attr-defined]
        fields = dataclasses.fields(kind)
        self._rebuilds = (
            self._of_pydantic
            or not parameters.init
            or hasattr(kind, "__post_init__")
            or not all(field.init for field in fields)
            or any(isinstance(inspect.getattr_static(kind, field.name, None), property) for field in fields)
        )

    def _find_fields(self) -> dict[str, _Field]:
        hints = self.hints()
        missing = dataclasses.MISSING
        return {
            field.name: _Field(
                codec_for(hints[field.name]),
                field.init and field.default is missing and field.default_factory is missing,
            )
            for field in dataclasses.fields(self.kind)
        }

    def _build(self, values: dict[str, object]) -> object:
        if self._of_pydantic:
            return adapter_of(self.kind).validate_python(values, by_alias=False, by_name=True)
        later = {field.name for field in dataclasses.fields(self.kind) if not field.init}
        built = self.kind(**{name: value for name, value in values.items() if name not in later})
        for name in later & values.keys():
            object.__setattr__(built, name, values[name])
        return built


class ModelCodec(RecordCodec):
    """A pydantic model, by its fields' names; outside, by its own rules (aliases and all)."""

    _rebuilds = True
    kind: type[BaseModel]

    def _find_fields(self) -> dict[str, _Field]:
        self._complete()
        fields = {}
        for name, field in self.kind.model_fields.items():
            codec: Codec[object] = codec_for(field.annotation)
            if isinstance(codec, ForeignCodec) and field.metadata:
                codec = codec_for(typing.Annotated[field.annotation, *field.metadata])
            fields[name] = _Field(codec, field.is_required())
        return fields

    def _complete(self) -> None:
        """A model whose annotations name a later class is completed by its first instance; reading has none yet."""
        if not self.kind.__pydantic_complete__:
            try:
                self.kind.model_rebuild(_types_namespace={})
            except Exception as error:
                raise Refusal(f"the annotations of {self.name} cannot be resolved: {first_line(error)}") from error

    def _codec_of(self, name: str) -> Codec[object]:
        field = self.fields().get(name)
        return UNDECLARED if field is None else field.codec  # an extra: allowed, ignored or refused by the model

    def _values(self, value: BaseModel) -> Iterable[tuple[str, object]]:
        for name, private in (value.__pydantic_private__ or {}).items():
            if private != self.kind.__private_attributes__[name].get_default():
                raise Refusal(f"the private attribute {name} of {self.name} would be lost")
        extra = [(text_key(name), child) for name, child in (value.model_extra or {}).items()]
        return [*super()._values(value), *extra]

    def _decode(self, tree: object, outside: bool) -> object:
        if not outside or type(tree) is not dict:
            return super()._decode(tree, outside)
        return validate_outside(self.kind, tree)

    def _build(self, values: dict[str, object]) -> object:
        return self.kind.model_validate(values, by_alias=False, by_name=True)


def _substituted(hint: object, arguments: Mapping[object, object]) -> object:
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    parameters: tuple[object, ...] = getattr(hint, "__parameters__", ())
    if isinstance(hint, type) or not parameters:
        return hint
    return cast("dict[object, object]", hint)[tuple(arguments.get(parameter, parameter) for parameter in parameters)]
