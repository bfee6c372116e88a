"""Tags: how the scalars that JSON lacks are written as text, and read again."""

from __future__ import annotations

import base64
import re
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TypeVar, cast
from uuid import UUID

from perdure.core.canonical import SAFE_INTEGER, JSONValue
from perdure.core.durations import iso_duration, parse_duration, parse_iso_duration
from perdure.core.errors import PerdureError
from perdure.core.secrets import Secret
from perdure.core.values.codec import Codec
from perdure.core.values.refusals import Refusal, mismatch
from perdure.core.values.trees import shape_of

T = TypeVar("T")


class Tag:
    """How a type that JSON lacks is written as text."""

    __slots__ = ("kind", "parse", "parse_outside", "tag", "write")

    def __init__(
        self,
        tag: str,
        kind: type,
        write: Callable[[typing.Any], str],
        parse: Callable[[str], object],
        parse_outside: Callable[[typing.Any], object],  # text, and what else JSON has for it
    ) -> None:
        self.tag = tag
        self.kind = kind
        self.write = write
        self.parse = parse
        self.parse_outside = parse_outside

    def read(self, text: object) -> object:
        """Read recorded text: the one form that `write` gives, except where a time zone's rules have changed."""
        if type(text) is str:
            try:
                value = self.parse(text)
                if self.kind is datetime or self.write(value) == text:
                    return value
            except (ValueError, ArithmeticError, LookupError, PerdureError) as error:
                raise Refusal(f"{self.tag} holds no {self.kind.__name__}", mismatch=True) from error
        raise Refusal(f"{self.tag} holds no {self.kind.__name__}", mismatch=True)


def write_tagged(tag: Tag, value: object) -> JSONValue:
    return {tag.tag: tag.write(value)}


def _write_integer(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise Refusal("the integer has too many digits") from None


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
        raise Refusal(f"the time zone ({type(value.tzinfo).__name__}) would be lost; use timezone.utc or a ZoneInfo")
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
        raise Refusal("the time zone of a time of day would be lost; use a fixed offset")
    return value.isoformat()


def _outside_timedelta(value: object) -> timedelta:
    if isinstance(value, str) and "P" in value:
        return parse_iso_duration(value)
    return timedelta(seconds=parse_duration(cast("str | float", value)))


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Refusal(f"{value} is no number that can be recorded")
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
) -> Tag:
    return Tag(f"${kind.__name__.lower()}", kind, write, read, outside or _only_text(read))


WIDE_INTEGER = _tag(int, _write_integer, _parse_wide_integer)
_TAGS = (
    WIDE_INTEGER,
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
TAG_OF_KIND = {tag.kind: tag for tag in _TAGS if tag is not WIDE_INTEGER}
TAG_OF_NAME = {tag.tag: tag for tag in _TAGS}


class TaggedCodec(Codec[object]):
    """A type that JSON lacks, by its tag."""

    def __init__(self, tag: Tag) -> None:
        super().__init__(tag.kind)
        self._kinds = frozenset((tag.kind,))
        self._shapes = frozenset((tag.tag,))
        self.tag = tag

    def _encode(self, value: object, depth: int) -> JSONValue:
        if type(value) is not self.tag.kind:
            raise mismatch(self.name, value)
        return write_tagged(self.tag, value)

    def _decode(self, tree: object, outside: bool) -> object:
        if shape_of(tree) == self.tag.tag:
            return self.tag.read(cast("dict[str, object]", tree)[self.tag.tag])
        if not outside:
            raise mismatch(self.name, tree)
        if type(tree) is self.tag.kind:
            self.tag.write(tree)  # refuses what cannot be recorded
            return tree
        try:
            value = self.tag.parse_outside(tree)
        except (TypeError, ValueError, ArithmeticError, LookupError, PerdureError):
            raise mismatch(self.name, tree) from None
        self.tag.write(value)
        return value
