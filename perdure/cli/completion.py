"""Run ids for the shell's completion: the newest ones that begin as typed. Whatever goes wrong, nothing is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from perdure.cli.place import Place
    from perdure.store.port import RunRow, Status

MOST_OFFERED: Final = 50
MOST_S: Final = 1.0
"""Who waits for a completion does not wait longer for a service."""
UNFINISHED: Final[tuple[Status, ...]] = ("pending", "running", "waiting", "paused")


def complete_run(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of runs, with what they are."""
    return _offer(ctx, incomplete, ())


def complete_unfinished(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of runs that have not ended, with what they are."""
    return _offer(ctx, incomplete, UNFINISHED)


def _offer(ctx: typer.Context, incomplete: str, statuses: tuple[Status, ...]) -> list[tuple[str, str]]:
    import asyncio

    from perdure.cli.place import Place

    try:
        place = Place.of(*(ctx.params.get(name) for name in ("store", "server", "token_file")))
        rows = asyncio.run(_found(place, incomplete, statuses))
    except Exception:  # a shell that completes has no place for an error
        return []
    return [(row.run_id, f"{row.workflow}, {row.status}") for row in rows]


async def _found(place: Place, prefix: str, statuses: tuple[Status, ...]) -> list[RunRow]:
    import asyncio

    from perdure.store.port import RunFilter

    store = place.store()
    async with asyncio.timeout(None if place.server is None else MOST_S):
        await store.open()
        try:
            return await store.list_runs(RunFilter(statuses=statuses, id_prefix=prefix or None, limit=MOST_OFFERED))
        finally:
            await store.close()
