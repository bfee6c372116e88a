"""Server-sent events are read the same whatever pieces they come in."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.core.errors import EventTooLargeError
from perdure.core.event_stream import EventStream, StreamEvent

LINES = st.sampled_from(
    [
        b"data: one",
        b"data:two",
        b"data",
        b"data:  x: y",
        b": comment",
        b"event: error",
        b"id: 7",
        b"retry",
        b"",
        b"\xff",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=20).map(b"".join)


def read(pieces: Iterable[bytes], most_bytes: int = 1_000_000) -> list[StreamEvent]:
    stream = EventStream(most_bytes)
    return [event for piece in pieces for event in stream.feed(piece)]


def by_the_standard(data: bytes) -> list[StreamEvent]:
    """The slow and plain reading: all lines at once."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    *lines, _unended = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found: list[StreamEvent] = []
    name, identity = "", None
    values: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        if not line:
            if values:
                found.append(StreamEvent(name or "message", "\n".join(values), identity))
            name, identity, values = "", None, []
        elif field == "data":
            values.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
        elif field == "id":
            identity = value.removeprefix(" ")
    return found


@given(STREAMS, st.lists(st.integers(0, 300), max_size=20))
@example(b"\xef\xbb\xbfdata: one\r\n\r\ndata: two\r\r", [1, 2, 12, 13, 14, 15])
@example(b"data: one\r\n\r\n", [10])
def test_events_do_not_depend_on_how_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(bounds)]
    assert b"".join(pieces) == data
    assert read(pieces) == by_the_standard(data)


@given(STREAMS)
def test_events_are_the_same_byte_by_byte(data: bytes) -> None:
    assert read(data[at : at + 1] for at in range(len(data))) == by_the_standard(data)


def test_an_event_that_the_end_cuts_off_is_dropped() -> None:
    assert read([b"data: one\n\ndata: two\n"]) == [StreamEvent("message", "one")]


def test_an_event_is_bounded_and_the_stream_is_not() -> None:
    event = b"data: " + b"x" * 50 + b"\n\n"
    assert len(read([event] * 100, most_bytes=60)) == 100
    with pytest.raises(EventTooLargeError):
        read([b"data: xxxxx\n"] * 10, most_bytes=60)
    with pytest.raises(EventTooLargeError):
        read([b"x"] * 61, most_bytes=60)


def test_the_last_id_counts_frames_without_data() -> None:
    stream = EventStream(100)
    assert list(stream.feed(b"id: 7\nevent: seen\ndata: 1\n\nid: 9\n\n: quiet\n\n")) == [StreamEvent("seen", "1", "7")]
    assert stream.last_id == "9"
    assert list(stream.feed(b"event: token\ndata: x\n\n")) == [StreamEvent("token", "x", None)]
    assert stream.last_id == "9"
    assert list(stream.feed(b"id: 12\n")) == []
    assert stream.last_id == "9", "a frame that is cut off gives no id"
    assert list(stream.feed(b"\nid: 1\x002\ndata: y\n\n")) == [StreamEvent("message", "y", None)]
    assert stream.last_id == "12", "an id with a NUL is none"
