"""`RemoteStore`: what is read over a service is what stands in its store, and is checked on this side."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.cli.remote.runtime import RemoteRuntime
from perdure.cli.remote.store import RemoteStore
from perdure.client import Client, JournalPage
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, LocalOnlyError, NotPermittedError
from perdure.core.events import Event
from perdure.engine.verification import artifacts_of, verify_run
from perdure.server import KeyRing
from perdure.store.port import RunFilter, Store
from tests.http.server.served import Served, served

READ = {"read", "head", "get_run", "list_runs", "count_runs", "open_waits", "get_artifact", "artifact_info", "workers"}
OPENING = {"open", "close"}


@asynccontextmanager
async def both() -> AsyncIterator[tuple[Served, Store, RemoteStore]]:
    """A service, its store, and the same store as it is seen over the service."""
    async with served() as found, Client(found.service.start_url) as client:
        yield found, found.runtime.store, RemoteStore(client)


def _parts(events: list[Event]) -> list[Any]:
    return [(one.to_dict(), one.header, one.salt, one.payload) for one in events]


def test_every_method_of_the_port_is_read_or_refused() -> None:
    methods = {name for name, one in vars(Store).items() if inspect.isfunction(one) and not name.startswith("_")}
    assert methods == READ | OPENING | _REFUSED.keys()


_REFUSED: dict[str, tuple[Any, ...]] = {
    "append": ([],),
    "read_feed": (),
    "feed_position": (),
    "changed_runs": (),
    "lease": ("w", []),
    "claim": (None, [], 0),
    "claim_run": (None, "r"),
    "release": (None, []),
    "next_due_ms": ([],),
    "integrity": (),
    "compact": (),
}


@pytest.mark.parametrize("name", _REFUSED)
async def test_what_a_service_does_not_offer_is_refused(name: str) -> None:
    store = RemoteStore(Client("http://127.0.0.1:1"))
    named = {"after": 0} if name == "changed_runs" else {}
    with pytest.raises(LocalOnlyError):
        await getattr(store, name)(*_REFUSED[name], **named)


async def test_a_journal_longer_than_a_page_comes_whole_and_as_it_was_hashed() -> None:
    async with both() as (found, store, remote):
        run_id = await found.start("count", numbers=2100)
        await found.reaches(run_id, "waiting")
        events = await store.read(run_id)
        assert len(events) > 2100
        assert _parts(await remote.read(run_id)) == _parts(events)
        for after, until, limit in ((0, None, 5), (7, 9, 100), (990, 1010, 15), (0, 1000, 5000), (9, 9, 5), (9, 3, 5)):
            told = await remote.read(run_id, after=after, until=until, limit=limit)
            assert _parts(told) == _parts(await store.read(run_id, after=after, until=until, limit=limit))
        assert await remote.head(run_id) == await store.head(run_id)
        assert await remote.read("none") == []
        assert await remote.head("none") is None


async def test_runs_are_found_by_the_same_filters() -> None:
    async with both() as (found, store, remote):
        run_ids = [await found.start("listen") for _ in range(12)] + [await found.start("ask") for _ in range(3)]
        for run_id in run_ids:
            await found.reaches(run_id, "waiting")
        await found.runtime.cancel(run_ids[0])
        await found.reaches(run_ids[0], "cancelled")
        middle = (await store.get_run(run_ids[7]) or pytest.fail("it is there")).created_ms
        filters = (
            RunFilter(),
            RunFilter(limit=4),
            RunFilter(("waiting",), limit=5),
            RunFilter(workflow="ask"),
            RunFilter(("cancelled", "failed"), "listen"),
            RunFilter(tags=("none",)),
            RunFilter(id_prefix=run_ids[3][:6]),
            RunFilter(created_before_ms=middle),
            RunFilter(created_after_ms=middle, limit=3),
        )
        for where in filters:
            expected = [row.to_dict() for row in await store.list_runs(where)]
            assert [row.to_dict() for row in await remote.list_runs(where)] == expected, where
        pages: list[str] = []
        where = RunFilter(limit=4)
        while rows := await remote.list_runs(where):
            pages += [row.run_id for row in rows]
            where = RunFilter(limit=4, before=(rows[-1].created_ms, rows[-1].run_id))
        assert pages == [row.run_id for row in await store.list_runs(RunFilter())]
        assert await remote.count_runs() == await store.count_runs() == {"waiting": 14, "cancelled": 1}
        assert await remote.get_run("none") is None
        assert await remote.open_waits(kind="question") == await store.open_waits(kind="question")
        assert await remote.open_waits(name="go", run_id=run_ids[5]) == await store.open_waits(run_id=run_ids[5])
        assert len(await remote.open_waits()) == 14


async def test_artifacts_are_found_by_the_journals_that_name_them() -> None:
    async with both() as (found, store, remote):
        run_id = await found.start("keep", text="hello")
        await found.reaches(run_id, "completed")
        assert await artifacts_of(remote, run_id) == await artifacts_of(store, run_id)
        [(info, _)] = await artifacts_of(store, run_id)
        assert await remote.get_artifact(info.sha256) == b"hello"
        assert await verify_run(remote, run_id) == await verify_run(store, run_id)
        with pytest.raises(ArtifactNotFoundError):
            await remote.get_artifact("0" * 64)


async def test_the_chain_is_checked_on_this_side() -> None:
    async with served() as found, _Liar(found.service.start_url) as liar:
        run_id = await found.start("add", a=1)
        await found.reaches(run_id, "completed")
        assert (await liar.verify(run_id)).ok  # the service vouches for what it has
        liar.changes = 2
        with pytest.raises(CorruptRecordError) as caught:
            await verify_run(RemoteStore(liar), run_id)
        assert caught.value.ids["seq"] == 2


class _Liar(Client):
    """What arrives is not what was sent."""

    changes = 0

    async def journal_page(self, run_id: str, *, after: int = 0, limit: int | None = None) -> JournalPage:
        page = await super().journal_page(run_id, after=after, limit=limit)
        for record in page.records:
            if record.seq == self.changes:
                record.payload = b'{"forged":true}'
        return page


async def test_a_key_that_may_not_see_workers_sees_none(capsys: pytest.CaptureFixture[str]) -> None:
    keys = KeyRing.fresh()
    token = keys.add("looker", ["runs:read"])
    async with served(keys=keys) as found, Client(found.service.url, token=token) as client:
        with pytest.raises(NotPermittedError):
            await client.workers()
        remote = RemoteStore(client)
        assert await remote.workers() == await remote.workers() == []
        assert remote.hides_workers
    assert capsys.readouterr().err.count("may be wrong") == 1


async def test_workers_and_questions_are_those_of_the_store() -> None:
    async with both() as (found, store, remote):
        run_id = await found.start("ask", text="Really?")
        await found.reaches(run_id, "waiting")
        [mine], [theirs] = await remote.workers(), await store.workers()
        assert (mine.worker_id, mine.alive, mine.workflows) == (theirs.worker_id, True, theirs.workflows)
        runtime = RemoteRuntime(remote.client)
        assert await runtime.questions() == await found.runtime.questions()
        assert await runtime.questions(run_id) == await found.runtime.questions(run_id)
        assert await runtime.questions("none") == []


async def test_following_a_run_is_heard_and_ends_with_it() -> None:
    async with both() as (found, _, remote):
        run_id = await found.start("listen")
        await found.reaches(run_id, "waiting")
        runtime = RemoteRuntime(remote.client)
        head = await remote.head(run_id)
        assert head is not None
        with runtime.hub.watch(run_id) as grown:
            async with runtime.following(run_id, after=head.seq) as stream:
                await runtime.signal("go", {"a": 1}, run_id=run_id)
                await grown.wait()
                await stream
        assert (await runtime.run(run_id).row()).status == "completed"
