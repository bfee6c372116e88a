"""The hash chain: headers as the exact bytes that are hashed, and the check of a sequence of records.

`hash = SHA-256(header bytes)`; a header names the hash before it. The payload's digest is `SHA-256(salt ‖ payload)`, so
that nobody can guess an erased payload from its digest. The hash before seq 1 is `SHA-256(format ‖ run id)`.

A chain shows edited, removed, swapped and inserted records. Without a head that was signed or witnessed elsewhere it
does not show a tail that was cut off, or a journal that was rewritten as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

import orjson

from perdure.core.errors import CorruptRecordError
from perdure.core.events import FORMAT, Draft, Event, Head
from perdure.core.kinds import KINDS

_VERSIONS: Final = {kind: spec.version for kind, spec in KINDS.items()}
_FIELDS: Final = frozenset(
    (
        "actor",
        "digest",
        "epoch",
        "format",
        "key",
        "kind",
        "kind_version",
        "node",
        "prev",
        "run",
        "scope",
        "seq",
        "time_ms",
    )
)


def genesis(run_id: str) -> bytes:
    """The hash that seq 1 names as its previous one."""
    return sha256(f"{FORMAT}{run_id}".encode()).digest()


def seal(run_id: str, draft: Draft, seq: int, previous: bytes, epoch: int) -> tuple[bytes, bytes]:
    """Make the header of a draft.

    Args:
        run_id: the run.
        draft: what is appended.
        seq: its place, from 1.
        previous: hash of the record before.
        epoch: of the lease that the writer holds; 0 for commands from outside.

    Returns:
        The header's bytes (canonical JSON: the keys stand in sorted order and hold strings and integers only) and
        their SHA-256.
    """
    header = orjson.dumps(
        {
            "actor": draft.actor,
            "digest": sha256(draft.salt + draft.payload).hexdigest(),
            "epoch": epoch,
            "format": FORMAT,
            "key": draft.key,
            "kind": draft.kind,
            "kind_version": _VERSIONS.get(draft.kind, 1),
            "node": draft.node,
            "prev": previous.hex(),
            "run": run_id,
            "scope": draft.scope,
            "seq": seq,
            "time_ms": draft.time_ms,
        }
    )
    return header, sha256(header).digest()


def read_record(header: bytes, salt: bytes, payload: bytes | None) -> Event:
    """An event from its stored bytes.

    Raises:
        CorruptRecordError: the header is not what `seal` writes.
    """
    try:
        parsed: dict[str, Any] = orjson.loads(header)
        return Event(
            parsed["run"],
            parsed["seq"],
            parsed["kind"],
            parsed["time_ms"],
            parsed["node"],
            parsed["scope"],
            parsed["key"],
            parsed["actor"],
            parsed["epoch"],
            header,
            salt,
            payload,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CorruptRecordError("a header is not readable", header=header[:80].hex()) from error


def check(run_id: str, events: Iterable[Event], head: Head | None = None) -> Head:
    """Check that events follow one another and are what was written.

    Args:
        run_id: the run whose events these are.
        events: consecutive events.
        head: the record before the first; the genesis of the run if omitted.

    Returns:
        The head after the last event.

    Raises:
        CorruptRecordError: names the first bad record in `ids["seq"]` and what is wrong with it.
    """
    seq, previous = head if head is not None else Head(0, genesis(run_id))
    for event in events:
        seq += 1
        parsed = orjson.loads(event.header)
        problem = _problem(run_id, event, parsed, seq, previous)
        if problem is not None:
            raise CorruptRecordError(f"record {seq} of run {run_id}: {problem}", run_id=run_id, seq=seq)
        previous = sha256(event.header).digest()
    return Head(seq, previous)


def _problem(run_id: str, event: Event, parsed: dict[str, Any], seq: int, previous: bytes) -> str | None:
    if parsed.keys() != _FIELDS or parsed["format"] != FORMAT:
        return "has an unknown format"
    if parsed["seq"] != seq:
        return f"a record is missing or out of place (found seq {parsed['seq']})"
    if parsed["run"] != run_id:
        return f"belongs to run {parsed['run']}"
    if parsed["prev"] != previous.hex():
        return "does not follow the record before it"
    if event.payload is not None and sha256(event.salt + event.payload).hexdigest() != parsed["digest"]:
        return "its payload was changed"
    return None


def hash_of(event: Event) -> bytes:
    """The hash of a committed event."""
    return sha256(event.header).digest()
