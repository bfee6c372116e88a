"""Committing a batch of appends, as few statements as possible when all goes well.

The first attempt assumes that nothing is refused: the first event of each append carries the check of owner and epoch
in the statement that writes it, and the unique index on `(run, seq)` refuses a second event in the same place. That
the expected head stands where the caller says needs no query when this process wrote it, because a committed event
never changes. When anything is refused, all is rolled back and each append is examined and written on its own, so
that the refusal of one does not fail its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import apsw
import orjson

from perdure.core.errors import (
    FencedError,
    HeadMovedError,
    PerdureError,
    RunConflictError,
    RunNotFoundError,
    StoreError,
)
from perdure.core.events import Head, IndexChange
from perdure.journal.chain import seal
from perdure.store.index import merge
from perdure.store.port import Append, Appended, Outcome
from perdure.store.sqlite.queries import query
from perdure.store.sqlite.session import BEGIN, Session

KNOWN_HEADS: Final = 16_384

_GUARDED: Final = query("append_guarded")
_PLAIN: Final = query("append")
_HEADER: Final = query("event_header")
_LAST: Final = query("event_last")
_OWNERSHIP: Final = query("run_ownership")


class _RefusedError(Exception):
    """Something in the batch is refused; the second attempt finds out what and why."""


# What one append can do wrong by itself: a refusal, a value that cannot be bound, a header that cannot be made.
_CONCERNS_ONE: Final = (
    _RefusedError,
    apsw.ConstraintError,
    apsw.TooBigError,
    AttributeError,
    OverflowError,
    TypeError,
    ValueError,
)


class _Attempt:
    """The rows of a batch, collected so that many are written by one call."""

    __slots__ = ("changes", "first", "guarded", "heads", "plain", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.guarded: list[tuple[Any, ...]] = []
        self.plain: list[tuple[Any, ...]] = []
        self.changes: list[tuple[int, IndexChange, int]] = []
        self.heads: dict[str, tuple[int, Head]] = {}
        self.first: tuple[int, int, bytes] | None = None

    def add(self, append: Append) -> Appended:
        """Collect one append; raises `_RefusedError` when it cannot be written."""
        run_id = append.run_id
        if not append.drafts:
            raise ValueError("it holds no events")
        if run_id in self.heads:
            self.flush()  # the journal order of a run is its commit order
        number = self._create(append) if append.create is not None else self._number(append)
        seq, previous = append.expected
        epoch = append.epoch
        changed = append.change is not None
        for draft in append.drafts:
            seq += 1
            header, previous = seal(run_id, draft, seq, previous, epoch or 0)
            if epoch is not None and seq == append.expected.seq + 1:
                self.guarded.append((number, seq, header, draft.salt, draft.payload, append.owner, epoch))
            else:
                self.plain.append((number, seq, header, draft.salt, draft.payload))
            if draft.change is not None:
                changed = True
        for artifact in append.artifacts:
            name = bytes.fromhex(artifact.sha256)
            self.session.execute(query("artifact_create"), (name, artifact.media_type, artifact.data))
        if changed:
            change = merge(append)
            if change is not None:
                self.changes.append((number, change, append.drafts[-1].time_ms))
        head = Head(seq, previous)
        self.heads[run_id] = (number, head)
        return Appended(append.expected.seq + 1, head)

    def flush(self) -> None:
        """Write what was collected."""
        guarded, plain = self.guarded, self.plain
        if self.first is None and (guarded or plain):
            self.first = (guarded or plain)[0][:3]
        if guarded:
            self.session.executemany(_GUARDED, guarded)
            self.guarded = []
        if plain:
            self.session.executemany(_PLAIN, plain)
            self.plain = []
        if self.changes:
            for number, change, time_ms in self.changes:
                _apply(self.session, number, change, time_ms)
            self.changes = []

    def without(self, run_id: str, first: tuple[int, int, bytes] | None) -> _Attempt:
        """A new attempt that knows what this one wrote, but for one run's."""
        attempt = _Attempt(self.session)
        attempt.heads = {known: head for known, head in self.heads.items() if known != run_id}
        attempt.first = first
        return attempt

    def _number(self, append: Append) -> int:
        """The run's number, when its journal holds the expected head."""
        run_id, expected = append.run_id, append.expected
        known = self.heads.get(run_id) or self.session.heads.get(run_id)
        if known is not None and known[1] == expected:
            return known[0]
        row = self.session.execute(_OWNERSHIP, (run_id,)).fetchone()
        if row is None:
            raise _RefusedError
        number: int = row[0]
        header = self.session.execute(_HEADER, (number, expected.seq)).fetchone()
        if header is None or sha256(header[0]).digest() != expected.hash:
            raise _RefusedError
        return number

    def _create(self, append: Append) -> int:
        new = append.create
        assert new is not None
        session = self.session
        session.execute(
            query("run_create"),
            (
                append.run_id,
                new.workflow,
                new.version,
                new.created_ms,
                new.due_ms,
                0 if new.owner is None else 1,
                new.owner,
                new.parent_id,
                int(new.caller_owned),
                orjson.dumps(new.tags).decode() if new.tags else None,
            ),
        )
        number = session.connection.last_insert_rowid()
        for tag in new.tags:
            session.execute(query("tag_create"), (tag, number))
        return number


def commit_batch(session: Session, batch: Sequence[Append]) -> list[Outcome]:
    """Commit a batch in one transaction.

    Raises:
        CommitFailedError: the commit itself failed.
        apsw.Error: a statement failed for another reason than a refusal; the caller rolls back.
    """
    session.execute(BEGIN)
    attempt = _Attempt(session)
    outcomes: list[Outcome]
    try:
        outcomes = [attempt.add(append) for append in batch]
        attempt.flush()
    except _CONCERNS_ONE:
        session.rollback()
        session.execute(BEGIN)
        attempt, outcomes = _each_on_its_own(session, batch)
    session.commit(attempt.first)
    heads = session.heads
    if len(heads) > KNOWN_HEADS:
        heads.clear()
    heads.update(attempt.heads)
    return outcomes


def _each_on_its_own(session: Session, batch: Sequence[Append]) -> tuple[_Attempt, list[Outcome]]:
    attempt = _Attempt(session)
    outcomes: list[Outcome] = []
    for append in batch:
        session.execute("SAVEPOINT one")
        first = attempt.first
        try:
            outcome: Outcome = _refusal(session, append) or attempt.add(append)
            attempt.flush()
        except _CONCERNS_ONE as error:
            session.execute("ROLLBACK TO one")
            attempt = attempt.without(append.run_id, first)
            outcome = _unwritable(append, error)
        outcomes.append(outcome)
        session.execute("RELEASE one")
    return attempt, outcomes


def _unwritable(append: Append, error: Exception) -> StoreError:
    return StoreError(f"an append to {append.run_id} cannot be recorded: {error}", run_id=append.run_id)


def _refusal(session: Session, append: Append) -> PerdureError | None:
    run_id = append.run_id
    row = session.execute(_OWNERSHIP, (run_id,)).fetchone()
    if append.create is not None:
        return None if row is None else RunConflictError(f"run {run_id} exists already", run_id=run_id)
    if row is None:
        return RunNotFoundError(f"no run has the id {run_id}", run_id=run_id)
    number, owner, epoch = row
    if append.epoch is not None and (owner, epoch) != (append.owner, append.epoch):
        return FencedError(
            f"run {run_id} is owned by {owner or 'nobody'} now",
            run_id=run_id,
            worker_id=append.owner,
            epoch=append.epoch,
            owner=owner,
            current_epoch=epoch,
        )
    seq, header = session.execute(_LAST, (number,)).fetchone() or (0, b"")
    if seq != append.expected.seq or sha256(header).digest() != append.expected.hash:
        return HeadMovedError(
            f"the journal of run {run_id} is at seq {seq}, not at {append.expected.seq} as expected",
            run_id=run_id,
            expected_seq=append.expected.seq,
            seq=seq,
        )
    return None


def _apply(session: Session, number: int, change: IndexChange, time_ms: int) -> None:
    execute = session.execute
    execute(
        query("run_change"),
        (number, change.status, change.reason, change.due_ms, change.base_seq, int(change.release), time_ms),
    )
    if "*" in change.closed:
        execute(query("wait_close_all"), (number,))
    elif change.closed:
        session.executemany(query("wait_close"), [(number, wait_id) for wait_id in change.closed])
    if change.opened:
        session.executemany(query("wait_open"), [(number, *wait) for wait in change.opened])
    if change.wake is not None:
        execute(query("run_wake"), (change.wake,))
