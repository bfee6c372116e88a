"""Waiting for what comes next in a run's journal: a store is asked again and again, a service tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from perdure.cli.place import Place
from perdure.engine.runtime import Runtime

FOLLOW_S: Final = 0.1
"""How often a store is asked for new events of a run."""

Changed = Callable[[], Awaitable[None]]


@asynccontextmanager
async def changes(
    place: Place, run_id: str, *, after: int = 0, follow: bool = True
) -> AsyncIterator[tuple[Runtime, Changed]]:
    """A runtime to read from, and what to await before the run is read again.

    Args:
        place: where the run is.
        run_id: the run.
        after: the last seq that is known.
        follow: it will be awaited.
    """
    if place.server is None or not follow:
        async with place.reading() as runtime:
            yield runtime, _a_while
        return
    async with place.server.runtime(staying=True) as remote:
        await remote.run(run_id).row()
        with remote.hub.watch(run_id) as grown:
            async with remote.following(run_id, after=after) as stream:

                async def changed() -> None:
                    if stream.done():
                        stream.result()
                        await _a_while()  # the run had ended, and was opened again
                        return
                    await grown.wait()
                    grown.clear()

                yield remote, changed


async def _a_while() -> None:
    await asyncio.sleep(FOLLOW_S)
