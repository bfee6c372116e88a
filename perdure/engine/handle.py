"""`RunHandle`: a run as a program outside of it sees it. It speaks only of what is committed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from perdure.core.errors import (
    InputError,
    RunCancelled,
    RunFailed,
    RunNotFoundError,
    RunParkedError,
    UnknownWorkflowError,
)
from perdure.core.events import Event, Head
from perdure.core.values import codec_for
from perdure.engine.large import resolved
from perdure.engine.loading import load_state, read_ending
from perdure.journal.chain import check
from perdure.journal.state import TERMINAL, RunState
from perdure.store.port import RunRow

if TYPE_CHECKING:
    from perdure.engine.commanding import Commanding

R = TypeVar("R")
PAGE = 1000


class RunHandle(Generic[R]):
    """A handle on a run.

    Attributes:
        id: the run's id.
    """

    def __init__(self, runtime: Commanding, run_id: str) -> None:
        self._runtime = runtime
        self.id = run_id

    def __repr__(self) -> str:
        return f"<run {self.id}>"

    async def row(self) -> RunRow:
        """The run's index row: status, reason, due time and so on.

        Raises:
            RunNotFoundError: there is no such run.
        """
        row = await self._runtime.store.get_run(self.id)
        if row is None:
            raise RunNotFoundError(f"no run {self.id!r}", run_id=self.id)
        return row

    async def status(self) -> str:
        """The run's status: `pending`, `running`, `waiting`, `paused`, `completed`, `failed` or `cancelled`."""
        return (await self.row()).status

    async def fold(self, *, at: int | None = None) -> RunState:
        """The whole folded state, as of now or as of a seq.

        Args:
            at: a seq; every seq is a checkpoint.

        Raises:
            InputError: the journal does not reach that far.
        """
        loaded = await load_state(self._runtime.store, self.id, until=at, from_start=at is not None)
        if loaded is None:
            raise RunNotFoundError(f"no run {self.id!r}", run_id=self.id)
        state, head = loaded
        if at is not None and (at < 1 or head.seq < at):
            raise InputError(f"run {self.id} has no seq {at}; its journal ends at {head.seq}", run_id=self.id, seq=at)
        return state

    async def state(self, *, at: int | None = None) -> dict[str, Any]:
        """The author's key-value state, decoded, as of now or as of a seq."""
        view = (await self.fold(at=at)).view()
        store = self._runtime.store
        return {name: codec_for(Any).load_json(await resolved(store, value)) for name, value in view.items()}

    async def result(self, *, wait_parked: bool = False) -> R:
        """Wait until the run has ended, and give its output.

        Args:
            wait_parked: also wait while the run is paused or parked.

        Raises:
            RunFailed: it ended `failed`; `ids` hold the error.
            RunCancelled: it ended `cancelled`.
            RunParkedError: it is paused or parked, and will not end by itself.
        """
        runtime = self._runtime
        with runtime.hub.watch_outcome(self.id) as settled:
            while True:
                settled.clear()
                row = await self.row()
                if row.status in TERMINAL:
                    break
                if row.status == "paused" and not wait_parked:
                    state = await self.fold()
                    data = state.paused.data if state.paused is not None else {}
                    raise RunParkedError(
                        f"run {self.id} is paused: {row.reason}"
                        + (f" ({data['message']})" if data.get("message") else ""),
                        run_id=self.id,
                        reason=row.reason,
                        detail=data.get("detail"),
                    )
                await settled.wait()
        return await self._outcome(row)

    async def _outcome(self, row: RunRow) -> R:
        data = (await read_ending(self._runtime.store, self.id)).data or {}
        if row.status == "failed":
            error = data.get("error") or {}
            raise RunFailed(
                f"run {self.id} failed: {error.get('message', '')}",
                hint=error.get("hint") or "see it with 'perdure show'; 'perdure retry' tries again what failed",
                run_id=self.id,
                error=error,
            )
        if row.status == "cancelled":
            raise RunCancelled(
                f"run {self.id} was cancelled",
                run_id=self.id,
                reason=data.get("reason") or None,
                in_doubt=data.get("in_doubt"),
            )
        tree = await resolved(self._runtime.store, data.get("output"))
        try:
            codec = self._runtime.registry.get(row.workflow).output
        except UnknownWorkflowError:
            codec = codec_for(Any)
        return cast(R, codec.load_json(tree))

    async def events(self, *, after: int = 0, follow: bool = True) -> AsyncIterator[Event]:
        """The run's events: those that stand in the journal, then live ones as they are committed; no gap, no repeat.

        Args:
            after: begin behind this seq.
            follow: go on until the run has ended; otherwise stop at the present end of the journal.
        """
        runtime = self._runtime
        seq = after
        with runtime.hub.watch(self.id) as grown:
            while True:
                grown.clear()
                row = await self.row()
                events = await runtime.store.read(self.id, after=seq, limit=PAGE)
                for event in events:
                    seq = event.seq
                    yield event
                if len(events) == PAGE:
                    continue
                if not events and (not follow or row.status in TERMINAL):
                    return
                if events:
                    continue
                await grown.wait()

    async def verify(self) -> Head:
        """Check the whole hash chain.

        Returns:
            The head.

        Raises:
            CorruptRecordError: names the first bad record in `ids["seq"]`.
        """
        await self.row()
        return check(self.id, await self._runtime.store.read(self.id))

    # --- commands -----------------------------------------------------------------------------------------------------

    async def answer(
        self,
        value: Any,
        *,
        wait_id: str | None = None,
        saw: str | None = None,
        actor: str = "person",
        command_id: str | None = None,
    ) -> None:
        """See `Runtime.answer`."""
        await self._runtime.answer(self.id, value, wait_id=wait_id, saw=saw, actor=actor, command_id=command_id)

    async def signal(
        self,
        name: str,
        payload: Any = None,
        *,
        match: str | None = None,
        sender_id: str | None = None,
        command_id: str | None = None,
    ) -> None:
        """See `Runtime.signal`."""
        await self._runtime.signal(
            name, payload, run_id=self.id, match=match, sender_id=sender_id, command_id=command_id
        )

    async def cancel(self, *, reason: str = "", command_id: str | None = None) -> None:
        """See `Runtime.cancel`."""
        await self._runtime.cancel(self.id, reason=reason, command_id=command_id)

    async def pause(self, *, command_id: str | None = None) -> None:
        """See `Runtime.pause`."""
        await self._runtime.pause(self.id, command_id=command_id)

    async def resume(self, *, accept_definition: bool = False, command_id: str | None = None) -> None:
        """See `Runtime.unpause`."""
        await self._runtime.unpause(self.id, accept_definition=accept_definition, command_id=command_id)

    async def retry(self, *, reason: str = "", command_id: str | None = None) -> None:
        """See `Runtime.retry`."""
        await self._runtime.retry(self.id, reason=reason, command_id=command_id)
