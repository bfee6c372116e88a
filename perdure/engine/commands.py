"""Commands from outside: read the journal, decide, append at the head; if the head moved, decide again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from perdure.core.errors import HeadMovedError, RunNotFoundError
from perdure.core.events import Head
from perdure.engine.loading import load_state
from perdure.engine.services import Services
from perdure.journal.decide import Decision
from perdure.journal.state import RunState
from perdure.store.port import Append, Appended

MOST_TRIES: Final = 100

Decide = Callable[[RunState], list[Decision]]


async def command(
    services: Services,
    run_id: str,
    decide: Decide,
    actor: str,
    known: tuple[RunState, Head] | None = None,
    *,
    via: str | None = None,
) -> RunState:
    """Append what a command decides, and wait until it is durable.

    Args:
        run_id: the run.
        decide: from the folded state to events; none when the command stands in the journal already.
        actor: who brings the command.
        known: the committed state of a run that is executed here, so that its journal need not be read for this.
        via: the service that brings a person's command; recorded with it.

    Returns:
        The state that was decided on.

    Raises:
        RunNotFoundError: there is no such run.
        PerdureError: what `decide` refused; nothing was written.
        OutcomeUnknownError: the commit was not confirmed; the same command may be sent again.
    """
    refusal: HeadMovedError | None = None
    if known is not None and known[1] != await services.store.head(run_id):
        known = None  # somebody has appended what the execution has not heard of yet
    for _ in range(MOST_TRIES):
        loaded, known = known or await load_state(services.store, run_id), None
        if loaded is None:
            raise RunNotFoundError(f"no run {run_id!r}", run_id=run_id)
        state, head = loaded
        decisions = decide(state)
        if not decisions:
            return state
        try:
            await _append(services, run_id, head, decisions, actor, via)
        except HeadMovedError as error:
            refusal = error
            continue
        return state
    assert refusal is not None
    raise refusal


async def _append(
    services: Services, run_id: str, head: Head, decisions: list[Decision], actor: str, via: str | None
) -> Appended:
    brought = {} if via is None else {"via": via}
    drafts = [
        services.draft(
            decision.kind,
            orjson.dumps(
                {name: value for name, value in decision.payload.items() if not _omitted(name, value)} | brought
            ),
            node=decision.node,
            scope=decision.scope,
            key=decision.key,
            change=decision.change,
            actor=actor,
        )
        for decision in decisions
    ]
    try:
        return await services.writer.append(Append(run_id, drafts, head))
    except asyncio.CancelledError:  # its sender awaits it no more, but it may be committed yet
        settled = asyncio.ensure_future(services.writer.drained())
        settled.add_done_callback(lambda _: _announce(services, run_id))
        raise
    finally:  # also of a commit that was not confirmed, its executor must hear
        _announce(services, run_id)


def _announce(services: Services, run_id: str) -> None:
    services.hub.touched(run_id)
    services.due()


def _omitted(name: str, value: Any) -> bool:
    return value is None and name not in ("payload", "answer", "value", "output")
