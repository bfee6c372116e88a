"""Checks of journals: the hash chain, the artifacts that payloads name, and the index rows against the fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from perdure.cli.output import count
from perdure.core import kinds
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, RunNotFoundError
from perdure.core.events import NEVER, Event
from perdure.core.ids import check_run_id
from perdure.engine.loading import load_state
from perdure.journal.chain import check
from perdure.journal.state import RunState
from perdure.store.port import OpenWait, RunRow, Store


@dataclass(frozen=True, slots=True)
class Naming:
    """Where an artifact is first named.

    Args:
        seq: of the event.
        named_by: its step, or its kind.
        name, kind: as the author gave them, if the artifact is the author's own.
    """

    seq: int
    named_by: str
    name: str | None = None
    kind: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {"name": self.name, "kind": self.kind, "seq": self.seq, "named_by": self.named_by}


def artifacts_of(events: Iterable[Event]) -> dict[str, Naming]:
    """The artifacts that payloads name, by SHA-256, in the order of their first mention."""
    found: dict[str, Naming] = {}
    for event in events:
        data = event.data
        if data is None:
            continue
        where = "/".join(part for part in (event.scope, event.key) if part) or event.kind
        if event.kind == kinds.ARTIFACT_PUT:
            found.setdefault(data["artifact"], Naming(event.seq, where, data.get("name"), data.get("artifact_kind")))
        elif event.payload is not None and b'"$artifact"' in event.payload:
            for name in _marks(data):
                found.setdefault(name, Naming(event.seq, where))
    return found


def _marks(value: Any) -> Iterator[str]:
    """The marks of values that were replaced by an artifact; an author's own key of that name is escaped."""
    if isinstance(value, dict):
        if value.keys() == {"$artifact"}:
            yield str(value["$artifact"])
            return
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _marks(one)


@dataclass(frozen=True, slots=True)
class Verified:
    """A journal that is what was written.

    Attributes:
        run_id: the run.
        records: how many it has.
        head: hash of the last one, in hex.
        artifacts: how many are named, all of them there and unchanged.
    """

    run_id: str
    records: int
    head: str
    artifacts: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data."""
        return {
            "run_id": self.run_id,
            "ok": True,
            "records": self.records,
            "head": self.head,
            "artifacts": self.artifacts,
        }

    def __str__(self) -> str:
        artifacts = f", {count(self.artifacts, 'artifact')}" if self.artifacts else ""
        return f"journal verified: {count(self.records, 'record')}{artifacts}, head {self.head[:12]}"


async def verify_run(store: Store, run_id: str) -> Verified:
    """Check a run's whole hash chain, and the artifacts that its payloads name.

    Raises:
        RunNotFoundError: there is no such run.
        CorruptRecordError: names the first bad record (`seq`) or artifact.
    """
    if await store.get_run(check_run_id(run_id)) is None:
        raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
    events = await store.read(run_id)
    head = check(run_id, events)
    named = artifacts_of(events)
    for sha256, naming in named.items():
        try:
            await store.get_artifact(sha256)
        except (ArtifactNotFoundError, CorruptRecordError) as error:
            raise CorruptRecordError(
                f"record {naming.seq} of run {run_id} names an artifact that "
                f"{'is missing' if isinstance(error, ArtifactNotFoundError) else 'was changed'}: {sha256}",
                run_id=run_id,
                seq=naming.seq,
                artifact=sha256,
            ) from error
    return Verified(run_id, head.seq, head.hash.hex(), len(named))


async def compare_index(store: Store, row: RunRow) -> list[str]:
    """How a run's index rows differ from what its journal folds to; empty when they agree.

    Raises:
        CorruptRecordError: the journal cannot be read.
    """
    loaded = await load_state(store, row.run_id, verify=True)
    again = await store.get_run(row.run_id)
    if loaded is None or again != row:
        return []  # it went on meanwhile
    return differences(row, loaded[0], await store.open_waits(run_id=row.run_id))


def differences(row: RunRow, state: RunState, waits: Iterable[OpenWait]) -> list[str]:
    """Index rows against a folded state."""
    found = []
    expected = {
        "workflow": state.workflow,
        "version": state.version,
        "reason": state.reason,
        "status": state.status,
    }
    for name, value in expected.items():
        if getattr(row, name) != value:
            found.append(f"{name} is {getattr(row, name)!r} in the index and {value!r} in the journal")
    indexed = {one.wait.wait_id for one in waits}
    open_waits = {wait.wait_id for wait in state.open_waits() if not state.terminal or wait.kind == "question"}
    if indexed != open_waits:
        found.append(f"open waits are {sorted(indexed)} in the index and {sorted(open_waits)} in the journal")
    deadlines = [wait.deadline_ms for wait in state.open_waits() if wait.deadline_ms is not None]
    if row.status == "waiting" and not row.caller_owned and min(deadlines, default=NEVER) < row.due_ms:
        found.append("it is due later than its next deadline")
    return found
