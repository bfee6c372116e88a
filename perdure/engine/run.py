"""`Run`: what a workflow's code is given. Everything that it does with the outside world goes through here."""

from __future__ import annotations

import asyncio
import random as _random
import uuid as _uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, ParamSpec, TypeVar, overload

import orjson

from perdure.core import kinds
from perdure.core.durations import Duration
from perdure.core.errors import (
    InputError,
    InputTypeError,
    StateError,
    StoreError,
    ValueTooLargeError,
)
from perdure.core.ids import check_key
from perdure.engine import branching, children, drift, stepping
from perdure.engine.children import ChildHandle
from perdure.engine.context import Artifact
from perdure.engine.waits import Waits
from perdure.store.port import ArtifactRow
from perdure.workflow.steps import Step

if TYPE_CHECKING:
    from perdure.workflow.function import Workflow
    from perdure.workflow.graph import Definition, Graph

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Level = Literal["minimal", "normal", "verbose"]
MOST_EMIT_BYTES: Final = 1024 * 1024
_LEVELS: Final = {"minimal": 0, "normal": 1, "verbose": 2}
_NO_INPUT: Final = b"{}"
_NO_INPUT_FINGERPRINT: Final = sha256(_NO_INPUT).hexdigest()


class Run(Waits):
    """A run, as the code of its workflow sees it. Bound to one scope; see `branch`, `gather`, `map` for others."""

    # --- steps --------------------------------------------------------------------------------------------------------

    @overload
    async def step(self, fn: Step[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def step(self, fn: Step[..., R], /, *args: Any, key: str | None, **kwargs: Any) -> R: ...
    async def step(self, fn: Step[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a step: exactly as its kind says, whatever crashes.

        Args:
            fn: what `@step` made.
            args, kwargs: of the function.
            key: the step's key, instead of its name and occurrence (where the function has no parameter `key`).

        Returns:
            What the function returned, as the journal holds it.

        Raises:
            StepFailed: it failed for good (the same live and after a replay); `StepTimeout` if by its timeout.
            StepResultError: it was done, but what it returned cannot be recorded.
            InputTypeError, ValueRefusedError, SecretLeakError: an argument cannot be recorded; nothing was written.
            ScopeInUseError: another call is open in this scope.
        """
        if not isinstance(fn, Step):
            raise InputTypeError(f"run.step takes a function that @step declared, not {fn!r}", run_id=self.id)
        execution = self._execution
        execution.check()
        scope = self._scope()
        key = None
        if "key" in kwargs and "key" not in fn.signature.parameters:
            key = kwargs.pop("key")
        scope.enter(f"step {fn.name}")
        try:
            return await stepping.run_step(execution, scope, fn, args, kwargs, key)
        finally:
            scope.open = False

    # --- children -----------------------------------------------------------------------------------------------------

    @overload
    async def spawn(self, workflow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ChildHandle[R]: ...
    @overload
    async def spawn(self, workflow: Workflow[..., R], /, *args: Any, key: str, **kwargs: Any) -> ChildHandle[R]: ...
    @overload
    async def spawn(
        self, workflow: Definition | str, /, *args: Any, key: str | None = None, **kwargs: Any
    ) -> ChildHandle[Any]: ...
    async def spawn(self, workflow: Any, /, *args: Any, **kwargs: Any) -> ChildHandle[Any]:
        """Start a child run. It goes on by itself; `await child.result()` takes its outcome.

        Args:
            workflow: a workflow, flow or plan, or the name of a loaded one.
            args, kwargs: its input.
            key: the spawn's key.
        """
        self._execution.check()
        scope = self._scope()
        key = kwargs.pop("key", None)
        scope.enter("spawn")
        try:
            child_id, graph = await children.spawn(self._execution, scope, workflow, args, kwargs, key)
        finally:
            scope.open = False
        return ChildHandle(self, child_id, graph)

    async def _child_result(self, child_id: str, graph: Graph, timeout: Duration | None) -> Any:
        self._execution.check()
        deadline = self._deadline(timeout)
        scope = self._scope()
        scope.enter("child")
        try:
            return await children.take_outcome(self._execution, scope, child_id, graph, deadline)
        finally:
            scope.open = False

    async def _cancel_child(self, child_id: str, reason: str) -> None:
        self._execution.check()
        await self._execution.barrier()
        cancel_run = self._execution.services.cancel_run
        assert cancel_run is not None
        try:
            await cancel_run(child_id, reason=reason, command_id=f"cancel-{self.id}")
        except StoreError as error:
            self._execution.abandon(error)

    # --- branches -----------------------------------------------------------------------------------------------------

    async def gather(self, *work: Awaitable[Any], key: str | None = None) -> list[Any]:
        """Await several coroutines at once, each in a scope of its own.

        Args:
            work: coroutines, made by this run's methods or by functions that use it.

        Returns:
            Their results, in order.

        Raises:
            The failure of the first branch that failed; `MergeConflictError` if two wrote one state key differently.
        """
        try:
            return await self._join("gather", key, [branching.as_work(item) for item in work], None)
        finally:
            for item in work:
                if isinstance(item, Coroutine):
                    item.close()  # a branch that never began never awaited it

    async def map(
        self,
        fn: Step[..., R] | Callable[[Any], Awaitable[R]],
        items: Iterable[Any],
        *,
        limit: int | None = None,
        key: str | None = None,
    ) -> list[R]:
        """Call a step, or an async function, with each item, so many at a time, and join the results in order.

        Args:
            fn: a step, or an async function of one argument that may use this run.
            items: an iterable; it is read at once.
            limit: how many run at once; all if omitted.
        """
        if limit is not None and limit < 1:
            raise InputError(f"limit must be at least 1, not {limit}")
        if isinstance(fn, Step):
            return await self._join("map", key, [branching.Call(self.step, fn, item) for item in items], limit)
        return await self._join("map", key, [branching.Call(fn, item) for item in items], limit)

    async def _join(
        self, name: str, key: str | None, work: list[Callable[[], Awaitable[Any]]], limit: int | None
    ) -> list[Any]:
        self._execution.check()
        scope = self._scope()
        scope.enter(name)
        try:
            return await branching.join(scope, name, key, work, limit)
        finally:
            scope.open = False

    def branch(self, key: str) -> branching.BranchContext:
        """A scope of its own: `async with run.branch("left") as left: await left.step(…)`. Its writes to the state are
        merged when it ends."""
        check_key(key)
        return branching.BranchContext(self._execution, self._scope(), key, lambda scope: Run(self._execution, scope))

    # --- facts that need no waiting -----------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time, as a fact: a replay sees the same. It never goes backwards in a run."""

        def draw() -> int:
            execution = self._execution
            execution.last_now_ms = max(execution.last_now_ms, execution.services.clock.now_ms())
            return execution.last_now_ms

        now_ms = self._fact("now", draw)
        self._execution.last_now_ms = max(self._execution.last_now_ms, now_ms)
        return datetime.fromtimestamp(now_ms / 1000, UTC)

    def random(self) -> float:
        """A random number in [0, 1), as a fact."""
        return float(self._fact("random", self._execution.services.random.uniform))

    def uuid(self) -> _uuid.UUID:
        """A random UUID (version 4), as a fact."""
        text = self._fact("uuid", lambda: str(_uuid.UUID(bytes=self._execution.services.random.token(16), version=4)))
        return _uuid.UUID(text)

    def rng(self) -> _random.Random:
        """A random number generator whose seed is a fact."""
        return _random.Random(self._fact("rng", lambda: self._execution.services.random.token(16).hex()))

    def _fact(self, name: str, draw: Callable[[], Any]) -> Any:
        execution = self._execution
        execution.check()
        scope = self._scope()
        self._refuse_open(scope, name)
        key = scope.key_for(name, None)
        record = scope.recall(key)
        if record is not None:
            if record.what != "step" or record.fingerprint != _NO_INPUT_FINGERPRINT or record.fact is None:
                drift.check_written(execution, scope, key, record, "step", _NO_INPUT)
            assert record.fact is not None
            return record.fact.data["result"]
        value = draw()
        payload = orjson.dumps(
            {"fingerprint": _NO_INPUT_FINGERPRINT, "input": {}, "result": value, "step": name, "step_kind": "read"}
        )
        self._append(kinds.STEP_COMPLETED, payload, scope, key)
        return value

    def emit(self, name: str, payload: Any = None, *, level: Level = "normal") -> None:
        """Append a domain event of the author's own.

        Args:
            name: not one of the kernel's nouns.
            payload: JSON data, at most 1 MiB.
            level: from which event profile of the run on it is recorded: `minimal`, `normal` or `verbose`.
        """
        kinds.check_event_name(name)
        execution = self._execution
        if level not in _LEVELS:
            raise InputError(f"level {level!r} is none of {', '.join(_LEVELS)}")
        if not self._recorded(name, level):
            return
        data = self._dump(payload, f"event {name!r}")
        if len(data) > MOST_EMIT_BYTES:
            raise ValueTooLargeError(
                f"event {name!r}: {len(data)} bytes are more than {MOST_EMIT_BYTES}",
                hint="put large data into an artifact (run.put) and emit its name",
            )
        scope = self._scope()
        execution.check()
        self._refuse_open(scope, f"emit {name}")
        key = scope.key_for(f"emit.{name}", None)
        record = scope.recall(key)
        if record is not None:
            drift.check_written(execution, scope, key, record, "emit", data)
            return
        self._append(name, data, scope, key)

    def _recorded(self, name: str, level: Level) -> bool:
        profile = self._execution.log.state.manifest.get("profile", "normal")
        if isinstance(profile, dict):
            return name in profile.get("events", ()) or _LEVELS[level] <= _LEVELS.get(profile.get("level", ""), -1)
        return _LEVELS[level] <= _LEVELS.get(profile, 1)

    def put(
        self, value: Any, *, name: str | None = None, media_type: str | None = None, kind: str = "file"
    ) -> Artifact:
        """Keep bytes (or a value, as JSON) as an artifact, named by its SHA-256.

        Args:
            value: bytes, text, or JSON data.
            name: what to call it.
            media_type: `application/octet-stream`, `text/plain` or `application/json` if omitted.
            kind: `json`, `log`, `text`, `graphviz` or `file`: how to show it.
        """
        execution = self._execution
        execution.check()
        if isinstance(value, bytes | bytearray | memoryview):
            data, guessed = bytes(value), "application/octet-stream"
        elif isinstance(value, str):
            data, guessed = value.encode(), "text/plain; charset=utf-8"
        else:
            data, guessed = self._dump(value, "artifact"), "application/json"
        data = execution.redact(data)
        sha = sha256(data).hexdigest()
        artifact = Artifact(sha, len(data), media_type or guessed, name)
        scope = self._scope()
        self._refuse_open(scope, "put")
        key = scope.key_for("put", None)
        record = scope.recall(key)
        if record is not None:
            drift.check_written(execution, scope, key, record, "put", data)
            return artifact
        execution.log.keep(ArtifactRow(sha, data, artifact.media_type))
        payload = {"fingerprint": sha, "artifact": sha, "size": len(data), "media_type": artifact.media_type}
        payload |= {"artifact_kind": kind} | ({"name": name} if name is not None else {})
        self._append(kinds.ARTIFACT_PUT, orjson.dumps(payload), scope, key)
        return artifact

    async def get(self, artifact: Artifact | str) -> bytes:
        """The bytes of an artifact."""
        self._execution.check()
        await self._execution.barrier()
        name = artifact if isinstance(artifact, str) else artifact.sha256
        try:
            return await self._execution.services.store.get_artifact(name)
        except StoreError as error:
            self._execution.abandon(error)

    def patched(self, patch: str) -> bool:
        """Whether a code change named `patch` applies to this run.

        True when first asked, unless something that is recorded in the scope has not been asked for again: then the old
        code ran past here. The answer is a fact.
        """
        check_key(patch, field="patch")
        execution = self._execution
        execution.check()
        scope = self._scope()
        self._refuse_open(scope, f"patched {patch}")
        key = f"patched.{patch}"
        record = scope.recall(key)
        if record is not None and record.fact is not None:
            return bool(record.fact.data["active"])
        if key in scope.patches:
            return scope.patches[key]
        active = scope.patches[key] = not scope.unasked_anything()
        payload = orjson.dumps({"patch": patch, "active": active, "fingerprint": _NO_INPUT_FINGERPRINT})
        self._append(kinds.PATCH_DECIDED, payload, scope, key)
        return active

    async def continue_as(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Go on as a new generation of the same run, with a new input, the state, unread signals and live children; the
        journal before it need not be read any more. For endless loops. Does not return.

        Args:
            args, kwargs: the input of the new generation.
        """
        from perdure.engine.execution import ContinueAs

        execution = self._execution
        execution.check()
        scope = self._scope()
        if scope.parent is not None or len(execution.active) > 1:
            raise StateError("continue_as is for the run as a whole, not for a branch", run_id=self.id)
        data = execution.graph.dump_input(execution.graph.bind(args, kwargs))
        execution.refuse_shape(data, "the input of continue_as")
        drift.check_scope_end(scope)
        execution.merger.add(scope.node.rpartition("#")[0], scope.writes)
        raise ContinueAs(data)

    # --- threads ------------------------------------------------------------------------------------------------------

    async def in_thread(self, fn: Callable[[Any], T]) -> T:
        """Call a synchronous function in a thread, with the blocking face of this run as its only argument."""
        from perdure.engine.portal import BlockingRun

        execution = self._execution
        future = execution.services.threads.run(fn, BlockingRun(self, asyncio.get_running_loop(), self._scope()))
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        return future.result()
