"""Bodies that could be read in two ways are read in none."""

from __future__ import annotations

from json import JSONDecodeError

import pytest

from perdure.server.bodies import strict_json


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}', {"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}),
        (b"5", 5),
        (b'"\xc3\xa9"', "é"),
        (b'"\\ud800"', "\ud800"),
        (b"12345678901234567890123", 12345678901234567890123),
    ],
)
def test_json_is_read(body: bytes, value: object) -> None:
    assert strict_json(body) == value


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"a": 1, "a": 1}', "the key 'a' stands twice"),
        (b'[{"b": {"x": 1, "y": 2, "x": 3}}]', "the key 'x' stands twice"),
        (b'{"a": 1, "\\u0061": 2}', "the key 'a' stands twice"),
        (b"NaN", "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'"\xff"', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"9" * 5000, "4300"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_ambiguous_or_no_json_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(JSONDecodeError, match=said):
        strict_json(body)
