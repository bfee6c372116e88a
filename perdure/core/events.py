"""Records of the journal as plain data: a draft before it is appended, an event after.

A journal record has two parts. The *header* is canonical JSON, kept as the exact bytes that are hashed; it names the
record and chains it to the one before. The *payload* is JSON too; the header holds only a salted digest of it, so that
a payload can be erased later and the chain still verifies.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

FORMAT: Final = 1
SALT_BYTES: Final = 16


class Head(NamedTuple):
    """The end of a journal: the last `seq` (0 when empty) and the hash of its header (the genesis hash when empty)."""

    seq: int
    hash: bytes


class Draft:
    """An event that has not been appended yet: seq, previous hash and epoch are assigned by the store.

    Salt and time are drawn when the draft is made, so a resend of the same draft has the same bytes.

    Args:
        kind: a kernel event kind (see `perdure.core.kinds`) or the author's own name.
        payload: the exact JSON bytes.
        salt: 16 random bytes.
        time_ms: milliseconds since 1970, informational.
        node: the node visit it belongs to (`name#visit`), if any.
        scope: the scope it belongs to, if any.
        key: the step key within the scope, if any.
        actor: who caused it, for example `worker:…`, `person:ada`, `service:…`.
        change: what the index rows of the run become with it; applied in the same transaction.
    """

    __slots__ = ("actor", "change", "key", "kind", "node", "payload", "salt", "scope", "time_ms")

    def __init__(
        self,
        kind: str,
        payload: bytes,
        salt: bytes,
        time_ms: int,
        *,
        node: str | None = None,
        scope: str | None = None,
        key: str | None = None,
        actor: str = "",
        change: IndexChange | None = None,
    ) -> None:
        self.kind = kind
        self.payload = payload
        self.salt = salt
        self.time_ms = time_ms
        self.node = node
        self.scope = scope
        self.key = key
        self.actor = actor
        self.change = change

    def __repr__(self) -> str:
        return f"Draft({self.kind}, scope={self.scope!r}, key={self.key!r}, payload={self.payload[:80]!r})"


class Event:
    """One journal record as it was committed.

    `data` is the parsed payload (`None` when it was erased); it is parsed at first use and must not be changed.
    """

    __slots__ = (
        "_data",
        "actor",
        "epoch",
        "header",
        "key",
        "kind",
        "node",
        "payload",
        "run_id",
        "salt",
        "scope",
        "seq",
        "time_ms",
    )

    def __init__(
        self,
        run_id: str,
        seq: int,
        kind: str,
        time_ms: int,
        node: str | None,
        scope: str | None,
        key: str | None,
        actor: str,
        epoch: int,
        header: bytes,
        salt: bytes,
        payload: bytes | None,
    ) -> None:
        self.run_id = run_id
        self.seq = seq
        self.kind = kind
        self.time_ms = time_ms
        self.node = node
        self.scope = scope
        self.key = key
        self.actor = actor
        self.epoch = epoch
        self.header = header
        self.salt = salt
        self.payload = payload
        self._data: Any = _UNPARSED

    @property
    def data(self) -> Any:
        """The parsed payload."""
        if self._data is _UNPARSED:
            self._data = None if self.payload is None else orjson.loads(self.payload)
        return self._data

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON data, as the command line prints it."""
        return {
            "run_id": self.run_id,
            "seq": self.seq,
            "time_ms": self.time_ms,
            "kind": self.kind,
            "node": self.node,
            "scope": self.scope,
            "key": self.key,
            "actor": self.actor,
            "epoch": self.epoch,
            "payload": self.data,
        }

    def __repr__(self) -> str:
        return f"Event({self.seq} {self.kind}, scope={self.scope!r}, key={self.key!r})"


_UNPARSED: Final = object()


class WaitRow(NamedTuple):
    """The index row of an open wait.

    Args:
        wait_id: unique in the run.
        kind: `question`, `signal`, `timer` or `child`.
        name: of the signal, or the subject of the question (`question`, `doubt`); for a child its run id.
        key: the signal's key to match, if any.
        deadline_ms: when it times out, if ever.
    """

    wait_id: str
    kind: str
    name: str
    key: str | None
    deadline_ms: int | None


class IndexChange(NamedTuple):
    """How the index rows of a run change with one event; `None` leaves a field as it is.

    The index is a view of the journal for finding runs. It is written in the transaction that appends the event, and
    `perdure doctor` can compute it anew from the journal.

    Args:
        status: the run's status.
        reason: why it is paused or parked; the empty string clears it.
        due_ms: from when a worker may claim it: 0 at once, `NEVER` not before something else changes it.
        base_seq: the seq that recovery reads from (after `run.continued`).
        opened: waits that opened.
        closed: ids of waits that closed; `("*",)` closes all.
        release: the owner lets go of the run.
        wake: id of another run (the parent) that becomes due at once.
    """

    status: str | None = None
    reason: str | None = None
    due_ms: int | None = None
    base_seq: int | None = None
    opened: tuple[WaitRow, ...] = ()
    closed: tuple[str, ...] = ()
    release: bool = False
    wake: str | None = None


NEVER: Final = 1 << 62
