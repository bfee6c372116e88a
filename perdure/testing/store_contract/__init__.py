"""The rules that every store keeps, as a suite that the author of a store runs against it.

    from perdure.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        async def make_store(self) -> Store:
            store = MyStore(boot_clock=self.clock)
            await store.open()
            return store

Each rule is a plain `test_…` method that runs in an event loop of its own; pytest needs no plugin for it.
"""

from perdure.testing.store_contract.appending import AppendingRules
from perdure.testing.store_contract.base import BootTime, Rules, draft
from perdure.testing.store_contract.indexing import IndexRules
from perdure.testing.store_contract.leases import LeaseRules
from perdure.testing.store_contract.ownership import OwnershipRules
from perdure.testing.store_contract.reading import ReadingRules

__all__ = ["BootTime", "Rules", "StoreContract", "draft"]


class StoreContract(AppendingRules, IndexRules, ReadingRules, OwnershipRules, LeaseRules):
    """All rules; see `Rules` for what a subclass provides."""
