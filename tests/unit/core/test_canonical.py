"""Canonical JSON: RFC 8785, whichever of the two ways a value goes."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.core.canonical import SAFE_INTEGER, JSONValue, canonical, parse, parse_strict, sha256_hex
from perdure.core.errors import ValueRefusedError

# Characters at the borders where UTF-8, UTF-16 and JSON escapes part ways.
_EDGES = '\x00\x08\x1f "\\/aé\x7f\u2028\ud7ff\ue000\ufb33\ufe0f\uffff\U00010000\U0001f600\U0010ffff'
_texts = st.one_of(st.text(max_size=6), st.text(alphabet=_EDGES, max_size=4))
_numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(min_value=-1e23, max_value=1e23),
    st.floats(min_value=-1e-3, max_value=1e-3),
    st.integers(-(2**60), 2**60).map(float),
    st.decimals(-(10**6), 10**6, places=3).map(float),
)
_trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-SAFE_INTEGER, SAFE_INTEGER), _numbers, _texts),
    lambda children: st.one_of(st.lists(children, max_size=5), st.dictionaries(_texts, children, max_size=5)),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(_trees)
@example({"\U0001f600": 1, "\ufb33": 2})
@example([{"a": {"\U0001f600": 1.0, "\ufb33": 1e-6}}])
@example({"": None, "\x00": -0.0})
def test_both_ways_agree_byte_for_byte(tree: JSONValue) -> None:
    assert canonical(tree) == rfc8785.dumps(tree)


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_every_float_is_written_as_rfc8785_does(bits: int) -> None:
    (number,) = struct.unpack("<d", struct.pack("<Q", bits))
    if math.isfinite(number):
        assert canonical(number) == rfc8785.dumps(number)
        assert canonical([number]) == b"[" + rfc8785.dumps(number) + b"]"


@settings(max_examples=300, deadline=None)
@given(_trees)
def test_what_is_read_is_written_the_same(tree: JSONValue) -> None:
    data = canonical(tree)
    assert canonical(parse(data)) == data
    from_outside = parse_strict(data)
    assert _has_wide(from_outside) or canonical(from_outside) == data


def _has_wide(tree: JSONValue) -> bool:
    # `parse_strict` keeps whole numbers beyond 2**53 as exact integers, which have no canonical form.
    if isinstance(tree, dict):
        return any(map(_has_wide, tree.values()))
    if isinstance(tree, list):
        return any(map(_has_wide, tree))
    return type(tree) is int and abs(tree) > SAFE_INTEGER


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # RFC 8785, appendix B
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_of_the_rfc(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == text.encode()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"), (-0.0, "0"), (1e15, "1000000000000000"), (1e16, "10000000000000000"), (1e17, "100000000000000000"),
        (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e22, "1e+22"), (1e-4, "0.0001"), (1e-5, "0.00001"),
        (1e-6, "0.000001"), (1.5e-6, "0.0000015"), (1e-7, "1e-7"), (1.5e-7, "1.5e-7"), (5e-324, "5e-324"), (0.1, "0.1"),
        (-1.5, "-1.5"), (4.50, "4.5"), (2e-3, "0.002"), (1e30, "1e+30"), (0.3, "0.3"),
    ],
)  # fmt: skip
def test_numbers_where_other_writers_differ(number: float, text: str) -> None:
    assert canonical(number) == text.encode()


def test_the_sample_of_the_rfc() -> None:
    sample = parse(
        rb"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    )
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(sample) == expected.encode()


def test_keys_are_sorted_by_utf16_code_units() -> None:
    # RFC 8785, section 3.2.3: the emoji sorts before U+FB33, though its code point is greater.
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    for tree in (dict.fromkeys(keys, 1), dict.fromkeys(keys, 1.5), {"nested": [dict.fromkeys(keys, 1)]}):
        written = json.loads(canonical(tree))
        assert list(written["nested"][0] if "nested" in written else written) == order


@pytest.mark.parametrize(
    "value",
    [
        math.nan, math.inf, -math.inf, [math.nan], {"a": [1.5, {"b": math.inf}]},
        SAFE_INTEGER + 1, -SAFE_INTEGER - 1, 2**64, [2**53],
        "\ud800", {"\udfff": 1}, ["\ud800x"], {"\ud800": 1.5},
        {1: 2}, {None: 1}, {"a": {(1, 2): 3}}, b"bytes", {1, 2}, object(), [object()], {"a": 1j},
    ],
)  # fmt: skip
def test_what_is_outside_the_domain_is_refused(value: object) -> None:
    with pytest.raises(ValueRefusedError):
        canonical(value)


def test_a_cyclic_tree_is_refused() -> None:
    tree: list[Any] = []
    tree.append({"again": [tree, tree]})
    with pytest.raises(ValueRefusedError, match="cyclic or nested too deep"):
        canonical(tree)


def test_a_deep_tree_goes_the_exact_way() -> None:
    tree: JSONValue = 1.0
    for _ in range(230):
        tree = [tree]
    assert canonical(tree) == b"[" * 230 + b"1" + b"]" * 230


def test_the_largest_safe_integers_are_written_as_they_are() -> None:
    assert canonical([SAFE_INTEGER, -SAFE_INTEGER]) == b"[9007199254740991,-9007199254740991]"


def test_the_value_is_not_changed() -> None:
    tree = {"b": [1.0, {"c": -0.0}], "a": 1e17}
    canonical(tree)
    assert list(tree) == ["b", "a"]
    assert repr(tree) == "{'b': [1.0, {'c': -0.0}], 'a': 1e+17}"


@pytest.mark.parametrize(
    ("data", "tree"),
    [
        (b"9007199254740991", 9007199254740991),
        (b"9007199254740992", 9007199254740992.0),
        (b'{"a":[100000000000000000,-100000000000000000]}', {"a": [1e17, -1e17]}),
        (b'"1234567890123456789"', "1234567890123456789"),
        (b"0.12345678901234567", 0.12345678901234567),
    ],
)
def test_a_whole_number_beyond_the_safe_ones_was_a_float(data: bytes, tree: JSONValue) -> None:
    parsed = parse(data)
    assert parsed == tree
    assert type(parsed) is type(tree)
    assert repr(parsed) == repr(tree)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nul", b"NaN", b"Infinity", b"01", b"[1,]", b'{"a":1,}', b"\xff", b'"\\ud800"', b"1 2", b"'a'"]
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueRefusedError):
        parse(data)
    with pytest.raises(ValueRefusedError):
        parse_strict(data)


@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
def test_deep_json_is_read_or_refused_but_never_ends_the_process(depth: int) -> None:
    for data in (b"[" * depth + b"]" * depth, b"[" * depth + b"12345678901234567890" + b"]" * depth):
        for read in (parse, parse_strict):
            try:
                read(data)
            except ValueRefusedError:
                assert depth > 300


def test_a_key_that_stands_twice_is_refused_from_outside() -> None:
    with pytest.raises(ValueRefusedError, match="'b' stands twice"):
        parse_strict('{"a": {"b": 1, "c": 2, "b": 1}}')
    with pytest.raises(ValueRefusedError, match="twice"):
        parse_strict(rb'{"a": 1, "\u0061": 2}')


@pytest.mark.parametrize("text", ["1e400", "-1e400", "[1e999]", "9" * 5000])
def test_a_number_beyond_floats_is_refused_from_outside(text: str) -> None:
    with pytest.raises(ValueRefusedError):
        parse_strict(text)


def test_whole_numbers_from_outside_stay_exact() -> None:
    assert parse_strict("9007199254740993") == 9007199254740993
    assert parse_strict(str(2**100)) == 2**100


def test_sha256() -> None:
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
