"""Two callers want different things."""

from __future__ import annotations

from typing import ClassVar

from perdure.core.errors.base import Category, PerdureError


class ConflictError(PerdureError):
    """What was asked for contradicts what is recorded."""

    code = "conflict"
    category: ClassVar[Category] = "conflict"


class RunConflictError(ConflictError):
    """The run id is taken by another workflow or another input."""

    code = "run_conflict"
    default_hint = "choose another id, or start it with the same workflow and input"


class HeadMovedError(ConflictError):
    """The journal of the run has grown since its head was read."""

    code = "head_moved"
    retryable = True


class CommandConflictError(ConflictError):
    """A command id was used before for another command."""

    code = "command_conflict"


class StaleApprovalError(ConflictError):
    """The answer names another hash than that of what its question asks to approve; the question stays open."""

    code = "approval_stale"
    default_hint = "look at the question again: what it asks to approve now is not what was seen"


class ScopeInUseError(ConflictError):
    """Another task's call is open in this scope, or an explicit key is used twice."""

    code = "scope_in_use"
    default_hint = "use run.gather, run.map or run.branch for concurrent work, and a key once only"


class MergeConflictError(ConflictError):
    """Two branches wrote one key of the state differently."""

    code = "merge_conflict"
    default_hint = "let branches write different keys, or return values and merge them after the join"
