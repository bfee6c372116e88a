"""What the faces of the runtime share: `Runtime` is put together of one class for each thing that one does with it."""

from __future__ import annotations

from perdure.core.errors import StoreClosedError
from perdure.engine.hub import Hub
from perdure.engine.ports import Randomness
from perdure.engine.services import Services
from perdure.engine.worker import Worker
from perdure.store.port import Store
from perdure.store.writer import Writer
from perdure.workflow.registry import Registry


class Face:
    """The members that every face uses; `Runtime` sets them."""

    store: Store
    registry: Registry
    hub: Hub
    worker_id: str
    _services: Services
    _random: Randomness
    _worker: Worker | None
    _writer: Writer

    @property
    def worker(self) -> Worker:
        """This process's worker.

        Raises:
            StoreClosedError: the runtime is not open.
        """
        if self._worker is None:
            raise StoreClosedError("the runtime is not open", hint="use 'async with Runtime(...) as runtime:'")
        return self._worker
