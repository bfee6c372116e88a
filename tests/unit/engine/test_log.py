"""The log of a run: what waits for a commit does so, whatever is withdrawn beside it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from perdure.core import kinds
from perdure.core.errors import HeadMovedError
from perdure.core.events import Draft, Event, Head
from perdure.engine.log import RunLog
from perdure.journal.chain import genesis
from perdure.journal.state import RunState
from perdure.store.port import Appended

pytestmark = pytest.mark.time_limit(20)

RUN = "log-run"
FACT = b'{"attempt":1,"fingerprint":"","result":1}'
SIGNAL = b'{"name":"hello","payload":1}'


class Idle:
    """A writer that takes nothing of itself: the test does."""

    def submit(self, source: object, *, urgent: bool = False) -> None:
        """Somebody has something to commit."""


class Tail:
    """A store in which somebody else has appended."""

    async def read(self, run_id: str, *, after: int) -> list[Event]:
        """What stands behind a seq."""
        event = Event(run_id, 1, kinds.SIGNAL_RECEIVED, 1, None, None, None, "person", 0, b"", bytes(16), SIGNAL)
        return [event] if after < 1 else []


def fact(key: str) -> Draft:
    return Draft(kinds.STEP_COMPLETED, FACT, bytes(16), 1, node="main#1", scope="0/main#1", key=key)


def suspended() -> Draft:
    return Draft(kinds.RUN_SUSPENDED, b'{"due_ms":null}', bytes(16), 1)


@pytest.mark.parametrize("before", [0, 2])
async def test_what_is_withdrawn_lets_nobody_go_on_before_what_stands_ahead_of_it_is_durable(before: int) -> None:
    head = Head(0, genesis(RUN))
    log = RunLog(cast("Any", Tail()), cast("Any", Idle()), RUN, 1, "w", RunState(RUN), head)
    for _ in range(before):
        log.decide_later(suspended(), lambda _: None)
    log.add(fact("first"))
    told: list[str] = []
    log.when_durable(lambda: told.append("first"))
    waiting = asyncio.ensure_future(log.barrier())
    await asyncio.sleep(0)
    log.decide_later(suspended(), lambda _: None)
    log.add(fact("second"))
    log.when_durable(lambda: told.append("second"))

    assert log.take() is not None
    log.settled(HeadMovedError("somebody has sent a signal"))
    await log.caught_up()
    assert (told, waiting.done()) == ([], False)

    append = log.take()
    assert append is not None
    assert [draft.key for draft in append.drafts] == ["first", "second"]
    log.settled(Appended(2, Head(3, bytes(32))))
    await asyncio.wait_for(waiting, 5)
    assert told == ["first", "second"]
    assert log.backlog == 0
