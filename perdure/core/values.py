"""Values: what may be recorded, and how it becomes JSON and comes back.

A value is written by its *declared* type, through a `Codec` that `codec_for` makes of that type. What is recorded is
canonical JSON (RFC 8785); what JSON lacks travels as an object of one key, the tag: `{"$int": "9007199254740992"}`,
`{"$bytes": "aGk="}`. A key of the user's own that begins with `$` is written with one more, so the two cannot meet.

A codec never guesses. It writes exact types only: a subclass would come back as its base. Where a class rebuilds its
instances in code of its own (a model's validators, `__post_init__`), the value is read back before it is accepted, and
refused if it would not come back as it was. So user code may be given the decoded value everywhere, live and replayed.

Codecs are plain Python for all types of the standard library. Of pydantic they need only what a user of pydantic has
loaded already; `pydantic` itself is imported for `Annotated` constraints, for types that nothing else here knows, and
for JSON schemas.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar, cast, overload
from uuid import UUID

from perdure.core.canonical import (
    FLOATS,
    FOREIGN,
    PLAIN,
    SAFE_INTEGER,
    JSONValue,
    canonical,
    parse,
    survey,
    write_surveyed,
)
from perdure.core.durations import iso_duration, parse_duration, parse_iso_duration
from perdure.core.errors import InputTypeError, PerdureError, ValueRefusedError, ValueTooLargeError
from perdure.core.secrets import Secret

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

HARD_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""No recorded value is larger than this, in bytes of canonical JSON."""

MAX_DEPTH: Final = 64
"""Lists, dicts and records may be nested this deep."""

_SCALARS: frozenset[type] = frozenset((str, int, bool, type(None)))


def is_scalar(value: object) -> bool:
    """Whether a value is an immutable JSON scalar: `str`, `bool`, `None` or an `int` within ±(2^53-1), by exact type.

    When such a value was dumped by a codec that is `plain`, loading it again would give the same value.
    """
    kind = type(value)
    return kind is str or kind is bool or value is None or (kind is int and -SAFE_INTEGER <= value <= SAFE_INTEGER)  # type: ignore[operator]


# --- refusals ---------------------------------------------------------------------------------------------------------


class _Refusal(Exception):
    """Why a value is refused; collects its place from the inside out, so that nothing is spent on paths until then."""

    def __init__(self, reason: str, *, mismatch: bool = False, too_deep: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mismatch = mismatch
        self.too_deep = too_deep
        self.steps: list[tuple[str | int, int]] = []

    def at(self, step: str | int, container: object) -> None:
        self.steps.append((step, id(container)))

    def error(self, kind: type[PerdureError], path: str) -> PerdureError:
        steps = list(reversed(self.steps))
        if self.too_deep:
            containers = [container for _, container in steps]
            cyclic = len(set(containers)) < len(containers)
            path += "".join(_step_text(step) for step, _ in steps[:4]) + "…"
            reason = "it contains itself" if cyclic else f"it is nested deeper than {MAX_DEPTH}"
            return kind(f"{path}: {reason}", path=path)
        path += "".join(_step_text(step) for step, _ in steps)
        return kind(f"{path}: {self.reason}", path=path)


def _step_text(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{json.dumps(step[:80])}]"


def _mismatch(expected: str, value: object) -> _Refusal:
    shape = _shape(value)
    got = shape if shape[:1] == "$" else "None" if value is None else type(value).__name__
    return _Refusal(f"expected {expected}, got {got}", mismatch=True)


def _type_name(declared: object) -> str:
    if declared is None or declared is type(None):
        return "None"
    return declared.__qualname__ if isinstance(declared, type) else repr(declared).replace("typing.", "")


def _is_same(a: object, b: object) -> bool:
    try:
        return type(a) is type(b) and bool(a == b)
    except Exception:  # a comparison of the user's own
        return False


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise _Refusal("too deep", too_deep=True)


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Refusal("a lone surrogate is no Unicode text") from None


# --- the base ---------------------------------------------------------------------------------------------------------


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
        self.name = _type_name(declared)

    def __repr__(self) -> str:
        return f"<codec of {self.name}>"

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
        try:
            return cast("dict[str, object]", _adapter(self.declared).json_schema())
        except _Refusal as refusal:
            raise ValueRefusedError(f"{self.name} has no JSON schema: {refusal.reason}") from refusal.__cause__
        except Exception as error:
            raise ValueRefusedError(f"{self.name} has no JSON schema: {_first_line(error)}") from error

    def _read(self, tree: object, *, outside: bool, path: str) -> T_co:
        try:
            return cast("T_co", self._decode(tree, outside))
        except _Refusal as refusal:
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
        except _Refusal as refusal:
            raise refusal.error(ValueRefusedError, path) from refusal.__cause__

    def _check_comes_back(self, data: bytes, path: str) -> None:
        try:
            again = canonical(self._encode(self._decode(parse(data), False), 0))
        except _Refusal as refusal:
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

    # What a codec is made of. `depth` counts the containers around the value.

    def _survey(self, value: object, depth: int) -> int:
        """Whether the value is of the type and its JSON is itself, as `canonical.survey` says it; `depth` are left."""
        return PLAIN if type(value) in self._exact else FOREIGN

    def _encode(self, value: object, depth: int) -> JSONValue:
        raise NotImplementedError

    def _decode(self, tree: object, outside: bool) -> object:
        raise NotImplementedError

    def _members(self) -> Iterable[Codec[object]]:
        return ()


# --- scalars ----------------------------------------------------------------------------------------------------------


class _Scalar(Codec[object]):
    """`str`, `bool` and `None`: JSON has them."""

    def __init__(self, kind: type, shape: str) -> None:
        super().__init__(kind)
        self._kinds = self._exact = frozenset((kind,))
        self._shapes = frozenset((shape,))
        self.kind = kind

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            raise _mismatch(self.name, value)
        if type(value) is str:
            _check_text(value)
        return cast("JSONValue", value)

    def _decode(self, tree: object, outside: bool) -> object:
        if type(tree) is not self.kind:
            raise _mismatch(self.name, tree)
        if outside and type(tree) is str:
            _check_text(tree)
        return tree


class _Integer(Codec[object]):
    _kinds = _exact = frozenset((int,))
    _shapes = frozenset(("number", "$int"))

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not int:
            raise _mismatch(self.name, value)
        return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else _tagged(_WIDE_INTEGER, value)

    def _decode(self, tree: object, outside: bool) -> object:
        if type(tree) is int:
            return tree
        if _shape(tree) == "$int":
            return _WIDE_INTEGER.read(cast("dict[str, object]", tree)["$int"])
        raise _mismatch(self.name, tree)


class _Float(Codec[object]):
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
            return _finite(tree)
        if type(tree) is not int:
            raise _mismatch(self.name, tree)
        if abs(tree) > SAFE_INTEGER and (tree.bit_length() > 1023 or int(float(tree)) != tree):
            raise _Refusal("as a float, the integer would lose digits", mismatch=True)
        return float(tree)


def _finite(number: float) -> float:
    if number - number != 0:  # NaN and the infinities
        raise _Refusal(f"{number} is no JSON number")
    return number


class _Tag(NamedTuple):
    """How a type that JSON lacks is written as text."""

    tag: str
    kind: type
    write: Callable[[typing.Any], str]
    parse: Callable[[str], object]
    parse_outside: Callable[[typing.Any], object]  # text, and what else JSON has for it

    def read(self, text: object) -> object:
        """Read recorded text: the one form that `write` gives, except where a time zone's rules have changed."""
        if type(text) is str:
            try:
                value = self.parse(text)
                if self.kind is datetime or self.write(value) == text:
                    return value
            except (ValueError, ArithmeticError, LookupError, PerdureError) as error:
                raise _Refusal(f"{self.tag} holds no {self.kind.__name__}", mismatch=True) from error
        raise _Refusal(f"{self.tag} holds no {self.kind.__name__}", mismatch=True)


def _tagged(tag: _Tag, value: object) -> JSONValue:
    return {tag.tag: tag.write(value)}


class _Tagged(Codec[object]):
    """A type that JSON lacks, by its tag."""

    def __init__(self, tag: _Tag) -> None:
        super().__init__(tag.kind)
        self._kinds = frozenset((tag.kind,))
        self._shapes = frozenset((tag.tag,))
        self.tag = tag

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.tag.kind:
            raise _mismatch(self.name, value)
        return _tagged(self.tag, value)

    def _decode(self, tree: object, outside: bool) -> object:
        if _shape(tree) == self.tag.tag:
            return self.tag.read(cast("dict[str, object]", tree)[self.tag.tag])
        if not outside:
            raise _mismatch(self.name, tree)
        if type(tree) is self.tag.kind:
            self.tag.write(tree)  # refuses what cannot be recorded
            return tree
        try:
            value = self.tag.parse_outside(tree)
        except (TypeError, ValueError, ArithmeticError, LookupError, PerdureError):
            raise _mismatch(self.name, tree) from None
        self.tag.write(value)
        return value


def _write_integer(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise _Refusal("the integer has too many digits") from None


def _parse_wide_integer(text: str) -> int:
    value = int(text)
    if -SAFE_INTEGER <= value <= SAFE_INTEGER:
        raise ValueError
    return value


def _is_fixed(zone: object) -> bool:
    # pydantic has a class of its own for fixed offsets; equal in all that counts.
    return zone is None or type(zone) is timezone or type(zone).__module__.startswith("pydantic_core")


def _write_datetime(value: datetime) -> str:
    if _is_fixed(value.tzinfo):
        return value.isoformat()
    key = getattr(value.tzinfo, "key", None)
    if type(value.tzinfo).__module__.partition(".")[0] != "zoneinfo" or key is None:
        raise _Refusal(f"the time zone ({type(value.tzinfo).__name__}) would be lost; use timezone.utc or a ZoneInfo")
    return f"{value.isoformat()}[{key}]"  # as in RFC 9557


_DATETIME = re.compile(r"([^\[\]]+)(?:\[([A-Za-z0-9._+/-]+)\])?")


def _parse_datetime(text: str) -> datetime:
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError
    moment = datetime.fromisoformat(match[1])
    if match[2] is None:
        return moment
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(match[2])
    for fold in (0, 1):
        local = moment.replace(tzinfo=zone, fold=fold)
        if local.utcoffset() == moment.utcoffset():
            return local
    return moment.astimezone(zone)  # the zone's rules have changed since: the instant stays


def _write_time(value: time) -> str:
    if not _is_fixed(value.tzinfo):
        raise _Refusal("the time zone of a time of day would be lost; use a fixed offset")
    return value.isoformat()


def _outside_timedelta(value: object) -> timedelta:
    if isinstance(value, str) and "P" in value:
        return parse_iso_duration(value)
    return timedelta(seconds=parse_duration(cast("str | float", value)))


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise _Refusal(f"{value} is no number that can be recorded")
    return str(value)


def _outside_decimal(value: object) -> Decimal:
    if type(value) not in (str, int, float):
        raise TypeError
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ValueError from None


def _only_text(function: Callable[[str], object]) -> Callable[[object], object]:
    def parse_text(value: object) -> object:
        if type(value) is not str:
            raise TypeError
        return function(value)

    return parse_text


def _tag(
    kind: type[T],
    write: Callable[[T], str],
    read: Callable[[str], object],
    outside: Callable[[object], object] | None = None,
) -> _Tag:
    return _Tag(f"${kind.__name__.lower()}", kind, write, read, outside or _only_text(read))


_WIDE_INTEGER = _tag(int, _write_integer, _parse_wide_integer)
_TAGS = (
    _WIDE_INTEGER,
    _tag(
        bytes,
        lambda data: base64.b64encode(data).decode(),
        lambda text: base64.b64decode(text, validate=True),
        _only_text(str.encode),
    ),
    _tag(datetime, _write_datetime, _parse_datetime),
    _tag(date, date.isoformat, date.fromisoformat),
    _tag(time, _write_time, time.fromisoformat),
    _tag(timedelta, iso_duration, parse_iso_duration, _outside_timedelta),
    _tag(Decimal, _write_decimal, Decimal, _outside_decimal),
    _tag(UUID, str, UUID),
    _tag(Secret, lambda secret: secret.reference, Secret),
)
_TAG_OF_KIND = {tag.kind: tag for tag in _TAGS if tag is not _WIDE_INTEGER}
_TAG_OF_NAME = {tag.tag: tag for tag in _TAGS}
_SHAPE_OF_KIND = {str: "text", int: "number", float: "number", bool: "bool", type(None): "null", list: "list"}


def _shape(tree: object) -> str:
    """The shape of a JSON value: `text`, `number`, `bool`, `null`, `list`, `object`, or the tag of a tagged scalar."""
    if type(tree) is dict:
        if len(tree) == 1 and type(key := next(iter(tree))) is str and key[:1] == "$" and key[:2] != "$$":
            return key
        return "object"
    return _SHAPE_OF_KIND.get(type(tree), "none")


def _escape(key: str) -> str:
    return f"${key}" if key[:1] == "$" else key


def _unescape(key: str) -> str:
    if key[:1] != "$":
        return key
    if key[:2] != "$$":
        raise _Refusal(f"{key[:80]!r} is no tag of a recorded value")
    return key[1:]


class _Plain(Codec[object]):
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
            _check_text(value)
            return value
        if type(value) is int:
            return value if -SAFE_INTEGER <= value <= SAFE_INTEGER else _tagged(_WIDE_INTEGER, value)
        if value is None or type(value) is bool:
            return value
        if type(value) is float:
            return _finite(value)
        if type(value) is dict:
            return _encode_members(value, _members_of_plain(value), depth)
        if type(value) is list:
            return _encode_items(value, self, depth)
        tag = _TAG_OF_KIND.get(type(value))
        if tag is None:
            raise _Refusal(f"a value of type {_type_name(type(value))}, which nothing declares, cannot be recorded")
        return _tagged(tag, value)

    def _decode(self, tree: object, outside: bool) -> object:
        if outside:
            # From outside, a key that begins with "$" is the user's own.
            return self._decode(self._encode(tree, 0), False)
        if type(tree) is dict:
            shape = _shape(tree)
            if shape == "object":
                return {_unescape(key): self._decode(child, False) for key, child in tree.items()}
            if shape not in _TAG_OF_NAME:
                raise _Refusal(f"{shape[:80]!r} is no tag of a recorded value")
            return _TAG_OF_NAME[shape].read(tree[shape])
        if type(tree) is list:
            return [self._decode(child, False) for child in tree]
        return tree


_PLAIN = _Plain(typing.Any)


def _members_of_plain(value: Mapping[object, object]) -> Iterable[tuple[str, object, Codec[object]]]:
    for key, child in value.items():
        yield _text_key(key), child, _PLAIN


def _text_key(key: object) -> str:
    if type(key) is not str:
        raise _Refusal(f"a key of type {_type_name(type(key))} is no text")
    _check_text(key)
    return key


def _encode_members(
    container: object, members: Iterable[tuple[str, object, Codec[object]]], depth: int
) -> dict[str, JSONValue]:
    """An object of members: the key as user code has it, the value, its codec."""
    _check_depth(depth)
    written: dict[str, JSONValue] = {}
    for key, child, codec in members:
        try:
            written[_escape(key)] = codec._encode(child, depth + 1)
        except _Refusal as refusal:
            refusal.at(key, container)
            raise
    return written


def _encode_items(items: Iterable[object], codec: Codec[object], depth: int) -> list[JSONValue]:
    _check_depth(depth)
    written: list[JSONValue] = []
    try:
        for item in items:
            written.append(codec._encode(item, depth + 1))
    except _Refusal as refusal:
        refusal.at(len(written), items)
        raise
    return written


def _decode_items(items: Iterable[object], codec: Codec[object], outside: bool) -> list[object]:
    read: list[object] = []
    try:
        for item in items:
            read.append(codec._decode(item, outside))
    except _Refusal as refusal:
        refusal.at(len(read), items)
        raise
    return read


# --- choices ----------------------------------------------------------------------------------------------------------


class _Choice(Codec[object]):
    """Enums and `Literal`: one of few values, each written as its own JSON."""

    def __init__(self, declared: object, options: Iterable[tuple[object, object]]) -> None:
        super().__init__(declared)
        self._written: dict[tuple[type, object], JSONValue] = {}
        self._read_back: dict[bytes, object] = {}
        self._failure = ""
        for option, value in options:
            try:
                self._add(option, _PLAIN._encode(value, 0))
            except _Refusal as refusal:
                self._failure = f"{self.name} cannot be recorded: {refusal.reason}"
        self._kinds = frozenset(kind for kind, _ in self._written)
        self._shapes = frozenset(map(_shape, self._written.values()))

    def _add(self, option: object, tree: JSONValue) -> None:
        self._written[type(option), option] = tree
        if self._read_back.setdefault(canonical(tree), option) != option:
            raise _Refusal("two of its values are recorded alike")

    def _encode(self, value: object, depth: int) -> JSONValue:
        if self._failure:
            raise _Refusal(self._failure)
        try:
            return self._written[type(value), value]
        except (KeyError, TypeError):
            raise _mismatch(self.name, value) from None

    def _decode(self, tree: object, outside: bool) -> object:
        if self._failure:
            raise _Refusal(self._failure)
        try:
            return self._read_back[canonical(tree)]
        except (KeyError, ValueRefusedError):
            if not outside:
                raise _Refusal(f"expected {self.name}, got another value", mismatch=True) from None
        self._encode(tree, 0)
        return tree


class _Flags(_Choice):
    """A `Flag`: its members and their combinations."""

    def __init__(self, declared: type[Flag]) -> None:
        super().__init__(declared, ((member, member.value) for member in declared))
        self.flag = declared
        self._kinds = frozenset((declared,))
        self._shapes = frozenset(("number", "$int"))

    def _encode(self, value: object, depth: int) -> JSONValue:
        if not isinstance(value, self.flag):
            raise _mismatch(self.name, value)
        return _PLAIN._encode(value.value, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if outside and isinstance(tree, self.flag):
            return tree
        try:
            number = _INTEGER._decode(tree, outside)
            flags = self.flag(number)
        except ValueError:
            raise _mismatch(self.name, tree) from None
        if flags.value != number:  # -1 stands for all of them, but is not how they are written
            raise _mismatch(self.name, tree)
        return flags


def _enum_codec(declared: type[Enum]) -> Codec[object]:
    if issubclass(declared, Flag):
        return _Flags(declared)
    # A tuple is how many enums are written; it stands for the one member, so that a list loses nothing.
    options = (
        (member, list(member.value) if type(member.value) is tuple else member.value)
        for member in declared.__members__.values()
    )
    return _Choice(declared, options)


def _literal_codec(declared: object, options: Sequence[object]) -> Codec[object]:
    return _Choice(declared, ((option, option.value if isinstance(option, Enum) else option) for option in options))


# --- containers -------------------------------------------------------------------------------------------------------


class _Items(Codec[object]):
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
            raise _mismatch(self.name, value)
        return _encode_items(value, self.item, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if not (type(tree) is list or (outside and type(tree) is self.kind)):
            raise _mismatch(self.name, tree)
        if not outside and self.item._exact.issuperset(map(type, tree)):
            return self.kind(tree)
        return self.kind(_decode_items(tree, self.item, outside))

    def _members(self) -> Iterable[Codec[object]]:
        return (self.item,)


def _survey_children(children: Iterable[object], codec: Codec[object], depth: int) -> int:
    found = PLAIN
    for child in children:
        found |= codec._survey(child, depth - 1)
        if found & FOREIGN:
            return FOREIGN
    return found


class _Row(Codec[object]):
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
            raise _mismatch(self.name, value)
        _check_depth(depth)
        return self._each(value, lambda codec, item: codec._encode(item, depth + 1))

    def _decode(self, tree: object, outside: bool) -> object:
        if not (type(tree) is list or (outside and type(tree) is self.kind)):
            raise _mismatch(self.name, tree)
        items = self._each(tree, lambda codec, item: codec._decode(item, outside))
        return tuple(items) if self.kind is tuple else self.kind(*items)

    def _each(self, items: typing.Any, apply: Callable[[Codec[object], object], T]) -> list[T]:
        codecs = self._members()
        if len(items) != len(codecs):
            raise _Refusal(f"expected {len(codecs)} items, got {len(items)}", mismatch=True)
        done: list[T] = []
        try:
            for codec, item in zip(codecs, items, strict=True):
                done.append(apply(codec, item))
        except _Refusal as refusal:
            refusal.at(self.names[len(done)] if self.names else len(done), items)
            raise
        return done


class _Set(Codec[object]):
    """`set[X]` and `frozenset[X]`: a list, sorted by the items' canonical bytes."""

    _shapes = frozenset(("list",))

    def __init__(self, declared: object, kind: type[set[object]] | type[frozenset[object]], item: Codec[object]):
        super().__init__(declared)
        self._kinds = frozenset((kind,))
        self.kind = kind
        self.item = item

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            raise _mismatch(self.name, value)
        by_bytes: dict[bytes, JSONValue] = {}
        for item in _encode_items(value, self.item, depth):
            if by_bytes.setdefault(canonical(item), item) is not item:
                raise _Refusal("two of its items are recorded alike")
        return [by_bytes[data] for data in sorted(by_bytes)]

    def _decode(self, tree: object, outside: bool) -> object:
        if not (type(tree) is list or (outside and type(tree) in (set, frozenset))):
            raise _mismatch(self.name, tree)
        items = _decode_items(cast("Iterable[object]", tree), self.item, outside)
        try:
            read = self.kind(items)
        except TypeError:
            raise _Refusal("an item is not hashable", mismatch=True) from None
        if len(read) != len(items) and not outside:
            raise _Refusal("two of its items are equal", mismatch=True)
        return read

    def _members(self) -> Iterable[Codec[object]]:
        return (self.item,)


class _Mapping(Codec[object]):
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
            raise _mismatch(self.name, value)
        members = ((self._write_key(key), child, self.value) for key, child in value.items())
        return _encode_members(value, members, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if type(tree) is not dict or (not outside and _shape(tree) != "object"):
            raise _mismatch(self.name, tree)
        if self._text_keys and not outside and self.value._exact.issuperset(map(type, tree.values())):
            return {key if key[:1] != "$" else _unescape(key): child for key, child in tree.items()}
        read: dict[object, object] = {}
        for name, child in tree.items():
            key = self._read_key(name if outside else _unescape(name), outside)
            try:
                read[key] = self.value._decode(child, outside)
            except _Refusal as refusal:
                refusal.at(str(name), tree)
                raise
        if len(read) != len(tree):
            raise _Refusal("two of its keys are equal", mismatch=True)
        return read

    def _write_key(self, key: object) -> str:
        if self._text_keys:
            return _text_key(key)
        text = self._text_of(self.key._encode(key, 0))
        # The text is read as one key alone: of two keys that are written alike, one fails here.
        back = self._read_key(text, False)
        if not _is_same(back, key):
            raise _Refusal(f"a key of type {_type_name(type(key))} would come back as {_type_name(type(back))}")
        return text

    @staticmethod
    def _text_of(tree: JSONValue) -> str:
        shape = _shape(tree)
        if shape in _TAG_OF_NAME:
            tree = cast("dict[str, JSONValue]", tree)[shape]
        return tree if type(tree) is str else canonical(tree).decode()

    def _read_key(self, text: object, outside: bool) -> object:
        if self._text_keys or type(text) is not str:
            return _text_key(text) if self._text_keys else self.key._decode(text, outside)
        for candidate in _key_trees(text):
            try:
                key = self.key._decode(candidate, outside)
            except _Refusal:
                continue
            if outside or self._text_of(self.key._encode(key, 0)) == text:
                return key
        raise _Refusal(f"expected a key of type {self.key.name}", mismatch=True)

    def _members(self) -> Iterable[Codec[object]]:
        return (self.key, self.value)


def _key_trees(text: str) -> Iterable[JSONValue]:
    """What a key that is written as this text may have been."""
    yield text
    for name in _TAG_OF_NAME:
        yield {name: text}
    try:
        yield parse(text.encode())
    except (ValueRefusedError, UnicodeEncodeError):
        return


# --- records ----------------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    codec: Codec[object]
    required: bool


class _Record(Codec[object]):
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
            try:
                self._fields = self._find_fields()
            except (NameError, TypeError, AttributeError) as error:
                raise _Refusal(f"the annotations of {self.name} cannot be resolved: {error}") from error
        return self._fields

    def _hints(self) -> dict[str, object]:
        """The annotations, with the parameters of a generic class replaced by its arguments."""
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
            raise _Refusal(str(error)) from error

    def _build(self, values: dict[str, object]) -> object:
        raise NotImplementedError

    def _members(self) -> Iterable[Codec[object]]:
        return [field.codec for field in self.fields().values()]

    def _codec_of(self, name: str) -> Codec[object]:
        field = self.fields().get(name)
        if field is None:
            raise _Refusal(f"{self.name} declares no {name[:80]!r}", mismatch=True)
        return field.codec

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.kind:
            inherits = isinstance(value, self.kind)
            lost = f"{type(value).__name__}, whose own fields would be lost" if inherits else type(value).__name__
            raise _Refusal(f"expected {self.name}, got {lost}", mismatch=True)
        members = [(name, child, self._codec_of(name)) for name, child in self._values(value)]
        return _encode_members(value, members, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        if outside and type(tree) is self.kind and self.kind is not dict:
            self._encode(tree, 0)
            return tree
        if type(tree) is not dict or (not outside and _shape(tree) != "object"):
            raise _mismatch(self.name, tree)
        values: dict[str, object] = {}
        for name, child in tree.items():
            name = str(name) if outside else _unescape(name)
            codec = self._codec_of(name)
            try:
                values[name] = codec._decode(child, outside)
            except _Refusal as refusal:
                refusal.at(name, tree)
                raise
        self._check_complete(values, tree)
        return self._construct(values)

    def _check_complete(self, values: Mapping[str, object], container: object) -> None:
        for name, field in self.fields().items():
            if field.required and name not in values:
                refusal = _Refusal("it is missing", mismatch=True)
                refusal.at(name, container)
                raise refusal

    def _construct(self, values: dict[str, object]) -> object:
        try:
            return self._build(values)
        except _Refusal:
            raise
        except Exception as error:  # the class's own code
            raise _refusal_by(error, self.name) from _shown(error)


_QUALIFIERS = ("Required", "NotRequired", "ReadOnly")  # the last one may be that of typing_extensions


class _TypedDict(_Record):
    def _find_fields(self) -> dict[str, _Field]:
        required_keys: frozenset[str] = getattr(self.annotated, "__required_keys__", frozenset())
        fields = {}
        for name, hint in self._hints().items():
            required = name in required_keys
            while (qualifier := getattr(typing.get_origin(hint), "_name", "")) in _QUALIFIERS:
                # With postponed annotations, `__required_keys__` does not see the first two.
                required = qualifier == "Required" or (required and qualifier != "NotRequired")
                (hint,) = typing.get_args(hint)
            fields[name] = _Field(codec_for(hint), required)
        return fields

    def _values(self, value: typing.Any) -> Iterable[tuple[str, object]]:
        self._check_complete(value, value)
        return [(_text_key(name), child) for name, child in value.items()]

    def _build(self, values: dict[str, object]) -> object:
        return values


class _Dataclass(_Record):
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
        hints = self._hints()
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
            return _adapter(self.kind).validate_python(values, by_alias=False, by_name=True)
        later = {field.name for field in dataclasses.fields(self.kind) if not field.init}
        built = self.kind(**{name: value for name, value in values.items() if name not in later})
        for name in later & values.keys():
            object.__setattr__(built, name, values[name])
        return built


class _Model(_Record):
    """A pydantic model, by its fields' names; outside, by its own rules (aliases and all)."""

    _rebuilds = True
    kind: type[BaseModel]

    def _find_fields(self) -> dict[str, _Field]:
        fields = {}
        for name, field in self.kind.model_fields.items():
            codec: Codec[object] = codec_for(field.annotation)
            if isinstance(codec, _Foreign) and field.metadata:
                codec = codec_for(typing.Annotated[field.annotation, *field.metadata])
            fields[name] = _Field(codec, field.is_required())
        return fields

    def _codec_of(self, name: str) -> Codec[object]:
        field = self.fields().get(name)
        return _PLAIN if field is None else field.codec  # an extra: allowed, ignored or refused by the model

    def _values(self, value: BaseModel) -> Iterable[tuple[str, object]]:
        for name, private in (value.__pydantic_private__ or {}).items():
            if private != self.kind.__private_attributes__[name].get_default():
                raise _Refusal(f"the private attribute {name} of {self.name} would be lost")
        extra = [(_text_key(name), child) for name, child in (value.model_extra or {}).items()]
        return [*super()._values(value), *extra]

    def _decode(self, tree: object, outside: bool) -> object:
        if not outside or type(tree) is not dict:
            return super()._decode(tree, outside)
        return _validate_outside(self.kind, tree)

    def _build(self, values: dict[str, object]) -> object:
        return self.kind.model_validate(values, by_alias=False, by_name=True)


def _substituted(hint: object, arguments: Mapping[object, object]) -> object:
    if isinstance(hint, TypeVar):
        return arguments.get(hint, hint)
    parameters: tuple[object, ...] = getattr(hint, "__parameters__", ())
    if isinstance(hint, type) or not parameters:
        return hint
    return cast("dict[object, object]", hint)[tuple(arguments.get(parameter, parameter) for parameter in parameters)]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _shown(error: Exception) -> Exception | None:
    """The cause to show in a traceback: not an error of pydantic, which quotes the input."""
    return None if type(error).__module__.startswith("pydantic") else error


def _refusal_by(error: Exception, whose: str) -> _Refusal:
    """What a class's own code, or pydantic, had against a value; of a validation error the first, without the input."""
    errors = getattr(error, "errors", None)
    if type(error).__name__ != "ValidationError" or not callable(errors):
        return _Refusal(f"{whose} refuses it: {_first_line(error)}", mismatch=True)
    first = errors(include_url=False, include_input=False, include_context=False)[0]
    refusal = _Refusal(first["msg"], mismatch=True)
    for step in reversed(first["loc"]):
        refusal.at(step, error)
    return refusal


# --- unions, constraints, foreign types -------------------------------------------------------------------------------


class _Union(Codec[object]):
    """One of several types. Written by the value's exact type; read by the shape of the JSON.

    Where shapes overlap the value is read back at once, and refused if another member would claim it.
    """

    def __init__(self, declared: object, members: Sequence[Codec[object]]) -> None:
        super().__init__(declared)
        self.members = sorted(members, key=lambda member: isinstance(member, _Float))  # 1 is an int before a float
        self.plain = all(member.plain for member in members)
        self._kinds = _all_of([member._kinds for member in members])
        self._shapes = _all_of([member._shapes for member in members])
        sizes = [len(member._shapes or ()) for member in members]
        self.ambiguous = self._shapes is None or sum(sizes) != len(self._shapes)
        if not self.ambiguous:
            self._exact = frozenset[type]().union(*(member._exact for member in members))

    def _members(self) -> Iterable[Codec[object]]:
        return self.members

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
            if reader is not member and not _is_same(back, value):
                raise _Refusal(f"as {self.name}, it would come back as {_type_name(type(back))}")
        return tree

    def _decode(self, tree: object, outside: bool) -> object:
        return self._read_by(tree, outside)[1]

    def _read_by(self, tree: object, outside: bool) -> tuple[Codec[object], object]:
        shape = _shape(tree)
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
            except _Refusal as refusal:
                if refusal.too_deep:
                    raise
        raise _mismatch(self.name, value)


def _all_of(sets: Sequence[frozenset[T] | None]) -> frozenset[T] | None:
    known = [each for each in sets if each is not None]
    return frozenset[T]().union(*known) if len(known) == len(sets) else None


class _Constrained(Codec[object]):
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
            raise _Refusal("its constraints would change it")
        return tree

    def _decode(self, tree: object, outside: bool) -> object:
        return self._judged(self.inner._decode(tree, outside))

    def _judged(self, value: object) -> object:
        adapter = _adapter(self.declared)
        try:
            return cast("object", adapter.validate_python(value))
        except Exception as error:  # validators are the user's code
            raise _refusal_by(error, self.name) from _shown(error)

    def _members(self) -> Iterable[Codec[object]]:
        return (self.inner,)


class _Foreign(Codec[object]):
    """A type that only pydantic knows how to write, if anybody does."""

    plain = False

    def _encode(self, value: object, depth: int) -> JSONValue:
        adapter = _adapter(self.declared)
        if _has_set(adapter.core_schema):
            raise _Refusal(f"{self.name} has sets inside, which have no order to be recorded in")
        try:
            dumped = adapter.dump_python(value, mode="json", warnings="error", by_alias=False)
        except Exception as error:
            raise _mismatch(self.name, value) from _shown(error)
        tree = _PLAIN._encode(dumped, depth)
        try:
            back = self._decode(tree, False)
        except _Refusal as refusal:
            raise _Refusal(f"as {self.name}, it could not be read back: {refusal.reason}") from refusal
        if not _is_same(back, value):
            raise _Refusal(f"as {self.name}, it would not come back as it was")
        return tree

    def _decode(self, tree: object, outside: bool) -> object:
        if outside:
            return _validate_outside(self.declared, tree)
        adapter = _adapter(self.declared)
        try:
            return cast(
                "object",
                adapter.validate_json(
                    json.dumps(_PLAIN._decode(tree, False)), strict=True, by_alias=False, by_name=True
                ),
            )
        except _Refusal:
            raise
        except Exception as error:
            raise _refusal_by(error, self.name) from _shown(error)


class _Alias(Codec[object]):
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
                raise _Refusal(f"the type alias {self.name} cannot be resolved: {error}") from error
            self._target = codec_for(hints["value"])
        return self._target

    def _encode(self, value: object, depth: int) -> JSONValue:
        return self.target._encode(value, depth)

    def _decode(self, tree: object, outside: bool) -> object:
        return self.target._decode(tree, outside)

    def _members(self) -> Iterable[Codec[object]]:
        return (self.target,)


class _Unusable(Codec[object]):
    """Refuses every value, and says why."""

    def __init__(self, declared: object, reason: str) -> None:
        super().__init__(declared)
        self.reason = reason

    def schema(self) -> dict[str, object]:
        raise ValueRefusedError(f"no JSON schema: {self.reason}")

    def _encode(self, value: object, depth: int) -> JSONValue:
        raise _Refusal(self.reason)

    def _decode(self, tree: object, outside: bool) -> object:
        raise _Refusal(self.reason)


def _validate_outside(declared: object, tree: object) -> object:
    """Let pydantic judge JSON data, as strictly as JSON can be judged."""
    adapter = _adapter(declared)
    try:
        data = json.dumps(tree, allow_nan=False)
    except (TypeError, ValueError):  # not JSON: an instance, perhaps
        data = None
    try:
        if data is None:
            return cast("object", adapter.validate_python(tree, strict=True, by_alias=True, by_name=True))
        return cast("object", adapter.validate_json(data, strict=True, by_alias=True, by_name=True))
    except Exception as error:
        raise _refusal_by(error, _type_name(declared)) from _shown(error)


def _has_set(schema: object) -> bool:
    if isinstance(schema, dict):
        return schema.get("type") in ("set", "frozenset") or any(map(_has_set, schema.values()))
    return isinstance(schema, (list, tuple)) and any(map(_has_set, schema))


_adapters: dict[object, TypeAdapter[typing.Any]] = {}


def _adapter(declared: object) -> TypeAdapter[typing.Any]:
    key = _cache_key(declared)
    if key not in _adapters:
        from pydantic import TypeAdapter

        try:
            _adapters[key] = TypeAdapter(cast("type[typing.Any]", declared))
        except Exception as error:
            raise _Refusal(f"nothing says how a {_type_name(declared)} is recorded") from error
    return _adapters[key]


# --- which codec ------------------------------------------------------------------------------------------------------


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
    key = _cache_key(declared)
    codec = _codecs.get(key)
    if codec is None:
        codec = _codecs.setdefault(key, _make_codec(declared))
    return codec


def _cache_key(declared: object) -> object:
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

_STR = _Scalar(str, "text")
_INTEGER = _Integer(int)
_SIMPLE: dict[object, Codec[object]] = {
    str: _STR,
    int: _INTEGER,
    float: _Float(float),
    bool: _Scalar(bool, "bool"),
    None: _Scalar(type(None), "null"),
    type(None): _Scalar(type(None), "null"),
    typing.Any: _PLAIN,
    object: _PLAIN,
    inspect.Parameter.empty: _PLAIN,
    typing.LiteralString: _STR,
    **{kind: _Tagged(tag) for kind, tag in _TAG_OF_KIND.items()},
}
_codecs: dict[object, Codec[object]] = {_cache_key(declared): codec for declared, codec in _SIMPLE.items()}
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
        return _Unusable(declared, f"the annotation {declared!r} is not resolved")
    if isinstance(declared, TypeVar):
        return codec_for(declared.__bound__ or typing.Any)
    if isinstance(declared, typing.NewType):
        return codec_for(declared.__supertype__)
    if type(declared).__name__ == "TypeAliasType":
        of_pydantic = str(getattr(declared, "__module__", "")).startswith("pydantic")  # its JsonValue
        return _PLAIN if of_pydantic else _Alias(declared)
    origin = typing.get_origin(declared) or declared
    arguments = typing.get_args(declared)
    if origin is typing.Annotated:
        return _annotated_codec(declared, arguments)
    if origin in (typing.Union, types.UnionType):
        return _Union(declared, [codec_for(argument) for argument in arguments])
    if origin is typing.Literal:
        return _literal_codec(declared, arguments)
    if isinstance(origin, type):
        return _container_codec(declared, origin, arguments) or _class_codec(declared, origin)
    return _Foreign(declared)


def _annotated_codec(declared: object, arguments: Sequence[object]) -> Codec[object]:
    inner: Codec[object] = codec_for(arguments[0])
    if all(isinstance(remark, str) for remark in arguments[1:]):
        return inner
    return _Foreign(declared) if isinstance(inner, _Foreign) else _Constrained(declared, inner)


def _container_codec(declared: object, origin: type, arguments: Sequence[object]) -> Codec[object] | None:
    if origin in _LISTS:
        return _Items(declared, list, codec_for(arguments[0] if arguments else typing.Any))
    if origin in _MAPPINGS:
        key, value = arguments or (str, typing.Any)
        return _Mapping(declared, _STR if key is typing.Any else codec_for(key), codec_for(value))
    if origin in _SETS:
        return _Set(declared, _SETS[origin], codec_for(arguments[0] if arguments else typing.Any))
    if origin is not tuple:
        return None
    if declared is tuple or (not arguments and not isinstance(declared, types.GenericAlias)):
        return _Items(declared, tuple, _PLAIN)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _Items(declared, tuple, codec_for(arguments[0]))
    return _Row(declared, tuple, lambda: [codec_for(argument) for argument in arguments])


def _class_codec(declared: object, kind: type) -> Codec[object]:
    pydantic = sys.modules.get("pydantic")
    if issubclass(kind, Enum):
        return _enum_codec(kind)
    if dataclasses.is_dataclass(kind):
        return _Dataclass(declared, kind)
    if issubclass(kind, dict) and hasattr(kind, "__total__"):
        return _TypedDict(declared, dict, kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple_codec(declared, kind)
    if pydantic is not None and issubclass(kind, pydantic.BaseModel) and not issubclass(kind, pydantic.RootModel):
        return _Model(declared, kind)
    return _Foreign(declared)


def _named_tuple_codec(declared: object, kind: type[tuple[object, ...]]) -> Codec[object]:
    names: Sequence[str] = kind._fields  # type: ignore[attr-defined]

    def items() -> list[Codec[object]]:
        hints = _Record(declared, kind)._hints()
        return [codec_for(hints.get(name, typing.Any)) for name in names]

    return _Row(declared, kind, items, names)


# --- differences ------------------------------------------------------------------------------------------------------


def differing_path(a: JSONValue, b: JSONValue) -> str:
    """The first place in which two recorded values differ.

    Args:
        a: a JSON tree, as `Codec.tree` gives it.
        b: another.

    Returns:
        A path from `$`, for example `$.items[3].price`; `""` where they are the same JSON.
    """
    steps = _difference(a, b)
    return "" if steps is None else "$" + "".join(_step_text(step) for step in steps)


def _difference(a: JSONValue, b: JSONValue) -> tuple[str | int, ...] | None:
    if type(a) is dict and type(b) is dict and _shape(a) == _shape(b) == "object":
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b:
                return (_shown_key(key),)
            if (steps := _difference(a[key], b[key])) is not None:
                return (_shown_key(key), *steps)
        return None
    if type(a) is list and type(b) is list:
        for index, (item, other) in enumerate(zip(a, b, strict=False)):
            if (steps := _difference(item, other)) is not None:
                return (index, *steps)
        return None if len(a) == len(b) else (min(len(a), len(b)),)
    # 1 and 1.0 are one number in JSON, 1 and true are not.
    same = a == b and (type(a) is bool) == (type(b) is bool)
    return None if same else ()


def _shown_key(key: str) -> str:
    return key[1:] if key[:2] == "$$" else key
