"""The outbox of an endpoint: how far the feed was read for it, and which messages it has not accepted yet.

Both are kept together and change together, so whatever is written of them is consistent: each message up to the cursor
was accepted, was given up, or is pending. Pure: time and chance are handed in.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson

from perdure.server.webhooks.messages import TYPES

HELD_ATTEMPTS: Final = 2
"""A later message of the same run waits until an earlier one was accepted, or has failed so often."""
MOST_RETRY_AFTER_MS: Final = 24 * 3_600_000
MOST_AHEAD_MS: Final = 7 * 24 * 3_600_000
"""Nothing is due later than that: a time that lies farther ahead was taken from a clock that has been put right."""
THROTTLING: Final = frozenset((429, 502, 503, 504))
"""Answers of an endpoint that has too much to do: no message is sent to it before its `Retry-After`."""
GONE: Final = 410


@dataclass(slots=True)
class Pending:
    """A message that the endpoint has not accepted yet.

    Args:
        run_id, seq: of the event.
        type: of the message.
        attempts: that have failed.
        due_ms: when it is sent next, in milliseconds since 1970.
        first_ms: when it was sent first.
    """

    run_id: str
    seq: int
    type: str
    attempts: int = 0
    due_ms: int = 0
    first_ms: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What names it."""
        return self.run_id, self.seq


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt.

    Args:
        status: of the HTTP answer, if there was one.
        error: what went wrong, in words; `None` when the message was accepted.
        retry_after_s: when the endpoint wants to be asked again.
    """

    status: int | None
    error: str | None = None
    retry_after_s: float | None = None


@dataclass(slots=True)
class Outbox:
    """See the module.

    Args:
        cursor: the position in the feed up to which it was read.
        pending: in the order of the feed.
        delivered, failed, given_up: how many messages were accepted, attempts failed, messages were given up.
        held_until_ms: the endpoint asked not to be sent anything before.
        released_ms: when somebody last asked to send all that is pending.
        last_delivered_ms: when a message was last accepted.
        last_error: of the last attempt that failed.
    """

    cursor: int
    pending: list[Pending] = field(default_factory=list)
    delivered: int = 0
    failed: int = 0
    given_up: int = 0
    held_until_ms: int = 0
    released_ms: int = 0
    last_delivered_ms: int | None = None
    last_error: dict[str, Any] | None = None

    # --- what is to be sent -------------------------------------------------------------------------------------------

    def take(self, message: Pending, position: int) -> None:
        """A message of the feed is to be sent; the feed was read up to its position."""
        if all(one.key != message.key for one in reversed(self.pending)):
            self.pending.append(message)
        self.cursor = position

    def plan(self, now_ms: int, in_flight: Container[tuple[str, int]]) -> tuple[list[Pending], int | None]:
        """What may be sent now beside what is in flight, first come first; and when the next one becomes due, if ever.

        A later message of a run is held while an earlier one is in flight, or has not failed `HELD_ATTEMPTS` times.
        """
        ready: list[Pending] = []
        next_ms: int | None = None
        held: set[str] = set()
        for message in self.pending:
            if message.key in in_flight:
                held.add(message.run_id)
            elif message.run_id not in held:
                due_ms = self.due_ms(message, now_ms)
                if due_ms <= now_ms:
                    ready.append(message)
                else:
                    next_ms = due_ms if next_ms is None else min(next_ms, due_ms)
                if due_ms <= now_ms or message.attempts < HELD_ATTEMPTS:
                    held.add(message.run_id)
        return ready, next_ms

    def due_ms(self, message: Pending, now_ms: int) -> int:
        """When a message may be sent, in milliseconds since 1970."""
        return max((one for one in (message.due_ms, self.held_until_ms) if one - now_ms <= MOST_AHEAD_MS), default=0)

    # --- what became of it --------------------------------------------------------------------------------------------

    def accepted(self, message: Pending, now_ms: int) -> None:
        """The endpoint has it."""
        self.pending.remove(message)
        self.delivered += 1
        self.last_delivered_ms = now_ms

    def refused(self, message: Pending, answer: Answer, schedule_ms: Sequence[int], now_ms: int) -> str | None:
        """An attempt failed.

        Args:
            schedule_ms: the delays behind each failed attempt.

        Returns:
            Why the endpoint is to be disabled: `gone` when it says so, `exhausted` when a message failed on the whole
            schedule and nothing else was accepted meanwhile. The message stays pending then. One that failed so often
            while others were accepted is given up.
        """
        self.failed += 1
        self.last_error = {
            "at_ms": now_ms,
            "run_id": message.run_id,
            "seq": message.seq,
            "type": message.type,
            "status": answer.status,
            "error": answer.error,
        }
        message.first_ms = message.first_ms if message.first_ms is not None else now_ms
        message.attempts += 1
        if answer.status == GONE:
            return "gone"
        if message.attempts > len(schedule_ms):
            if self.last_delivered_ms is None or self.last_delivered_ms < message.first_ms:
                return "exhausted"
            self.give_up(message)
            return None
        wished_ms = min(round((answer.retry_after_s or 0) * 1000), MOST_RETRY_AFTER_MS)
        message.due_ms = now_ms + min(max(schedule_ms[message.attempts - 1], wished_ms), MOST_AHEAD_MS)
        if answer.status in THROTTLING:
            self.held_until_ms = max(self.held_until_ms, now_ms + wished_ms)
        return None

    def give_up(self, message: Pending) -> None:
        """It is not sent again."""
        self.pending.remove(message)
        self.given_up += 1

    def release(self, at_ms: int) -> None:
        """Send all that is pending at once, on a schedule that begins anew."""
        self.released_ms = at_ms
        self.held_until_ms = 0
        for message in self.pending:
            message.attempts, message.due_ms, message.first_ms = 0, 0, None

    # --- as it is kept ------------------------------------------------------------------------------------------------

    def to_json(self) -> bytes:
        """All of it."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, data: bytes) -> Outbox:
        """What `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError: it is something else.
        """
        tree = orjson.loads(data)
        found = cls(**(tree | {"pending": [Pending(**one) for one in tree["pending"]]}))
        _check_kept(found)
        for one in found.pending:
            _check_kept(one)
        return found


_NAMES: Final = frozenset(("run_id", "type"))
_MAY_BE_MISSING: Final = frozenset(("first_ms", "last_delivered_ms"))


def _check_kept(kept: Outbox | Pending) -> None:
    """Refuse what would break whoever reckons with it; raises `ValueError`."""
    for one in fields(kept):
        value = getattr(kept, one.name)
        if one.name in _NAMES:
            fits = isinstance(value, str)
        elif one.name == "pending" or (value is None and one.name in _MAY_BE_MISSING):
            fits = True
        elif one.name == "last_error":
            fits = value is None or isinstance(value, dict)
        else:
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not fits:
            raise ValueError(f"{one.name} is none")
    if isinstance(kept, Pending) and kept.type not in TYPES:
        raise ValueError(f"there is no event {kept.type!r}")
