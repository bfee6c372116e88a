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
from perdure.core.errors import InputTypeError, MergeConflictError, RunAbandoned
from perdure.core.ids import branch_scope
from perdure.engine import drift
from perdure.engine.scopes import Scope, current_scope
from perdure.journal.state import Record
from perdure.workflow.merge import merge_writes, same_value

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
    record = scope.recall(key)
    failed: int | None = None
    if record is not None:
        drift.check_written(execution, scope, key, record, "join", b'{"count":%d}' % count)
        if record.fact is not None:
            failed = record.fact.data.get("failed")
    branches = [Scope(execution, branch_scope(scope.path, f"{key}[{i}]"), scope.node, scope, {}) for i in range(count)]
    if failed is not None:
        await _replay_failure(execution, branches[failed], work[failed])
    results = await _run_all(execution, branches, work, min(limit or count, count))
    failures = [(i, result.error) for i, result in enumerate(results) if isinstance(result, _Failure)]
    first = _first_failure(failures)
    conflict = None if first is not None else _conflict(branches)
    if record is None:
        _record_join(scope, key, branches, None if first is None else first[0], conflict)
    if first is not None:
        raise first[1]
    if conflict is not None:
        raise conflict
    for branch in branches:
        scope.writes.update(branch.writes)
    return results


def _record_join(
    scope: Scope, key: str, branches: Sequence[Scope], failed: int | None, conflict: MergeConflictError | None
) -> None:
    """Record how a join ended, and whose writes it merged."""
    payload: dict[str, Any] = {"fingerprint": sha256(_size(branches)).hexdigest(), "count": len(branches)}
    payload["failed"] = failed
    if conflict is not None:
        payload["conflict"] = {"key": conflict.ids["key"], "branches": conflict.ids["branches"]}
    elif failed is None:
        payload["branches"] = [branch.path for branch in branches if branch.writes]
    execution = scope.execution
    execution.log.add(
        execution.services.draft(
            kinds.BRANCHES_JOINED, orjson.dumps(payload), node=scope.node, scope=scope.path, key=key
        )
    )


def _size(branches: Sequence[Scope]) -> bytes:
    """What is fingerprinted of a join."""
    return b'{"count":%d}' % len(branches)


def _first_failure(failures: list[tuple[int, BaseException]]) -> tuple[int, BaseException] | None:
    """The failure that a join raises: the lowest branch that failed by itself, not one that was cancelled for it."""
    real = [failure for failure in failures if not isinstance(failure[1], asyncio.CancelledError)]
    return next(iter(real or failures), None)


def _conflict(branches: Sequence[Scope]) -> MergeConflictError | None:
    """Whether two branches wrote one key differently."""
    writes = {branch.path: branch.writes for branch in branches if branch.writes}
    try:
        merge_writes({}, writes, list(writes))
    except MergeConflictError as conflict:
        return conflict
    return None


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
                    drift.check_scope_end(branches[i])
                except (Exception, asyncio.CancelledError) as error:
                    if not failing and not isinstance(error, asyncio.CancelledError):
                        drift.check_scope_end(branches[i])
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
            if execution.stopping is None:  # else each branch was told by itself, and may have its grace
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


class Call:
    """A call that is made when its branch begins."""

    def __init__(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self._fn = fn
        self._args = args

    def __call__(self) -> Awaitable[Any]:
        return self._fn(*self._args)


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
        parent = self._parent
        self._scope = Scope(self._execution, branch_scope(parent.path, key), parent.node, parent, {})
        self._scope.isolate(parent.view())
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
        drift.check_scope_end(scope)
        parent = self._parent
        record = parent.recall(self._joined_key)
        if record is None:
            conflict = _conflict_with_others(scope, parent)
            _record_join(parent, self._joined_key, (scope,), None, conflict)
        else:
            drift.check_written(self._execution, parent, self._joined_key, record, "join", _size((scope,)))
            conflict = _recorded_conflict(record)
        if conflict is not None:
            raise conflict
        parent.merge(scope)


def _conflict_with_others(scope: Scope, parent: Scope) -> MergeConflictError | None:
    """Whether a key that a branch wrote was written differently by another that ended since this one began."""
    for name, value in scope.writes.items():
        now = parent.lookup(name)
        if not same_value(now, scope.lookup_base(name)) and not same_value(now, value):
            return _conflict_of(name, sorted((parent.writer_of(name), scope.path)))
    return None


def _recorded_conflict(record: Record) -> MergeConflictError | None:
    found = record.fact.data.get("conflict") if record.fact is not None else None
    return None if found is None else _conflict_of(found["key"], found["branches"])


def _conflict_of(name: str, branches: list[str]) -> MergeConflictError:
    names = ", ".join(map(repr, branches))
    return MergeConflictError(f"branches {names} wrote the state key {name!r} differently", key=name, branches=branches)
