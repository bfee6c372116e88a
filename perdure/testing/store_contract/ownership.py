"""Rules of ownership: who may execute which run."""

from __future__ import annotations

from perdure.core.errors import FencedError, RunNotFoundError
from perdure.core.events import NEVER, IndexChange
from perdure.store.port import Claimed, NewRun, Store
from perdure.testing.store_contract.base import (
    WORKFLOW,
    Rules,
    claim_one,
    command,
    commit,
    creation,
    draft,
    execution,
    raises,
    refused,
    rule,
    start,
    written,
)


def ids(claims: list[Claimed]) -> list[str]:
    """The runs that were claimed."""
    return [claimed.row.run_id for claimed in claims]


class OwnershipRules(Rules):
    """Claims and releases."""

    @rule
    async def test_due_runs_are_claimed_oldest_first(self, store: Store) -> None:
        """By their due time; what is not due yet stays."""
        for run_id, due_ms in (("a", 300), ("b", 100), ("c", 200), ("d", 301)):
            await start(store, run_id, new=NewRun(WORKFLOW, "1", 1, due_ms=due_ms))
        lease = await store.lease("w1", [WORKFLOW])
        claims = await store.claim(lease, [WORKFLOW], 300)
        assert ids(claims) == ["b", "c", "a"]
        for claimed in claims:
            assert (claimed.row.owner, claimed.row.epoch) == ("w1", 1)
            assert await store.get_run(claimed.row.run_id) == claimed.row
            assert (claimed.orphaned, claimed.drained, claimed.prior_worker, claimed.lease_lost_ms) == (
                False,
                False,
                None,
                0,
            )

    @rule
    async def test_a_claim_takes_no_more_than_it_asks_for(self, store: Store) -> None:
        """The rest is for the next claim, of whichever workflow."""
        for run_id, due_ms in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
            name = WORKFLOW if run_id in "ac" else "other"
            await start(store, run_id, new=NewRun(name, "1", 1, due_ms=due_ms))
        lease = await store.lease("w1", [WORKFLOW, "other"])
        assert ids(await store.claim(lease, [WORKFLOW, "other"], 9, limit=3)) == ["a", "b", "c"]
        assert ids(await store.claim(lease, [WORKFLOW, "other"], 9, limit=3)) == ["d"]

    @rule
    async def test_only_runs_of_loaded_workflows_are_claimed(self, store: Store) -> None:
        """Others stay as they are."""
        await start(store, "a")
        await start(store, "b", new=NewRun("other", "1", 1))
        lease = await store.lease("w1", ["other"])
        assert ids(await store.claim(lease, ["other", "third"], 0)) == ["b"]
        assert await store.claim(lease, [], 0) == []
        row = await store.get_run("a")
        assert row is not None
        assert (row.owner, row.epoch) == (None, 0)

    @rule
    async def test_a_run_is_claimed_once(self, store: Store) -> None:
        """While its owner lives, neither another worker nor the same one gets it again."""
        await start(store, "a")
        first, second = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        assert ids(await store.claim(first, [WORKFLOW], 0)) == ["a"]
        assert await store.claim(second, [WORKFLOW], 0) == []
        assert await store.claim(first, [WORKFLOW], 0) == []
        assert await store.claim_run(second, "a") is None

    @rule
    async def test_a_run_whose_caller_owns_the_loop_is_never_claimed_by_search(self, store: Store) -> None:
        """Only by name; not even when its owner died."""
        await start(store, "a", new=NewRun(WORKFLOW, "1", 1, caller_owned=True))
        first, second = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        assert await store.claim(first, [WORKFLOW], NEVER - 1) == []
        assert await store.next_due_ms([WORKFLOW]) is None
        assert (await claim_one(store, first, "a")).row.epoch == 1
        self.kill(first)
        assert await store.claim(second, [WORKFLOW], NEVER - 1) == []
        claimed = await claim_one(store, second, "a")
        assert (claimed.row.epoch, claimed.orphaned, claimed.prior_worker) == (2, True, "w1")

    @rule
    async def test_one_run_is_claimed_whatever_its_due_time(self, store: Store) -> None:
        """Also when it ended; a run that does not exist is an error."""
        lease = await store.lease("w1", [])
        await start(store, "a", new=NewRun("other", "1", 1, due_ms=NEVER))
        await start(store, "b", draft(change=IndexChange(status="failed", due_ms=NEVER)))
        assert (await claim_one(store, lease, "a")).row.epoch == 1
        assert (await claim_one(store, lease, "b")).row.status == "failed"
        await raises(RunNotFoundError, store.claim_run(lease, "unknown"))

    @rule
    async def test_claiming_ones_own_run_again_starts_a_new_epoch(self, store: Store) -> None:
        """What the earlier execution still sends is fenced; nobody was orphaned."""
        head = await start(store, "a")
        lease = await store.lease("w1", [WORKFLOW])
        first = await claim_one(store, lease, "a")
        again = await claim_one(store, lease, "a")
        assert (again.row.epoch, again.orphaned, again.prior_worker) == (2, False, None)
        await refused(store, execution(first, head), FencedError)
        await written(store, execution(again, head))

    @rule
    async def test_a_run_can_be_stolen_from_a_live_worker(self, store: Store) -> None:
        """It is no orphan, and the claim says how long the other may still believe in its lease."""
        await start(store, "a")
        first, second = await store.lease("w1", [], length_s=10.0), await store.lease("w2", [])
        await claim_one(store, first, "a")
        await self.pass_time(4000)
        stolen = await claim_one(store, second, "a", steal=True)
        assert (stolen.row.epoch, stolen.orphaned, stolen.prior_worker) == (2, False, "w1")
        assert 0 < stolen.lease_lost_ms <= 6000

    @rule
    async def test_released_runs_are_free(self, store: Store) -> None:
        """Only one's own; what the other worker owns stays."""
        for run_id in ("a", "b", "c"):
            await start(store, run_id)
        first, second = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        await claim_one(store, first, "a")
        await claim_one(store, first, "b")
        await claim_one(store, second, "c")
        await store.release(first, ["a", "c", "unknown"])
        owners = {run_id: getattr(await store.get_run(run_id), "owner", "?") for run_id in ("a", "b", "c")}
        assert owners == {"a": None, "b": "w1", "c": "w2"}
        (claimed,) = await store.claim(second, [WORKFLOW], 0)
        assert (claimed.row.run_id, claimed.row.epoch, claimed.orphaned) == ("a", 2, False)

    @rule
    async def test_ownership_leaves_no_trace_in_the_journal(self, store: Store) -> None:
        """Claims and releases are not events."""
        head = await start(store, "a")
        lease = await store.lease("w1", [WORKFLOW])
        await claim_one(store, lease, "a")
        await store.release(lease, ["a"])
        assert await store.head("a") == head
        assert await store.feed_position() == 1

    @rule
    async def test_a_thousand_runs_are_claimed_at_once(self, store: Store) -> None:
        """Each of them exactly once."""
        await commit(store, *(creation(f"r{number}") for number in range(1000)))
        first, second = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        claims = await store.claim(first, [WORKFLOW], 0, limit=600) + await store.claim(
            second, [WORKFLOW], 0, limit=600
        )
        assert sorted(ids(claims)) == sorted(f"r{number}" for number in range(1000))

    # --- the next due run ---------------------------------------------------------------------------------------------

    @rule
    async def test_the_next_due_time_is_that_of_the_earliest_free_run(self, store: Store) -> None:
        """Of these workflows; owned runs and those that are never due do not count."""
        assert await store.next_due_ms([WORKFLOW]) is None
        await start(store, "a", new=NewRun(WORKFLOW, "1", 1, due_ms=500))
        await start(store, "b", new=NewRun(WORKFLOW, "1", 1, due_ms=400))
        await start(store, "c", new=NewRun("other", "1", 1, due_ms=300))
        await start(store, "d", new=NewRun(WORKFLOW, "1", 1, due_ms=NEVER))
        assert await store.next_due_ms([WORKFLOW]) == 400
        assert await store.next_due_ms([WORKFLOW, "other"]) == 300
        assert await store.next_due_ms([]) is None
        await claim_one(store, await store.lease("w1", [WORKFLOW]), "b")
        assert await store.next_due_ms([WORKFLOW]) == 500
        head = await store.head("a")
        assert head is not None
        await written(store, command("a", head, draft(change=IndexChange(due_ms=NEVER))))
        assert await store.next_due_ms([WORKFLOW]) is None

    @rule
    async def test_orphans_count_as_due(self, store: Store) -> None:
        """As soon as their owner is gone."""
        await start(store, "a", new=NewRun(WORKFLOW, "1", 1, due_ms=500))
        lease = await store.lease("w1", [WORKFLOW])
        await claim_one(store, lease, "a")
        assert await store.next_due_ms([WORKFLOW]) is None
        self.kill(lease)
        assert await store.next_due_ms([WORKFLOW]) == 500
        assert await store.next_due_ms(["other"]) is None
