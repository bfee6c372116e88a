"""Choices: enums, flags and `Literal`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, Flag

from perdure.core.canonical import JSONValue, canonical
from perdure.core.errors import ValueRefusedError
from perdure.core.values.codec import Codec
from perdure.core.values.plain import UNDECLARED
from perdure.core.values.refusals import Refusal, mismatch
from perdure.core.values.scalars import INTEGER
from perdure.core.values.trees import shape_of


class ChoiceCodec(Codec[object]):
    """Enums and `Literal`: one of few values, each written as its own JSON."""

    def __init__(self, declared: object, options: Iterable[tuple[object, object]]) -> None:
        super().__init__(declared)
        self._written: dict[tuple[type, object], JSONValue] = {}
        self._read_back: dict[bytes, object] = {}
        self._failure = ""
        for option, value in options:
            try:
                self._add(option, UNDECLARED._encode(value, 0))
            except Refusal as refusal:
                self._failure = f"{self.name} cannot be recorded: {refusal.reason}"
        self._kinds = frozenset(kind for kind, _ in self._written)
        self._shapes = frozenset(map(shape_of, self._written.values()))

    def _add(self, option: object, tree: JSONValue) -> None:
        self._written[type(option), option] = tree
        if self._read_back.setdefault(canonical(tree), option) != option:
            raise Refusal("two of its values are recorded alike")

    def _check_type(self) -> None:
        if self._failure:
            raise Refusal(self._failure)

    def _encode(self, value: object, depth: int) -> JSONValue:
        if self._failure:
            raise Refusal(self._failure)
        try:
            return self._written[type(value), value]
        except (KeyError, TypeError):
            raise mismatch(self.name, value) from None

    def _decode(self, tree: object, outside: bool) -> object:
        if self._failure:
            raise Refusal(self._failure)
        try:
            return self._read_back[canonical(tree)]
        except (KeyError, ValueRefusedError):
            if not outside:
                raise Refusal(f"expected {self.name}, got another value", mismatch=True) from None
        self._encode(tree, 0)
        return tree


class FlagsCodec(ChoiceCodec):
    """A `Flag`: its members and their combinations."""

    def __init__(self, declared: type[Flag]) -> None:
        super().__init__(declared, ((member, member.value) for member in declared))
        self.flag = declared
        self._kinds = frozenset((declared,))
        self._shapes = frozenset(("number", "$int"))

    def _encode(self, value: object, depth: int) -> JSONValue:
        if not isinstance(value, self.flag):
            raise mismatch(self.name, value)
        return UNDECLARED._encode(value.value, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if outside and isinstance(tree, self.flag):
            return tree
        try:
            number = INTEGER._decode(tree, outside)
            flags = self.flag(number)
        except ValueError:
            raise mismatch(self.name, tree) from None
        if flags.value != number:  # -1 stands for all of them, but is not how they are written
            raise mismatch(self.name, tree)
        return flags


def enum_codec(declared: type[Enum]) -> Codec[object]:
    if issubclass(declared, Flag):
        return FlagsCodec(declared)
    # A tuple is how many enums are written; it stands for the one member, so that a list loses nothing.
    options = (
        (member, list(member.value) if type(member.value) is tuple else member.value)
        for member in declared.__members__.values()
    )
    return ChoiceCodec(declared, options)


def literal_codec(declared: object, options: Sequence[object]) -> Codec[object]:
    return ChoiceCodec(declared, ((option, option.value if isinstance(option, Enum) else option) for option in options))
