"""Foreign types: what pydantic judges, or alone knows how to write. Nothing else imports it, and this at first use."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from perdure.core.canonical import JSONValue, canonical
from perdure.core.values.choosing import cache_key
from perdure.core.values.codec import Codec
from perdure.core.values.plain import UNDECLARED
from perdure.core.values.refusals import Refusal, is_same, mismatch, refusal_by, shown_cause, type_name

if TYPE_CHECKING:
    from pydantic import TypeAdapter


_WITHOUT_JSON = ("callable", "is-subclass")  # pydantic checks such values, but cannot write them


class ConstrainedCodec(Codec[object]):
    """`Annotated` with constraints: pydantic judges the value, the type alone says how it is written."""

    plain = False

    def __init__(self, declared: object, inner: Codec[object]) -> None:
        super().__init__(declared)
        self.inner = inner
        self._kinds = inner._kinds
        self._shapes = inner._shapes

    def _encode(self, value: object, depth: int) -> JSONValue:
        tree = self.inner._encode(value, depth)
        judged = self._judged(value)
        if judged is not value and canonical(self.inner._encode(judged, depth)) != canonical(tree):
            raise Refusal("its constraints would change it")
        return tree

    def _decode(self, tree: object, outside: bool) -> object:
        return self._judged(self.inner._decode(tree, outside))

    def _check_type(self) -> None:
        adapter_of(self.declared)

    def _judged(self, value: object) -> object:
        adapter = adapter_of(self.declared)
        try:
            return cast("object", adapter.validate_python(value))
        except Exception as error:  # validators are the user's code
            raise refusal_by(error, self.name) from shown_cause(error)

    def _members(self) -> Iterable[Codec[object]]:
        return (self.inner,)


class ForeignCodec(Codec[object]):
    """A type that only pydantic knows how to write, if anybody does."""

    plain = False

    def _check_type(self) -> None:
        schema = self._adapter().core_schema
        if schema["type"] in _WITHOUT_JSON and "serialization" not in schema:
            raise Refusal(f"{self.name} has no form in JSON")

    def _adapter(self) -> TypeAdapter[typing.Any]:
        adapter = adapter_of(self.declared)
        if _has_set(adapter.core_schema):
            raise Refusal(f"{self.name} has sets inside, which have no order to be recorded in")
        return adapter

    def _encode(self, value: object, depth: int) -> JSONValue:
        adapter = self._adapter()
        try:
            dumped = adapter.dump_python(value, mode="json", warnings="error", by_alias=False)
        except Exception as error:
            raise mismatch(self.name, value) from shown_cause(error)
        tree = UNDECLARED._encode(dumped, depth)
        try:
            back = self._decode(tree, False)
        except Refusal as refusal:
            raise Refusal(f"as {self.name}, it could not be read back: {refusal.reason}") from refusal
        if not is_same(back, value):
            raise Refusal(f"as {self.name}, it would not come back as it was")
        return tree

    def _decode(self, tree: object, outside: bool) -> object:
        if outside:
            return validate_outside(self.declared, tree)
        adapter = adapter_of(self.declared)
        try:
            return cast(
                "object",
                adapter.validate_json(
                    json.dumps(UNDECLARED._decode(tree, False)), strict=True, by_alias=False, by_name=True
                ),
            )
        except Refusal:
            raise
        except Exception as error:
            raise refusal_by(error, self.name) from shown_cause(error)


def _has_set(schema: object) -> bool:
    if isinstance(schema, dict):
        return schema.get("type") in ("set", "frozenset") or any(map(_has_set, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_has_set, schema))


_adapters: dict[object, TypeAdapter[typing.Any]] = {}


def adapter_of(declared: object) -> TypeAdapter[typing.Any]:
    key = cache_key(declared)
    if key not in _adapters:
        from pydantic import TypeAdapter

        try:
            _adapters[key] = TypeAdapter(cast("type[typing.Any]", declared))
        except Exception as error:
            raise Refusal(f"nothing says how a {type_name(declared)} is recorded") from error
    return _adapters[key]


def validate_outside(declared: object, tree: object) -> object:
    """Let pydantic judge JSON data, as strictly as JSON can be judged."""
    adapter = adapter_of(declared)
    try:
        data = json.dumps(tree, allow_nan=False)
    except (TypeError, ValueError):  # not JSON: an instance, perhaps
        data = None
    try:
        if data is None:
            return cast("object", adapter.validate_python(tree, strict=True, by_alias=True, by_name=True))
        return cast("object", adapter.validate_json(data, strict=True, by_alias=True, by_name=True))
    except Exception as error:
        raise refusal_by(error, type_name(declared)) from shown_cause(error)
