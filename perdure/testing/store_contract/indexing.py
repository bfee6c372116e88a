"""Rules of the index: rows that follow the events, in the same transaction."""

from __future__ import annotations

from perdure.core.events import NEVER, IndexChange, WaitRow
from perdure.store.port import NewRun, OpenWait, RunFilter, RunRow, Status, Store
from perdure.testing.store_contract.base import (
    WORKFLOW,
    Rules,
    claim_one,
    command,
    commit,
    creation,
    draft,
    execution,
    rule,
    start,
    written,
)

QUESTION = WaitRow("q", "question", "question", None, 9000)
SIGNAL = WaitRow("s", "signal", "paid", "order-7", None)
ANY_SIGNAL = WaitRow("t", "signal", "paid", None, None)


async def row_of(store: Store, run_id: str) -> RunRow:
    """The index row of a run that exists."""
    row = await store.get_run(run_id)
    assert row is not None
    return row


class IndexRules(Rules):
    """Index rows."""

    @rule
    async def test_a_change_sets_what_it_names(self, store: Store) -> None:
        """Status, reason, due time and base come with the event, and the row's time is the event's."""
        head = await start(store, "a")
        change = IndexChange(status="paused", reason="drift", due_ms=NEVER, base_seq=2)
        await written(store, command("a", head, draft(time_ms=5000, change=change)))
        row = await row_of(store, "a")
        assert (row.status, row.reason, row.due_ms, row.base_seq) == ("paused", "drift", NEVER, 2)
        assert row.updated_ms == 5000

    @rule
    async def test_a_change_leaves_what_it_does_not_name(self, store: Store) -> None:
        """`None` keeps a field, the empty reason clears it."""
        head = await start(store, "a")
        change = IndexChange(status="paused", reason="drift", due_ms=77, base_seq=2)
        head = await written(store, command("a", head, draft(change=change)))
        head = await written(store, command("a", head, draft(change=IndexChange(status="running"))))
        row = await row_of(store, "a")
        assert (row.status, row.reason, row.due_ms, row.base_seq) == ("running", "drift", 77, 2)
        await written(store, command("a", head, draft(change=IndexChange(reason=""))))
        assert (await row_of(store, "a")).reason == ""

    @rule
    async def test_events_without_a_change_leave_the_row_alone(self, store: Store) -> None:
        """The row is about finding runs, not about their length."""
        head = await start(store, "a")
        before = await row_of(store, "a")
        await written(store, command("a", head, draft(time_ms=9999)))
        assert await row_of(store, "a") == before

    @rule
    async def test_changes_of_one_append_add_up(self, store: Store) -> None:
        """A later one wins; the append's own comes last; the time is the last event's."""
        head = await start(store, "a")
        append = command(
            "a",
            head,
            draft(time_ms=1, change=IndexChange(status="running", due_ms=5, reason="one")),
            draft(time_ms=2, change=IndexChange(status="waiting", due_ms=6)),
            draft(time_ms=3),
            change=IndexChange(due_ms=7),
        )
        await written(store, append)
        row = await row_of(store, "a")
        assert (row.status, row.reason, row.due_ms, row.updated_ms) == ("waiting", "one", 7, 3)

    @rule
    async def test_a_change_may_come_with_the_creation(self, store: Store) -> None:
        """A new run can start as something else than pending."""
        await start(store, "a", draft(change=IndexChange(status="running")))
        assert (await row_of(store, "a")).status == "running"

    @rule
    async def test_a_release_lets_go_of_the_run(self, store: Store) -> None:
        """The owner goes, the epoch stays."""
        head = await start(store, "a")
        claimed = await claim_one(store, await store.lease("w1", [WORKFLOW]), "a")
        await written(store, execution(claimed, head, draft(change=IndexChange(due_ms=5, release=True))))
        row = await row_of(store, "a")
        assert (row.owner, row.epoch, row.due_ms) == (None, 1, 5)

    # --- waits --------------------------------------------------------------------------------------------------------

    @rule
    async def test_waits_open_and_close(self, store: Store) -> None:
        """One by one, or all."""
        opened = IndexChange(opened=(QUESTION, SIGNAL, ANY_SIGNAL))
        head = await start(store, "a", draft(change=opened))
        assert await store.open_waits() == [OpenWait("a", WORKFLOW, wait) for wait in (QUESTION, SIGNAL, ANY_SIGNAL)]
        head = await written(store, command("a", head, draft(change=IndexChange(closed=("s", "unknown")))))
        assert [found.wait.wait_id for found in await store.open_waits()] == ["q", "t"]
        await written(store, command("a", head, draft(change=IndexChange(closed=("*",)))))
        assert await store.open_waits() == []

    @rule
    async def test_closing_all_waits_concerns_one_run(self, store: Store) -> None:
        """Two runs may have waits of one id."""
        head = await start(store, "a", draft(change=IndexChange(opened=(QUESTION,))))
        await start(store, "b", draft(change=IndexChange(opened=(QUESTION,))))
        await written(store, command("a", head, draft(change=IndexChange(closed=("*",)))))
        assert [found.run_id for found in await store.open_waits()] == ["b"]

    @rule
    async def test_a_wait_that_opens_and_closes_in_one_append_is_closed(self, store: Store) -> None:
        """Events are applied in order, and a wait may be opened anew."""
        await start(
            store,
            "a",
            draft(change=IndexChange(opened=(QUESTION, SIGNAL))),
            draft(change=IndexChange(closed=("q",))),
        )
        assert [found.wait.wait_id for found in await store.open_waits()] == ["s"]
        await start(
            store,
            "b",
            draft(change=IndexChange(opened=(QUESTION,))),
            draft(change=IndexChange(closed=("*",))),
            draft(change=IndexChange(opened=(QUESTION._replace(deadline_ms=1),))),
        )
        (found,) = await store.open_waits(run_id="b")
        assert found.wait == QUESTION._replace(deadline_ms=1)

    @rule
    async def test_waits_are_found_by_what_they_wait_for(self, store: Store) -> None:
        """Kind, name, run; a key finds waits with it and waits that take any."""
        await start(store, "a", draft(change=IndexChange(opened=(QUESTION, SIGNAL, ANY_SIGNAL))))
        other = SIGNAL._replace(key="order-8")
        await start(store, "b", draft(change=IndexChange(opened=(other,))), new=NewRun("other", "1", 1))

        async def ids(**where: str) -> list[tuple[str, str]]:
            return [(found.run_id, found.wait.wait_id) for found in await store.open_waits(**where)]  # type: ignore[arg-type]

        assert await ids(kind="question") == [("a", "q")]
        assert await ids(kind="signal", name="paid") == [("a", "s"), ("a", "t"), ("b", "s")]
        assert await ids(kind="signal", name="shipped") == []
        assert await ids(kind="signal", name="paid", key="order-7") == [("a", "s"), ("a", "t")]
        assert await ids(run_id="b") == [("b", "s")]
        assert await ids(run_id="unknown") == []
        assert [found.workflow for found in await store.open_waits(run_id="b")] == ["other"]

    @rule
    async def test_waits_are_listed_oldest_first(self, store: Store) -> None:
        """By when they opened, whatever their run; the limit cuts the newest off."""
        heads = {run_id: await start(store, run_id) for run_id in ("b", "a", "c")}
        for run_id in ("c", "a", "b"):
            await written(store, command(run_id, heads[run_id], draft(change=IndexChange(opened=(QUESTION,)))))
        assert [found.run_id for found in await store.open_waits()] == ["c", "a", "b"]
        assert [found.run_id for found in await store.open_waits(limit=2)] == ["c", "a"]

    # --- wakes --------------------------------------------------------------------------------------------------------

    @rule
    async def test_a_wake_makes_another_run_due(self, store: Store) -> None:
        """In the transaction of the child's event; a run that does not exist is no error."""
        await start(store, "parent", draft(change=IndexChange(status="waiting", due_ms=NEVER)))
        head = await start(store, "child")
        await written(store, command("child", head, draft(change=IndexChange(status="completed", wake="parent"))))
        assert (await row_of(store, "parent")).due_ms == 0
        assert (await row_of(store, "child")).due_ms == 0
        await start(store, "orphan", draft(change=IndexChange(wake="unknown")))

    @rule
    async def test_a_wake_leaves_runs_alone_that_have_ended_or_are_paused(self, store: Store) -> None:
        """They go on only when somebody says so."""
        for status in ("completed", "failed", "cancelled", "paused"):
            await start(store, status, draft(change=IndexChange(status=status, due_ms=NEVER)))
            await start(store, f"child-{status}", draft(change=IndexChange(wake=status)))
            assert (await row_of(store, status)).due_ms == NEVER

    @rule
    async def test_a_wake_is_not_lost_on_a_run_that_is_owned(self, store: Store) -> None:
        """The owner may be about to suspend without having seen it: then the run is due at once."""
        head = await start(store, "parent")
        lease = await store.lease("w1", [WORKFLOW])
        claimed = await claim_one(store, lease, "parent")
        await start(store, "child", draft(change=IndexChange(wake="parent")))
        waiting = IndexChange(status="waiting", due_ms=NEVER)
        head = await written(store, execution(claimed, head, draft(change=waiting)))
        await store.release(lease, ["parent"])
        assert (await row_of(store, "parent")).due_ms == 0
        (claimed,) = await store.claim(lease, [WORKFLOW], 0, limit=1)
        assert claimed.row.run_id == "parent"
        await written(store, execution(claimed, head, draft(change=waiting._replace(release=True))))
        assert (await row_of(store, "parent")).due_ms == NEVER

    @rule
    async def test_a_wake_does_not_undo_an_ending(self, store: Store) -> None:
        """A run that was woken while it was owned, and ends, stays ended."""
        head = await start(store, "parent")
        claimed = await claim_one(store, await store.lease("w1", [WORKFLOW]), "parent")
        await start(store, "child", draft(change=IndexChange(wake="parent")))
        ended = IndexChange(status="completed", due_ms=NEVER, release=True)
        await written(store, execution(claimed, head, draft(change=ended)))
        assert (await row_of(store, "parent")).due_ms == NEVER

    # --- lists --------------------------------------------------------------------------------------------------------

    @rule
    async def test_runs_are_listed_newest_first(self, store: Store) -> None:
        """By creation, then by id; page after page without gap or repetition."""
        order = [("e", 30), ("c", 20), ("b", 20), ("a", 20), ("d", 10)]
        await commit(store, *(creation(run_id, new=NewRun(WORKFLOW, "1", at)) for run_id, at in sorted(order)))
        assert [row.run_id for row in await store.list_runs(RunFilter())] == ["e", "c", "b", "a", "d"]
        seen: list[str] = []
        page = await store.list_runs(RunFilter(limit=2))
        while page:
            seen.extend(row.run_id for row in page)
            last = page[-1]
            page = await store.list_runs(RunFilter(limit=2, before=(last.created_ms, last.run_id)))
        assert seen == ["e", "c", "b", "a", "d"]

    @rule
    async def test_runs_are_found_by_every_filter(self, store: Store) -> None:
        """All given conditions must hold."""
        await _some_runs(store)

        async def ids(where: RunFilter) -> list[str]:
            return [row.run_id for row in await store.list_runs(where)]

        assert await ids(RunFilter(statuses=("failed",))) == ["run-3"]
        assert await ids(RunFilter(statuses=("failed", "pending"))) == ["run-4", "run-3", "run-1"]
        assert await ids(RunFilter(workflow="other")) == ["run-4", "run-2"]
        assert await ids(RunFilter(tags=("red",))) == ["run-3", "run-2"]
        assert await ids(RunFilter(tags=("red", "big"))) == ["run-3"]
        assert await ids(RunFilter(tags=("re",))) == []
        assert await ids(RunFilter(parent_id="run-1")) == ["run-4"]
        assert await ids(RunFilter(created_after_ms=2000, created_before_ms=4000)) == ["run-3", "run-2"]
        assert await ids(RunFilter(id_prefix="run-")) == ["run-4", "run-3", "run-2", "run-1"]
        assert await ids(RunFilter(id_prefix="un")) == []
        assert await ids(RunFilter(id_prefix="run_")) == []
        assert await ids(RunFilter(workflow="other", tags=("red",), statuses=("completed",))) == ["run-2"]
        assert await ids(RunFilter(workflow="other", tags=("red",), statuses=("failed",))) == []
        assert await ids(RunFilter(limit=0)) == []

    @rule
    async def test_runs_are_counted_by_status(self, store: Store) -> None:
        """Only statuses that occur are named."""
        assert await store.count_runs() == {}
        await _some_runs(store)
        assert await store.count_runs() == {"pending": 2, "completed": 1, "failed": 1}

    @rule
    async def test_a_row_that_was_read_is_a_copy(self, store: Store) -> None:
        """Changing it changes nothing in the store."""
        await start(store, "a")
        (await row_of(store, "a")).status = "failed"
        (await store.list_runs(RunFilter()))[0].status = "failed"
        assert (await row_of(store, "a")).status == "pending"


async def _some_runs(store: Store) -> None:
    news = [
        NewRun(WORKFLOW, "1", 1000),
        NewRun("other", "1", 2000, tags=("red",)),
        NewRun(WORKFLOW, "1", 3000, tags=("big", "red")),
        NewRun("other", "1", 4000, parent_id="run-1"),
    ]
    endings: dict[int, Status] = {2: "completed", 3: "failed"}
    for number, new in enumerate(news, 1):
        status = endings.get(number)
        await start(store, f"run-{number}", draft(change=IndexChange(status=status)), new=new)
