"""Reading a run from the store: its events, checked and folded."""

from __future__ import annotations

import orjson

from perdure.core.errors import CorruptRecordError
from perdure.core.events import Event, Head
from perdure.core.kinds import TERMINAL_KINDS
from perdure.journal.chain import check, genesis, hash_of
from perdure.journal.fold import fold_all
from perdure.journal.state import RunState
from perdure.store.port import Store


async def load_state(
    store: Store, run_id: str, *, until: int | None = None, verify: bool = False, from_start: bool = False
) -> tuple[RunState, Head] | None:
    """The state of a run and the head that it was folded up to.

    Args:
        until: fold only up to this seq.
        verify: check the hash chain of what is read.
        from_start: read the whole journal, not only the newest generation.

    Returns:
        None if there is no such run.

    Raises:
        CorruptRecordError: a record is not what was written.
    """
    row = await store.get_run(run_id)
    if row is None:
        return None
    base_seq = row.base_seq
    if from_start or base_seq <= 1 or (until is not None and until < base_seq):
        base_seq = 1
    events = await store.read(run_id, after=base_seq - 1, until=until)
    if verify:
        check(run_id, events, head_before(run_id, events))
    state = _folded(run_id, events)
    head = Head(events[-1].seq, hash_of(events[-1])) if events else Head(0, genesis(run_id))
    return state, head


def _folded(run_id: str, events: list[Event]) -> RunState:
    """The fold never fails on what was committed: where it does, something else stands there now."""
    try:
        return fold_all(run_id, events)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        check(run_id, events, head_before(run_id, events))
        raise CorruptRecordError(f"the journal of run {run_id} cannot be read: {error!r}", run_id=run_id) from error


async def read_ending(store: Store, run_id: str) -> Event:
    """The newest terminal event of a run that has ended; little may stand behind it.

    Raises:
        CorruptRecordError: there is none.
    """
    head = await store.head(run_id)
    after = 0 if head is None else head.seq
    size = 1
    while after > 0:
        until, after = after, max(0, after - size)
        for event in reversed(await store.read(run_id, after=after, until=until)):
            if event.kind in TERMINAL_KINDS:
                return event
        size = 64
    raise CorruptRecordError(f"run {run_id} has ended, but its journal does not say how", run_id=run_id)


def head_before(run_id: str, events: list[Event]) -> Head:
    """The head that the first of these events names as the one before it."""
    if not events or events[0].seq == 1:
        return Head(0, genesis(run_id))
    first = orjson.loads(events[0].header)
    return Head(first["seq"] - 1, bytes.fromhex(first["prev"]))
