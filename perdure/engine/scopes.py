"""Scopes: where a step's key is unique, and what was recorded there before.

A scope is sequential: one call at a time. `run.gather`, `run.map` and `run.branch` make scopes of their own. Which
scope a call belongs to is found by a context variable, so that `run.gather(run.step(a), run.step(b))` gives each
coroutine its own scope although both were made with the same `run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.core.errors import ScopeInUseError
from perdure.core.ids import check_key
from perdure.journal.state import DELETED, Record

if TYPE_CHECKING:
    from perdure.engine.execution import Execution

current_scope: ContextVar[Scope | None] = ContextVar("perdure_scope", default=None)


class Scope:
    """One sequential strand of a node visit.

    Args:
        execution: the run's.
        path: `generation/node#visit[/branch…]`.
        node: `node#visit`.
        parent: the scope that it branched from.

    Attributes:
        calls: how many steps, waits and children the code here has asked for, recorded or not.
        latest: the key of the newest of them.
    """

    __slots__ = (
        "_asked",
        "_base",
        "_beyond",
        "_counts",
        "_explicit",
        "_isolated",
        "_recorded",
        "_unbegun",
        "_writers",
        "calls",
        "execution",
        "latest",
        "node",
        "open",
        "parent",
        "patches",
        "path",
        "records",
        "unasked",
        "writes",
    )

    def __init__(self, execution: Execution, path: str, node: str, parent: Scope | None, base: dict[str, Any]) -> None:
        self.execution = execution
        self.path = path
        self.node = node
        self.parent = parent
        self.records: dict[str, Record] | None = execution.log.state.scopes.get(path)
        self._recorded = len(self.records) if self.records else 0
        self._beyond = False
        self.unasked: set[str] = (
            {key for key, record in self.records.items() if record.binding} if self.records else set()
        )
        branches = execution.recorded_branches.get(path)
        self._unbegun: set[str] = set(branches) if branches else set()
        if branches:
            self.unasked.update(branch for branch, binding in branches.items() if binding)
        if parent is not None:
            parent.begin_branch(path[len(parent.path) + 1 :] + "/")
        self.open = False
        self.calls = 0
        self.latest = ""
        self.patches: dict[str, bool] = {}
        self._asked: set[str] = set()
        self.writes: dict[str, Any] = {}
        self._base = base
        self._isolated = False
        self._writers: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._explicit: set[str] = set()

    def rebase(self, base: dict[str, Any]) -> None:
        """Set the state that this scope starts from."""
        self._base = base

    # --- keys ---------------------------------------------------------------------------------------------------------

    def key_for(self, name: str, explicit: str | None) -> str:
        """The key of the next call: the explicit one, or the name and its occurrence (`search`, `search#2`).

        Raises:
            ScopeInUseError: the key was used before in this scope, given or derived.
        """
        if explicit is None:
            count = self._counts[name] = self._counts.get(name, 0) + 1
            key = name if count == 1 else f"{name}#{count}"
            if self._explicit and key in self._explicit:
                self._refuse_twice(key)
            return key
        check_key(explicit)
        if explicit in self._explicit or self._was_derived(explicit):
            self._refuse_twice(explicit)
        self._explicit.add(explicit)
        return explicit

    def _was_derived(self, key: str) -> bool:
        """Whether a call without an explicit key has this one."""
        name, _, occurrence = key.rpartition("#")
        count = self._counts.get(name, 0)
        return key in self._counts or (count > 1 and occurrence in map(str, range(2, count + 1)))

    def _refuse_twice(self, key: str) -> NoReturn:
        raise ScopeInUseError(f"key {key!r} is used twice in scope {self.path}", run_id=self.execution.run_id, key=key)

    def call(self, key: str) -> None:
        """A step, wait or child is asked for."""
        self.calls += 1
        self.latest = key

    def recall(self, key: str) -> Record | None:
        """What is recorded under a key, which now counts as asked for."""
        if self.records is None:
            return None
        record = self.records.get(key)
        if record is not None:
            self.unasked.discard(key)
            self._asked.add(key)
        elif not key.startswith("patched."):
            self._beyond = True
        return record

    @property
    def replaying(self) -> bool:
        """Whether the code here runs again over what is recorded, in this scope or in one that it branched from: it has
        neither asked for all of that yet nor for anything else."""
        scope: Scope | None = self
        while scope is not None:
            if not scope._beyond and (scope._unbegun or len(scope._asked) < scope._recorded):
                return True
            scope = scope.parent
        return False

    def begin_branch(self, branch: str) -> None:
        """A branch of this scope begins: it now answers for what is recorded in it."""
        if self._unbegun:
            self._unbegun.discard(branch)
            self.unasked.discard(branch)

    def unasked_anything(self) -> bool:
        """Whether anything at all is recorded here that was not asked for again."""
        return bool(self._unbegun) or (self.records is not None and any(key not in self._asked for key in self.records))

    def passed(self) -> Scope | None:
        """The scope, this one or one that it branched from, where an effect, wait or child is recorded that was not
        asked for again: nothing new may start here then, for the recorded run was further already."""
        scope: Scope | None = self
        while scope is not None and not scope.unasked:
            scope = scope.parent
        return scope

    def enter(self, what: str) -> None:
        """A call begins.

        Raises:
            ScopeInUseError: another task's call is open in this scope.
        """
        if self.open:
            raise ScopeInUseError(
                f"{what}: another call is open in scope {self.path}", run_id=self.execution.run_id, scope=self.path
            )
        self.open = True

    # --- state --------------------------------------------------------------------------------------------------------

    def lookup(self, name: str) -> Any:
        """The JSON tree of a state key as this scope sees it; `DELETED` if there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.writes:
                return scope.writes[name]
            if scope.parent is None or scope._isolated:
                return scope._base.get(name, DELETED)
            scope = scope.parent
        return DELETED

    def lookup_base(self, name: str) -> Any:
        """As `lookup`, before this scope wrote anything; only for one that was isolated."""
        return self._base.get(name, DELETED)

    def view(self) -> dict[str, Any]:
        """The state as this scope sees it, with `DELETED` where a key was deleted."""
        chain: list[Scope] = [self]
        while chain[-1].parent is not None and not chain[-1]._isolated:
            chain.append(chain[-1].parent)
        merged = dict(chain[-1]._base)
        for one in reversed(chain):
            merged.update(one.writes)
        return merged

    def isolate(self, base: dict[str, Any]) -> None:
        """See the state as it is now, whatever other branches merge into the parent's from now on."""
        self._base = base
        self._isolated = True

    def merge(self, branch: Scope) -> None:
        """Take over what a branch wrote."""
        self.writes.update(branch.writes)
        self._writers.update(dict.fromkeys(branch.writes, branch.path))

    def writer_of(self, name: str) -> str:
        """The path of the branch whose write of a key was merged last, or of this scope if it wrote the key itself."""
        return self._writers.get(name, self.path)

    def names(self) -> list[str]:
        """The state keys as this scope sees them, sorted."""
        return sorted(name for name, value in self.view().items() if value is not DELETED)

    def within(self, other: Scope) -> bool:
        """Whether this scope is `other` or branched from it."""
        scope: Scope | None = self
        while scope is not None:
            if scope is other:
                return True
            scope = scope.parent
        return False


def recorded_branches(scopes: Mapping[str, Mapping[str, Record]]) -> dict[str, dict[str, bool]]:
    """By scope: the branches in it (each with a `/` behind it, to tell it from a key) that have records, and whether
    any of these binds."""
    found: dict[str, dict[str, bool]] = {}
    for path, records in scopes.items():
        binding = any(record.binding for record in records.values())
        above, _, branch = path.rpartition("/")
        while above.count("/"):
            branches = found.setdefault(above, {})
            branches[branch + "/"] = binding or branches.get(branch + "/", False)
            above, _, branch = above.rpartition("/")
    return found
