"""`Run`: what a workflow's code is given. Everything that it does with the outside world goes through here."""

from __future__ import annotations

import asyncio
import random as _random
import uuid as _uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, ParamSpec, TypeVar, overload

import orjson

from perdure.core import kinds
from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import (
    InputError,
    InputTypeError,
    StateError,
    StoreError,
    ValueTooLargeError,
)
from perdure.core.ids import check_key, check_name
from perdure.core.values import codec_for
from perdure.engine import branching, children, drift, stepping, waiting
from perdure.engine.children import ChildHandle
from perdure.engine.context import Artifact, Outputs, State
from perdure.engine.scopes import Scope, current_scope
from perdure.engine.waiting import MISSING
from perdure.journal.decide import check_answer
from perdure.store.port import ArtifactRow
from perdure.workflow.steps import Step

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.workflow.function import Workflow
    from perdure.workflow.graph import Definition, Graph

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

QuestionKind = Literal["choice", "text", "confirm", "multiple"]
Level = Literal["minimal", "normal", "verbose"]
MOST_EMIT_BYTES: Final = 1024 * 1024
_LEVELS: Final = {"minimal": 0, "normal": 1, "verbose": 2}
_NO_INPUT: Final = b"{}"
_NO_INPUT_FINGERPRINT: Final = sha256(_NO_INPUT).hexdigest()


class Run:
    """A run, as the code of its workflow sees it. Bound to one scope; see `branch`, `gather`, `map` for others."""

    def __init__(self, execution: Execution, scope: Scope) -> None:
        self._execution = execution
        self._root = scope
        self.state: State = State(self)
        self.outputs: Mapping[str, Any] = Outputs(execution)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The run's id."""
        return self._execution.run_id

    @property
    def workflow(self) -> str:
        """The name of its workflow."""
        return self._execution.graph.name

    @property
    def generation(self) -> int:
        """How often it was continued by `continue_as`."""
        return self._execution.generation

    @property
    def node(self) -> str:
        """The node whose code this is."""
        return self._root.node.rpartition("#")[0]

    @property
    def visit(self) -> int:
        """Which visit of the node this is in this generation, from 1."""
        return int(self._root.node.rpartition("#")[2])

    @property
    def visits(self) -> Mapping[str, int]:
        """By node, how often it was entered in this generation."""
        return MappingProxyType(self._execution.visits)

    @property
    def previous_node(self) -> str | None:
        """The node that ended last in this generation."""
        last = self._execution.last
        return None if last is None else last.name

    @property
    def input(self) -> Mapping[str, Any]:
        """Its input by parameter name, decoded afresh."""
        return self._execution.graph.load_input(self._execution.input_tree)

    def _scope(self) -> Scope:
        current = current_scope.get()
        if current is None or current is self._root:
            return self._root
        return current if current.execution is self._execution and current.within(self._root) else self._root

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

    # --- waits --------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        text: str,
        *,
        choices: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
        kind: QuestionKind | None = None,
        default: Any = MISSING,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> Any:
        """Ask a person, and wait for the answer: seconds or months, with or without a process.

        Args:
            text: the question.
            choices: what may be answered.
            keys: a short form of each choice, which may be answered in its place.
            kind: `choice` (one of them; default where there are choices), `multiple` (a list of them), `confirm` (yes
                or no), `text` (default without choices).
            default: the answer after the timeout.
            timeout: how long to wait.
            key: the wait's key.

        Returns:
            The choice, the list of choices, a bool, or the text.

        Raises:
            WaitTimeout: it timed out and there is no default.
        """
        kind = kind or ("choice" if choices is not None else "text")
        if not isinstance(text, str) or not text:
            raise InputTypeError(f"a question is a text, not {text!r}", run_id=self.id)
        if (kind in ("choice", "multiple")) != (choices is not None):
            raise InputError(f"a question of kind {kind!r} {'needs' if choices is None else 'takes no'} choices")
        names = list(choices or ())
        if choices is not None and (not names or len(set(names)) != len(names)):
            raise InputError("choices must be different, and at least one")
        if keys is not None and (len(keys) != len(names) or len({*keys, *names}) != 2 * len(names)):
            raise InputError("keys must be as many as the choices, and different from them and from each other")
        question: dict[str, Any] = {"kind": kind, "text": text, "choices": names}
        if keys is not None:
            question["keys"] = list(keys)
        data: dict[str, Any] = {"wait": "question", "question": question, **self._deadline(timeout)}
        if default is not MISSING:
            data |= {"has_default": True, "default": check_answer(question, default)}
        event, scope = await self._wait("ask", key, question, data)
        return await waiting.result_of(self._execution, event, scope, f"question {text!r}")

    @overload
    async def wait_for(
        self,
        signal: str,
        *,
        match: str | None = None,
        timeout: Duration | None = None,
        default: Any = MISSING,
        key: str | None = None,
    ) -> Any: ...
    @overload
    async def wait_for(
        self,
        signal: str,
        *,
        type: type[T],
        match: str | None = None,
        timeout: Duration | None = None,
        default: Any = MISSING,
        key: str | None = None,
    ) -> T: ...
    async def wait_for(
        self,
        signal: str,
        *,
        match: str | None = None,
        timeout: Duration | None = None,
        default: Any = MISSING,
        key: str | None = None,
        type: Any = Any,
    ) -> Any:
        """Wait for a signal from outside; one that came early was kept.

        Args:
            signal: its name.
            match: take only a signal that was sent with this key.
            timeout: how long to wait.
            default: what to return after the timeout.
            key: the wait's key.
            type: what the payload must be.

        Returns:
            The signal's payload. Each signal is delivered once.

        Raises:
            WaitTimeout: it timed out and there is no default.
        """
        check_name(signal, field="signal")
        if match is not None:
            check_key(match, field="match")
        data: dict[str, Any] = {"wait": "signal", "name": signal, "match": match, **self._deadline(timeout)}
        codec = codec_for(type)
        if default is not MISSING:
            data |= {"has_default": True, "default": codec.tree(default)}
        event, scope = await self._wait(f"wait_for.{signal}", key, {"signal": signal, "match": match}, data)
        tree = await waiting.result_of(self._execution, event, scope, f"signal {signal!r}")
        return codec.load_json(tree)

    async def sleep(self, duration: Duration, *, key: str | None = None) -> None:
        """Sleep; the due instant is recorded, so a restart does not begin anew.

        Args:
            duration: `"1h"`, a timedelta, or seconds.
        """
        delay_ms = round(parse_duration(duration, name="duration") * 1000)
        due_ms = self._execution.services.clock.now_ms() + delay_ms
        await self._wait("sleep", key, {"duration_ms": delay_ms}, {"wait": "timer", "deadline_ms": due_ms})

    async def sleep_until(self, when: datetime, *, key: str | None = None) -> None:
        """Sleep until an instant.

        Args:
            when: with a time zone.
        """
        if not isinstance(when, datetime) or when.tzinfo is None:
            raise InputTypeError(f"sleep_until takes a datetime with a time zone, not {when!r}", run_id=self.id)
        due_ms = round(when.timestamp() * 1000)
        await self._wait("sleep", key, {"until_ms": due_ms}, {"wait": "timer", "deadline_ms": due_ms})

    def _deadline(self, timeout: Duration | None) -> dict[str, int]:
        if timeout is None:
            return {}
        delay_ms = round(parse_duration(timeout, name="timeout") * 1000)
        return {"deadline_ms": self._execution.services.clock.now_ms() + delay_ms}

    async def _wait(self, name: str, key: str | None, asked: dict[str, Any], data: dict[str, Any]) -> tuple[Any, Scope]:
        self._execution.check()
        scope = self._scope()
        scope.enter(name)
        try:
            return await waiting.wait(self._execution, scope, name, key, asked, data), scope
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

    # --- inside -------------------------------------------------------------------------------------------------------

    def _refuse_open(self, scope: Scope, what: str) -> None:
        if scope.open:
            scope.enter(what)

    def _dump(self, value: Any, what: str) -> bytes:
        data = codec_for(Any).dump(value)
        self._execution.refuse_shape(data, what)
        return self._execution.redact(data)

    def _append(self, kind: str, payload: bytes, scope: Scope, key: str) -> None:
        execution = self._execution
        execution.log.add(execution.services.draft(kind, payload, node=scope.node, scope=scope.path, key=key))
