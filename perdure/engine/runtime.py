"""`Runtime`: the engine of one process over one store. Starts runs, executes them, and brings commands to them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import orjson

from perdure.core import kinds
from perdure.core.errors import (
    InputError,
    NotFoundError,
    RunConflictError,
    RunNotFoundError,
    StateError,
    StoreClosedError,
    WaitNotFoundError,
)
from perdure.core.events import NEVER, Draft, Event, Head
from perdure.core.ids import check_key, check_name, check_run_id, check_tag, new_run_id
from perdure.core.values import codec_for
from perdure.engine.activity import Activity, under_way
from perdure.engine.commands import command
from perdure.engine.execution import Execution
from perdure.engine.handle import PAGE, RunHandle
from perdure.engine.hub import Hub
from perdure.engine.large import by_reference, resolved
from perdure.engine.loading import load_state
from perdure.engine.ports import Clock, Randomness, SystemClock, SystemRandomness
from perdure.engine.provenance import provenance
from perdure.engine.recovery import recover
from perdure.engine.services import Limits, Services
from perdure.engine.threads import ThreadPool
from perdure.engine.worker import Worker
from perdure.journal import decide
from perdure.journal.chain import genesis
from perdure.journal.fold import fold
from perdure.journal.state import TERMINAL, RunState
from perdure.store.port import Append, ArtifactRow, Durability, FeedEntry, NewRun, RunFilter, RunRow, Store
from perdure.store.url import open_store
from perdure.store.writer import Writer
from perdure.workflow.function import Workflow
from perdure.workflow.graph import Graph
from perdure.workflow.registry import Registry

P = ParamSpec("P")
R = TypeVar("R")
Profile = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """An open question of a run.

    Attributes:
        run_id, wait_id: where it is asked; an answer names both.
        text, kind, choices: what is asked; kind `doubt` asks what became of a step.
        deadline_ms: when it times out, if ever.
        has_default, default: what it takes then.
        step: the key of the step in doubt.
    """

    run_id: str
    wait_id: str
    workflow: str
    text: str
    kind: str
    choices: tuple[str, ...]
    deadline_ms: int | None
    has_default: bool
    default: Any
    step: str | None


@dataclass(frozen=True, slots=True)
class Tick:
    """What `Runtime.tick` found when it stopped.

    Attributes:
        status: of the run.
        waits: ids of the waits that are open.
        ended: whether the run has ended.
    """

    status: str
    waits: tuple[str, ...]
    ended: bool


class Runtime:
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
    ) -> None:
        self.store: Store = open_store(store, durability=durability) if isinstance(store, str) else store
        self.registry = Registry()
        for workflow in workflows:
            self.registry.register(workflow)
        self.hub = Hub()
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
            threads=threads or ThreadPool(self.limits.step_threads),
            actor=f"worker:{self.worker_id}",
            limits=self.limits,
            environ=self._environ,
            start_child=self._start_child,
            cancel_run=self._cancel_child,
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

    @property
    def worker(self) -> Worker:
        """This process's worker.

        Raises:
            StoreClosedError: the runtime is not open.
        """
        if self._worker is None:
            raise StoreClosedError("the runtime is not open", hint="use 'async with Runtime(...) as runtime:'")
        return self._worker

    def register(self, workflow: Any) -> None:
        """Add a workflow that this process can execute; runs of it that are due are taken up."""
        self.registry.register(workflow)
        if self._worker is not None:
            self._worker.wake()

    # --- starting -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: Workflow[P, R] | Any,
        /,
        *args: Any,
        id: str | None = None,
        tags: Sequence[str] = (),
        skip_tags: Sequence[str] = (),
        profile: Profile = "normal",
        caller_owned: bool = False,
        actor: str | None = None,
        **kwargs: Any,
    ) -> RunHandle[R]:
        """Start a run. When this returns, the start is durable.

        Args:
            workflow: what `@workflow` made, a `Flow`, a `Plan`, or the name of a loaded one.
            args, kwargs: its input.
            id: the run's id; starting the same workflow with the same input under it again gives the same run.
            tags: to find it by.
            skip_tags: states of a plan to skip.
            profile: which of the author's events are recorded: `minimal`, `normal`, `verbose`, or
                `{"level": …, "events": […]}`.
            caller_owned: the caller owns the loop (`tick`); no worker ever claims the run.
            actor: who starts it.

        Raises:
            UnknownWorkflowError, InputTypeError, ValueRefusedError, InvalidIdError, DefinitionError: nothing was
                written.
            RunConflictError: the id is taken by another workflow or input.
        """
        graph = self._graph(workflow)
        return await self.start_bound(
            graph,
            graph.bind(args, kwargs),
            id=id,
            tags=tags,
            skip_tags=skip_tags,
            profile=profile,
            caller_owned=caller_owned,
            actor=actor,
        )

    async def start_bound(
        self,
        workflow: Any,
        raw: Mapping[str, Any],
        *,
        id: str | None = None,
        tags: Sequence[str] = (),
        skip_tags: Sequence[str] = (),
        profile: Profile = "normal",
        caller_owned: bool = False,
        actor: str | None = None,
    ) -> RunHandle[Any]:
        """As `start`, with the input by parameter name in one mapping."""
        graph = workflow if isinstance(workflow, Graph) else self._graph(workflow)
        data = self._refuse_secrets(graph, graph.dump_input(raw))
        run_id = new_run_id(self._services.clock.now_ms(), self._random.token(10)) if id is None else check_run_id(id)
        manifest = {
            "policy": _policy(graph, skip_tags),
            "profile": _check_profile(profile),
            "tags": [check_tag(tag) for tag in tags] or None,
            "caller_owned": caller_owned or None,
        }
        await self._begin(run_id, graph, data, manifest, actor=actor)
        return RunHandle(self, run_id)

    def _graph(self, workflow: Any) -> Graph:
        worker = self.worker
        if isinstance(workflow, str):
            return self.registry.get(workflow)
        known = len(self.registry)
        graph = self.registry.register(workflow)
        if len(self.registry) != known:
            worker.wake()
        return graph

    def _refuse_secrets(self, graph: Graph, data: bytes) -> bytes:
        from perdure.core.errors import SecretLeakError
        from perdure.core.secrets import payload_secret_shape

        shape = payload_secret_shape(data)
        if shape is not None:
            raise SecretLeakError(
                f"the input of {graph.name!r} has the shape of a secret ({shape})", workflow=graph.name
            )
        return data

    async def _begin(
        self, run_id: str, graph: Graph, data: bytes, manifest: dict[str, Any], *, actor: str | None = None
    ) -> None:
        """Append `run.started` and, where there is room, execute the run here at once."""
        services = self._services
        worker = self.worker
        artifacts: list[ArtifactRow] = []
        draft = self._started(graph, data, manifest, artifacts, actor)
        caller_owned = bool(manifest.get("caller_owned"))
        adopt = not caller_owned and worker.has_room()
        create = NewRun(
            graph.name,
            graph.version,
            draft.time_ms,
            due_ms=NEVER if caller_owned else 0,
            parent_id=(manifest.get("parent") or {}).get("run_id"),
            tags=tuple(manifest.get("tags") or ()),
            caller_owned=caller_owned,
            owner=self.worker_id if adopt else None,
        )
        append = Append(run_id, [draft], Head(0, genesis(run_id)), create=create, artifacts=artifacts)
        try:
            appended = await self._writer.append(append)
        except RunConflictError:
            await self._same_start(run_id, graph, data)
            return
        if adopt:
            event = Event(
                run_id, 1, draft.kind, draft.time_ms, None, None, None, draft.actor, 0, b"", draft.salt, draft.payload
            )
            worker.adopt(run_id, fold(RunState(run_id), event), appended.head, 1)
        else:
            services.due()

    def _started(
        self, graph: Graph, data: bytes, manifest: dict[str, Any], artifacts: list[ArtifactRow], actor: str | None
    ) -> Draft:
        input_data = data
        if len(data) > 64 * 1024:
            members = {
                name: orjson.Fragment(by_reference(orjson.dumps(value), artifacts.append))
                for name, value in orjson.loads(data).items()
            }
            input_data = orjson.dumps(members)
        payload = {
            "workflow": graph.name,
            "version": graph.version,
            "fingerprint": graph.fingerprint,
            "code": graph.code,
            "input": orjson.Fragment(input_data),
            "provenance": self._provenance,
        } | {name: value for name, value in manifest.items() if value is not None}
        return self._services.draft(kinds.RUN_STARTED, orjson.dumps(payload), actor=actor)

    async def _same_start(self, run_id: str, graph: Graph, data: bytes) -> None:
        """The id is taken: by the same start, or by another one."""
        events = await self.store.read(run_id, until=1)
        recorded = events[0].data if events else None
        if recorded is not None and recorded["workflow"] == graph.name:
            tree = {name: await resolved(self.store, value) for name, value in recorded["input"].items()}
            if tree == orjson.loads(data):
                self._services.due()
                return
        raise RunConflictError(f"run id {run_id!r} is taken by another workflow or another input", run_id=run_id)

    async def _start_child(
        self, child_id: str, graph: Graph, data: bytes, parent_id: str, scope: str, key: str
    ) -> None:
        if await self.store.get_run(child_id) is not None:
            return
        manifest = {
            "policy": _policy(graph),
            "profile": "normal",
            "parent": {"run_id": parent_id, "scope": scope, "key": key},
        }
        await self._begin(child_id, graph, data, manifest)

    # --- finding ------------------------------------------------------------------------------------------------------

    def run(self, run_id: str) -> RunHandle[Any]:
        """A handle on a run by its id; whether it exists shows at the first use."""
        return RunHandle(self, check_run_id(run_id))

    async def runs(self, where: RunFilter | None = None) -> list[RunRow]:
        """Runs, newest first."""
        return await self.store.list_runs(where or RunFilter())

    async def questions(self, run_id: str | None = None) -> list[Question]:
        """Open questions, oldest first; of one run or of all."""
        found: list[Question] = []
        states: dict[str, RunState] = {}
        for place in await self.store.open_waits(kind="question", run_id=run_id):
            if place.run_id not in states:
                loaded = await load_state(self.store, place.run_id)
                if loaded is None:
                    continue
                states[place.run_id] = loaded[0]
            wait = states[place.run_id].waits.get(place.wait.wait_id)
            if wait is None or wait.closed is not None:
                continue
            question = wait.data["question"]
            found.append(
                Question(
                    place.run_id,
                    wait.wait_id,
                    place.workflow,
                    question["text"],
                    question["kind"],
                    tuple(question.get("choices") or ()),
                    wait.deadline_ms,
                    bool(wait.data.get("has_default")),
                    wait.data.get("default"),
                    wait.data.get("subject"),
                )
            )
        return found

    async def events(self, *, after: int = 0) -> AsyncIterator[FeedEntry]:
        """Events of all runs in commit order: replay, then live, no gap and no repeat.

        Args:
            after: the position of the last entry seen; 0 for all.
        """
        position = after
        with self.hub.watch(None) as grown:
            while True:
                grown.clear()
                entries = await self.store.read_feed(after=position, limit=PAGE)
                for entry in entries:
                    position = entry.position
                    yield entry
                if not entries:
                    await grown.wait()

    async def stats(self) -> dict[str, Any]:
        """Counts for operators: runs by status, what is executed here, commits and appends of this process."""
        return {
            "worker": self.worker_id,
            "store": self.store.url,
            "durability": self.store.durability,
            "runs": await self.store.count_runs(),
            "executing": len(self.worker.executions),
            "recovered": self.worker.recovered,
            "commits": self._writer.commits,
            "appends": self._writer.appends,
            "workers": [
                {
                    "worker": row.worker_id,
                    "pid": row.pid,
                    "host": row.host,
                    "alive": row.alive,
                    "draining": row.draining,
                }
                for row in await self.store.workers()
            ],
        }

    def on_ended(self, callback: Callable[[str, str], None]) -> None:
        """Call back with run id and status when a run has ended in this process."""
        self._ended_callbacks.append(callback)

    def on_waiting(self, callback: Callable[[str], None]) -> None:
        """Call back with the run id when a run of this process waits."""
        self._waiting_callbacks.append(callback)

    def _committed(self, appends: list[Append]) -> None:
        """After each commit: tell who watches."""
        hub = self.hub
        if not (hub.watched or self._ended_callbacks or self._waiting_callbacks):
            return
        hub.grown([append.run_id for append in appends])
        for append in appends:
            for draft in append.drafts:
                change = draft.change
                if change is None:
                    continue
                if change.wake is not None:
                    hub.touched(change.wake)
                    hub.touched(append.run_id)
                    self._services.due()
                if draft.kind == kinds.RUN_PAUSED:
                    hub.settled(append.run_id)
                elif draft.kind in kinds.TERMINAL_KINDS:
                    hub.settled(append.run_id)
                    for ended in self._ended_callbacks:
                        ended(append.run_id, draft.kind.partition(".")[2])
                elif draft.kind == kinds.RUN_SUSPENDED:
                    for waiting in self._waiting_callbacks:
                        waiting(append.run_id)

    # --- commands -----------------------------------------------------------------------------------------------------

    async def answer(
        self,
        run_id: str,
        value: Any,
        *,
        wait_id: str | None = None,
        actor: str = "person",
        command_id: str | None = None,
    ) -> None:
        """Answer a question.

        Args:
            value: one of the choices, a list of them, a bool, or text.
            wait_id: the question; may be omitted when the run asks one.
            actor: who answers.
            command_id: the same id again is recognised as a resend.

        Raises:
            WaitNotFoundError, WaitClosedError, AnswerRefusedError, RunEndedError: nothing was written.
        """
        tree = codec_for(Any).tree(value)
        await self._command(run_id, lambda state: decide.answer(state, wait_id, tree, command_id), actor)

    async def signal(
        self,
        name: str,
        payload: Any = None,
        *,
        run_id: str | None = None,
        match: str | None = None,
        sender_id: str | None = None,
        command_id: str | None = None,
        actor: str = "person",
    ) -> str:
        """Send a signal to a run; it is kept until the run reads it.

        Args:
            name: of the signal.
            payload: JSON data.
            run_id: the run; without it, the one run that waits for this name and key.
            match: the key that a waiting run may ask for.
            sender_id: the same id again is recognised as a resend.

        Returns:
            The id of the run.

        Raises:
            WaitNotFoundError: no run was named, and none, or more than one, waits for this.
            RunEndedError, SignalBacklogError: nothing was written.
        """
        check_name(name, field="signal")
        if match is not None:
            check_key(match, field="match")
        if run_id is None:
            run_id = await self._waiting_for(name, match)
        tree = codec_for(Any).tree(payload)
        await self._command(run_id, lambda state: decide.signal(state, name, match, tree, sender_id, command_id), actor)
        return run_id

    async def _waiting_for(self, name: str, match: str | None) -> str:
        found = await self.store.open_waits(kind="signal", name=name, key=match, limit=2)
        if match is None:
            found = [place for place in found if place.wait.key is None] or found
        runs = {place.run_id for place in found}
        if len(runs) != 1:
            problem = "no run waits" if not runs else "more than one run waits"
            raise WaitNotFoundError(
                f"{problem} for signal {name!r}" + (f" with key {match!r}" if match else ""),
                hint="name the run",
                signal=name,
                match=match,
            )
        return runs.pop()

    async def cancel(
        self, run_id: str, *, reason: str = "", command_id: str | None = None, actor: str = "person"
    ) -> None:
        """Ask a run, and with it its children, to end. A run that nobody executes is ended here.

        Raises:
            RunEndedError: it has ended otherwise.
        """
        state = await self._command(run_id, lambda state: decide.cancel(state, reason, command_id), actor)
        if state.status == "cancelled" or run_id in self.worker.executions or run_id in self._owned:
            return
        await self._cancel_here(run_id)

    async def _cancel_here(self, run_id: str) -> None:
        """End a cancelled run that nobody executes; a live owner hears of it by itself."""
        assert self._services.lease is not None
        claimed = await self.store.claim_run(self._services.lease, run_id)
        if claimed is None:
            return
        if await recover(self._services, claimed) is not None:
            await self.store.release(self._services.lease, [run_id])

    async def _cancel_child(self, run_id: str, *, reason: str, command_id: str) -> None:
        try:
            await self.cancel(run_id, reason=reason, command_id=command_id, actor=self._services.actor)
        except (StateError, NotFoundError):
            return  # it has ended, or its start was never committed

    async def pause(self, run_id: str, *, command_id: str | None = None, actor: str = "person") -> None:
        """Pause a run: steps in flight end, nothing new begins.

        Raises:
            RunEndedError: it has ended.
        """
        await self._command(run_id, lambda state: decide.pause(state, "paused", command_id), actor)

    async def unpause(
        self, run_id: str, *, accept_definition: bool = False, command_id: str | None = None, actor: str = "person"
    ) -> None:
        """Undo a pause, or let a parked run go on.

        Args:
            accept_definition: for a run parked as `definition_changed`: go on with the definition that is loaded here.

        Raises:
            StateError: it is not paused.
            UnknownWorkflowError: the definition to accept is not loaded.
        """
        accepted: str | None = None
        if accept_definition:
            row = await self.run(run_id).row()
            accepted = self.registry.get(row.workflow).fingerprint
        await self._command(run_id, lambda state: decide.resume(state, command_id, accepted=accepted), actor)

    async def retry(
        self, run_id: str, *, reason: str = "", command_id: str | None = None, actor: str = "person"
    ) -> None:
        """Open a failed or cancelled run again; it forgets exactly the failure that ended it.

        Raises:
            NotReopenableError: it has not failed, or its parent took the outcome.
        """
        row = await self.run(run_id).row()
        took = False
        if row.parent_id is not None:
            loaded = await load_state(self.store, row.parent_id)
            if loaded is not None:
                child = loaded[0].children.get(run_id)
                took = child is not None and child.settled is not None
        await self._command(run_id, lambda state: decide.reopen(state, reason, command_id, parent_took=took), actor)

    async def resolve(
        self,
        run_id: str,
        resolution: str,
        *,
        step: str | None = None,
        value: Any = None,
        command_id: str | None = None,
        actor: str = "person",
    ) -> None:
        """Say what became of a step in doubt.

        Args:
            resolution: `done` (it happened, and returned `value`), `not_done` (try again), or `fail`.
            step: its key; may be omitted when one step is in doubt.
            value: what it returned; validated against the step's return type.

        Raises:
            NotInDoubtError, StepNotFoundError: nothing was written.
            InputTypeError: the value does not fit the step's return type.
        """
        if resolution not in ("done", "not_done", "fail"):
            raise InputError(f"resolution {resolution!r} is none of done, not_done, fail", run_id=run_id)
        execution = self.worker.executions.get(run_id)
        if resolution == "done" and execution is not None:
            doubts = [made for made in execution.doubts.values() if step in (None, made.key)]
            if len(doubts) == 1:
                doubts[0].step.output.check_input(value)
        tree = codec_for(Any).tree(value)
        await self._command(run_id, lambda state: decide.resolve(state, step, resolution, tree, command_id), actor)

    async def _command(self, run_id: str, decided: Callable[[RunState], list[decide.Decision]], actor: str) -> RunState:
        self.worker  # noqa: B018  refuses a runtime that is not open
        return await command(self._services, run_id, decided, actor)

    # --- the caller's own loop ----------------------------------------------------------------------------------------

    async def tick(self, run_id: str, *, max_steps: int = 1) -> Tick:
        """Let a run whose loop the caller owns do at most so many steps; what was done is durable when this returns.

        Args:
            max_steps: how many steps, waits or children may begin.

        Raises:
            StateError: the run's loop belongs to workers.
        """
        if max_steps < 1:
            raise InputError(f"max_steps must be at least 1, not {max_steps}")
        row = await self.run(run_id).row()
        if not row.caller_owned:
            raise StateError(f"run {run_id} belongs to workers; start it with caller_owned=True", run_id=run_id)
        if row.status in TERMINAL or row.status == "paused":
            return await self._found(run_id)
        execution = self._owned.get(run_id) or await self._own(run_id)
        if execution is None:
            return await self._found(run_id)
        execution.admit(max_steps)
        task = self._owned_tasks[run_id]
        idle = asyncio.ensure_future(execution.idle.wait())
        await asyncio.wait({task, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        if task.done():
            task.result()
        else:
            await execution.log.barrier()
        return await self._found(run_id)

    async def _own(self, run_id: str) -> Execution | None:
        assert self._services.lease is not None
        claimed = await self.store.claim_run(self._services.lease, run_id)
        if claimed is None:
            raise StateError(f"run {run_id} is executed by another process", run_id=run_id)
        execution = await recover(self._services, claimed)
        if execution is None:
            return None
        execution.admit(0)
        self._owned[run_id] = execution
        self._owned_tasks[run_id] = asyncio.ensure_future(self._drive_owned(execution))
        return execution

    async def _drive_owned(self, execution: Execution) -> None:
        assert self._services.lease is not None
        try:
            if await execution.drive() not in ("ended", "lost"):
                await self.store.release(self._services.lease, [execution.run_id])
        finally:
            self._owned.pop(execution.run_id, None)
            self._owned_tasks.pop(execution.run_id, None)

    async def _leave(self, run_id: str) -> None:
        self._owned[run_id].stop("drain")
        await asyncio.wait({self._owned_tasks[run_id]})

    async def _found(self, run_id: str) -> Tick:
        row = await self.run(run_id).row()
        waits = await self.store.open_waits(run_id=run_id)
        return Tick(row.status, tuple(place.wait.wait_id for place in waits), row.status in TERMINAL)

    async def resume(self, run_id: str, wait_key: str, payload: Any = None) -> None:
        """Settle a wait of a run whose loop the caller owns: the answer to a question, or the payload of a signal.

        Args:
            wait_key: the wait's id, as `tick` reported it.

        Raises:
            WaitNotFoundError: the run has no such wait open; nothing was written.
        """
        loaded = await load_state(self.store, run_id)
        if loaded is None:
            raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
        wait = loaded[0].waits.get(wait_key)
        if wait is None:
            raise WaitNotFoundError(f"run {run_id} has no wait {wait_key!r}", run_id=run_id, wait_id=wait_key)
        if wait.kind == "signal" and wait.closed is None:
            await self.signal(wait.data["name"], payload, run_id=run_id, match=wait.data.get("match"))
        else:
            await self.answer(run_id, payload, wait_id=wait_key)


def _policy(graph: Graph, skip_tags: Sequence[str] = ()) -> dict[str, Any]:
    """The run's policy, pinned at its start: what is skipped, and where a retry goes on that is not where it failed."""
    revisits: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        if node.recovery == "latest_successful":
            revisits[name] = [name]
        elif node.recovery == "earliest":
            revisits[name] = [other for other in graph.nodes if other == name or graph.topology.precedes(other, name)]
    policy: dict[str, Any] = {"skip_tags": list(graph.resolve_skip_tags(skip_tags))}
    return policy | ({"revisits": revisits} if revisits else {})


def _check_profile(profile: Profile) -> Any:
    if isinstance(profile, str):
        if profile not in ("minimal", "normal", "verbose"):
            raise InputError(f"event profile {profile!r} is none of minimal, normal, verbose")
        return profile
    return {"level": profile.get("level", ""), "events": list(profile.get("events", ()))}
