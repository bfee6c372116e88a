"""A run's journal as it was hashed, for whoever checks the chain on a machine of their own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from perdure.core.errors import CorruptRecordError, RunNotFoundError
from perdure.core.events import Event
from perdure.server.asked import Engine, RunId
from perdure.server.responses import Json
from perdure.server.told import runs as told
from perdure.server.told.errors import answers

MOST = 1000
HIGHEST = 1 << 62

router = APIRouter(tags=["runs"])


@router.get("/runs/{run_id}/journal", responses=answers(told.JournalPage))
async def show_journal(
    run_id: RunId,
    runtime: Engine,
    after: Annotated[int, Query(ge=0, le=HIGHEST, description="only those with a higher seq")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
) -> Json:
    """Records of a run's journal, each with the exact text that is hashed.

    A record's hash is the SHA-256 of its `header` in UTF-8. The header names the hash before it (`prev`), and the
    SHA-256 of the salt's bytes followed by the payload's (`digest`). The hash before the first record is the SHA-256 of
    the format's number followed by the run's id. `payload` is null where it was erased; `head` is the end of the
    journal when this was answered.
    """
    store = runtime.store
    events = await store.read(run_id, after=after, limit=limit + 1)
    head = await store.head(run_id)
    if head is None:
        raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
    return Json(
        {
            "run_id": run_id,
            "records": [record_view(event) for event in events[:limit]],
            "more": len(events) > limit,
            "head": {"seq": head.seq, "hash": head.hash.hex()},
        }
    )


def record_view(event: Event) -> dict[str, Any]:
    """A record as it was hashed.

    Raises:
        CorruptRecordError: its bytes are no text, so nobody wrote them.
    """
    try:
        payload = None if event.payload is None else event.payload.decode()
        return {"seq": event.seq, "header": event.header.decode(), "salt": event.salt.hex(), "payload": payload}
    except UnicodeDecodeError as error:
        raise CorruptRecordError(
            f"record {event.seq} of run {event.run_id}: its bytes are no text", run_id=event.run_id, seq=event.seq
        ) from error
