"""Where the runs of a command are: in a store, which is opened for reading only or to bring commands to runs; or behind
a service, which is asked for the same."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perdure.core.errors import InputError, StoreNotFoundError, StoreReadOnlyError

if TYPE_CHECKING:
    from perdure.cli.remote.server import Server
    from perdure.engine.runtime import Runtime
    from perdure.store.port import Durability, Store

STORE_VARIABLE: Final = "PERDURE_STORE"
SERVER_VARIABLE: Final = "PERDURE_SERVER"


@dataclass(frozen=True, slots=True)
class Place:
    """A store, or a service before one, as the command line was told of it.

    Args:
        url: of the store, or of the service.
        named: it was given by `--store` or `--server`, so that commands that are shown to people must name it too.
        server: the service; `None` for a store.
    """

    url: str
    named: bool = False
    server: Server | None = None

    @classmethod
    def of(cls, store: str | None, server: str | None = None, token_file: str | None = None) -> Place:
        """What `--server` or `--store` says, else the environment, else the file in the folder `.perdure`.

        Raises:
            InputError: both are given; or the service's address or token cannot be used.
        """
        if server is not None and store is not None:
            raise InputError("--server and --store are given", hint="the service has a store of its own", field="store")
        if token_file is not None and store is not None:
            raise InputError("--token-file goes with --server, not with --store", field="token-file")
        if store is not None:
            return cls(store, named=True)
        address = server or os.environ.get(SERVER_VARIABLE)
        if address:
            from perdure.cli.remote.server import Server

            found = Server.of(address, token_file)
            return cls(found.url, named=server is not None, server=found)
        if token_file is not None:
            raise InputError("--token-file goes with --server", field="token-file")
        return cls.of_store(None)

    @classmethod
    def of_store(cls, option: str | None) -> Place:
        """A store, for commands that need the store itself: what `--store` says, else the environment, else the file
        in the folder `.perdure`."""
        if option is not None:
            return cls(option, named=True)
        from perdure.store.url import DEFAULT_URL

        return cls(os.environ.get(STORE_VARIABLE) or DEFAULT_URL)

    def command(self, verb: str, *words: str) -> str:
        """A command of this program as a person would type it, on this store or service."""
        where = ["--store" if self.server is None else "--server", self.url] if self.named else []
        if self.server is not None and self.server.token_file is not None:
            where += ["--token-file", self.server.token_file]
        return shlex.join(["perdure", verb, *where, *words])

    def executing(self, file: str, run_id: str | None = None) -> list[str]:
        """Commands that execute a run, or whatever is due. There are none over HTTP: that is the affair of whoever runs
        the service.

        Args:
            file: of the workflow.
            run_id: the run.
        """
        if self.server is not None:
            return []
        one = [self.command("run", file, "--id", run_id)] if run_id is not None else []
        return [*one, self.command("worker", file)]

    def store(self, *, durability: Durability = "full", must_exist: bool = True, read_only: bool = False) -> Store:
        """The store, not opened yet; of a service what can be read of its store.

        Args:
            read_only: to look at, also where nothing can be written.

        Raises:
            StoreUrlError: the URL is not understood.
            StoreNotFoundError: there is none, and it must exist.
        """
        if self.server is not None:
            from perdure.cli.remote.store import RemoteStore

            return RemoteStore(self.server.client())
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
            ServiceError: the service cannot be asked.
        """
        if self.server is not None:
            async with self.server.runtime() as remote:
                yield remote
            return
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
            ServiceError: the service cannot be asked.
        """
        if self.server is not None:
            async with self.server.runtime() as remote:
                yield remote
            return
        from perdure.engine.runtime import Runtime

        async with Runtime(self.store(), execute=False) as runtime:
            yield runtime


def _has_content(path: str) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False
