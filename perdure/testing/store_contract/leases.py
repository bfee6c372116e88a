"""Rules of leases: who counts as alive, and what becomes of the runs of who does not."""

from __future__ import annotations

from perdure.core.errors import FencedError, InvalidIdError, StoreClosedError, StoreError
from perdure.core.events import NEVER, IndexChange
from perdure.store.port import NewRun, Store
from perdure.testing.store_contract.base import (
    WORKFLOW,
    Rules,
    claim_one,
    command,
    draft,
    execution,
    raises,
    refused,
    rule,
    start,
    written,
)


class LeaseRules(Rules):
    """Leases."""

    @rule
    async def test_a_lease_ends_unless_it_is_renewed(self, store: Store) -> None:
        """By the store's clock."""
        lease = await store.lease("w1", [], length_s=10.0)
        assert lease.worker_id == "w1"
        assert lease.valid()
        assert 9.0 < lease.remaining_s() <= 10.0
        await self.pass_time(8000)
        lease.renew()
        await self.pass_time(8000)
        assert lease.valid()
        assert 1.0 < lease.remaining_s() <= 2.0
        await self.pass_time(3000)
        assert not lease.valid()
        assert lease.remaining_s() < 0

    @rule
    async def test_workers_are_listed_with_what_they_have_loaded(self, store: Store) -> None:
        """And with whether they live."""
        first = await store.lease("w1", [WORKFLOW, "other"])
        await store.lease("w2", [])
        first.drain()
        one, two = sorted(await store.workers(), key=lambda worker: worker.worker_id)
        assert (one.worker_id, one.workflows, one.draining, one.alive) == ("w1", (WORKFLOW, "other"), True, True)
        assert (two.worker_id, two.workflows, two.draining, two.alive) == ("w2", (), False, True)
        assert one.pid > 0
        assert one.host
        assert one.boot_id
        await self.pass_time(60_000)
        assert not any(worker.alive for worker in await store.workers())

    @rule
    async def test_a_worker_id_is_used_once(self, store: Store) -> None:
        """By live workers, and by who still has to be cleared up after; and it fits the grammar of ids."""
        lease = await store.lease("w1", [])
        await raises(StoreError, store.lease("w1", []))
        await start(store, "a")
        await claim_one(store, lease, "a")
        self.kill(lease)
        await raises(StoreError, store.lease("w1", []))
        await raises(InvalidIdError, store.lease("../w1", []))

    @rule
    async def test_the_runs_of_a_dead_worker_are_free_at_once(self, store: Store) -> None:
        """Nobody waits for its lease to end; the claim says whose they were."""
        await start(store, "a")
        dead, heir = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        await claim_one(store, dead, "a")
        assert await store.claim(heir, [WORKFLOW], 0) == []
        self.kill(dead)
        assert not dead.valid()
        (claimed,) = await store.claim(heir, [WORKFLOW], 0)
        assert (claimed.row.owner, claimed.row.epoch) == ("w2", 2)
        assert (claimed.orphaned, claimed.drained, claimed.prior_worker) == (True, False, "w1")
        assert claimed.lease_lost_ms == 0

    @rule
    async def test_an_orphan_is_claimed_when_it_is_due(self, store: Store) -> None:
        """Not before, and only for its workflow."""
        await start(store, "a", new=NewRun(WORKFLOW, "1", 1, due_ms=500))
        await start(store, "b", new=NewRun("other", "1", 1))
        dead, heir = await store.lease("w1", []), await store.lease("w2", [])
        await claim_one(store, dead, "a")
        await claim_one(store, dead, "b")
        self.kill(dead)
        assert await store.claim(heir, [WORKFLOW], 499) == []
        (claimed,) = await store.claim(heir, [WORKFLOW], 500)
        assert claimed.row.run_id == "a"

    @rule
    async def test_what_dies_after_a_drain_is_marked(self, store: Store) -> None:
        """Its death counts against no run."""
        await start(store, "a")
        dead, heir = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        await claim_one(store, dead, "a")
        dead.drain()
        assert await store.claim(heir, [WORKFLOW], 0) == []
        self.kill(dead)
        (claimed,) = await store.claim(heir, [WORKFLOW], 0)
        assert (claimed.orphaned, claimed.drained) == (True, True)

    @rule
    async def test_a_worker_whose_lease_has_ended_loses_its_runs(self, store: Store) -> None:
        """It may live and not know: its epoch is fenced."""
        head = await start(store, "a")
        slow, heir = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        old = await claim_one(store, slow, "a")
        await self.pass_time(9000)
        heir.renew()
        assert await store.claim(heir, [WORKFLOW], 0) == []
        await self.pass_time(1000)
        (claimed,) = await store.claim(heir, [WORKFLOW], 0)
        assert (claimed.orphaned, claimed.prior_worker, claimed.lease_lost_ms) == (True, "w1", 0)
        slow.renew()
        await refused(store, execution(old, head), FencedError)
        await written(store, execution(claimed, head))

    @rule
    async def test_a_renewed_lease_keeps_its_runs(self, store: Store) -> None:
        """And does not claim what it owns again, even when it had ended in between."""
        await start(store, "a")
        slow = await store.lease("w1", [WORKFLOW])
        claimed = await claim_one(store, slow, "a")
        await self.pass_time(20_000)
        assert await store.claim(slow, [WORKFLOW], 0) == []
        slow.renew()
        head = await store.head("a")
        assert head is not None
        await written(store, execution(claimed, head))

    @rule
    async def test_a_lease_that_is_given_back_frees_its_runs(self, store: Store) -> None:
        """They are no orphans, the worker is forgotten, and the lease is of no use any more."""
        head = await start(store, "a")
        leaving, heir = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        old = await claim_one(store, leaving, "a")
        leaving.close()
        leaving.close()
        assert not leaving.valid()
        assert leaving.remaining_s() < 0
        assert [worker.worker_id for worker in await store.workers()] == ["w2"]
        await refused(store, execution(old, head), FencedError)
        (claimed,) = await store.claim(heir, [WORKFLOW], 0)
        assert (claimed.row.epoch, claimed.orphaned, claimed.prior_worker) == (2, False, None)
        for use in (leaving.renew, leaving.drain):
            try:
                use()
            except StoreClosedError:
                continue
            raise AssertionError("a closed lease was used")

    @rule
    async def test_dead_workers_that_own_nothing_are_forgotten(self, store: Store) -> None:
        """When another registers or claims; one that still owns runs is kept until they are taken over."""
        await start(store, "a")
        idle, busy = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        await claim_one(store, busy, "a")
        self.kill(idle)
        self.kill(busy)
        heir = await store.lease("w3", [WORKFLOW])
        assert sorted(worker.worker_id for worker in await store.workers()) == ["w2", "w3"]
        await store.claim(heir, [WORKFLOW], 0)
        await store.lease("w4", [])
        assert sorted(worker.worker_id for worker in await store.workers()) == ["w3", "w4"]

    @rule
    async def test_a_run_of_an_owner_that_nobody_knows_is_free(self, store: Store) -> None:
        """Whoever created it in its name never had a lease, or is forgotten."""
        await start(store, "a", new=NewRun(WORKFLOW, "1", 1, owner="nobody"))
        heir = await store.lease("w1", [WORKFLOW])
        (claimed,) = await store.claim(heir, [WORKFLOW], 0)
        assert (claimed.row.epoch, claimed.orphaned, claimed.prior_worker) == (2, True, "nobody")
        assert claimed.lease_lost_ms == 0

    @rule
    async def test_a_woken_orphan_is_due(self, store: Store) -> None:
        """A wake that came while it was owned survives its owner."""
        head = await start(store, "parent")
        dead, heir = await store.lease("w1", [WORKFLOW]), await store.lease("w2", [WORKFLOW])
        claimed = await claim_one(store, dead, "parent")
        await start(store, "child", draft(change=IndexChange(wake="parent")), new=NewRun("other", "1", 1))
        waiting = IndexChange(status="waiting", due_ms=NEVER)
        await written(store, execution(claimed, head, draft(change=waiting)))
        self.kill(dead)
        (orphan,) = await store.claim(heir, [WORKFLOW], 0)
        assert orphan.row.run_id == "parent"
        assert orphan.orphaned

    @rule
    async def test_a_command_can_make_an_owned_run_due(self, store: Store) -> None:
        """Its due time is the journal's business, whoever owns it."""
        head = await start(store, "a", new=NewRun(WORKFLOW, "1", 1, due_ms=NEVER))
        lease = await store.lease("w1", [WORKFLOW])
        await claim_one(store, lease, "a")
        await written(store, command("a", head, draft(change=IndexChange(due_ms=0))))
        await store.release(lease, ["a"])
        assert len(await store.claim(lease, [WORKFLOW], 0)) == 1
