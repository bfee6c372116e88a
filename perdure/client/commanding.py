"""Changing runs: start, answer, signal, cancel, pause, resume, retry, resolve; and the result of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

from perdure.client.face import given, run_path, texts
from perdure.client.looking import Looking, decoded_value
from perdure.client.views.runs import RunRef, RunView
from perdure.core.durations import Duration, format_duration, parse_duration
from perdure.core.errors import InputError, ResultTimeoutError, RunCancelled, RunFailed, RunParkedError
from perdure.core.kinds import RUN_CANCELLED, RUN_COMPLETED, RUN_FAILED, RUN_PAUSED

Resolution = Literal["done", "not_done", "fail"]
_SETTLING: Final = frozenset((RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED, RUN_PAUSED))


class Commanding(Looking):
    """The face that changes runs. When a method returns, what it asked for is durable.

    Every command goes under an idempotency key, so that one whose answer was lost is sent again without being done
    again. Pass `idempotency_key` where the program itself may come again with the same command.
    """

    async def start(
        self,
        workflow: str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        tags: Iterable[str] | None = None,
        skip_tags: Iterable[str] | None = None,
        profile: Literal["minimal", "normal", "verbose"] | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef:
        """Start a run.

        Args:
            workflow: the name of one that the service has loaded.
            input: by parameter name, as plain JSON data.
            id: of the run; the same start under it again is the same run.
            tags: to find it by.
            skip_tags: states of a plan to skip.
            profile: how much its journal tells.
            idempotency_key: the same start under it again is the same run; not together with `id`.

        Raises:
            UnknownWorkflowError, InputError: nothing was started.
            RunConflictError: the id is taken by another start.
        """
        if id is not None and idempotency_key is not None:
            raise InputError("the run has an id and an idempotency key", hint="leave one out", field="id")
        body = {"workflow": workflow, "input": dict(input or {})}
        body |= given(id=id, tags=texts(tags), skip_tags=texts(skip_tags), profile=profile)
        return RunRef.read(await self._post("/runs", body, idempotency_key, keyless=id is not None))

    async def answer(
        self,
        run_id: str,
        value: Any,
        *,
        wait_id: str | None = None,
        hash: str | None = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef:
        """Answer a question.

        Args:
            run_id: the run that asks.
            value: a choice, several of them, true or false, or text.
            wait_id: of the question; may be omitted where the run asks one.
            hash: of what was seen, where something is to be approved.
            by: who decides, where the service speaks for a person.
            idempotency_key: the same answer under it again is recognised.

        Raises:
            RunNotFoundError, WaitNotFoundError, WaitClosedError: there is no such open question.
            AnswerRefusedError: the answer does not fit it; it stays open.
        """
        path = run_path(run_id, "answer") if wait_id is None else run_path(run_id, "questions", wait_id, "answer")
        body = {"value": value} | given(hash=hash, by=by)
        return RunRef.read(await self._post(path, body, idempotency_key))

    async def signal(
        self,
        name: str,
        payload: Any = None,
        *,
        run_id: str | None = None,
        match: str | None = None,
        sender_id: str | None = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef:
        """Send a signal; it is kept until the run reads it.

        Args:
            name: of the signal.
            payload: JSON.
            run_id: the run; the one that waits for this name and key if omitted.
            match: the key that a waiting run may ask for.
            sender_id: the sender's own id of it; the same again counts once.
            by: who sends it, where the service speaks for a person; so it is with every command.
            idempotency_key: the same signal under it again is recognised.

        Raises:
            RunNotFoundError, WaitNotFoundError: nobody is there to get it.
            RunEndedError, SignalBacklogError: the run cannot take it.
        """
        path = "/signals" if run_id is None else run_path(run_id, "signal")
        body = {"name": name, "payload": payload} | given(match=match, sender_id=sender_id, by=by)
        return RunRef.read(await self._post(path, body, idempotency_key))

    async def cancel(
        self, run_id: str, *, reason: str = "", by: str | None = None, idempotency_key: str | None = None
    ) -> RunRef:
        """Ask a run, and its children, to end.

        Raises:
            RunNotFoundError, RunEndedError: there is no such run, or it has ended.
        """
        body = {"reason": reason} | given(by=by)
        return RunRef.read(await self._post(run_path(run_id, "cancel"), body, idempotency_key))

    async def pause(self, run_id: str, *, by: str | None = None, idempotency_key: str | None = None) -> RunRef:
        """Pause a run: what is in flight ends, nothing new begins.

        Raises:
            RunNotFoundError, RunEndedError: there is no such run, or it has ended.
        """
        return RunRef.read(await self._post(run_path(run_id, "pause"), given(by=by), idempotency_key))

    async def resume(
        self,
        run_id: str,
        *,
        accept_definition: bool = False,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef:
        """Undo a pause, or let a parked run go on.

        Args:
            run_id: the run.
            accept_definition: go on with the changed definition.
            by: who decides, where the service speaks for a person.
            idempotency_key: the same command under it again is recognised.

        Raises:
            RunNotFoundError, StateError: there is no such run, or it is not paused.
        """
        body = {"accept_definition": accept_definition} | given(by=by)
        return RunRef.read(await self._post(run_path(run_id, "resume"), body, idempotency_key))

    async def retry(
        self, run_id: str, *, reason: str = "", by: str | None = None, idempotency_key: str | None = None
    ) -> RunRef:
        """Open a failed or cancelled run again; it forgets exactly the failure that ended it.

        Raises:
            RunNotFoundError, NotReopenableError: there is no such run, or it cannot be opened again.
        """
        body = {"reason": reason} | given(by=by)
        return RunRef.read(await self._post(run_path(run_id, "retry"), body, idempotency_key))

    async def resolve(
        self,
        run_id: str,
        resolution: Resolution,
        *,
        step: str | None = None,
        value: Any = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef:
        """Say what became of a step in doubt.

        Args:
            run_id: the run.
            resolution: what became of it.
            step: its key; may be omitted when one step is in doubt.
            value: what it returned.
            by: who decides, where the service speaks for a person.
            idempotency_key: the same command under it again is recognised.

        Raises:
            RunNotFoundError, StepNotFoundError, NotInDoubtError: there is no such step in doubt.
        """
        body = {"resolution": resolution, "value": value} | given(step=step, by=by)
        return RunRef.read(await self._post(run_path(run_id, "resolve"), body, idempotency_key))

    # --- results ------------------------------------------------------------------------------------------------------

    async def result(self, run_id: str, *, timeout: Duration | None = None, wait_parked: bool = False) -> Any:
        """Wait until a run has ended, and give its output, decoded.

        Args:
            run_id: the run.
            timeout: for how long; the run goes on after it.
            wait_parked: also wait while the run is paused or parked.

        Raises:
            RunFailed: it ended `failed`; `ids` hold the error.
            RunCancelled: it ended `cancelled`.
            RunParkedError: it is paused or parked, and will not end by itself.
            ResultTimeoutError: it has not ended in time; also a `TimeoutError`.
        """
        limit_s = None if timeout is None else parse_duration(timeout, name="timeout")
        limit = asyncio.timeout(limit_s)
        try:
            async with limit:
                view = await self._settled(run_id, wait_parked)
                return await self._outcome(view)
        except TimeoutError as error:
            if limit_s is None or not limit.expired():
                raise
            raise ResultTimeoutError(
                f"run {run_id} has not ended within {format_duration(limit_s)}", run_id=run_id
            ) from error

    async def _settled(self, run_id: str, wait_parked: bool) -> RunView:
        view = await self.show(run_id)
        while not view.ended and (wait_parked or view.status != "paused"):
            async with aclosing(self.events(run_id, after=view.seq or 0)) as events:
                async for event in events:
                    if event.kind in _SETTLING:
                        break
            view = await self.show(run_id)
        return view

    async def _outcome(self, view: RunView) -> Any:
        run_id = view.run_id
        if view.status == "paused":
            raise _parked(view)
        if view.status == "failed":
            error = view.error or {}
            raise RunFailed(
                f"run {run_id} failed: {error.get('message', '')}",
                hint=error.get("hint") or "see it with 'perdure show'; 'perdure retry' tries again what failed",
                run_id=run_id,
                error=error,
            )
        if view.status == "cancelled":
            told = await self._cancelled(run_id, view.seq or 0)
            raise RunCancelled(
                f"run {run_id} was cancelled",
                run_id=run_id,
                reason=told.get("reason") or None,
                in_doubt=told.get("in_doubt"),
            )
        return decoded_value(view.output)

    async def _cancelled(self, run_id: str, seq: int) -> dict[str, Any]:
        """What the event says with which a run was cancelled: one of the newest, though answers may stand behind it."""
        told: dict[str, Any] = {}
        for after in (max(0, seq - 20), 0):
            async for event in self.events(run_id, after=after, follow=False):
                if event.kind == RUN_CANCELLED:
                    told = event.payload or {}
            if told:
                break
        return told


def _parked(view: RunView) -> RunParkedError:
    why = next((one.raw for one in view.why if one.kind == "paused"), {})
    text, _, message = str(why.get("text", "")).partition("it is parked: ")
    told = f" ({message})" if not text and message and message != view.reason else ""
    return RunParkedError(
        f"run {view.run_id} is paused: {view.reason}{told}",
        run_id=view.run_id,
        reason=view.reason,
        detail=why.get("detail"),
    )
