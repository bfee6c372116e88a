"""`RemoteRuntime`: the face of a runtime, with the runs behind a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from perdure.cli.remote.store import RemoteStore
from perdure.core.errors import RunNotFoundError
from perdure.engine.runtime import Runtime
from perdure.engine.watching import Question

if TYPE_CHECKING:
    from perdure.client import Client
    from perdure.client import Question as QuestionView

PERSON: Final = "person:"


class RemoteRuntime(Runtime):
    """A runtime that reads from a service and sends commands to it. It has no lease, and executes nothing.

    A command id is the idempotency key under which the service recognises a command that is sent again. The service
    adds by itself which key brought a person's command (`via`).

    Args:
        client: of the service, open.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(RemoteStore(client), execute=False)
        self.client = client

    # --- looking ------------------------------------------------------------------------------------------------------

    async def questions(self, run_id: str | None = None) -> list[Question]:
        """See `Watching.questions`."""
        try:
            return [_question(one) for one in await self.client.questions(run_id)]
        except RunNotFoundError:
            return []

    @asynccontextmanager
    async def following(self, run_id: str, *, after: int = 0) -> AsyncIterator[asyncio.Task[None]]:
        """While it is entered, who watches the hub hears when the run grows, and whoever awaits the task learns what
        the stream of its events met.

        Args:
            run_id: the run.
            after: the last seq that is known.
        """
        task = asyncio.ensure_future(self._follow(run_id, after))
        task.add_done_callback(lambda _: self.hub.grown([run_id]))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, run_id: str, after: int) -> None:
        async for _ in self.client.events(run_id, after=after):
            self.hub.grown([run_id])

    # --- commands -----------------------------------------------------------------------------------------------------

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
        """See `Commanding.answer`."""
        by = _name_of(actor)
        await self.client.answer(run_id, value, wait_id=wait_id, hash=saw, by=by, idempotency_key=command_id)

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
        """See `Commanding.signal`."""
        sent = await self.client.signal(
            name,
            payload,
            run_id=run_id,
            match=match,
            sender_id=sender_id,
            by=_name_of(actor),
            idempotency_key=command_id,
        )
        return sent.run_id

    async def cancel(
        self,
        run_id: str,
        *,
        reason: str = "",
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
    ) -> None:
        """See `Commanding.cancel`."""
        await self.client.cancel(run_id, reason=reason, by=_name_of(actor), idempotency_key=command_id)

    async def pause(
        self, run_id: str, *, command_id: str | None = None, actor: str = "person", via: str | None = None
    ) -> None:
        """See `Commanding.pause`."""
        await self.client.pause(run_id, by=_name_of(actor), idempotency_key=command_id)

    async def unpause(
        self,
        run_id: str,
        *,
        accept_definition: bool = False,
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
    ) -> None:
        """See `Commanding.unpause`."""
        by = _name_of(actor)
        await self.client.resume(run_id, accept_definition=accept_definition, by=by, idempotency_key=command_id)

    async def retry(
        self,
        run_id: str,
        *,
        reason: str = "",
        command_id: str | None = None,
        actor: str = "person",
        via: str | None = None,
    ) -> None:
        """See `Commanding.retry`."""
        await self.client.retry(run_id, reason=reason, by=_name_of(actor), idempotency_key=command_id)

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
        """See `Commanding.resolve`."""
        told = cast("Literal['done', 'not_done', 'fail']", resolution)
        by = _name_of(actor)
        await self.client.resolve(run_id, told, step=step, value=value, by=by, idempotency_key=command_id)


def _name_of(actor: str) -> str | None:
    """The name of the person who commands, for the service; without one the key is the actor."""
    return actor.removeprefix(PERSON) if actor.startswith(PERSON) else None


def _question(view: QuestionView) -> Question:
    return Question(
        run_id=view.run_id,
        wait_id=view.wait_id,
        workflow=view.workflow or "",
        text=view.text,
        kind=view.kind,
        choices=view.choices,
        deadline_ms=view.deadline_ms,
        has_default=view.has_default,
        default=view.default,
        step=view.step,
        keys=view.keys,
        approve=view.approve,
        hash=view.hash,
        declinable=view.declinable,
    )
