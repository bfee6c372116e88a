"""What `run --server` does: start a run at a service or go on with one, stay with it through its events, and say how it
stands in the end. The service executes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Final

from perdure.cli import given
from perdure.cli.definitions import definition_of, is_pipeline, named_in
from perdure.cli.exits import COMPLETED
from perdure.cli.orders import Order
from perdure.cli.output import Output
from perdure.cli.place import Place
from perdure.cli.remote.runtime import RemoteRuntime
from perdure.cli.remote.server import Server
from perdure.cli.remote.store import RemoteStore
from perdure.cli.running import Stay, tell_ended
from perdure.cli.supervision import Look, Supervisor, Tree
from perdure.core.errors import (
    InputError,
    InputTypeError,
    LocalOnlyError,
    NotFoundError,
    RunConflictError,
    ServerUnreachableError,
    ServiceError,
    StateError,
)
from perdure.core.ids import check_run_id, check_tag
from perdure.engine.large import resolved
from perdure.journal.state import TERMINAL
from perdure.store.port import RunRow

REMOTE_POLL_S: Final = 2.0
"""How often to look when nothing is heard: the stream tells of the run alone, not of its children."""

LEAVING_S: Final = 2.0
"""How long who has interrupted waits for an answer that is under way."""


async def run_remotely(server: Server, place: Place, output: Output, order: Order, patience_s: float | None) -> int:
    """Start or go on; see `perdure run --help`.

    Raises:
        PerdureError: it was refused, or the service cannot be asked.
    """
    begin = _PipelineBeginning(order) if is_pipeline(order.file) else _Beginning(order)
    async with server.runtime(staying=True) as runtime:
        row = await _existing(runtime, order.run_id)
        run_id, known = await (begin.start(runtime, output) if row is None else begin.go_on(runtime, output, row))
        if row is not None and row.status in TERMINAL:
            return await tell_ended(place, output, order, row)
        if order.detach:
            if output.json:
                output.value({"run_id": run_id, "status": await runtime.run(run_id).status()})
            else:
                output.line(run_id)
            return COMPLETED
        stay = _RemoteStay(runtime, place, output, order, run_id, known)
        return await stay.until_settled(patience_s)


async def _existing(runtime: RemoteRuntime, run_id: str | None) -> RunRow | None:
    return None if run_id is None else await runtime.store.get_run(check_run_id(run_id))


# --- beginning --------------------------------------------------------------------------------------------------------


class _Beginning:
    """The beginning of a run of a workflow that the service has loaded.

    Args:
        order: what was asked for.

    Raises:
        InputError: something in it cannot be done over HTTP, or is no input; nothing was sent.
    """

    def __init__(self, order: Order) -> None:
        if order.durability != "full":
            raise LocalOnlyError("the service alone says what its store survives", hint="leave --durability out")
        self._order = order
        self._input = given.inputs(order.inputs, order.input_file) if order.has_input else None
        for tag in order.tags:
            check_tag(tag)
        self._prepare()

    def _prepare(self) -> None:
        self._workflow = _workflow_named(self._order.file)

    async def start(self, runtime: RemoteRuntime, output: Output) -> tuple[str, int]:
        """Start the run; its id, and up to which seq it was recorded before."""
        run_id = await self._send(runtime)
        output.note(f"run {run_id} ({self._workflow}) started")
        return run_id, 0

    async def _send(self, runtime: RemoteRuntime) -> str:
        order = self._order
        try:
            started = await runtime.client.start(
                self._workflow, self._input, id=order.run_id, tags=order.tags, skip_tags=order.skip_tags
            )
        except InputTypeError as error:
            raise given.explain_text_input(error, order.inputs) from error
        return started.run_id

    async def go_on(self, runtime: RemoteRuntime, output: Output, row: RunRow) -> tuple[str, int]:
        """Make a run that exists ready to go on; its id, and up to which seq it was recorded before.

        Raises:
            RunConflictError: it is a run of something else, or was started with another input.
            StateError: nobody but the program that started it goes on with it.
        """
        await self._check_same(runtime, row)
        if row.status in TERMINAL:
            return row.run_id, 0
        if row.caller_owned:
            raise StateError(
                f"the loop of run {row.run_id} belongs to the program that started it",
                hint="that program goes on with it by Runtime.tick()",
                run_id=row.run_id,
            )
        head = await runtime.store.head(row.run_id)
        seq = head.seq if head is not None else 0
        if row.status == "paused":
            output.note(f"run {row.run_id} was {'paused' if row.reason == 'paused' else f'parked: {row.reason}'}")
            if not self._order.detach:
                await runtime.unpause(row.run_id)
        output.note(f"run {row.run_id} ({row.workflow}) goes on behind record {seq}")
        return row.run_id, seq

    async def _check_same(self, runtime: RemoteRuntime, row: RunRow) -> None:
        if row.workflow != self._workflow:
            raise _conflict(f"run {row.run_id!r} is a run of workflow {row.workflow!r}", "name it", row)
        if self._input is not None:
            await self._send(runtime)  # the same start again is the same run; the service refuses another one


class _PipelineBeginning(_Beginning):
    """The beginning of a run of a pipeline whose text is sent to the service."""

    def _prepare(self) -> None:
        self._workflow = PurePath(self._order.file).name
        if self._order.tags or self._order.skip_tags:
            raise LocalOnlyError("a pipeline that is sent to a service takes no tags", hint="leave the tags out")
        try:
            self._text = Path(self._order.file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(f"{self._order.file} cannot be read: {what}", file=self._order.file) from error

    async def _send(self, runtime: RemoteRuntime) -> str:
        options = {} if self._order.run_id is None else {"pipeline_id": self._order.run_id}
        return (await runtime.client.start_pipeline(self._text, context=self._input, opts=options)).pipeline_id

    async def _check_same(self, runtime: RemoteRuntime, row: RunRow) -> None:
        try:
            text = await runtime.client.pipeline_graph(row.run_id, "dot")
        except NotFoundError as error:
            raise _conflict(f"run {row.run_id!r} is no run of a pipeline", "name its workflow", row) from error
        if text.strip() != self._text.strip():
            raise _conflict(f"run {row.run_id!r} was started with another text of a pipeline", "see it drawn", row)
        if self._input is None:
            return
        first = await runtime.store.read(row.run_id, until=1)
        told = (first[0].data or {}).get("input", {}) if first else {}
        # What begins with a dot is the service's own.
        recorded = {name: await resolved(runtime.store, one) for name, one in told.items() if name[:1] != "."}
        if recorded != {name: one for name, one in self._input.items() if name[:1] != "."}:
            hint = "leave the input out to go on with what is recorded"
            raise _conflict(f"run {row.run_id!r} was started with another input", hint, row)


def _conflict(message: str, hint: str, row: RunRow) -> RunConflictError:
    return RunConflictError(message, hint=f"{hint}, or choose another id", run_id=row.run_id, workflow=row.workflow)


def _workflow_named(spec: str) -> str:
    """The name of the workflow that a service is asked for: a bare name, or that of one in a Python file.

    Raises:
        DefinitionLoadError: the file names no workflow.
    """
    if PurePath(spec.partition(":")[0]).suffix != ".py":
        return spec
    return named_in(spec) or definition_of(spec).name


# --- staying ----------------------------------------------------------------------------------------------------------


class _Attendant(Supervisor):
    """Sees when a run that the service executes has ended, or waits for somebody who is not here."""

    poll_s = REMOTE_POLL_S

    def __init__(
        self, runtime: RemoteRuntime, run_id: str, *, patience_s: float | None, look: Look, asking: Callable[[], bool]
    ) -> None:
        super().__init__(runtime, run_id, patience_s=patience_s, look=look, asking=asking)
        self._told = asyncio.Event()

    async def supervise(self) -> int | None:
        """See `Supervisor`; when it is told to stop it does not wait for a service that is away."""
        supervising = asyncio.ensure_future(super().supervise())
        told = asyncio.ensure_future(self._told.wait())
        try:
            await asyncio.wait((supervising, told), return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait((supervising,), timeout=LEAVING_S)
            if not done:
                raise ServerUnreachableError("the service does not answer")
            return await supervising
        finally:
            for task in (supervising, told):
                task.cancel()
            await asyncio.gather(supervising, told, return_exceptions=True)

    def stop(self) -> None:
        super().stop()
        self._told.set()

    async def _claim(self, tree: Tree) -> None:
        """The service's workers take what is due."""

    async def _moves(self, tree: Tree) -> bool:
        going = [row for row in tree if row.status in ("pending", "running") and not row.caller_owned]
        store = self._runtime.store
        workers = [one for one in await store.workers() if one.alive] if going else []
        if going and isinstance(store, RemoteStore) and store.hides_workers:
            return True
        return any(row.owner == one.worker_id or row.workflow in one.workflows for row in going for one in workers)


class _RemoteStay(Stay):
    """This process's time with a run that the service executes."""

    leaving = "the run goes on at the service; once more to leave at once"

    def __init__(
        self, runtime: RemoteRuntime, place: Place, output: Output, order: Order, run_id: str, known: int
    ) -> None:
        super().__init__(runtime, place, output, order, run_id)
        self._remote = runtime
        self._known = known

    async def until_settled(self, patience_s: float | None) -> int:
        """See `Stay`. Whatever ends it, the run goes on."""
        try:
            async with self._remote.following(self._run_id, after=self._known):
                return await super().until_settled(patience_s)
        except ServiceError as error:
            error.hint = f"the run goes on at the service; look at it again with '{self._again()}'"
            error.ids["run_id"] = self._run_id
            raise

    async def known(self) -> int:
        return self._known

    def supervisor(self, patience_s: float | None, look: Look, asking: Callable[[], bool]) -> Supervisor:
        return _Attendant(self._remote, self._run_id, patience_s=patience_s, look=look, asking=asking)

    async def let_go(self, *, interrupted: bool) -> None:
        if interrupted:
            await self._remote.client.hurry(LEAVING_S)  # what is left to be asked tells how the run stands
            self._output.note(f"stay with it again: {self._again()}")

    def _again(self) -> str:
        return self._place.command("run", self._order.file, "--id", self._run_id)
