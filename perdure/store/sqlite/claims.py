"""Who executes which run: claims, releases, and what dead workers left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from perdure.core.errors import RunNotFoundError
from perdure.core.events import NEVER
from perdure.store.clock import BootClock, boot_id
from perdure.store.port import Claimed, RunRow, WorkerRow
from perdure.store.sqlite.leases import WorkerLocks, worker_rows
from perdure.store.sqlite.queries import query
from perdure.store.sqlite.reads import run_row
from perdure.store.sqlite.session import BEGIN, Session

DUE_MS: Final = 7  # columns of `run_due` and `run_owned`
NUMBER: Final = 14

Rows = Callable[[str, Sequence[Any]], Iterable[tuple[Any, ...]]]


class Seen(NamedTuple):
    """A registered worker as it looks now.

    Args:
        row: as registered.
        dead: its process has certainly ended.
        left_ms: for so long it may still believe in its lease.
    """

    row: WorkerRow
    dead: bool
    left_ms: int


class Ownership:
    """Which workers are gone, and what becomes of their runs.

    Args:
        locks: the workers' lock files.
        clock: boot time in milliseconds.
    """

    def __init__(self, locks: WorkerLocks, clock: BootClock) -> None:
        self._locks = locks
        self._clock = clock

    # --- reading ------------------------------------------------------------------------------------------------------

    def workers(self, rows: Rows) -> list[WorkerRow]:
        """All registered workers; `rows(name, bindings)` reads."""
        seen = self._look(rows)
        return [replace(found.row, alive=not _is_gone(seen, worker_id)) for worker_id, found in seen.items()]

    def next_due_ms(self, rows: Rows, workflows: Sequence[str]) -> int | None:
        """When the next unowned or orphaned run of these workflows is due; `rows(name, bindings)` reads."""
        names, listed = _names(workflows)
        due = [row[0] for name in names for row in rows("run_due_next", (name,))]
        for owner in self._gone_owners(rows, self._look(rows)):
            due.extend(row[0] for row in rows("run_owned_next", (owner, listed)))
        return min((due_ms for due_ms in due if due_ms is not None and due_ms < NEVER), default=None)

    # --- jobs for the write connection --------------------------------------------------------------------------------

    def claim(
        self, session: Session, worker_id: str, workflows: Sequence[str], now_ms: int, limit: int
    ) -> list[Claimed]:
        """Take due runs, oldest first; one transaction."""
        session.execute(BEGIN)
        seen = self._look(session.rows)
        names, listed = _names(workflows)
        found = [row for name in names for row in session.rows("run_due", (name, now_ms, limit))]
        for owner in self._gone_owners(session.rows, seen):
            if owner != worker_id:
                found.extend(session.rows("run_owned", (owner, now_ms, listed, limit)))
        found.sort(key=lambda row: (row[DUE_MS], row[NUMBER]))
        del found[limit:]
        session.executemany(query("run_claim"), [(row[NUMBER], worker_id) for row in found])
        forgotten = _forget(session, seen)
        if found or forgotten:
            session.commit()
        else:
            session.rollback()
        self._locks.remove(forgotten)
        return [_claimed(run_row(row), worker_id, seen) for row in found]

    def claim_run(self, session: Session, worker_id: str, run_id: str, steal: bool) -> Claimed | None:
        """Take one run; `None` while another live worker owns it."""
        session.execute(BEGIN)
        found = session.rows("run_read", (run_id,))
        if not found:
            raise RunNotFoundError(f"no run has the id {run_id}", run_id=run_id)
        row = run_row(found[0])
        seen = self._look(session.rows)
        if row.owner not in (None, worker_id) and not steal and not _is_gone(seen, row.owner):
            session.rollback()
            return None
        ((number, _, _),) = session.rows("run_ownership", (run_id,))
        session.execute(query("run_claim"), (number, worker_id))
        session.commit()
        return _claimed(row, worker_id, seen)

    def forget_dead(self, session: Session) -> None:
        """Remove the rows and lock files of dead workers that own nothing."""
        session.execute(BEGIN)
        forgotten = _forget(session, self._look(session.rows))
        session.commit()
        self._locks.remove(forgotten)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _look(self, rows: Rows) -> dict[str, Seen]:
        now_ms = self._clock()
        seen = {}
        for row in worker_rows(rows("worker_list", ())):
            dead = row.boot_id != boot_id() or self._locks.is_free(row.worker_id)
            seen[row.worker_id] = Seen(row, dead, 0 if dead else max(0, row.lease_end_ms - now_ms))
        return seen

    def _gone_owners(self, rows: Rows, seen: dict[str, Seen]) -> list[str]:
        return [owner for (owner,) in rows("run_owners", ()) if _is_gone(seen, owner)]


def release(session: Session, worker_id: str, run_ids: Sequence[str]) -> None:
    """Let go of runs."""
    session.execute(BEGIN)
    session.executemany(query("run_release"), [(run_id, worker_id) for run_id in run_ids])
    session.commit()


def _names(workflows: Sequence[str]) -> tuple[list[str], str]:
    """The names once each, and as a JSON list for a statement."""
    names = sorted(set(workflows))
    return names, orjson.dumps(names).decode()


def _is_gone(seen: dict[str, Seen], worker_id: str | None) -> bool:
    """Whether what a worker owns is free: it is not registered, dead, or its lease has ended."""
    found = seen.get(worker_id or "")
    return found is None or found.left_ms <= 0


def _claimed(row: RunRow, worker_id: str, seen: dict[str, Seen]) -> Claimed:
    prior = row.owner if row.owner != worker_id else None
    found = seen.get(prior or "")
    row.owner = worker_id
    row.epoch += 1
    return Claimed(
        row,
        orphaned=prior is not None and _is_gone(seen, prior),
        drained=found is not None and found.row.draining,
        prior_worker=prior,
        lease_lost_ms=found.left_ms if found is not None else 0,
        prior_dead=prior is not None and (found is None or found.dead),
    )


def _forget(session: Session, seen: dict[str, Seen]) -> list[str]:
    forgotten = []
    for worker_id, found in seen.items():
        if found.dead:
            session.execute(query("worker_forget"), (worker_id,))
            if session.connection.changes():
                forgotten.append(worker_id)
    return forgotten
