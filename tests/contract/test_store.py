"""Every store keeps every rule of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.store.memory import MemoryStore
from perdure.store.port import Durability, Store
from perdure.store.sqlite import SQLiteStore
from perdure.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    async def make_store(self) -> Store:
        store = MemoryStore(boot_clock=self.clock)
        await store.open()
        return store


class TestSQLiteStore(StoreContract):
    durability: Durability = "process"
    path: Path

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.path = tmp_path / "new" / "runs.db"

    async def make_store(self) -> Store:
        store = SQLiteStore(self.path, durability=self.durability, boot_clock=self.clock)
        await store.open()
        return store


class TestSQLiteStoreWithFullDurability(TestSQLiteStore):
    durability = "full"
