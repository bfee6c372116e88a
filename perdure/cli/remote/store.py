"""`RemoteStore`: what can be read of the store of a service, as the port has it.

The commands that look read a store; over this one they show of a service the same as of its store, and check the hash
chain on this machine. Records come as they were hashed. Nothing can be written: commands go through
`perdure.cli.remote.runtime`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from perdure.cli.output import Output
from perdure.core import kinds
from perdure.core.errors import ArtifactNotFoundError, LocalOnlyError, NotPermittedError, RunNotFoundError
from perdure.core.events import Event, Head, WaitRow
from perdure.store.port import (
    Append,
    ArtifactInfo,
    Claimed,
    Durability,
    FeedEntry,
    Lease,
    OpenWait,
    Outcome,
    RunFilter,
    RunRow,
    Status,
    WorkerRow,
)

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.client import RunRow as RowView

MOST: Final = 1000
"""The service gives no more at once."""
NAMED: Final = re.compile(rb'"\$?artifact":"([0-9a-f]{64})"')
"""Where a payload may name an artifact. It only says which run to ask for the bytes, so it may find too much."""
RUNS_METRIC: Final = re.compile(r'^perdure_runs\{status="(\w+)"\} (\d+)$', re.MULTILINE)


class RemoteStore:
    """The store behind a service, for reading.

    Args:
        client: of the service.

    Attributes:
        hides_workers: it turned out that the key may not see workers.
    """

    durability: Durability = "none"  # nothing is appended here
    shared = True

    def __init__(self, client: Client) -> None:
        self.client = client
        self.url = client.url
        self._named_by: dict[str, str] = {}
        self.hides_workers = False

    @property
    def sync_s(self) -> float:
        """See the port; nothing is committed here."""
        return 0.0

    async def open(self) -> None:
        """Be ready to ask."""
        await self.client.__aenter__()

    async def close(self) -> None:
        """Ask no more."""
        await self.client.aclose()

    # --- journals -----------------------------------------------------------------------------------------------------

    async def read(self, run_id: str, *, after: int = 0, until: int | None = None, limit: int = 100_000) -> list[Event]:
        """See the port."""
        found: list[Event] = []
        more = limit > 0 and (until is None or until > after)
        while more:
            left = limit - len(found) if until is None else min(limit - len(found), until - after)
            try:
                page = await self.client.journal_page(run_id, after=after, limit=min(MOST, left))
            except RunNotFoundError:
                return []
            found += page.records
            after = page.records[-1].seq if page.records else after
            more = page.more and bool(page.records) and len(found) < limit and (until is None or after < until)
        self._note_artifacts(run_id, found)
        return found

    async def head(self, run_id: str) -> Head | None:
        """See the port."""
        try:
            return (await self.client.journal_page(run_id, limit=1)).head
        except RunNotFoundError:
            return None

    def _note_artifacts(self, run_id: str, events: Iterable[Event]) -> None:
        """Artifacts are asked for by the run that names them."""
        for event in events:
            payload = event.payload
            if payload is not None and (event.kind == kinds.ARTIFACT_PUT or b'"$artifact"' in payload):
                for name in NAMED.findall(payload):
                    self._named_by[name.decode()] = run_id

    # --- artifacts ----------------------------------------------------------------------------------------------------

    async def get_artifact(self, sha256: str) -> bytes:
        """The bytes of an artifact that a journal names which was read here; see the port."""
        run_id = self._named_by.get(sha256)
        if run_id is None:
            raise ArtifactNotFoundError(f"no artifact {sha256}", artifact=sha256)
        return await self.client.artifact(run_id, sha256)

    async def artifact_info(self, sha256s: Iterable[str]) -> list[ArtifactInfo]:
        """See the port."""
        wanted = set(sha256s)
        found: dict[str, ArtifactInfo] = {}
        for run_id in dict.fromkeys(self._named_by[sha256] for sha256 in wanted if sha256 in self._named_by):
            for one in await self.client.artifacts(run_id):
                if one.artifact_id in wanted:
                    found[one.artifact_id] = ArtifactInfo(one.artifact_id, one.size, one.media_type)
        return list(found.values())

    # --- the index ----------------------------------------------------------------------------------------------------

    async def get_run(self, run_id: str) -> RunRow | None:
        """See the port."""
        try:
            return _row(await self.client.show(run_id))
        except RunNotFoundError:
            return None

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See the port."""
        found: list[RunRow] = []
        before_ms, cursor = where.created_before_ms, None
        if where.before is not None:  # what was created in the same millisecond is sorted out here
            before_ms = min(where.before[0] + 1, where.before[0] + 1 if before_ms is None else before_ms)
        while len(found) < where.limit:
            page = await self.client.runs_page(
                status=where.statuses,
                workflow=where.workflow,
                tags=where.tags,
                parent=where.parent_id,
                created_after_ms=where.created_after_ms,
                created_before_ms=before_ms,
                cursor=cursor,
                limit=min(MOST, where.limit - len(found)) if where.id_prefix is None else MOST,
            )
            found += [_row(one) for one in page.runs if _is_wanted(one, where)]
            cursor = page.next_cursor
            if cursor is None:
                break
        return found[: where.limit]

    async def count_runs(self) -> dict[str, int]:
        """See the port."""
        counts = {status: int(number) for status, number in RUNS_METRIC.findall(await self.client.metrics())}
        return {status: number for status, number in counts.items() if number}

    async def open_waits(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> list[OpenWait]:
        """See the port; of very many the oldest, which is said."""
        asked = min(limit, MOST)
        found = await self.client.waits(kind=kind, name=name, key=key, run_id=run_id, limit=asked)
        if len(found) == asked < limit:
            Output().warn(f"the service tells of no more than {asked} waits: there may be others")
        return [
            OpenWait(
                one.run_id,
                one.workflow or "",
                WaitRow(one.wait_id, one.kind, one.name or "", one.key, one.deadline_ms),
            )
            for one in found
        ]

    async def workers(self) -> list[WorkerRow]:
        """See the port. A key that may not see workers sees none, which is said once."""
        try:
            found = await self.client.workers()
        except NotPermittedError as error:
            if not self.hides_workers:
                self.hides_workers = True
                Output().warn(f"{error.message}: what is said here of workers may be wrong")
            return []
        return [
            WorkerRow(
                worker_id=one.worker_id,
                host=one.host,
                pid=one.pid,
                boot_id="",
                lease_end_ms=0,
                started_ms=one.started_ms,
                draining=one.draining,
                workflows=one.workflows,
                alive=one.alive,
            )
            for one in found
        ]

    # --- what a service does not offer --------------------------------------------------------------------------------

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome]:
        """Refused: commands go to the service as what they are."""
        self._refuse("append to a journal")

    async def read_feed(self, *, after: int = 0, limit: int = 1000) -> list[FeedEntry]:
        """Refused: the feed of a service does not carry what is hashed."""
        self._refuse("read the feed")

    async def feed_position(self) -> int:
        """Refused, see `read_feed`."""
        self._refuse("read the feed")

    async def changed_runs(self, *, after: int) -> tuple[int, dict[str, int]]:
        """Refused, see `read_feed`."""
        self._refuse("read the feed")

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """Refused: a worker needs the store itself."""
        self._refuse("execute runs")

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """Refused, see `lease`."""
        self._refuse("execute runs")

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """Refused, see `lease`."""
        self._refuse("execute runs")

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """Refused, see `lease`."""
        self._refuse("execute runs")

    async def next_due_ms(self, workflows: Sequence[str]) -> int | None:
        """Refused, see `lease`."""
        self._refuse("execute runs")

    async def integrity(self) -> list[str]:
        """Refused: the files are the service's own."""
        self._refuse("check the store's files")

    async def compact(self) -> None:
        """Refused, see `integrity`."""
        self._refuse("bring the store's files into rest")

    def _refuse(self, what: str) -> NoReturn:
        raise LocalOnlyError(f"nobody can {what} over HTTP", hint="do it where the store is", server=self.url)


def _row(view: RowView) -> RunRow:
    """An index row. What a service does not tell (the beginning of the newest generation, the epoch) concerns nobody
    who only reads."""
    told: dict[str, Any] = {"base_seq": 0, "epoch": 0, "due_ms": view.due_ms or 0}
    return RunRow(
        run_id=view.run_id,
        workflow=view.workflow,
        version=view.version,
        status=cast("Status", view.status),
        reason=view.reason or "",
        created_ms=view.created_ms,
        updated_ms=view.updated_ms,
        owner=view.owner,
        parent_id=view.parent_id,
        caller_owned=view.caller_owned,
        tags=view.tags,
        **told,
    )


def _is_wanted(view: RowView, where: RunFilter) -> bool:
    if where.before is not None and (view.created_ms, view.run_id) >= where.before:
        return False
    return where.id_prefix is None or view.run_id.startswith(where.id_prefix)
