"""Rules of reading: journals, the feed of all commits, artifacts, and the store's own life."""

from __future__ import annotations

from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError, StoreClosedError
from perdure.core.events import Head
from perdure.journal.chain import check
from perdure.store.port import ArtifactInfo, ArtifactRow, Store
from perdure.testing.store_contract.base import Rules, command, commit, creation, draft, raises, rule, start, written

HELLO = ArtifactRow("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", b"hello", "text/plain")
EMPTY = ArtifactRow("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", b"")


async def with_artifacts(store: Store, *artifacts: ArtifactRow) -> None:
    """Commit artifacts with a run of their own."""
    append = creation(f"run-of-{artifacts[0].sha256[:8]}")
    append.artifacts.extend(artifacts)
    await written(store, append)


class ReadingRules(Rules):
    """Reads."""

    @rule
    async def test_a_range_is_read_without_its_start_and_with_its_end(self, store: Store) -> None:
        """`after < seq <= until`, at most `limit`."""
        await start(store, "a", *(draft() for _ in range(9)))

        async def seqs(**where: int) -> list[int]:
            return [event.seq for event in await store.read("a", **where)]

        assert await seqs() == list(range(1, 11))
        assert await seqs(after=7) == [8, 9, 10]
        assert await seqs(after=2, until=4) == [3, 4]
        assert await seqs(until=3) == [1, 2, 3]
        assert await seqs(after=2, until=99, limit=2) == [3, 4]
        assert await seqs(after=10) == []
        assert await seqs(after=4, until=4) == []

    @rule
    async def test_an_unknown_run_has_no_events_and_no_head(self, store: Store) -> None:
        """It is not an error to look."""
        assert await store.read("a") == []
        assert await store.head("a") is None
        assert await store.get_run("a") is None

    @rule
    async def test_the_head_is_that_of_the_last_event(self, store: Store) -> None:
        """Seq and hash."""
        head = await start(store, "a")
        assert await store.head("a") == head
        head = await written(store, command("a", head, draft(), draft()))
        assert await store.head("a") == head == Head(3, head.hash)

    # --- the feed -----------------------------------------------------------------------------------------------------

    @rule
    async def test_the_feed_has_all_events_in_commit_order(self, store: Store) -> None:
        """Positions grow, each run's events are in order, nothing is left out."""
        a, b = await start(store, "a"), await start(store, "b")
        for _ in range(3):
            b = await written(store, command("b", b, draft(), draft()))
            a = await written(store, command("a", a))
        entries = await store.read_feed()
        positions = [entry.position for entry in entries]
        assert positions == sorted(set(positions))
        assert positions[-1] == await store.feed_position()
        assert [entry.event.run_id for entry in entries] == list("ab" + "bba" * 3)
        for run_id, head in (("a", a), ("b", b)):
            assert check(run_id, [entry.event for entry in entries if entry.event.run_id == run_id]) == head

    @rule
    async def test_the_feed_is_read_page_by_page(self, store: Store) -> None:
        """From any position on, without gap or repetition."""
        await start(store, "a", *(draft() for _ in range(9)))
        seen: list[int] = []
        position = 0
        while entries := await store.read_feed(after=position, limit=4):
            seen.extend(entry.event.seq for entry in entries)
            position = entries[-1].position
        assert seen == list(range(1, 11))

    @rule
    async def test_an_empty_feed_is_at_position_0(self, store: Store) -> None:
        """And nothing has changed."""
        assert await store.feed_position() == 0
        assert await store.read_feed() == []
        assert await store.changed_runs(after=0) == (0, {})

    @rule
    async def test_changed_runs_are_those_that_grew(self, store: Store) -> None:
        """Each once, with the position that covers them."""
        heads = {run_id: await start(store, run_id) for run_id in ("a", "b", "c")}
        position, changed = await store.changed_runs(after=0)
        assert (position, sorted(changed)) == (await store.feed_position(), ["a", "b", "c"])
        assert await store.changed_runs(after=position) == (position, {})
        heads["c"] = await written(store, command("c", heads["c"], draft(), draft()))
        await written(store, command("c", heads["c"]))
        await written(store, command("a", heads["a"]))
        newest, changed = await store.changed_runs(after=position)
        assert (newest, sorted(changed)) == (await store.feed_position(), ["a", "c"])

    # --- artifacts ----------------------------------------------------------------------------------------------------

    @rule
    async def test_artifacts_come_back_by_their_name(self, store: Store) -> None:
        """Bytes, size and media type."""
        await with_artifacts(store, HELLO, EMPTY)
        assert await store.get_artifact(HELLO.sha256) == b"hello"
        assert await store.get_artifact(EMPTY.sha256) == b""
        infos = await store.artifact_info([HELLO.sha256, "00" * 32, EMPTY.sha256])
        assert infos == [
            ArtifactInfo(HELLO.sha256, 5, "text/plain"),
            ArtifactInfo(EMPTY.sha256, 0, "application/json"),
        ]

    @rule
    async def test_an_artifact_is_kept_once(self, store: Store) -> None:
        """A second append that brings it is no error and changes nothing."""
        await with_artifacts(store, HELLO)
        append = creation("again")
        append.artifacts.extend([HELLO._replace(media_type="application/octet-stream"), HELLO])
        await written(store, append)
        assert await store.artifact_info([HELLO.sha256]) == [ArtifactInfo(HELLO.sha256, 5, "text/plain")]

    @rule
    async def test_a_missing_artifact_is_named(self, store: Store) -> None:
        """Also when its name is none."""
        error = await raises(ArtifactNotFoundError, store.get_artifact(HELLO.sha256))
        assert error.ids["artifact"] == HELLO.sha256
        await raises(ArtifactNotFoundError, store.get_artifact("no hash"))
        assert await store.artifact_info(["no hash", HELLO.sha256]) == []

    @rule
    async def test_an_artifact_that_is_not_what_its_name_says_is_corrupt(self, store: Store) -> None:
        """It is never given out."""
        await with_artifacts(store, HELLO._replace(data=b"hullo"))
        await raises(CorruptRecordError, store.get_artifact(HELLO.sha256))

    # --- the store's own life -----------------------------------------------------------------------------------------

    @rule
    async def test_a_store_keeps_everything_over_closing_and_opening(self, store: Store) -> None:
        """Journals, rows and artifacts; and the journal goes on where it was."""
        head = await start(store, "a", draft(), draft())
        await with_artifacts(store, HELLO)
        row, events = await store.get_run("a"), [event.header for event in await store.read("a")]
        store = await self.reopen(store)
        try:
            assert await store.get_run("a") == row
            assert [event.header for event in await store.read("a")] == events
            assert await store.get_artifact(HELLO.sha256) == b"hello"
            await written(store, command("a", head))
        finally:
            await store.close()

    @rule
    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """Every use of it; closing it again is nothing."""
        head = await start(store, "a")
        lease = await store.lease("w1", [])
        await store.close()
        await store.close()
        await raises(StoreClosedError, commit(store, command("a", head)))
        await raises(StoreClosedError, store.read("a"))
        await raises(StoreClosedError, store.get_run("a"))
        await raises(StoreClosedError, store.feed_position())
        await raises(StoreClosedError, store.claim(lease, [], 0))
        await raises(StoreClosedError, store.lease("w2", []))

    @rule
    async def test_opening_an_open_store_is_nothing(self, store: Store) -> None:
        """What is in it stays."""
        await start(store, "a")
        await store.open()
        assert await store.get_run("a") is not None

    @rule
    async def test_a_sound_store_has_nothing_wrong_with_it(self, store: Store) -> None:
        """And compacting it changes no content."""
        head = await start(store, "a", draft(), draft())
        assert await store.integrity() == []
        await store.compact()
        assert check("a", await store.read("a")) == head
        await written(store, command("a", head))
        assert await store.integrity() == []
