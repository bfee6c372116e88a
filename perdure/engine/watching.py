"""Finding and watching runs: lists, open questions, the feed of all events, counts, and callbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from perdure.core import kinds
from perdure.core.errors import ArtifactNotFoundError, CorruptRecordError
from perdure.engine.face import Face
from perdure.engine.handle import PAGE
from perdure.engine.large import resolved
from perdure.engine.loading import load_state
from perdure.engine.logs import logger
from perdure.journal.state import RunState, Wait
from perdure.store.port import Append, FeedEntry, OpenWait, RunFilter, RunRow

P = ParamSpec("P")
R = TypeVar("R")
Profile = str | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """An open question of a run.

    Attributes:
        run_id, wait_id: where it is asked; an answer names both.
        text, kind, choices: what is asked; kind `doubt` asks what became of a step.
        keys: by which the choices may be named; empty, or one for each.
        deadline_ms: when it times out, if ever.
        has_default, default: what it takes then.
        step: the key of the step in doubt.
        approve: the value that is to be approved, as it is recorded.
        hash: SHA-256, in hex, of its canonical JSON; an answer names it. `None` where there is nothing to approve.
        declinable: `False` is an answer, too.
    """

    run_id: str
    wait_id: str
    workflow: str
    text: str
    kind: str
    choices: tuple[str, ...]
    deadline_ms: int | None
    has_default: bool
    default: Any
    step: str | None
    keys: tuple[str, ...] = ()
    approve: Any = None
    hash: str | None = None
    declinable: bool = False


class Watching(Face):
    """The face that finds and watches runs."""

    _ended_callbacks: list[Callable[[str, str], None]]
    _waiting_callbacks: list[Callable[[str], None]]

    async def runs(self, where: RunFilter | None = None) -> list[RunRow]:
        """Runs, newest first."""
        return await self.store.list_runs(where or RunFilter())

    async def questions(self, run_id: str | None = None) -> list[Question]:
        """Open questions, oldest first; of one run or of all.

        Of all, those that cannot be read are left out and logged: they harm no other.

        Raises:
            CorruptRecordError, ArtifactNotFoundError: those of the run that was named cannot be read.
        """
        found: list[Question] = []
        states: dict[str, RunState | None] = {}
        for place in await self.store.open_waits(kind="question", run_id=run_id):
            try:
                if place.run_id not in states:
                    states[place.run_id] = None
                    loaded = await load_state(self.store, place.run_id)
                    states[place.run_id] = loaded[0] if loaded is not None else None
                state = states[place.run_id]
                wait = state.waits.get(place.wait.wait_id) if state is not None else None
                if wait is not None and wait.closed is None:
                    found.append(await self._question(place, wait))
            except (ArtifactNotFoundError, CorruptRecordError) as error:
                if run_id is not None:
                    raise
                about = {"run_id": place.run_id}
                logger.error("run %s: its questions cannot be read: %s", place.run_id, error, extra=about)
        return found

    async def _question(self, place: OpenWait, wait: Wait) -> Question:
        question = wait.data["question"]
        return Question(
            place.run_id,
            wait.wait_id,
            place.workflow,
            question["text"],
            question["kind"],
            tuple(question.get("choices") or ()),
            wait.deadline_ms,
            bool(wait.data.get("has_default")),
            wait.data.get("default"),
            wait.data.get("subject"),
            tuple(question.get("keys") or ()),
            await resolved(self.store, question.get("approve")),
            question.get("hash"),
            bool(question.get("declinable")),
        )

    async def events(self, *, after: int = 0) -> AsyncIterator[FeedEntry]:
        """Events of all runs in commit order: replay, then live, no gap and no repeat.

        Args:
            after: the position of the last entry seen; 0 for all.
        """
        position = after
        with self.hub.watch(None) as grown:
            while True:
                grown.clear()
                entries = await self.store.read_feed(after=position, limit=PAGE)
                for entry in entries:
                    position = entry.position
                    yield entry
                if not entries:
                    await grown.wait()

    async def stats(self) -> dict[str, Any]:
        """Counts for operators: runs by status, what is executed here, commits and appends of this process."""
        return {
            "worker": self.worker_id,
            "store": self.store.url,
            "durability": self.store.durability,
            "runs": await self.store.count_runs(),
            "executing": len(self.worker.executions),
            "recovered": self.worker.recovered,
            "commits": self._writer.commits,
            "appends": self._writer.appends,
            "workers": [
                {
                    "worker": row.worker_id,
                    "pid": row.pid,
                    "host": row.host,
                    "alive": row.alive,
                    "draining": row.draining,
                }
                for row in await self.store.workers()
            ],
        }

    def on_ended(self, callback: Callable[[str, str], None]) -> None:
        """Call back with run id and status when a run has ended in this process."""
        self._ended_callbacks.append(callback)

    def on_waiting(self, callback: Callable[[str], None]) -> None:
        """Call back with the run id when a run of this process waits."""
        self._waiting_callbacks.append(callback)

    def _committed(self, appends: list[Append]) -> None:
        """After each commit: tell who watches."""
        hub = self.hub
        if not (hub.watched or self._ended_callbacks or self._waiting_callbacks):
            return
        hub.grown([append.run_id for append in appends])
        for append in appends:
            for draft in append.drafts:
                change = draft.change
                if change is None:
                    continue
                if change.wake is not None:
                    hub.touched(change.wake)
                    hub.touched(append.run_id)
                    self._services.due()
                if draft.kind == kinds.RUN_PAUSED:
                    hub.settled(append.run_id)
                elif draft.kind in kinds.TERMINAL_KINDS:
                    hub.settled(append.run_id)
                    for ended in self._ended_callbacks:
                        ended(append.run_id, draft.kind.partition(".")[2])
                elif draft.kind == kinds.RUN_SUSPENDED:
                    for waiting in self._waiting_callbacks:
                        waiting(append.run_id)
