"""Executing a run: the loop over its graph, and what may stop it.

One `Execution` is one worker's turn with one run, from the claim until the run ends, waits for long, is paused, or is
lost. It enters the nodes that the graph routes to, each in its own task; their code calls `Run`, whose calls end up in
`stepping`, `waiting`, `branching` and `children`. Whatever stops an execution before the end (`stopping`) stops its
tasks with `RunAbandoned`, a `BaseException` that user code does not catch by accident; the journal already holds all
that counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import orjson

from perdure.core import kinds
from perdure.core.errors import (
    ArtifactNotFoundError,
    CorruptRecordError,
    InputTypeError,
    MergeConflictError,
    PerdureError,
    RunAbandoned,
    SecretError,
    SecretLeakError,
    StoreError,
    ValueRefusedError,
)
from perdure.core.events import Draft, Event, IndexChange
from perdure.core.ids import node_scope
from perdure.core.secrets import Secret, payload_secret_shape, redact_shapes, resolve
from perdure.engine import drift, endings, waiting
from perdure.engine.failures import describe
from perdure.engine.large import by_reference, resolved
from perdure.engine.log import RunLog
from perdure.engine.run import Run
from perdure.engine.scopes import Scope, current_scope, recorded_branches
from perdure.engine.services import Services, payload_bytes
from perdure.engine.strands import Strands
from perdure.journal.state import NodeResult, Record, RunState
from perdure.workflow.graph import Break, Done, Enter, Fail, Finish, Graph, Progress
from perdure.workflow.merge import Merger

if TYPE_CHECKING:
    from perdure.engine.step_call import StepCall

Ending = Literal["ended", "suspended", "paused", "drained", "lost"]


BREATH: Final = 64
"""How many steps that did not await anything may follow one another before the event loop gets a turn."""
MOST_BACKLOG: Final = 4096
"""How many drafts may be undurable before a step awaits the store."""


class ContinueAs(BaseException):
    """Unwinds user code at `run.continue_as`."""

    def __init__(self, data: bytes) -> None:
        super().__init__("continue_as")
        self.data = data


class Execution(Strands):
    """One worker's turn with one run.

    Args:
        services: of the process.
        graph: the run's workflow.
        log: the run's journal; its state is folded.
        lost_until_s: on the monotonic clock, when the lease of a prior owner that was lost has certainly ended.
        interrupted: node attempts that recovery has closed just now.
        orphaned: the run's worker died: that its code is executed again must be durable before it is, or a run that
            kills its worker at once would never be counted.
        suspect: and that code was being executed when it did.
    """

    def __init__(
        self,
        services: Services,
        graph: Graph,
        log: RunLog,
        lost_until_s: float = 0.0,
        interrupted: Mapping[str, int] | None = None,
        *,
        orphaned: bool = False,
        suspect: bool = False,
    ) -> None:
        super().__init__(services, log, lost_until_s)
        self._interrupted = dict(interrupted or {})
        self._careful = orphaned
        self.suspect = suspect
        self.graph = graph
        self.doubts: dict[str, StepCall] = {}
        self.taken: set[int] = set()
        self.settling: set[str] = set()
        self.outcomes: dict[str, Event] = {}
        self._breath = 0
        self._watched: set[str] = set()
        self.last_now_ms = log.state.last_ms
        log.listener = self
        self._begin()

    def _begin(self) -> None:
        state = self.log.state
        self.generation = state.generation
        self.recorded_branches = recorded_branches(state.scopes)
        self.merger = self._merged(state)
        self.results: dict[str, NodeResult] = dict(state.results)
        self.visits = dict(state.visits)
        self.last = state.last
        self.active: set[str] = set()
        self.router = self.graph.router()
        self.input_tree: dict[str, Any] = state.input
        self.continued: bytes | None = None
        self.failure: BaseException | None = None

    def _merged(self, state: RunState) -> Merger:
        """The run's state so far: as it stands, or for a plan with branches as each state wrote it."""
        if self.graph.topology.linear:
            return self.graph.merger(state.context)
        merger = self.graph.merger(state.base)
        for name, writes in state.node_writes.items():
            merger.add(name, writes)
        return merger

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def drive(self) -> Ending:
        """Execute until the run ends or this turn does."""
        services = self.services
        services.hub.listen(self.run_id, self._touched)
        try:
            if self.log.state.cancel_requested is not None:
                self.stop("cancel")
            else:
                await self._load_large_values()
                self._declare_secrets()
                self._check_input()
                self._reenter()
                await self._route()
            return await endings.finish(self)
        except RunAbandoned:
            return await self._abandoned()
        except PerdureError as error:
            if self.log.error is None:
                self.log.lost(error)
            return "lost"
        finally:
            services.hub.unlisten(self.run_id, self._touched)
            for child in self._watched:
                services.hub.unlisten(child, self.look_at_children)
            self._cancel_timers()
            await self._end_tasks()

    def _declare_secrets(self) -> None:
        """Secrets that earlier executions revealed are redacted from the first, not only once revealed again."""
        for reference in self.log.state.secrets:
            secret = Secret(reference)
            try:
                self.services.redactor.declare(secret, resolve(secret, self.services.environ, _read_text))
            except (SecretError, OSError):
                continue  # what this process cannot resolve it cannot leak

    def _check_input(self) -> None:
        try:
            self.graph.load_input(self.input_tree)
        except (InputTypeError, ValueRefusedError) as error:
            detail = {"path": error.ids.get("path", "$"), "what_to_do": drift.WAYS_OUT}
            drift.park(self, "drift", f"the recorded input no longer fits: {error.message}", detail)

    async def _route(self) -> None:
        """Enter what the graph says comes next, until the run ends or something stops it."""
        while self.stopping is None:
            route = self.router(self.progress())
            if isinstance(route, Finish | Break):
                if isinstance(route, Break):
                    self.stop("failed")
                await self._end_tasks()
                if self.continued is not None:
                    await self._continue()
                    continue
                if self.stopping in (None, "failed"):
                    await endings.conclude(self, route)
                return
            if isinstance(route, Enter) and self._enter(route):
                continue
            if self.continued is not None and not self.active:
                await self._continue()
                continue
            await self._something_ended()
        await self._end_tasks()

    async def _abandoned(self) -> Ending:
        """The loop itself was stopped, by a park or because the log was lost."""
        await self._end_tasks()
        try:
            return await endings.finish(self)
        except PerdureError:
            return "lost"

    def progress(self) -> Progress:
        """What routing knows of the run."""
        return Progress(
            completed=self.results,
            active=frozenset(node.rpartition("#")[0] for node in self.active),
            last=self.last,
            started=bool(self.visits),
            skip_tags=tuple(self.log.state.manifest.get("policy", {}).get("skip_tags", ())),
            input=self.input_tree,
        )

    def _enter(self, route: Enter) -> bool:
        """Begin the nodes that there is room for; whether anything was begun."""
        for name in route.skip:
            self._skip(name)
        begun = bool(route.skip)
        for name in route.nodes:
            if self.continued is not None or len(self.active) >= self.graph.concurrency:
                break
            visit = self.visits.get(name, 0) + 1
            self._begin_node(f"{name}#{visit}", 1)
            begun = True
        return begun

    def _reenter(self) -> None:
        """Go on with the nodes that were active: in the same attempt after a suspension, in the next after a crash."""
        state = self.log.state
        for node, attempt in (state.reenter | self._interrupted).items():
            self._begin_node(node, attempt + 1)
        for node, attempt in list(state.active.items()):
            if node not in self.active:
                # It was told to go on while nobody had it: that it is executed now must stand in the journal.
                self._begin_node(node, attempt if self._careful and state.suspended else None)

    def _begin_node(self, node: str, attempt: int | None) -> None:
        name, _, visit = node.rpartition("#")
        self.visits[name] = max(int(visit), self.visits.get(name, 0))
        self.active.add(node)
        if attempt is not None:
            change = None
            if self.log.state.status in ("pending", "waiting") and not self.suspended:
                change = IndexChange(status="running", due_ms=0)
            self.log.add(self.services.draft(kinds.NODE_ENTERED, b'{"attempt":%d}' % attempt, node=node, change=change))
        self.busy += 1
        self.start_task(self._run_node(node, name, int(visit)))

    async def _run_node(self, node: str, name: str, visit: int) -> None:
        """One visit of a node, from its entry to its end."""
        path = node_scope(self.generation, name, visit)
        scope = Scope(self, path, node, None, {})
        try:
            if self._careful:
                await self.log.barrier()
                self._careful = False
            scope.rebase(self.merger.view(name))
            run = Run(self, scope)
            current_scope.set(scope)
            outcome = await self.graph.nodes[name].handler(run)
            drift.check_scope_end(scope)
            self._node_ended(node, name, visit, scope, outcome)
        except (RunAbandoned, asyncio.CancelledError) as error:
            if self.stopping is None and self.log.error is None:
                self._node_failed(node, name, visit, error)
        except ContinueAs as request:
            self.continued = request.data
            self.active.discard(node)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):  # the last: its event loop is gone, nothing has failed
            raise
        except BaseException as error:
            if self.stopping is None:
                self._failed_or_drifted(node, name, visit, scope, error)
        finally:
            self.busy -= 1
            self._changed.set()

    def _node_ended(self, node: str, name: str, visit: int, scope: Scope, outcome: Any) -> None:
        """Record how a node ended."""
        compiled = self.graph.nodes[name]
        following: tuple[str, ...] = ()
        end: dict[str, Any] | None = None
        output: Any = None
        recorded: Any = None
        if isinstance(outcome, Done):
            output, recorded = self._output_trees(self.graph.output, outcome.output)
            end = {"output": recorded}
        elif isinstance(outcome, Fail):
            end = {"error": outcome.to_error()}
        else:
            following = outcome.nodes
            output, recorded = self._output_trees(compiled.output, outcome.output)
        if scope.writes:
            self.merger.add(name, scope.writes)
        payload = payload_bytes(output=recorded if end is None else None, next=following or None, end=end)
        self.log.add(self.services.draft(kinds.NODE_COMPLETED, self.redact(payload), node=node))
        self._finish(node, NodeResult(name, visit, "completed", output, following, end))

    def _output_trees(self, codec: Any, value: Any) -> tuple[Any, Any]:
        """What a node gave, as other nodes read it, and as its record holds it: a mark where it is large."""
        data = self.redact(codec.dump(value))
        return orjson.loads(data), orjson.loads(by_reference(data, self.log.keep))

    def _failed_or_drifted(self, node: str, name: str, visit: int, scope: Scope, error: BaseException) -> None:
        """A node's code raised. If it did so before it asked for all that is recorded, the code has changed."""
        try:
            drift.check_scope_end(scope)
        except RunAbandoned:
            return  # parked
        self._node_failed(node, name, visit, error)

    def _node_failed(self, node: str, name: str, visit: int, error: BaseException) -> None:
        self.failure = error
        described = describe(error)
        if isinstance(error, MergeConflictError):
            described["details"] = dict(error.ids)
        payload = self.redact(orjson.dumps({"error": described}))
        self.log.add(self.services.draft(kinds.NODE_FAILED, payload, node=node))
        self._finish(
            node, NodeResult(name, visit, "failed", None, (), orjson.loads(payload))
        )  # the run's end tells it too

    def _finish(self, node: str, result: NodeResult) -> None:
        self.active.discard(node)
        self.results.pop(result.name, None)
        self.results[result.name] = result
        self.last = result

    def _skip(self, name: str) -> None:
        visit = self.visits.get(name, 0) + 1
        self.visits[name] = visit
        self.log.add(self.services.draft(kinds.NODE_SKIPPED, b'{"reason":"skip tag"}', node=f"{name}#{visit}"))
        self._finish(f"{name}#{visit}", NodeResult(name, visit, "skipped", None, (), None))

    async def _continue(self) -> None:
        """`continue_as`: a barrier, then a new generation."""
        assert self.continued is not None
        await endings.continue_run(self, self.continued)
        self._begin()
        await self._load_large_values()

    async def _something_ended(self) -> None:
        self._changed.clear()
        if self.stopping is None:
            self.perhaps_all_wait()
            await self._changed.wait()

    # --- what the log tells -------------------------------------------------------------------------------------------

    def tail(self, events: list[Event]) -> None:
        """See `Listener.tail`."""
        waiting.settle_by_tail(self, events)
        state = self.log.state
        if state.cancel_requested is not None:
            self.stop("cancel")
        elif state.paused is not None:
            self.stop("pause")

    def lost(self, error: PerdureError) -> None:
        """See `Listener.lost`."""
        self.stop("lost")

    def _touched(self) -> None:
        """Somebody appended to this run, or a child of it ended."""
        self.log.sync()
        self.look_at_children()

    def look_at_children(self) -> None:
        """Settle the children that are waited for and have ended."""
        if any(waiter.child for waiter in self.waiters.values()):
            from perdure.engine.children import settle_children

            self.background(settle_children(self))

    async def expect_child(self, child_id: str) -> None:
        """Hear of a child's end, also of one that has ended already."""
        from perdure.engine.children import settle_children

        if child_id not in self._watched:
            self._watched.add(child_id)
            self.services.hub.listen(child_id, self.look_at_children)
        await settle_children(self)

    # --- small things -------------------------------------------------------------------------------------------------

    async def ask_about_doubt(self, made: StepCall) -> Event:
        """See `waiting.ask_about_doubt`."""
        return await waiting.ask_about_doubt(self, made)

    async def breathe(self) -> None:
        """After many steps that awaited nothing, let the event loop have a turn."""
        self._breath += 1
        if self._breath >= BREATH:
            self._breath = 0
            if self.log.backlog > MOST_BACKLOG:
                await self.barrier()
            else:
                await asyncio.sleep(0)

    def redact(self, data: bytes) -> bytes:
        """JSON bytes with declared secret values, and what has the shape of one, replaced."""
        redactor = self.services.redactor
        return redact_shapes(redactor.redact_bytes(data) if redactor else data)

    def refuse_shape(self, data: bytes, what: str) -> None:
        """Raise `SecretLeakError` if JSON that the author's code hands in has the shape of a secret."""
        shape = payload_secret_shape(data)
        if shape is not None:
            raise SecretLeakError(f"{what} has the shape of a secret ({shape})", run_id=self.run_id)

    def reveal(self, secret: Secret) -> str:
        """Resolve a secret inside a step; its value is redacted from now on."""
        value = resolve(secret, self.services.environ, _read_text)
        self.log.state.secrets.add(secret.reference)
        self.services.redactor.declare(secret, value)
        return value

    def own_event(self, draft: Draft) -> Event:
        """A draft of this execution as its code sees it before the commit."""
        return Event(
            self.run_id,
            self.log.head.seq + self.log.backlog,
            draft.kind,
            draft.time_ms,
            draft.node,
            draft.scope,
            draft.key,
            draft.actor,
            self.log.epoch,
            b"",
            draft.salt,
            draft.payload,
        )

    def remember(self, scope: Scope, key: str, record: Record) -> None:
        """Make a record known to the fold of this execution, so that others' commands find it."""
        state = self.log.state
        state.scopes.setdefault(scope.path, {})[key] = record
        state.node_scopes.setdefault(scope.node, set()).add(scope.path)

    async def value_of(self, data: dict[str, Any], name: str) -> Any:
        """The JSON tree of a payload's field, or of the artifact that holds it."""
        return await self.loaded(data.get(name))

    async def loaded(self, tree: Any) -> Any:
        """The JSON tree that a payload holds or refers to.

        A store that cannot be read now, or an artifact that is not what was written, is nothing that the author's code
        may decide on: the run is recovered later, or parked.
        """
        try:
            return await resolved(self.services.store, tree)
        except StoreError as error:
            self.abandon(error)
        except (ArtifactNotFoundError, CorruptRecordError) as error:
            drift.park(self, "corrupt_record", error.message, dict(error.ids))

    def abandon(self, error: PerdureError) -> NoReturn:
        """End this turn, because the store failed; the run is recovered from it."""
        self.log.lost(error)
        raise RunAbandoned(error.message) from error

    async def barrier(self) -> None:
        """As the log's, for the author's code: what ended this turn is not for it to catch."""
        try:
            await self.log.barrier()
        except PerdureError as error:
            raise RunAbandoned(error.message) from error

    async def _load_large_values(self) -> None:
        """State is read synchronously, so large values of it are loaded beforehand."""
        state = self.log.state
        for place in (state.context, state.base, *state.node_writes.values()):
            for name, value in place.items():
                place[name] = await self.loaded(value)
        self.merger = self._merged(state)
        for name, result in list(self.results.items()):
            self.results[name] = result._replace(output=await self.loaded(result.output))
        self.input_tree = {name: await self.loaded(value) for name, value in state.input.items()}

    def output_of(self, name: str) -> Any:
        """The decoded output of a node that has completed."""
        result = self.results[name]
        return None if result.status != "completed" else self.graph.nodes[name].output.load_json(result.output)

    # --- drift --------------------------------------------------------------------------------------------------------

    async def drifted_input(self, scope: Scope, key: str, record: Record, what: str, data: bytes) -> NoReturn:
        """A recorded key is asked with another input: park."""
        await drift.other_input(self, scope, key, record, what, data)

    async def check_start(self, scope: Scope, key: str) -> None:
        """Before something new starts: park if something recorded was not asked for."""
        if scope.passed() is None:
            return
        await asyncio.sleep(0)  # branches that begin in tasks of their own have begun after this
        passed = scope.passed()
        if passed is not None:
            drift.not_asked(self, passed, key)

    async def drifted_type(self, scope: Scope, key: str, what: str, error: PerdureError) -> NoReturn:
        """A recorded value does not validate any more: park."""
        await drift.other_type(self, scope, key, what, error)


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
