"""The codec: what all codecs have in common, and the one of a type that cannot be recorded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar, cast

from perdure.core.canonical import FOREIGN, PLAIN, JSONValue, canonical, parse, write_surveyed
from perdure.core.errors import InputTypeError, ValueRefusedError, ValueTooLargeError
from perdure.core.values.refusals import MAX_DEPTH, Refusal, first_line, type_name
from perdure.core.values.trees import differing_path

T_co = TypeVar("T_co", covariant=True)

HARD_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""No recorded value is larger than this, in bytes of canonical JSON."""


class Codec(Generic[T_co]):
    """Writes and reads the values of one declared type. Made by `codec_for`; may be used by several threads."""

    plain: bool = True
    """Whether loading gives back the very same value for everything that `is_scalar`."""

    _kinds: frozenset[type] | None = None  # the exact types it writes; None: any
    _shapes: frozenset[str] | None = None  # the shapes of JSON it writes; None: any
    _exact: frozenset[type] = frozenset()  # the types whose values are written as they are
    _rebuilds: bool = False  # reading runs code of the type's own
    _checked: bool | None = None  # whether some codec within rebuilds

    def __init__(self, declared: object) -> None:
        self.declared = declared
        self.name = type_name(declared)

    def __repr__(self) -> str:
        return f"<codec of {self.name}>"

    @property
    def refusal(self) -> str | None:
        """Why the declared type cannot be recorded, or `None` where it can; each value is still judged by itself.

        Of a union, one member that can be recorded is enough. Answered anew each time, since a name that an annotation
        needs may be defined later. Loads pydantic for types that it alone knows.
        """
        return self._why_not({})

    def dump(self, value: object, path: str = "$") -> bytes:
        """The canonical JSON bytes of a value: what is recorded and hashed.

        Args:
            value: a value of the declared type.
            path: where it stands; errors name the place from there on.

        Raises:
            ValueRefusedError: it cannot be recorded, or would not come back as it was.
            ValueTooLargeError: it is over `HARD_LIMIT_BYTES`.
        """
        found = self._survey(value, MAX_DEPTH)
        data = write_surveyed(value, found)
        if data is None or b'"$' in data:
            data = self._dump_carefully(value, path)
        if len(data) > HARD_LIMIT_BYTES:
            raise ValueTooLargeError(
                f"{path}: {len(data):,} bytes are more than {HARD_LIMIT_BYTES:,}", path=path, size_bytes=len(data)
            )
        return data

    def load(self, data: bytes) -> T_co:
        """A value decoded afresh from what `dump` gave.

        Raises:
            InputTypeError: the recorded value does not validate against the declared type.
            ValueRefusedError: the bytes are not a recorded value.
        """
        return self._read(parse(data), outside=False, path="$")

    def load_json(self, tree: JSONValue) -> T_co:
        """As `load`, from JSON that is parsed already; nothing mutable is shared with the tree."""
        return self._read(tree, outside=False, path="$")

    def tree(self, value: object, path: str = "$") -> JSONValue:
        """The JSON tree of `dump(value)`; nothing mutable is shared with the value."""
        return parse(self.dump(value, path))

    def check_input(self, value: object, path: str = "$") -> T_co:
        """Validate what comes from outside: JSON data, or a value of the declared type.

        As in JSON, text is accepted for datetimes and their like, for decimals, UUIDs, bytes (UTF-8), enums and secrets
        (references), and a list for tuples and sets; but nothing is converted that has a type of its own: not `"5"`
        for an `int`.

        Raises:
            InputTypeError: it does not validate; names the place and what was expected.
            ValueRefusedError: it is of the type, but can never be recorded.
        """
        return self._read(value, outside=True, path=path)

    def schema(self) -> dict[str, object]:
        """The JSON schema of the declared type, for inputs from outside. Loads pydantic.

        Raises:
            ValueRefusedError: the type has none.
        """
        from perdure.core.values.foreign import adapter_of

        try:
            return cast("dict[str, object]", adapter_of(self.declared).json_schema())
        except Refusal as refusal:
            raise ValueRefusedError(f"{self.name} has no JSON schema: {refusal.reason}") from refusal.__cause__
        except Exception as error:
            raise ValueRefusedError(f"{self.name} has no JSON schema: {first_line(error)}") from error

    def _read(self, tree: object, *, outside: bool, path: str) -> T_co:
        try:
            return cast("T_co", self._decode(tree, outside))
        except Refusal as refusal:
            kind = InputTypeError if refusal.mismatch else ValueRefusedError
            raise refusal.error(kind, path) from refusal.__cause__
        except RecursionError:
            raise ValueRefusedError(f"{path}: it is cyclic or nested too deep", path=path) from None

    def _dump_carefully(self, value: object, path: str) -> bytes:
        """The whole way: escapes, tags, conversions, and errors that name the place."""
        try:
            data = canonical(self._encode(value, 0))
            if self._is_checked():
                self._check_comes_back(data, path)
            return data
        except Refusal as refusal:
            raise refusal.error(ValueRefusedError, path) from refusal.__cause__

    def _check_comes_back(self, data: bytes, path: str) -> None:
        try:
            again = canonical(self._encode(self._decode(parse(data), False), 0))
        except Refusal as refusal:
            refusal.reason = f"it could not be read back: {refusal.reason}"
            raise
        if again != data:
            place = path + differing_path(parse(data), parse(again)).removeprefix("$")
            raise ValueRefusedError(f"{place}: it would not come back as it was", path=place)

    def _is_checked(self) -> bool:
        if self._checked is None:
            seen: dict[int, Codec[object]] = {}
            rest: list[Codec[object]] = [self]
            while rest:
                codec = rest.pop()
                if id(codec) not in seen:
                    seen[id(codec)] = codec
                    rest.extend(codec._members())
            self._checked = any(codec._rebuilds for codec in seen.values())
        return self._checked

    def _why_not(self, known: dict[int, str | None]) -> str | None:
        """As `refusal`; `known` has the answers so far by codec id, which also ends the search in recursive types."""
        key = id(self)
        if key not in known:
            known[key] = None
            try:
                self._check_type()
                known[key] = self._why_not_members([member._why_not(known) for member in self._members()])
            except Refusal as refusal:
                known[key] = refusal.reason
        return known[key]

    def _why_not_members(self, reasons: list[str | None]) -> str | None:
        return next((reason for reason in reasons if reason is not None), None)

    # What a codec is made of. `depth` counts the containers around the value.

    def _survey(self, value: object, depth: int) -> int:
        """Whether the value is of the type and its JSON is itself, as `canonical.survey` says it; `depth` are left."""
        return PLAIN if type(value) in self._exact else FOREIGN

    def _check_type(self) -> None:
        """Refuses the type itself, whatever its members are."""

    def _encode(self, value: object, depth: int) -> JSONValue:
        raise NotImplementedError

    def _decode(self, tree: object, outside: bool) -> object:
        raise NotImplementedError

    def _members(self) -> Iterable[Codec[object]]:
        return ()


class UnusableCodec(Codec[object]):
    """Refuses every value, and says why."""

    def __init__(self, declared: object, reason: str) -> None:
        super().__init__(declared)
        self.reason = reason

    def schema(self) -> dict[str, object]:
        raise ValueRefusedError(f"no JSON schema: {self.reason}")

    def _check_type(self) -> None:
        raise Refusal(self.reason)

    def _encode(self, value: object, depth: int) -> JSONValue:
        raise Refusal(self.reason)

    def _decode(self, tree: object, outside: bool) -> object:
        raise Refusal(self.reason)
