"""Branches: concurrent strands of one node, each with its own scope and its own view of the state.

Every branch sees the state as it was when the branches began. At the join their writes merge by the rule of `Plan`:
different keys merge whatever the finishing order, one key written differently is a `MergeConflictError`. How a join
ended is a fact: a replay sees the same failure, even when two branches failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from perdure.core import kinds
from perdure.core.errors import InputTypeError, RunAbandoned
from perdure.core.ids import branch_scope
from perdure.engine import drift
from perdure.engine.scopes import Scope, current_scope
from perdure.workflow.merge import merge_writes

if TYPE_CHECKING:
    from perdure.engine.execution import Execution


class _Failure:
    """A branch's failure, kept apart from values."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def join(
    scope: Scope, name: str, key: str | None, work: Sequence[Callable[[], Awaitable[Any]]], limit: int | None
) -> list[Any]:
    """Run branches concurrently and give their results in order.

    Args:
        scope: in which the branches begin; it is entered already.
        name: the first part of the join's key.
        work: one factory of an awaitable for each branch.
        limit: how many run at once.

    Raises:
        The failure of the first branch that failed; the others are cancelled, but a `once` step in flight is not.
    """
    execution = scope.execution
    key = scope.key_for(name, key)
    count = len(work)
    data = b'{"count":%d}' % count
    record = scope.recall(key)
    failed: int | None = None
    if record is not None:
        drift.check_written(execution, scope, key, record, "join", data)
        if record.fact is not None:
            failed = record.fact.data.get("failed")
    branches = [Scope(execution, branch_scope(scope.path, f"{key}[{i}]"), scope.node, scope, {}) for i in range(count)]
    if failed is not None:
        await _replay_failure(execution, branches[failed], work[failed])
    results = await _run_all(execution, branches, work, min(limit or count, count))
    failures = [(i, result.error) for i, result in enumerate(results) if isinstance(result, _Failure)]
    first = _first_failure(failures)
    if record is None:
        payload = {
            "fingerprint": sha256(data).hexdigest(),
            "count": count,
            "failed": None if first is None else first[0],
        }
        if first is None:
            payload["branches"] = [branch.path for branch in branches if branch.writes]
        execution.log.add(
            execution.services.draft(
                kinds.BRANCHES_JOINED, orjson.dumps(payload), node=scope.node, scope=scope.path, key=key
            )
        )
    if first is not None:
        raise first[1]
    _merge(scope, branches)
    return results


def _first_failure(failures: list[tuple[int, BaseException]]) -> tuple[int, BaseException] | None:
    """The failure that a join raises: the lowest branch that failed by itself, not one that was cancelled for it."""
    real = [failure for failure in failures if not isinstance(failure[1], asyncio.CancelledError)]
    return next(iter(real or failures), None)


def _merge(scope: Scope, branches: Sequence[Scope]) -> None:
    writes = {branch.path: branch.writes for branch in branches if branch.writes}
    if writes:
        merge_writes({}, writes, list(writes))
        for mine in writes.values():
            scope.writes.update(mine)


async def _replay_failure(execution: Execution, branch: Scope, work: Callable[[], Awaitable[Any]]) -> None:
    """A join that is recorded as failed: only the branch that failed is executed again, up to its failure."""
    token = current_scope.set(branch)
    try:
        await work()
    finally:
        current_scope.reset(token)
    drift.park(
        execution,
        "drift",
        f"branch {branch.path} failed when it was recorded and does not fail now",
        {"scope": branch.path, "what_to_do": drift.WAYS_OUT},
    )


async def _run_all(
    execution: Execution, branches: Sequence[Scope], work: Sequence[Callable[[], Awaitable[Any]]], limit: int
) -> list[Any]:
    results: list[Any] = [None] * len(branches)
    if not branches:
        return results
    places = iter(range(len(branches)))
    failing = False
    left = limit

    async def strand() -> None:
        nonlocal failing, left
        try:
            for i in places:
                if failing:
                    results[i] = _Failure(asyncio.CancelledError())
                    continue
                current_scope.set(branches[i])
                try:
                    results[i] = await work[i]()
                    await drift.check_scope_end(branches[i])
                except (Exception, asyncio.CancelledError) as error:
                    results[i] = _Failure(error)
                    if not failing:
                        failing = True
                        for task in tasks:
                            if task is not asyncio.current_task():
                                execution.cancel_task(task)
        finally:
            left -= 1
            if left:  # the last strand's place is taken by the one that joins
                execution.strand_ended()

    execution.busy += limit - 1  # the strand that joins them waits meanwhile
    tasks = [execution.start_task(strand()) for _ in range(limit)]
    await _all_done(execution, tasks)
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            raise error
    execution.check()
    return results


async def _all_done(execution: Execution, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all branches, also when the join itself is cancelled: a `once` step in one of them is let to end."""
    if not tasks:
        return
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
            for task in tasks:
                execution.cancel_task(task)
    if cancelled is not None:
        for task in tasks:
            if not task.cancelled():
                task.exception()
        raise cancelled


def as_work(item: Any) -> Callable[[], Awaitable[Any]]:
    """A factory of the awaitable that `run.gather` was given."""
    if not hasattr(item, "__await__"):
        raise InputTypeError(f"run.gather takes coroutines, not {type(item).__name__}")

    async def work() -> Any:
        return await item

    return work


class BranchContext:
    """What `run.branch(key)` gives: `async with run.branch("left") as left: …`."""

    def __init__(self, execution: Execution, scope: Scope, key: str, make_run: Callable[[Scope], Any]) -> None:
        self._execution = execution
        self._parent = scope
        self._key = key
        self._make_run = make_run
        self._scope: Scope | None = None

    async def __aenter__(self) -> Any:
        self._execution.check()
        key = self._parent.key_for(f"branch.{self._key}", None)
        self._scope = Scope(self._execution, branch_scope(self._parent.path, key), self._parent.node, self._parent, {})
        self._joined_key = key
        self._token = current_scope.set(self._scope)
        return self._make_run(self._scope)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        current_scope.reset(self._token)
        scope = self._scope
        assert scope is not None
        if error is not None:
            return
        if self._execution.stopping is not None:
            raise RunAbandoned(self._execution.stopping)
        await drift.check_scope_end(scope)
        record = self._parent.recall(self._joined_key)
        data = b'{"count":1}'
        if record is None:
            payload = {"fingerprint": sha256(data).hexdigest(), "count": 1, "failed": None}
            if scope.writes:
                payload["branches"] = [scope.path]
            self._execution.log.add(
                self._execution.services.draft(
                    kinds.BRANCHES_JOINED,
                    orjson.dumps(payload),
                    node=scope.node,
                    scope=self._parent.path,
                    key=self._joined_key,
                )
            )
        else:
            drift.check_written(self._execution, self._parent, self._joined_key, record, "join", data)
        self._parent.writes.update(scope.writes)
