"""A store that hands every call on to another one: the base of stores that crash, fail or watch."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence

from perdure.core.events import Event, Head
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
    Store,
    WorkerRow,
)


class DelegatingStore:
    """Every call goes to `inner`; a subclass changes what it is about. See `Store` for what each call does.

    Args:
        inner: where the calls go.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.url: str = inner.url
        self.durability: Durability = inner.durability
        self.shared: bool = inner.shared

    @property
    def sync_s(self) -> float:
        """See `Store.sync_s`."""
        return self.inner.sync_s

    async def open(self) -> None:
        """See `Store.open`."""
        await self.inner.open()

    async def close(self) -> None:
        """See `Store.close`."""
        await self.inner.close()

    def append(self, batch: Sequence[Append], *, in_place: bool = True) -> list[Outcome] | Awaitable[list[Outcome]]:
        """See `Store.append`."""
        return self.inner.append(batch, in_place=in_place)

    async def read(self, run_id: str, *, after: int = 0, until: int | None = None, limit: int = 100_000) -> list[Event]:
        """See `Store.read`."""
        return await self.inner.read(run_id, after=after, until=until, limit=limit)

    async def read_feed(self, *, after: int = 0, limit: int = 1000) -> list[FeedEntry]:
        """See `Store.read_feed`."""
        return await self.inner.read_feed(after=after, limit=limit)

    async def feed_position(self) -> int:
        """See `Store.feed_position`."""
        return await self.inner.feed_position()

    async def changed_runs(self, *, after: int) -> tuple[int, dict[str, int]]:
        """See `Store.changed_runs`."""
        return await self.inner.changed_runs(after=after)

    async def head(self, run_id: str) -> Head | None:
        """See `Store.head`."""
        return await self.inner.head(run_id)

    async def get_run(self, run_id: str) -> RunRow | None:
        """See `Store.get_run`."""
        return await self.inner.get_run(run_id)

    async def list_runs(self, where: RunFilter) -> list[RunRow]:
        """See `Store.list_runs`."""
        return await self.inner.list_runs(where)

    async def count_runs(self) -> dict[str, int]:
        """See `Store.count_runs`."""
        return await self.inner.count_runs()

    async def open_waits(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        limit: int = 1000,
    ) -> list[OpenWait]:
        """See `Store.open_waits`."""
        return await self.inner.open_waits(kind=kind, name=name, key=key, run_id=run_id, limit=limit)

    async def get_artifact(self, sha256: str) -> bytes:
        """See `Store.get_artifact`."""
        return await self.inner.get_artifact(sha256)

    async def artifact_info(self, sha256s: Iterable[str]) -> list[ArtifactInfo]:
        """See `Store.artifact_info`."""
        return await self.inner.artifact_info(sha256s)

    async def lease(self, worker_id: str, workflows: Sequence[str], *, length_s: float = 10.0) -> Lease:
        """See `Store.lease`."""
        return await self.inner.lease(worker_id, workflows, length_s=length_s)

    async def workers(self) -> list[WorkerRow]:
        """See `Store.workers`."""
        return await self.inner.workers()

    async def claim(self, lease: Lease, workflows: Sequence[str], now_ms: int, *, limit: int = 100) -> list[Claimed]:
        """See `Store.claim`."""
        return await self.inner.claim(lease, workflows, now_ms, limit=limit)

    async def claim_run(self, lease: Lease, run_id: str, *, steal: bool = False) -> Claimed | None:
        """See `Store.claim_run`."""
        return await self.inner.claim_run(lease, run_id, steal=steal)

    async def release(self, lease: Lease, run_ids: Sequence[str]) -> None:
        """See `Store.release`."""
        await self.inner.release(lease, run_ids)

    async def next_due_ms(self, workflows: Sequence[str]) -> int | None:
        """See `Store.next_due_ms`."""
        return await self.inner.next_due_ms(workflows)

    async def integrity(self) -> list[str]:
        """See `Store.integrity`."""
        return await self.inner.integrity()

    async def compact(self) -> None:
        """See `Store.compact`."""
        await self.inner.compact()
