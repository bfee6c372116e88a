"""Canonical JSON: the one byte form of a value, as RFC 8785 (JSON Canonicalization Scheme) defines it.

Whatever is hashed is hashed in this form. The `rfc8785` package is exact but slow, so `orjson` writes every value for
which its output is provably the same; two properties decide that, and both are cheap to see:

- **numbers**: `orjson` writes integers as RFC 8785 does, and also fractions in the middle of the range, where every
  shortest form is plain decimal digits. Whole floats become integers first (1.0 is `1`, -0.0 is `0`); the rest, and
  NaN and the infinities, which `orjson` would write as `null`, go to `rfc8785`.
- **key order**: RFC 8785 sorts keys by UTF-16 code units, `orjson` by UTF-8 bytes. The orders differ only where a key
  has a character beyond U+FFFF.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final, TypeAlias, cast

import orjson

from perdure.core.errors import ValueRefusedError

JSONValue: TypeAlias = "dict[str, JSONValue] | list[JSONValue] | str | int | float | bool | None"

SAFE_INTEGER: Final = 2**53 - 1
"""Integers up to here, in either direction, are exact in every reader of JSON."""

# What `survey` finds.
PLAIN: Final = 0
FLOATS: Final = 1
FOREIGN: Final = 2

_SCALARS = frozenset((str, int, bool, type(None)))
_ALL = _SCALARS | {float, dict, list}
_TREE_DEPTH = 200  # orjson gives up at 254
_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
_ASTRAL_LEADS = bytes(range(0xF0, 0xF5))  # first bytes of characters beyond U+FFFF in UTF-8
_DIGITS_TO_ZERO = bytes(0x30 if 0x30 <= code <= 0x39 else code for code in range(256))
_WIDE = b"0" * 16  # 2**53 has sixteen digits


def canonical(value: object) -> bytes:
    """The RFC 8785 bytes of a JSON tree.

    Args:
        value: dicts with `str` keys, lists, `str`, `int`, `float`, `bool`, `None`.

    Raises:
        ValueRefusedError: it is not JSON in RFC 8785's domain (another type, NaN or an infinity, an integer beyond
            ±(2^53-1), a lone surrogate, too deep or cyclic).
    """
    data = write_surveyed(value, survey(value, _TREE_DEPTH))
    return _exact(value) if data is None else data


def write_surveyed(value: object, found: int) -> bytes | None:
    """The canonical bytes of a value whose `survey` is known, or `None` where this quick way cannot tell."""
    if found == FOREIGN:
        return None
    try:
        data = orjson.dumps(value if found == PLAIN else _with_json_numbers(value), option=_OPTIONS)
    except (TypeError, ValueRefusedError):
        return None
    if data.isascii() or len(data.translate(None, _ASTRAL_LEADS)) == len(data) or not _has_astral_key(value):
        return data
    return _exact(value)


def survey(value: object, depth: int) -> int:
    """What a value is made of, which says how it can be written.

    Args:
        value: anything.
        depth: levels of containers that are looked into.

    Returns:
        `PLAIN`: only dicts, lists, `str`, `int`, `bool`, `None`, by exact type (keys are not looked at); `FLOATS`: and
        floats; `FOREIGN`: something else is in it, or it is deeper than `depth` (as a cyclic value always is).
    """
    kind = type(value)
    if kind in _SCALARS:
        return PLAIN
    if kind is float:
        return FLOATS
    if kind is dict:
        children = cast("dict[object, object]", value).values()
    elif kind is list:
        children = cast("list[object]", value)  # type: ignore[assignment]
    else:
        return FOREIGN
    if depth <= 0:
        return FOREIGN
    if _SCALARS.issuperset(map(type, children)):
        return PLAIN
    if not _ALL.issuperset(map(type, children)):
        return FOREIGN
    found = PLAIN
    for child in children:
        if type(child) not in _SCALARS:
            found |= survey(child, depth - 1)
            if found & FOREIGN:
                return FOREIGN
    return found


def parse(data: bytes) -> JSONValue:
    """Read JSON that this program wrote.

    A whole number beyond ±(2^53-1) can only have been a float, since `canonical` admits no such integer: it comes back
    as one, so that `canonical(parse(data)) == data` for all canonical data.

    Raises:
        ValueRefusedError: it is not JSON.
    """
    try:
        tree = cast("JSONValue", orjson.loads(data))
        return _with_wide_floats(tree) if len(data) > 15 and _WIDE in data.translate(_DIGITS_TO_ZERO) else tree
    except orjson.JSONDecodeError as error:
        raise ValueRefusedError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueRefusedError("not usable JSON: nested too deep") from None


def parse_strict(text: bytes | str) -> JSONValue:
    """Read JSON that comes from outside.

    As `parse`, but a key that stands twice in one object and a number beyond the range of floats are refused, and whole
    numbers of any size stay exact integers.

    Raises:
        ValueRefusedError: it is not JSON, or ambiguous.
    """
    try:
        orjson.loads(text)  # refuses what json.loads lets pass: other encodings, lone surrogates, NaN, 1e400
        return cast("JSONValue", json.loads(text, object_pairs_hook=_object))
    except json.JSONDecodeError as error:
        raise ValueRefusedError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueRefusedError("not usable JSON: nested too deep") from None


def sha256_hex(data: bytes) -> str:
    """SHA-256 of the bytes, as 64 lowercase hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _exact(value: object) -> bytes:
    """The canonical bytes by the `rfc8785` package, which names what is outside its domain."""
    import rfc8785

    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except rfc8785.IntegerDomainError:
        reason = "an integer is beyond ±(2^53-1)"
    except rfc8785.FloatDomainError:
        reason = "a number is NaN or infinite"
    except rfc8785.CanonicalizationError as error:
        reason = str(error)
    except UnicodeEncodeError:
        reason = "a key has a lone surrogate"
    except RecursionError:
        reason = "it is cyclic or nested too deep"
    raise ValueRefusedError(f"no canonical JSON: {reason}")


def _with_json_numbers(value: object) -> object:
    """A copy in which `orjson` writes every number as RFC 8785 demands."""
    if type(value) is dict:
        return {key: child if type(child) in _SCALARS else _with_json_numbers(child) for key, child in value.items()}
    if type(value) is list:
        return [child if type(child) in _SCALARS else _with_json_numbers(child) for child in value]
    return _json_number(value) if type(value) is float else value


def _json_number(number: float) -> object:
    if number.is_integer():
        if -SAFE_INTEGER <= number <= SAFE_INTEGER:
            return int(number)
    elif 1e-4 <= abs(number) < 1e16:
        return number
    return orjson.Fragment(_exact(number))


def _has_astral_key(value: object) -> bool:
    if type(value) is dict:
        return any(key and max(key) > "\uffff" for key in value) or any(map(_has_astral_key, value.values()))
    return type(value) is list and any(map(_has_astral_key, value))


def _with_wide_floats(tree: JSONValue) -> JSONValue:
    if type(tree) is dict:
        return {key: _with_wide_floats(child) for key, child in tree.items()}
    if type(tree) is list:
        return [_with_wide_floats(child) for child in tree]
    return float(tree) if type(tree) is int and abs(tree) > SAFE_INTEGER else tree


def _object(pairs: list[tuple[str, JSONValue]]) -> dict[str, JSONValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueRefusedError(f"ambiguous JSON: the key {twice[:80]!r} stands twice in one object")
    return members
