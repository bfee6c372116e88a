"""What the rules are written with."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from perdure.core.errors import PerdureError
from perdure.core.events import SALT_BYTES, Draft, Event, Head, IndexChange
from perdure.journal.chain import genesis, seal
from perdure.store.port import Append, Appended, Claimed, Lease, NewRun, Outcome, Store

E = TypeVar("E", bound=PerdureError)
R = TypeVar("R", bound="Rules")

WORKFLOW = "article"


class BootTime:
    """Boot time that moves when it is told to, in milliseconds."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, milliseconds: int) -> None:
        """Let so much time pass."""
        self.now_ms += milliseconds


class Rules:
    """Base of the rules: a subclass says how a store is made and what befalls it.

    `clock` is new for each rule; a store that can measure leases on it needs no `pass_time` of its own.
    """

    clock: BootTime

    async def make_store(self) -> Store:
        """A new, empty, open store."""
        raise NotImplementedError

    async def reopen(self, store: Store) -> Store:
        """The store after it was closed and opened again."""
        await store.close()
        await store.open()
        return store

    async def pass_time(self, milliseconds: int) -> None:
        """Let time pass on the clock that the store measures leases by."""
        self.clock.advance(milliseconds)

    def kill(self, lease: Lease) -> None:
        """Do to a lease what the death of its worker's process does, where that can be known at once."""
        lease.abandon()  # type: ignore[attr-defined]


def rule(check: Callable[[R, Store], Awaitable[None]]) -> Callable[[R], None]:
    """Make a test of an `async def` that takes a store."""

    @functools.wraps(check)
    def test(self: R) -> None:
        asyncio.run(_run(self, check))

    del test.__wrapped__  # pytest would look for a fixture named `store`
    return test


async def _run(rules: R, check: Callable[[R, Store], Awaitable[None]]) -> None:
    rules.clock = BootTime()
    store = await rules.make_store()
    try:
        await check(rules, store)
    finally:
        await store.close()


# --- events and appends -----------------------------------------------------------------------------------------------

_numbers = itertools.count(1)


def draft(
    kind: str = "step.completed",
    payload: bytes = b'{"fingerprint":""}',
    *,
    time_ms: int = 1000,
    key: str | None = None,
    change: IndexChange | None = None,
) -> Draft:
    """An event to append, with a salt that no other draft has."""
    salt = hashlib.sha256(b"%d" % next(_numbers)).digest()[:SALT_BYTES]
    return Draft(kind, payload, salt, time_ms, node="main#1", scope="0/main#1", key=key, actor="test", change=change)


def creation(run_id: str, *drafts: Draft, new: NewRun | None = None) -> Append:
    """The append that creates a run; under its owner's epoch 1 if `new` names one."""
    new = new or NewRun(WORKFLOW, "1", 1000)
    epoch = None if new.owner is None else 1
    start = [draft("run.started", b"{}"), *drafts]
    return Append(run_id, start, Head(0, genesis(run_id)), epoch, new.owner, create=new)


def command(run_id: str, head: Head, *drafts: Draft, change: IndexChange | None = None) -> Append:
    """An append from outside."""
    return Append(run_id, list(drafts) or [draft()], head, change=change)


def execution(claimed: Claimed, head: Head, *drafts: Draft, change: IndexChange | None = None) -> Append:
    """An append by the worker that owns the run."""
    row = claimed.row
    return Append(row.run_id, list(drafts) or [draft()], head, row.epoch, row.owner, change=change)


async def commit(store: Store, *batch: Append, in_place: bool = True) -> list[Outcome]:
    """Append a batch and wait for its outcomes."""
    answer = store.append(batch, in_place=in_place)
    return answer if isinstance(answer, list) else await answer


async def written(store: Store, append: Append) -> Head:
    """Append and expect it to be committed; returns the head after it."""
    (outcome,) = await commit(store, append)
    assert isinstance(outcome, Appended), outcome
    assert outcome.first_seq == append.expected.seq + 1
    assert outcome.head.seq == append.expected.seq + len(append.drafts)
    return outcome.head


async def start(store: Store, run_id: str, *drafts: Draft, new: NewRun | None = None) -> Head:
    """Create a run; returns its head."""
    return await written(store, creation(run_id, *drafts, new=new))


async def refused(store: Store, append: Append, error: type[E]) -> E:
    """Append and expect a refusal that leaves the journal and the index as they were."""
    before = await state_of(store, append.run_id)
    (outcome,) = await commit(store, append)
    assert isinstance(outcome, error), outcome
    assert await state_of(store, append.run_id) == before
    return outcome


async def state_of(store: Store, run_id: str) -> object:
    """All that a refusal must not change."""
    events = [event.header for event in await store.read(run_id)]
    return (await store.get_run(run_id), await store.head(run_id), events, await store.open_waits(run_id=run_id))


async def raises(error: type[E], call: Awaitable[Any]) -> E:
    """Expect a call to end in an error."""
    try:
        result = await call
    except error as raised:
        return raised
    raise AssertionError(f"expected {error.__name__}, got {result!r}")


def in_place_already(drafts: Sequence[Draft], append: Append, events: Sequence[Event]) -> bool:
    """Whether events that stand in a journal are what this append would have written there.

    Salts are drawn when a draft is made and seal it, so a resend of the same drafts has the same header bytes.
    """
    seq, previous = append.expected
    for made, event in zip(drafts, events, strict=True):
        seq += 1
        header, previous = seal(append.run_id, made, seq, previous, append.epoch or 0)
        if header != event.header:
            return False
    return True


async def claim_one(store: Store, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed:
    """Take ownership of a run and expect to get it."""
    claimed = await store.claim_run(lease, run_id, steal=steal)
    assert claimed is not None
    assert claimed.row.owner == lease.worker_id
    return claimed
