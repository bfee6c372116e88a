"""The check of a run's journal: its hash chain, and the artifacts that its payloads name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from perdure.core import kinds
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, RunNotFoundError
from perdure.core.events import Event
from perdure.core.ids import check_run_id
from perdure.journal.chain import check
from perdure.store.port import ArtifactInfo, Store


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
        return {"run_id": self.run_id, "ok": True} | asdict(self)


def artifacts_named(events: Iterable[Event]) -> dict[str, Naming]:
    """The artifacts that payloads name, by SHA-256, in the order of their first mention.

    What stands behind a payload that is no JSON is not looked at.
    """
    found: dict[str, Naming] = {}
    for event in events:
        try:
            data = event.data
        except ValueError:
            break
        if data is None:
            continue
        where = "/".join(part for part in (event.scope, event.key) if part) or event.kind
        if event.kind == kinds.ARTIFACT_PUT:
            found.setdefault(data["artifact"], Naming(event.seq, where, data.get("name"), data.get("artifact_kind")))
        elif event.payload is not None and b'"$artifact"' in event.payload:
            for sha256 in _marks(data):
                found.setdefault(sha256, Naming(event.seq, where))
    return found


def _marks(tree: Any) -> Iterator[str]:
    """The marks of values that were replaced by an artifact; an author's own key of that name is escaped."""
    pending = [tree]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            if len(one) == 1 and isinstance(one.get("$artifact"), str):
                yield one["$artifact"]
            else:
                pending += reversed(one.values())
        elif isinstance(one, list):
            pending += reversed(one)


async def artifacts_of(store: Store, run_id: str) -> list[tuple[ArtifactInfo, Naming]]:
    """What a run's artifacts are, without their bytes, in the order of their first mention.

    Raises:
        RunNotFoundError: there is no such run.
        CorruptRecordError: its journal cannot be read.
    """
    await _check_known(store, run_id)
    named = artifacts_named(await store.read(run_id))
    known = {info.sha256: info for info in await store.artifact_info(named)}
    return [(known[sha256], naming) for sha256, naming in named.items() if sha256 in known]


async def verify_run(store: Store, run_id: str) -> Verified:
    """Check a run's whole hash chain, and the artifacts that its payloads name.

    Raises:
        RunNotFoundError: there is no such run.
        CorruptRecordError: names the first bad record (`seq`) or artifact.
    """
    await _check_known(store, run_id)
    events = await store.read(run_id)
    head = check(run_id, events)
    named = artifacts_named(events)
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


async def _check_known(store: Store, run_id: str) -> None:
    if await store.get_run(check_run_id(run_id)) is None:
        raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
