"""The exception tree of Perdure.

Every error that Perdure raises on purpose is a `PerdureError`. Each class has a stable `code` (what programs match
on), a `category`, and says whether the same call may succeed later (`retryable`). Each instance carries its cause in
one line, a hint that says what to do, and the ids that matter. `to_dict()` is what the command line and the HTTP
service print.

Two things are deliberately *not* exceptions of this tree: `RunAbandoned` is a `BaseException`, because user code that
catches `Exception` must not be able to go on with a run that it no longer owns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

Category = Literal["input", "definition", "conflict", "state", "step", "store", "integrity", "lease"]


class PerdureError(Exception):
    """Base of all errors of Perdure.

    Args:
        message: the cause, in one line.
        hint: what the reader can do about it; the class's own `default_hint` if omitted.
        ids: the ids that matter, for example `run_id="…"`, `step="search#2"`; `None` values are dropped.
    """

    code: ClassVar[str] = "error"
    category: ClassVar[Category] = "input"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, **ids: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.ids: dict[str, Any] = {name: value for name, value in ids.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """The error as plain JSON data: code, category, retryable, message, hint and ids."""
        return {
            "code": self.code,
            "category": self.category,
            "retryable": self.retryable,
            "message": self.message,
            "hint": self.hint,
            "ids": dict(self.ids),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.ids))


def _rebuild(cls: type[PerdureError], message: str, hint: str, ids: dict[str, Any]) -> PerdureError:
    error = cls.__new__(cls)
    PerdureError.__init__(error, message, hint=hint, **ids)
    return error


# --- input: what the caller handed in ---------------------------------------------------------------------------------


class InputError(PerdureError):
    """The caller handed in something that cannot be used; nothing was written."""

    code = "invalid_input"


class InvalidIdError(InputError):
    """An id is outside its grammar."""

    code = "invalid_id"
    default_hint = "use letters, digits, '.', '_' and '-', starting with a letter or digit, at most 128 characters"


class InvalidDurationError(InputError):
    """A duration is neither a timedelta, a number of seconds, nor text such as '30s', '5m', '2h', '3d'."""

    code = "invalid_duration"
    default_hint = "write a number and a unit: 500ms, 30s, 5m, 2h, 3d; or pass a timedelta"


class ValueRefusedError(InputError):
    """A value cannot be recorded in the journal as it is."""

    code = "value_refused"
    default_hint = "pass plain JSON data, or declare the type in the function's signature"


class ValueTooLargeError(ValueRefusedError):
    """A value is over the hard limit for one value."""

    code = "value_too_large"
    default_hint = "keep large data outside and pass a reference to it"


class InputTypeError(InputError):
    """An argument does not validate against the type that its function declares."""

    code = "input_type"
    default_hint = "pass arguments of the declared types"


class NotFoundError(InputError):
    """Base of 'there is no such thing'."""

    code = "not_found"


class UnknownWorkflowError(NotFoundError):
    """No workflow of that name is loaded."""

    code = "unknown_workflow"
    default_hint = "load the file that defines it, or check the spelling"


class RunNotFoundError(NotFoundError):
    """No run has this id."""

    code = "run_not_found"
    default_hint = "list runs with 'perdure ps --all'; check --store"


class WaitNotFoundError(NotFoundError):
    """The run has no such wait."""

    code = "wait_not_found"
    default_hint = "list open questions with 'perdure questions'"


class StepNotFoundError(NotFoundError):
    """The run has no such step."""

    code = "step_not_found"
    default_hint = "see the steps with 'perdure show RUN'"


class ArtifactNotFoundError(NotFoundError):
    """No artifact has this SHA-256."""

    code = "artifact_not_found"


class AnswerRefusedError(InputError):
    """An answer matches no choice of its question; the question stays open."""

    code = "answer_refused"


class SecretError(InputError):
    """A secret reference cannot be resolved."""

    code = "secret_unresolved"
    default_hint = "set the variable or file that the reference names before the worker starts"


class SecretLeakError(ValueRefusedError):
    """A value has the shape of a secret and would have been written to the journal."""

    code = "secret_shape"
    default_hint = "pass Secret('env:NAME') and resolve it inside the step"


# --- definition: workflows, flows, plans, steps -----------------------------------------------------------------------


class DefinitionError(PerdureError):
    """A workflow, flow, plan or step is declared wrongly; no event was written."""

    code = "invalid_definition"
    category: ClassVar[Category] = "definition"


class PolicyError(DefinitionError):
    """The policy of a step contradicts itself."""

    code = "invalid_policy"


class DefinitionLoadError(DefinitionError):
    """A file of workflows cannot be loaded."""

    code = "definition_load"


class DuplicateWorkflowError(DefinitionError):
    """Two different definitions have one name."""

    code = "workflow_duplicate"
    default_hint = "give one of them another name with name="


class Problem(NamedTuple):
    """One thing that is wrong with a definition.

    Args:
        code: stable; what programs match on.
        message: the cause, in one line.
        subject: the names it is about: a state, a node, a parameter, the states of a cycle in their order.
    """

    code: str
    message: str
    subject: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The problem as plain JSON data."""
        return {"code": self.code, "message": self.message, "subject": list(self.subject)}


class FormError(DefinitionError):
    """A definition has problems; all that were found are listed.

    Args:
        label: what has them, for example `plan 'release'`.
        problems: at least one.
        hint: what the reader can do about it.
        ids: the ids that matter.
    """

    def __init__(self, label: str, problems: Sequence[Problem] = (), *, hint: str | None = None, **ids: Any) -> None:
        count = "" if len(problems) == 1 else f" {len(problems)} problems:"
        message = f"{label}:{count} {'; '.join(problem.message for problem in problems)}"
        super().__init__(message, hint=hint, **ids)
        self.label = label
        self.problems = list(problems)

    @property
    def codes(self) -> list[str]:
        """The codes of the problems, in their order."""
        return [problem.code for problem in self.problems]

    def to_dict(self) -> dict[str, Any]:
        """As for every error, with the problems."""
        return super().to_dict() | {"problems": [problem.to_dict() for problem in self.problems]}

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"label": self.label, "problems": self.problems})


class SignatureError(FormError):
    """The signature of a workflow, node, state or effect function does not fit its use."""

    code = "invalid_signature"


class FlowError(FormError):
    """A flow is declared wrongly."""

    code = "invalid_flow"


class PlanError(FormError):
    """A plan is declared wrongly, or started with skip tags that it does not have."""

    code = "invalid_plan"


class EffectError(FormError):
    """An effect kind, or an effect of one, is declared wrongly."""

    code = "invalid_effect"


# --- conflict: two callers want different things ----------------------------------------------------------------------


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


class ScopeInUseError(ConflictError):
    """Another task's call is open in this scope, or an explicit key is used twice."""

    code = "scope_in_use"
    default_hint = "use run.gather, run.map or run.branch for concurrent work, and a key once only"


class MergeConflictError(ConflictError):
    """Two branches wrote one key of the state differently."""

    code = "merge_conflict"
    default_hint = "let branches write different keys, or return values and merge them after the join"


# --- state: the run is not in a state that admits this ----------------------------------------------------------------


class StateError(PerdureError):
    """The run's state does not admit what was asked for."""

    code = "wrong_state"
    category: ClassVar[Category] = "state"


class RunEndedError(StateError):
    """The run has ended; nothing was written."""

    code = "run_ended"


class WaitClosedError(StateError):
    """The wait is answered, expired or cancelled already; nothing was written."""

    code = "wait_closed"


class NotReopenableError(StateError):
    """The run cannot be opened again."""

    code = "not_reopenable"


class SignalBacklogError(StateError):
    """The run holds as many unread signals as it may."""

    code = "signal_backlog_full"
    retryable = True


class NotInDoubtError(StateError):
    """The step is not in doubt; nothing was written."""

    code = "not_in_doubt"


class RunFailed(StateError):
    """The run ended `failed`; raised where its result is asked for."""

    code = "run_failed"


class RunCancelled(StateError):
    """The run ended `cancelled`; raised where its result is asked for."""

    code = "run_cancelled"


class RunParkedError(StateError):
    """The run is paused or parked; raised where its result is asked for and cannot come by itself."""

    code = "run_parked"
    default_hint = "see why with 'perdure show RUN'; go on with 'perdure resume RUN'"


# --- step: what a step did --------------------------------------------------------------------------------------------


class StepError(PerdureError):
    """Base of what a step can end with other than a value."""

    code = "step_error"
    category: ClassVar[Category] = "step"


class StepFailed(StepError):
    """A step failed for good.

    The same object is raised live and after a replay: it holds the recorded `error_code`, `error_type` (name of the
    exception's class), `message` and `details`.
    """

    code = "step_failed"

    def __init__(
        self,
        message: str,
        *,
        error_code: str = "exception",
        error_type: str = "Exception",
        details: Any = None,
        hint: str | None = None,
        **ids: Any,
    ) -> None:
        super().__init__(message, hint=hint, **ids)
        self.error_code = error_code
        self.error_type = error_type
        self.details = details

    def to_dict(self) -> dict[str, Any]:
        """As for every error, with the step's own code, type and details."""
        return super().to_dict() | {
            "error_code": self.error_code,
            "error_type": self.error_type,
            "details": self.details,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), self.__dict__.copy())


class StepTimeout(StepFailed):
    """A step did not end within its timeout, and its attempts are used up."""

    code = "step_timeout"


class StepResultError(StepError):
    """The step was done, but its result cannot be recorded; it is never done again."""

    code = "step_result_refused"
    default_hint = "return plain JSON data, or declare the return type"


class ChildFailed(StepFailed):
    """A child run ended `failed` or `cancelled`."""

    code = "child_failed"


class WaitTimeout(StepError):
    """A wait without a default ended by its timeout."""

    code = "wait_timeout"


class RetryAfter(Exception):
    """Raised by a step's code: the other side asked to wait.

    The step waits that long without using up an attempt, bounded by `give_up_after`.

    Args:
        delay_s: seconds to wait.
        message: why.
    """

    def __init__(self, delay_s: float, message: str = "the other side asked to wait") -> None:
        super().__init__(message)
        self.delay_s = delay_s
        self.status_code = 429


# --- store and lease --------------------------------------------------------------------------------------------------


class StoreError(PerdureError):
    """The store could not do its work."""

    code = "store_error"
    category: ClassVar[Category] = "store"


class StoreWriteError(StoreError):
    """A write failed (disk full, IO error, lost connection); nothing of it is acknowledged."""

    code = "store_write_failed"
    retryable = True
    default_hint = "check the disk; runs go on from what was committed"


class StoreReadOnlyError(StoreError):
    """The store's file, or its directory, may only be read; nothing was written."""

    code = "store_read_only"
    default_hint = "commands that only look still work; to change runs, make the file and its directory writable"


class StoreReadError(StoreError):
    """A read failed."""

    code = "store_read_failed"
    retryable = True


class OutcomeUnknownError(StoreError):
    """A commit was sent and not confirmed: it may or may not have happened."""

    code = "outcome_unknown"
    retryable = True
    default_hint = "send the same command again with the same command id"


class StoreBusyError(StoreError):
    """Another process held the store's write lock for too long."""

    code = "store_busy"
    retryable = True


class StoreUrlError(StoreError):
    """A store URL is not understood."""

    code = "store_url"
    default_hint = "write sqlite:///path/to/file.db or memory://"


class StoreNotFoundError(StoreError):
    """There is no store where one is to be read; nothing was made."""

    code = "store_not_found"
    default_hint = (
        "check --store or PERDURE_STORE (sqlite:///path/to/file.db); 'perdure run' makes a store where none is"
    )


class NotAStoreError(StoreError):
    """The file is not a Perdure store."""

    code = "not_a_store"
    default_hint = "check the path given with --store; a new file is made where none exists"


class StoreVersionError(StoreError):
    """The store was written by a newer version of Perdure, or its migrations were changed."""

    code = "store_version"
    default_hint = "upgrade perdure"


class StoreCorruptError(StoreError):
    """The store's file is damaged."""

    code = "store_corrupt"
    category: ClassVar[Category] = "integrity"
    default_hint = "restore the file from a backup"


class StoreClosedError(StoreError):
    """The store or runtime is closed."""

    code = "store_closed"


class ForkedProcessError(StoreError):
    """A store was used across fork()."""

    code = "store_forked"
    default_hint = "open the store in the process that uses it"


class FencedError(PerdureError):
    """Another worker owns the run now; the append was refused."""

    code = "fenced"
    category: ClassVar[Category] = "lease"


class CorruptRecordError(PerdureError):
    """A record of a journal is not what was written."""

    code = "corrupt_record"
    category: ClassVar[Category] = "integrity"
    default_hint = "restore the store from a backup; nothing acts on a journal that was changed"


# --- testing: what `perdure.testing` cannot do ------------------------------------------------------------------------


class NotSettledError(StateError):
    """A virtual clock cannot move: what runs under it does not come to rest, or waits for no timer."""

    code = "not_settled"


class CrashMatrixError(InputError):
    """A crash matrix cannot be made: its workflow cannot be found again in another process, or never ends."""

    code = "crash_matrix"


# --- not for user code to catch ---------------------------------------------------------------------------------------


class RunAbandoned(BaseException):
    """This execution of the run is over (lease lost, failed append, drain, pause, drift); nothing it does counts.

    A `BaseException`, so that `except Exception` in user code does not swallow it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
