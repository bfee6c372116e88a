"""What the engine of a process has under way: the question that a virtual clock asks before it moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.worker import Worker
    from perdure.store.writer import Writer


class Activity(NamedTuple):
    """Something that is under way.

    Args:
        what: in words, for messages.
        run_id: the run that it belongs to, if it is one's.
        own: it is the engine's own work, which ends by itself; what is not is the author's code, which may never end.
        seq: how far the run's journal was, which tells one step of a run from the next.
    """

    what: str
    run_id: str | None
    own: bool
    seq: int = 0


def under_way(writer: Writer, worker: Worker, owned: Mapping[str, Execution]) -> list[Activity]:
    """All that is under way and would go on by itself, without an answer, a signal or the clock.

    Args:
        writer, worker: of one process.
        owned: executions of runs whose loop the caller owns.
    """
    found = [Activity("a commit", None, True)] if writer.busy else []
    if worker.claiming:
        found.append(Activity("a claim", None, True))
    for run_id in worker.held():
        execution = worker.executions.get(run_id)
        if execution is None:
            found.append(Activity("a recovery or a release", run_id, True))
        else:
            found += _of(execution)
    for execution in owned.values():
        found += _of(execution)
    return found


def _of(execution: Execution) -> list[Activity]:
    run_id = execution.run_id
    if execution.log.backlog > 0 and execution.log.error is None:
        return [Activity("an append", run_id, True)]
    if execution.busy <= execution.pausing:
        return []
    steps = len(execution.in_step)
    what = "a step" if steps else "the workflow's code"
    return [Activity(what, run_id, False, execution.log.head.seq)] * max(1, steps)
