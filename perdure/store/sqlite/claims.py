"""Who executes which run: claims, releases, and what dead workers left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.core.errors import RunNotFoundError
from perdure.core.events import NEVER
from perdure.store.clock import BootClock, boot_id
from perdure.store.port import Claimed, RunRow, WorkerRow
from perdure.store.sqlite.leases import WorkerLocks, worker_rows
from perdure.store.sqlite.queries import query
from perdure.store.sqlite.reads import run_row
from perdure.store.sqlite.session import BEGIN, Session

NUMBER = 14  # the column of the run's number in `run_due` and `run_owned`


class Ownership:
    """Which workers are gone, and what becomes of their runs.

    Args:
        locks: the workers' lock files.
        clock: boot time in milliseconds.
    """

    def __init__(self, locks: WorkerLocks, clock: BootClock) -> None:
        self._locks = locks
        self._clock = clock

    def is_dead(self, worker: WorkerRow) -> bool:
        """Whether its process has certainly ended."""
        return worker.boot_id != boot_id() or self._locks.is_free(worker.worker_id)

    def is_gone(self, worker: WorkerRow) -> bool:
        """Whether its runs are free: it is dead or its lease has ended."""
        return self.is_dead(worker) or worker.lease_end_ms <= self._clock()

    def lease_left_ms(self, worker: WorkerRow) -> int:
        """Milliseconds for which it may still believe in its lease."""
        return 0 if self.is_dead(worker) else max(0, worker.lease_end_ms - self._clock())

    # --- jobs for the write connection --------------------------------------------------------------------------------

    def claim(
        self, session: Session, worker_id: str, workflows: Sequence[str], now_ms: int, limit: int
    ) -> list[Claimed]:
        """Take due runs, oldest first; one transaction."""
        session.execute(BEGIN)
        workers = _workers(session)
        found: list[tuple[Any, ...]] = []
        for name in dict.fromkeys(workflows):
            found.extend(session.execute(query("run_due"), (name, now_ms, limit)))
        names = set(workflows)
        for owner in self._gone_owners(session, workers):
            if owner != worker_id:
                rows = session.execute(query("run_owned"), (owner, now_ms))
                found.extend(row for row in rows if row[1] in names)
        found.sort(key=lambda row: row[7])
        found = found[:limit]
        session.executemany(query("run_claim"), [(row[NUMBER], worker_id) for row in found])
        forgotten = self._forget(session, workers) if workers.keys() - {worker_id} else []
        if found or forgotten:
            session.commit()
        else:
            session.rollback()
        self._remove(forgotten)
        return [self._claimed(run_row(row), worker_id, workers) for row in found]

    def claim_run(self, session: Session, worker_id: str, run_id: str, steal: bool) -> Claimed | None:
        """Take one run."""
        session.execute(BEGIN)
        found = session.execute(query("run_ownership"), (run_id,)).fetchone()
        if found is None:
            session.rollback()
            raise RunNotFoundError(f"no run has the id {run_id}", run_id=run_id)
        number, owner, _ = found
        workers = _workers(session)
        if owner is not None and owner != worker_id and not steal:
            worker = workers.get(owner)
            if worker is not None and not self.is_gone(worker):
                session.rollback()
                return None
        row = run_row(session.execute(query("run_read"), (run_id,)).fetchone() or ())
        session.execute(query("run_claim"), (number, worker_id))
        session.commit()
        return self._claimed(row, worker_id, workers)

    def forget_dead(self, session: Session) -> None:
        """Remove the rows and lock files of dead workers that own nothing."""
        session.execute(BEGIN)
        forgotten = self._forget(session, _workers(session))
        session.commit()
        self._remove(forgotten)

    def next_due_ms(self, session_rows: Any, workflows: Sequence[str]) -> int | None:
        """When the next unowned or orphaned run of these workflows is due; `session_rows(name, bindings)` reads."""
        due = [row[0] for name in dict.fromkeys(workflows) for row in session_rows("run_due_next", (name,))]
        workers = {worker.worker_id: worker for worker in worker_rows(session_rows("worker_list", ()))}
        names = set(workflows)
        for (owner,) in session_rows("run_owners", ()):
            if owner not in workers or self.is_gone(workers[owner]):
                rows = session_rows("run_owned", (owner, NEVER - 1))
                due.extend(row[7] for row in rows if row[1] in names)
        return min((due_ms for due_ms in due if due_ms is not None and due_ms < NEVER), default=None)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _gone_owners(self, session: Session, workers: dict[str, WorkerRow]) -> list[str]:
        owners = [owner for (owner,) in session.execute(query("run_owners"))]
        return [owner for owner in owners if owner not in workers or self.is_gone(workers[owner])]

    def _forget(self, session: Session, workers: dict[str, WorkerRow]) -> list[str]:
        forgotten = []
        for worker in workers.values():
            if self.is_dead(worker):
                session.execute(query("worker_forget"), (worker.worker_id,))
                if session.connection.changes():
                    forgotten.append(worker.worker_id)
        return forgotten

    def _remove(self, forgotten: list[str]) -> None:
        for worker_id in forgotten:
            self._locks.remove(worker_id)

    def _claimed(self, row: RunRow, worker_id: str, workers: dict[str, WorkerRow]) -> Claimed:
        prior = row.owner if row.owner != worker_id else None
        worker = workers.get(prior) if prior is not None else None
        row.owner = worker_id
        row.epoch += 1
        return Claimed(
            row,
            orphaned=prior is not None and (worker is None or self.is_gone(worker)),
            drained=worker is not None and worker.draining,
            prior_worker=prior,
            lease_lost_ms=self.lease_left_ms(worker) if worker is not None else 0,
        )


def release(session: Session, worker_id: str, run_ids: Sequence[str]) -> None:
    """Let go of runs."""
    session.execute(BEGIN)
    session.executemany(query("run_release"), [(run_id, worker_id) for run_id in run_ids])
    session.commit()


def _workers(session: Session) -> dict[str, WorkerRow]:
    return {worker.worker_id: worker for worker in worker_rows(list(session.execute(query("worker_list"))))}
