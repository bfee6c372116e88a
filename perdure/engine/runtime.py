"""`Runtime`: the engine of one process over one store. Starts runs, executes them, and brings commands to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from perdure.engine.activity import Activity, under_way
from perdure.engine.execution import Execution
from perdure.engine.hub import Hub
from perdure.engine.live import Live
from perdure.engine.observing import Observer
from perdure.engine.ports import Clock, Randomness, SystemClock, SystemRandomness
from perdure.engine.provenance import provenance
from perdure.engine.services import Limits, Services
from perdure.engine.starting import Starting
from perdure.engine.threads import ThreadPool
from perdure.engine.ticking import Ticking
from perdure.engine.watching import Watching
from perdure.engine.worker import Worker
from perdure.store.port import Durability, Store
from perdure.store.url import open_store
from perdure.store.writer import Writer
from perdure.workflow.registry import Registry


class Runtime(Starting, Ticking, Watching):
    """The engine of one process over one store.

    ```python
    async with Runtime("sqlite:///runs.db") as runtime:
        handle = await runtime.start(article, topic="durable execution")
        print(await handle.result())
    ```

    Args:
        store: a URL (`sqlite:///relative.db`, `sqlite:////absolute.db`, `memory://`) or a store.
        workflows: what this process can execute; a workflow that is started here is added.
        durability: `full` (an acknowledged event survives a power cut) or `process` (it survives the process).
        execute: whether to execute runs; without it, this runtime only starts, reads and commands.
        clock, random, threads: ports for tests.
        limits: see `Limits`.
        environ: where secrets are resolved; the process's environment if omitted.
        provenance_environment: names of environment variables that are recorded in each run's manifest.
        observers: are told what this runtime executes; see `perdure.integrations.opentelemetry`.
    """

    def __init__(
        self,
        store: str | Store = "sqlite:///.perdure/runs.db",
        *,
        workflows: Iterable[Any] = (),
        durability: Durability = "full",
        execute: bool = True,
        clock: Clock | None = None,
        random: Randomness | None = None,
        threads: ThreadPool | None = None,
        limits: Limits | None = None,
        environ: Mapping[str, str] | None = None,
        provenance_environment: Sequence[str] = (),
        observers: Iterable[Observer] = (),
    ) -> None:
        self.store: Store = open_store(store, durability=durability) if isinstance(store, str) else store
        self.registry = Registry()
        for workflow in workflows:
            self.registry.register(workflow)
        self.hub = Hub()
        self.live = Live()
        self._random = random or SystemRandomness()
        self.worker_id = f"w{self._random.token(8).hex()}"
        self.limits = limits or Limits()
        self._environ = os.environ if environ is None else environ
        self._provenance_names = tuple(provenance_environment)
        self._writer = Writer(self.store, self._committed)
        self._services = Services(
            store=self.store,
            writer=self._writer,
            clock=clock or SystemClock(),
            random=self._random,
            registry=self.registry,
            hub=self.hub,
            live=self.live,
            observers=tuple(observers),
            threads=threads or ThreadPool(),
            actor=f"worker:{self.worker_id}",
            limits=self.limits,
            environ=self._environ,
            start_child=self._start_child,
            cancel_run=self._cancel_child,
            signal_run=self._signal_child,
        )
        self._execute = execute
        self._worker: Worker | None = None
        self._owned: dict[str, Execution] = {}
        self._owned_tasks: dict[str, asyncio.Task[Any]] = {}
        self._ended_callbacks: list[Callable[[str, str], None]] = []
        self._waiting_callbacks: list[Callable[[str], None]] = []
        self._provenance: dict[str, Any] = {}
        self._open = False

    # --- opening and closing ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Runtime:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the store and begin to execute what is due.

        Raises:
            NotAStoreError, StoreVersionError, StoreCorruptError, StoreWriteError: the store cannot be opened.
        """
        if self._open:
            return
        self.live.open()
        await self.store.open()
        self._provenance = provenance(Path.cwd(), self._environ, self._provenance_names)
        self._services.lease = await self.store.lease(
            self.worker_id, self.registry.names() if self._execute else [], length_s=self.limits.lease_s
        )
        self._worker = Worker(self._services, execute=self._execute)
        await self._worker.start()
        self._services.clock.observe(self._under_way)
        self._open = True

    async def close(self) -> None:
        """Let steps in flight end within their grace, let go of all runs, and close the store."""
        if not self._open:
            return
        self._open = False
        for run_id in list(self._owned):
            await self._leave(run_id)
        await self.worker.close()
        await self._writer.close()
        self._services.threads.close()
        await self.store.close()

    def _under_way(self) -> list[Activity]:
        return under_way(self._writer, self.worker, self._owned) if self._open else []

    async def drain(self) -> None:
        """As on SIGTERM: record it durably, stop claiming, end what is in flight within its grace."""
        await self.worker.drain()

    def register(self, workflow: Any) -> None:
        """Add a workflow that this process can execute; runs of it that are due are taken up."""
        self.registry.register(workflow)
        if self._worker is not None:
            self._worker.wake()
