"""Which store a command works on, and how it is opened: for reading only, or to bring commands to runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.core.errors import StoreNotFoundError, StoreReadOnlyError

if TYPE_CHECKING:
    from perdure.engine.runtime import Runtime
    from perdure.store.port import Durability, Store

STORE_VARIABLE: Final = "PERDURE_STORE"


@dataclass(frozen=True, slots=True)
class Place:
    """A store as the command line was told of it.

    Args:
        url: of the store.
        named: it was given by `--store`, so that commands that are shown to people must name it too.
    """

    url: str
    named: bool = False

    @classmethod
    def of(cls, option: str | None) -> Place:
        """What `--store` says, else the environment, else the file in the folder `.perdure`."""
        if option is not None:
            return cls(option, named=True)
        from perdure.store.url import DEFAULT_URL

        return cls(os.environ.get(STORE_VARIABLE) or DEFAULT_URL)

    def command(self, verb: str, *words: str) -> str:
        """A command of this program as a person would type it, on this store."""
        return shlex.join(["perdure", verb, *(("--store", self.url) if self.named else ()), *words])

    def store(self, *, durability: Durability = "full", must_exist: bool = True, read_only: bool = False) -> Store:
        """The store, not opened yet.

        Args:
            read_only: to look at, also where nothing can be written.

        Raises:
            StoreUrlError: the URL is not understood.
            StoreNotFoundError: there is none, and it must exist.
        """
        from perdure.store.url import open_store

        store = open_store(self.url, durability=durability, read_only=read_only)
        path = self.file(store)
        if must_exist and path is not None and not _has_content(path):
            raise StoreNotFoundError(f"there is no store at {path}", path=path)
        return store

    @staticmethod
    def file(store: Store) -> str | None:
        """The file of a store that is one."""
        from perdure.store.sqlite import SQLiteStore

        return store.path if isinstance(store, SQLiteStore) else None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Runtime]:
        """A runtime that can only be asked: it has no lease, and nothing is written.

        Raises:
            StoreError: there is no store, or it cannot be read.
        """
        from perdure.engine.runtime import Runtime

        store = self.store()
        try:
            await store.open()
        except StoreReadOnlyError:
            store = self.store(read_only=True)
            await store.open()
        try:
            yield Runtime(store, execute=False)
        finally:
            await store.close()

    @asynccontextmanager
    async def commanding(self) -> AsyncIterator[Runtime]:
        """A runtime that brings commands to runs and executes none.

        Raises:
            StoreError: there is no store, or it cannot be written.
        """
        from perdure.engine.runtime import Runtime

        async with Runtime(self.store(), execute=False) as runtime:
            yield runtime


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False
