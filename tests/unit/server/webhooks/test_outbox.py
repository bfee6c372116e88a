"""The outbox of an endpoint: what is sent when, and what becomes of it."""

from __future__ import annotations

import pytest

from perdure.server.webhooks.outbox import MOST_AHEAD_MS, Answer, Outbox, Pending

SCHEDULE = (100, 1000, 10_000)
REFUSED = Answer(500, "it answered 500")


def outbox(*runs: str) -> Outbox:
    made = Outbox(0)
    for position, run_id in enumerate(runs, 1):
        made.take(Pending(run_id, position, "run.failed"), position)
    return made


def planned(
    box: Outbox, now_ms: int = 0, in_flight: set[tuple[str, int]] | None = None
) -> tuple[list[int], int | None]:
    ready, next_ms = box.plan(now_ms, in_flight or set())
    return [one.seq for one in ready], next_ms


def test_messages_of_different_runs_are_sent_at_once_those_of_one_run_in_order() -> None:
    box = outbox("a", "a", "b")
    assert planned(box) == ([1, 3], None)
    assert planned(box, in_flight={("a", 1)}) == ([3], None)
    box.accepted(box.pending[0], 0)
    assert planned(box) == ([2, 3], None)
    assert box.cursor == 3


def test_a_message_is_taken_once_however_often_it_is_read() -> None:
    box = outbox("a")
    box.take(Pending("a", 1, "run.failed"), 1)
    assert len(box.pending) == 1


def test_an_attempt_that_failed_is_made_again_on_the_schedule() -> None:
    box = outbox("a")
    [message] = box.pending
    now_ms = 0
    for delay_ms in SCHEDULE:
        assert box.refused(message, REFUSED, SCHEDULE, now_ms) is None
        assert planned(box, now_ms + delay_ms - 1) == ([], now_ms + delay_ms)
        now_ms += delay_ms
        assert planned(box, now_ms) == ([1], None)
    assert (box.failed, box.last_error and box.last_error["status"]) == (3, 500)


def test_a_later_message_of_a_run_overtakes_one_that_failed_twice() -> None:
    box = outbox("a", "a")
    box.refused(box.pending[0], REFUSED, SCHEDULE, 0)
    assert planned(box) == ([], 100)
    box.refused(box.pending[0], REFUSED, SCHEDULE, 100)
    assert planned(box, 100) == ([2], 1100)
    assert planned(box, 1100) == ([1], None)  # never two of one run at once


def test_when_all_failed_the_endpoint_is_disabled_and_the_message_stays() -> None:
    box = outbox("a")
    reasons = [box.refused(box.pending[0], REFUSED, SCHEDULE, now_ms) for now_ms in range(4)]
    assert reasons == [None, None, None, "exhausted"]
    assert (len(box.pending), box.given_up) == (1, 0)
    box.release(77)
    assert (planned(box), box.released_ms) == (([1], None), 77)
    assert box.refused(box.pending[0], REFUSED, SCHEDULE, 80) is None


def test_a_message_that_failed_while_others_were_accepted_is_given_up() -> None:
    box = outbox("a", "b")
    bad, good = box.pending
    for now_ms in range(3):
        assert box.refused(bad, REFUSED, SCHEDULE, now_ms) is None
    box.accepted(good, 3)
    assert box.refused(bad, REFUSED, SCHEDULE, 4) is None
    assert (box.pending, box.given_up, box.delivered) == ([], 1, 1)


def test_what_was_accepted_before_a_message_was_first_sent_says_nothing_about_it() -> None:
    box = outbox("a", "b")
    box.accepted(box.pending[0], 5)
    reasons = [box.refused(box.pending[0], REFUSED, SCHEDULE, now_ms) for now_ms in range(10, 14)]
    assert reasons[-1] == "exhausted"


def test_gone_disables_at_the_first_attempt() -> None:
    box = outbox("a")
    assert box.refused(box.pending[0], Answer(410, "it answered 410"), SCHEDULE, 0) == "gone"
    assert len(box.pending) == 1


def test_an_endpoint_that_has_too_much_to_do_is_left_alone_until_its_time() -> None:
    box = outbox("a", "b")
    box.refused(box.pending[0], Answer(429, "it answered 429", 5.0), SCHEDULE, 0)
    assert planned(box, 4999) == ([], 5000)
    assert planned(box, 5000) == ([1, 2], None)
    box.refused(box.pending[0], Answer(503, "it answered 503", 1e9), SCHEDULE, 5000)
    assert box.held_until_ms == 5000 + 86_400_000  # no endpoint holds its messages back for longer
    other = outbox("a", "b")
    other.refused(other.pending[0], Answer(500, "it answered 500", 5.0), SCHEDULE, 0)
    assert planned(other, 100) == ([2], 5000)  # only this message waits


def test_an_outbox_is_kept_whole() -> None:
    box = outbox("a", "b")
    box.refused(box.pending[0], REFUSED, SCHEDULE, 3)
    box.accepted(box.pending[1], 4)
    assert Outbox.from_json(box.to_json()) == box


def test_a_time_from_a_clock_that_was_put_right_holds_up_nothing() -> None:
    """A machine that was a year ahead, and was put right: what it planned then is sent now."""
    year_ms = 365 * 24 * 3_600_000
    box = outbox("a", "b")
    box.refused(box.pending[0], Answer(503, "it answered 503", 3600), SCHEDULE, year_ms)
    assert planned(box, year_ms) == ([], year_ms + 3_600_000)
    assert planned(box, 0) == ([1, 2], None)


def test_nothing_is_due_later_than_a_clock_that_was_put_right_is_told_by() -> None:
    box = outbox("a")
    box.refused(box.pending[0], REFUSED, (100 * MOST_AHEAD_MS, 1), 0)
    assert planned(box, 0) == ([], MOST_AHEAD_MS)


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b'{"cursor": 1}',
        b'{"cursor": "1", "pending": []}',
        b'{"cursor": -1, "pending": []}',
        b'{"cursor": 1, "pending": [], "held_until_ms": null}',
        b'{"cursor": 1, "pending": [{"run_id": 1, "seq": 1, "type": "run.failed"}]}',
        b'{"cursor": 1, "pending": [{"run_id": "a", "seq": "1", "type": "run.failed"}]}',
        b'{"cursor": 1, "pending": [{"run_id": "a", "seq": 1, "type": "run.failed", "due_ms": "now"}]}',
        b'{"cursor": 1, "pending": [{"run_id": "a", "seq": 1, "type": "of another kind"}]}',
    ],
)
def test_what_is_no_outbox_is_refused(content: bytes) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Outbox.from_json(content)
