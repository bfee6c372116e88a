"""Text that comes in pieces: what it tells is what the whole text would have been redacted to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.redacted_stream import MOST_HELD, RedactedStream
from perdure.core.secrets import Redactor, Secret, find_secret_shape, redact_shapes

SECRETS = {"env:A": "abab", "env:B": "ababcd", "env:C": "two words", "env:D": 'q"\\uote'}


def redactor_of(values: dict[str, str]) -> Redactor:
    redactor = Redactor()
    for reference, value in values.items():
        redactor.declare(Secret(reference), value)
    return redactor


def told(redactor: Redactor, pieces: list[str]) -> str:
    stream = RedactedStream(redactor)
    return "".join([*map(stream.feed, pieces), stream.end()])


@given(st.lists(st.text(alphabet='abcdtwo rdsq"\\uote', max_size=6), max_size=12))
def test_declared_values_are_redacted_wherever_they_are_cut(pieces: list[str]) -> None:
    redactor = redactor_of(SECRETS)
    assert told(redactor, pieces) == redactor.redact_text("".join(pieces))


@given(st.sampled_from(sorted(SECRETS.values())), st.integers(1, 8), st.text("ab ", max_size=4))
def test_no_piece_shows_a_part_of_a_value(value: str, size: int, before: str) -> None:
    redactor = redactor_of(SECRETS)
    text = before + value + "."
    stream = RedactedStream(redactor)
    shown = ""
    for start in range(0, len(text), size):
        shown += stream.feed(text[start : start + size])
        assert redactor.redact_text(text).startswith(shown)
    assert shown + stream.end() == redactor.redact_text(text)


SHAPES = {
    "sk": "sk-" + "abcd1234" * 4,
    "aws": "AKIA" + "ABCD1234EFGH5678",
    "github": "ghp_" + "a1" * 20,
    "fine": "github_pat_" + "a1" * 20,
    "jwt": "eyJ" + "hbGciOi" * 2 + "." + "eyJ" + "zdWIiOi" * 2 + "." + "s1g" * 9,
    "url": "postgres://someone:" + "pa55word" + "@host/db",
}


@pytest.mark.parametrize("name", sorted(SHAPES))
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_shapes_are_redacted_wherever_they_are_cut(name: str, size: int) -> None:
    text = f"the key is\n{SHAPES[name]} and a task-force says so"
    assert find_secret_shape(text) is not None
    shown = told(Redactor(), [text[start : start + size] for start in range(0, len(text), size)])
    assert shown == redact_shapes(text.encode()).decode()
    assert SHAPES[name] not in shown


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_key_in_armour_is_redacted_wherever_it_is_cut(size: int) -> None:
    lines = ["-----BEGIN PRIVATE" + " KEY-----", *["QUJD" * 16] * 5, "-----END PRIVATE" + " KEY-----"]
    text = "Here: ---\n" + "\n".join(lines)
    shown = told(Redactor(), [text[start : start + size] for start in range(0, len(text), size)])
    assert shown == "Here: ---\n[redacted pem_private_key]"


def test_ordinary_words_are_told_at_once() -> None:
    stream = RedactedStream(redactor_of(SECRETS))
    assert [stream.feed(piece) for piece in ["Hello", " world", ", no", "w ", "日本語"]] == [
        "Hello",
        " world",
        ", no",
        "w ",
        "日本語",
    ]


def test_what_may_become_a_secret_waits_for_the_next_piece() -> None:
    stream = RedactedStream(redactor_of(SECRETS))
    assert stream.feed("two") == ""
    assert stream.feed(" ") == ""
    assert stream.feed("of them") == "two of them"
    assert stream.feed(" aba") == " "
    assert stream.end() == "aba"


def test_a_word_without_end_is_neither_kept_nor_a_leak() -> None:
    stream = RedactedStream(Redactor())
    begun = "eyJ" + "hbGciOi" * 2 + "." + "eyJ" + "zdWIiOi" * 2 + "."
    shown = stream.feed(begun)
    for _ in range(MOST_HELD // 100 + 5):
        shown += stream.feed("signature1" * 10)
    assert shown == "[redacted jwt]"
    assert stream.feed("signature1 and on") == " and on"
    plain = RedactedStream(Redactor())
    address = "https://" + "x" * (MOST_HELD + 1)
    assert plain.feed(address) == address


@pytest.mark.parametrize("name", sorted(SHAPES))
@pytest.mark.parametrize("before", ["://" + "a" * 50, "a://", "eyJ" + "a" * 50, "sk-" + "a" * 50, "/"])
@pytest.mark.parametrize("cut", [1, 2, 5, 11, 20])
def test_a_shape_at_the_end_of_what_is_held_back_too_long_is_redacted(name: str, before: str, cut: int) -> None:
    """Whatever it was that held back the rest of the word."""
    key = SHAPES[name] if name != "url" else "://someone:" + "pa55word" + "@host"
    begun = before + "b" * (MOST_HELD - len(before) - cut) + "="
    text = begun + key + " and on"
    assert find_secret_shape(text) is not None
    for size in (1000, 3, 1):
        start = len(begun) - 3
        pieces = [text[:start], *(text[place : place + size] for place in range(start, len(text), size))]
        shown = told(Redactor(), pieces)
        assert find_secret_shape(shown) is None
        assert key[-12:] not in shown
        assert shown.startswith(begun[:-3])


def test_a_word_that_holds_many_beginnings_is_told_in_good_time() -> None:
    stream = RedactedStream(Redactor())
    begun = time.process_time()
    for _ in range(2000):
        stream.feed("eyJeyJ!")
        stream.feed("sk-://")
    assert len(stream._held) <= MOST_HELD
    assert time.process_time() - begun < 5
