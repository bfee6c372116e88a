"""Going on with one run, and with the children that it spawns, in this process.

A worker claims whatever is due; `perdure run` executes the run that it was asked for, and nothing else that may lie in
the store. So its runtime claims nothing by itself: this supervisor claims the run and its children, one by one, as long
as nobody else executes them, and sees when nothing can go on without somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from perdure.cli.exits import ANSWER, DOUBT, OF_ENDING, PAUSED, WAITING
from perdure.cli.times import now_ms
from perdure.engine.runtime import Runtime
from perdure.journal.state import TERMINAL
from perdure.store.port import OpenWait, RunFilter, RunRow

POLL_S: Final = 0.25
"""How often to look when nothing is heard: nobody announces that a worker died."""
PAUSE_S: Final = 0.02
"""The least time between two looks."""
SHORT_WAIT_MS: Final = 60_000
"""Without a terminal and without a word about patience, a run is waited for if it goes on by itself so soon."""
MOST_CHILDREN: Final = 10_000

Tree = Sequence[RunRow]
Look = Callable[[Tree], Awaitable[bool]]


class Supervisor:
    """Goes on with a run until it ends, or until it waits for somebody who is not here.

    Args:
        runtime: open, and claiming nothing by itself.
        run_id: the run.
        patience_s: how long to stay with a tree of runs that only waits; `None`: see `SHORT_WAIT_MS`. May be infinite.
        look: called with the index rows of the run and its descendants whenever something may have changed; answers
            questions, shows progress; returns whether it changed something.
        asking: whether somebody is being asked right now.

    Attributes:
        poll_s: how often to look when nothing is heard, in seconds.
    """

    poll_s = POLL_S

    def __init__(
        self,
        runtime: Runtime,
        run_id: str,
        *,
        patience_s: float | None,
        look: Look,
        asking: Callable[[], bool],
    ) -> None:
        self._runtime = runtime
        self._run_id = run_id
        self._patience_s = patience_s
        self._look = look
        self._asking = asking
        self._stopping = False
        self._heard: asyncio.Event | None = None
        self._waiting_since_s: float | None = None

    def stop(self) -> None:
        """Stop supervising."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Something may have changed: look again."""
        if self._heard is not None:
            self._heard.set()

    async def supervise(self) -> int | None:
        """Go on with the run.

        Returns:
            How it stands when nothing can be done here any more, as an exit code; `None` if it was told to stop.
        """
        with self._runtime.hub.watch(None) as heard:
            self._heard = heard
            loop = asyncio.get_running_loop()
            while not self._stopping:
                heard.clear()
                began_s = loop.time()
                tree = await self.tree()
                await self._claim(tree)
                if not await self._look(tree):
                    code = await self._verdict(tree)
                    if code is not None:
                        return code
                await self._pause(heard, loop.time() - began_s)
        return None

    async def _pause(self, heard: asyncio.Event, took_s: float) -> None:
        """Until something is heard; looking at a large tree is not to take the time of those who work."""
        await asyncio.sleep(max(PAUSE_S, 5 * took_s))
        try:
            async with asyncio.timeout(self.poll_s):
                await heard.wait()
        except TimeoutError:
            return

    async def tree(self) -> list[RunRow]:
        """The index rows of the run and its descendants, the run first; below a run that has ended nobody looks."""
        store = self._runtime.store
        found = [await self._runtime.run(self._run_id).row()]
        for row in found:
            if row.status not in TERMINAL:
                found += await store.list_runs(RunFilter(parent_id=row.run_id, limit=MOST_CHILDREN))
        return found

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def _claim(self, tree: Tree) -> None:
        """Execute here what nobody executes."""
        runtime, worker = self._runtime, self._runtime.worker
        for row in tree:
            if row.status in TERMINAL or row.status == "paused" or row.caller_owned:
                continue
            if row.workflow not in runtime.registry or not await self._is_free(row):
                continue
            claimed = await runtime.store.claim_run(worker.lease, row.run_id)
            if claimed is not None:
                worker.begin(claimed)

    async def _is_free(self, row: RunRow) -> bool:
        if row.owner is None:
            return True
        # What is ours stays so until the worker lets go of it; it takes up again by itself what it lost.
        return row.owner != self._runtime.worker_id and not await self._lives(row.owner)

    async def _lives(self, worker_id: str) -> bool:
        return any(one.alive and one.worker_id == worker_id for one in await self._runtime.store.workers())

    # --- seeing when nothing can go on --------------------------------------------------------------------------------

    async def _verdict(self, tree: Tree) -> int | None:
        root = tree[0]
        if root.status in OF_ENDING:
            return OF_ENDING[root.status]
        if self._asking() or await self._moves(tree):
            self._waiting_since_s = None
            return None
        waits = await self._waits(tree)
        if _is_about_to_settle(waits, tree) or await self.tree() != tree:  # it went on while the waits were read
            return None
        code = code_of_waits(waits, tree)
        return code if self._is_over(code, waits) else None

    async def _moves(self, tree: Tree) -> bool:
        """Whether anything is executed, or about to be."""
        for row in tree:
            if row.status in ("pending", "running") and not row.caller_owned:
                if row.workflow in self._runtime.registry:
                    return True
                if row.owner is not None and await self._lives(row.owner):
                    return True
        return False

    async def _waits(self, tree: Tree) -> list[OpenWait]:
        store = self._runtime.store
        return [wait for row in tree if row.status == "waiting" for wait in await store.open_waits(run_id=row.run_id)]

    def _is_over(self, code: int, waits: Sequence[OpenWait]) -> bool:
        """Whether there is no point, or no patience, to wait here."""
        if code == PAUSED:
            return True
        if self._patience_s is not None:
            now_s = asyncio.get_running_loop().time()
            if self._waiting_since_s is None:
                self._waiting_since_s = now_s
            return now_s - self._waiting_since_s >= self._patience_s
        # A question's own deadline is for whoever answers it; what else is due soon may change what is waited for.
        deadlines = [
            one.wait.deadline_ms
            for one in waits
            if one.wait.deadline_ms is not None and (one.wait.kind != "question" or code not in (DOUBT, ANSWER))
        ]
        return not deadlines or min(deadlines) - now_ms() > SHORT_WAIT_MS


def _is_about_to_settle(waits: Sequence[OpenWait], tree: Tree) -> bool:
    """Whether a parent has not taken the outcome of a child that has ended, or that has not begun to exist."""
    going = {row.run_id for row in tree if row.status not in TERMINAL}
    return any(one.wait.kind == "child" and one.wait.name not in going for one in waits)


def code_of_waits(waits: Sequence[OpenWait], tree: Tree) -> int:
    """The exit code of a tree of runs that only waits."""
    questions = [one.wait.name == "doubt" for one in waits if one.wait.kind == "question"]
    if questions:
        return DOUBT if any(questions) else ANSWER
    return PAUSED if any(row.status == "paused" for row in tree) else WAITING
