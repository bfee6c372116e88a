"""The artifacts that a run's payloads name, and the check of a run's journal with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from perdure.core import kinds
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError
from perdure.core.events import Event
from perdure.engine.runtime import Runtime
from perdure.journal.chain import check


def named_in(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """By SHA-256, in the order of their first mention: `name` and `kind` where the author gave them, and the `seq`."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        data = event.data
        if data is None:
            continue
        if event.kind == kinds.ARTIFACT_PUT:
            about = {"name": data.get("name"), "kind": data.get("artifact_kind"), "seq": event.seq}
            found.setdefault(data["artifact"], about)
        elif event.payload is not None and b'"$artifact"' in event.payload:
            for sha256 in _references(data):
                found.setdefault(sha256, {"name": None, "kind": None, "seq": event.seq})
    return found


def _references(tree: Any) -> Iterator[str]:
    """Large values stand in a payload as an object with this one key; an author's own key of that name is escaped."""
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


async def artifacts_of(runtime: Runtime, run_id: str) -> list[dict[str, Any]]:
    """What a run's artifacts are, without their bytes.

    Raises:
        RunNotFoundError, CorruptRecordError: there is no such run, or it cannot be read.
    """
    await runtime.run(run_id).row()
    named = named_in(await runtime.store.read(run_id))
    known = {info.sha256: info for info in await runtime.store.artifact_info(named)}
    return [
        {"artifact_id": sha256, "size": known[sha256].size, "media_type": known[sha256].media_type} | about
        for sha256, about in named.items()
        if sha256 in known
    ]


async def verified(runtime: Runtime, run_id: str) -> dict[str, Any]:
    """Check a run's whole hash chain, and the artifacts that its payloads name.

    Raises:
        RunNotFoundError: there is no such run.
        CorruptRecordError: names the first bad record.
    """
    await runtime.run(run_id).row()
    events = await runtime.store.read(run_id)
    head = check(run_id, events)
    named = named_in(events)
    for sha256, about in named.items():
        try:
            await runtime.store.get_artifact(sha256)
        except ArtifactNotFoundError as error:
            raise CorruptRecordError(
                f"record {about['seq']} of run {run_id} names an artifact that is missing",
                run_id=run_id,
                seq=about["seq"],
            ) from error
    return {"run_id": run_id, "ok": True, "records": head.seq, "head": head.hash.hex(), "artifacts": len(named)}
