"""Starting runs: what is checked before anything is written, and the one event that begins a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar, overload

import orjson

from perdure.core import kinds
from perdure.core.canonical import canonical
from perdure.core.errors import (
    InputError,
    OutcomeUnknownError,
    RunConflictError,
    SecretLeakError,
)
from perdure.core.events import NEVER, Draft, Event, Head
from perdure.core.ids import check_run_id, check_tag, new_run_id
from perdure.core.secrets import payload_secret_shape
from perdure.engine.commanding import Commanding
from perdure.engine.handle import RunHandle
from perdure.engine.large import INLINE_BYTES, by_reference, resolved
from perdure.journal.chain import genesis
from perdure.journal.fold import fold
from perdure.journal.state import RunState
from perdure.store.port import Append, Appended, ArtifactRow, NewRun
from perdure.workflow.function import Workflow
from perdure.workflow.graph import Graph

R = TypeVar("R")
Profile = str | Mapping[str, Any]


class Starting(Commanding):
    """The face that starts runs."""

    _provenance: dict[str, Any]

    # Arguments are checked when they are bound: beside options, a `ParamSpec` cannot say what a workflow takes.
    @overload
    async def start(
        self,
        workflow: Workflow[..., R],
        /,
        *args: Any,
        id: str | None = ...,
        tags: Sequence[str] = ...,
        skip_tags: Sequence[str] = ...,
        profile: Profile = ...,
        caller_owned: bool = ...,
        actor: str | None = ...,
        **kwargs: Any,
    ) -> RunHandle[R]: ...
    @overload
    async def start(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = ...,
        tags: Sequence[str] = ...,
        skip_tags: Sequence[str] = ...,
        profile: Profile = ...,
        caller_owned: bool = ...,
        actor: str | None = ...,
        **kwargs: Any,
    ) -> RunHandle[Any]: ...
    async def start(
        self,
        workflow: Any,
        /,
        *args: Any,
        id: str | None = None,
        tags: Sequence[str] = (),
        skip_tags: Sequence[str] = (),
        profile: Profile = "normal",
        caller_owned: bool = False,
        actor: str | None = None,
        **kwargs: Any,
    ) -> RunHandle[Any]:
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
        appending = self._writer.append(append)
        try:
            appended = await (appending if adopt else asyncio.shield(self._announced(appending)))
        except RunConflictError:
            await self._same_start(run_id, graph, data)
            return
        except (OutcomeUnknownError, asyncio.CancelledError):
            if adopt:
                worker.recheck(run_id)
            raise
        if adopt:
            event = Event(
                run_id, 1, draft.kind, draft.time_ms, None, None, None, draft.actor, 0, b"", draft.salt, draft.payload
            )
            worker.adopt(run_id, fold(RunState(run_id), event), appended.head, 1)

    async def _announced(self, appending: Awaitable[Appended]) -> Appended:
        """A start that workers are told of once it is durable, also when its caller awaits it no more."""
        appended = await appending
        self._services.due()
        return appended

    def _started(
        self, graph: Graph, data: bytes, manifest: dict[str, Any], artifacts: list[ArtifactRow], actor: str | None
    ) -> Draft:
        input_data = data
        if len(data) > INLINE_BYTES:
            redact = self._services.redactor.redact_bytes
            members = {
                name: orjson.Fragment(by_reference(redact(orjson.dumps(value)), artifacts.append))
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
            if canonical(tree) == self._services.redactor.redact_bytes(data):
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
