"""Bringing commands to runs: answers, signals, cancel, pause, resume, retry, and the resolution of doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import orjson

from perdure.core.errors import (
    InputError,
    NotFoundError,
    RunEndedError,
    SecretLeakError,
    StateError,
    WaitNotFoundError,
)
from perdure.core.ids import check_key, check_name, check_run_id
from perdure.core.secrets import payload_secret_shape
from perdure.core.values import codec_for
from perdure.engine.commands import command
from perdure.engine.execution import Execution
from perdure.engine.face import Face
from perdure.engine.handle import RunHandle
from perdure.engine.loading import load_state
from perdure.engine.recovery import recover
from perdure.journal import decide
from perdure.journal.state import TERMINAL, RunState
from perdure.store.port import RunFilter

P = ParamSpec("P")
R = TypeVar("R")
Profile = str | Mapping[str, Any]


class Commanding(Face):
    """The face that commands runs."""

    _owned: dict[str, Execution]

    def run(self, run_id: str) -> RunHandle[Any]:
        """A handle on a run by its id; whether it exists shows at the first use."""
        return RunHandle(self, check_run_id(run_id))

    async def answer(
        self,
        run_id: str,
        value: Any,
        *,
        wait_id: str | None = None,
        saw: str | None = None,
        actor: str = "person",
        via: str | None = None,
        command_id: str | None = None,
    ) -> None:
        """Answer a question.

        Args:
            value: one of the choices, a list of them, a bool, or text.
            wait_id: the question; may be omitted when the run asks one.
            saw: the hash of what was looked at, for a question that asks to approve something.
            actor: who answers.
            via: the service that brought a person's answer.
            command_id: the same id again is recognised as a resend.

        Raises:
            WaitNotFoundError, WaitClosedError, QuestionExpiredError, RunEndedError: nothing was written.
            AnswerRefusedError, StaleApprovalError: nothing was written, and the question stays open.
        """
        tree = self._outside(value, "an answer")
        clock = self._services.clock

        def decided(state: RunState) -> list[decide.Decision]:
            return decide.answer(state, wait_id, tree, command_id, now_ms=clock.now_ms(), saw=saw, via=via)

        await self._command(run_id, decided, actor)

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
        via: str | None = None,
    ) -> str:
        """Send a signal to a run; it is kept until the run reads it.

        Args:
            name: of the signal.
            payload: JSON data.
            run_id: the run; without it, the one run that waits for this name and key.
            match: the key that a waiting run may ask for.
            sender_id: the same id again is recognised as a resend.
            via: the service that brings a person's signal; so it is with every command.

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
        tree = self._outside(payload, "a signal's payload")
        await self._command(
            run_id, lambda state: decide.signal(state, name, match, tree, sender_id, command_id), actor, via
        )
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
        self,
        run_id: str,
        *,
        reason: str = "",
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
    ) -> None:
        """Ask a run, and with it its children, to end. A run that nobody executes is ended here.

        Raises:
            RunEndedError: it has ended otherwise.
        """
        state = await self._command(run_id, lambda state: decide.cancel(state, reason, command_id), actor, via)
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

    async def _signal_child(self, run_id: str, name: str, payload: Any, match: str | None, command_id: str) -> bool:
        """Send a child a signal; whether it was there to be sent one."""
        try:
            await self.signal(
                name, payload, run_id=run_id, match=match, command_id=command_id, actor=self._services.actor
            )
        except (RunEndedError, NotFoundError):
            return False
        return True

    async def _cancel_child(self, run_id: str, *, reason: str, command_id: str) -> None:
        try:
            await self.cancel(run_id, reason=reason, command_id=command_id, actor=self._services.actor)
        except (StateError, NotFoundError):
            return  # it has ended, or its start was never committed

    async def pause(
        self, run_id: str, *, command_id: str | None = None, actor: str = "person", via: str | None = None
    ) -> None:
        """Pause a run: steps in flight end, nothing new begins.

        Raises:
            RunEndedError: it has ended.
        """
        await self._command(run_id, lambda state: decide.pause(state, "paused", command_id), actor, via)

    async def unpause(
        self,
        run_id: str,
        *,
        accept_definition: bool = False,
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
    ) -> None:
        """Undo a pause, or let a parked run go on.

        Args:
            accept_definition: for a run parked as `definition_changed`: go on with the definition that is loaded here,
                or, where the workflow is not loaded, with the one that the run was parked for.

        Raises:
            StateError: it is not paused.
            UnknownWorkflowError: the definition to accept is not loaded.
        """
        accepted: str | None = None
        if accept_definition:
            state = await self.run(run_id).fold()
            accepted = None if state.workflow in self.registry else state.detail.get("loaded")
            accepted = accepted or self.registry.get(state.workflow).fingerprint
        await self._command(run_id, lambda state: decide.resume(state, command_id, accepted=accepted), actor, via)

    async def retry(
        self,
        run_id: str,
        *,
        reason: str = "",
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
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
        cancelled = await self._cancelled_children(run_id) if row.status == "cancelled" else []
        await self._command(
            run_id,
            lambda state: decide.reopen(state, reason, command_id, parent_took=took, cancelled_children=cancelled),
            actor,
            via,
        )

    async def _cancelled_children(self, run_id: str) -> list[str]:
        """Children that a cancel of their parent has ended, or is about to end."""
        found: list[str] = []
        for row in await self.store.list_runs(RunFilter(parent_id=run_id, limit=100_000)):
            loaded = None if row.status in TERMINAL else await load_state(self.store, row.run_id)
            if row.status == "cancelled" or (loaded is not None and loaded[0].cancel_requested is not None):
                found.append(row.run_id)
        return found

    async def resolve(
        self,
        run_id: str,
        resolution: str,
        *,
        step: str | None = None,
        value: Any = None,
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
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
        tree = self._outside(value, "a resolution")
        await self._command(run_id, lambda state: decide.resolve(state, step, resolution, tree, command_id), actor, via)

    async def _command(
        self,
        run_id: str,
        decided: Callable[[RunState], list[decide.Decision]],
        actor: str,
        via: str | None = None,
    ) -> RunState:
        self.worker  # noqa: B018  refuses a runtime that is not open
        execution = self.worker.executions.get(run_id)
        known = execution.log.committed() if execution is not None else None
        return await command(self._services, run_id, decided, actor, known, via=via)

    def _outside(self, value: Any, what: str) -> Any:
        """The JSON tree of a value that somebody brings; one that has the shape of a secret is refused."""
        data = codec_for(Any).dump(value)
        shape = payload_secret_shape(data)
        if shape is not None:
            raise SecretLeakError(f"{what} has the shape of a secret ({shape})")
        return orjson.loads(data)
