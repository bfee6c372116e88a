"""How a stage ends the run by a failure, so that a retry of the run can execute that stage again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from perdure.engine.scopes import current_scope
from perdure.journal.reopening import AGAIN, ORIGIN
from perdure.pipeline.outcome import Outcome, Place
from perdure.workflow.graph import Fail

STAGE_FAILED: Final = "stage_failed"
GATE_UNSATISFIED: Final = "goal_gate_unsatisfied"
ATTEMPT: Final = "attempt"
"""In the details of `stage_failed`: which execution of the stage was the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Fail):
    """A failure that another execution of the stage need not come to.

    Args:
        origin: scope and key of the step, question or child whose outcome the failure was; `None` for none of them.
    """

    origin: Place | None = None

    def to_error(self) -> dict[str, Any]:
        """See `Fail.to_error`."""
        error = {**super(Stopped, self).to_error(), AGAIN: True}
        return error if self.origin is None else {**error, ORIGIN: list(self.origin)}


class LastExecution(NamedTuple):
    """The execution with which a stage failed for good.

    Args:
        attempt: which one it was.
        origin: see `Stopped`.
        again: another one need not come to the same.
    """

    attempt: int
    origin: Place | None
    again: bool


class Calls:
    """The steps, questions and children that an execution of a stage asks for, from here on."""

    def __init__(self) -> None:
        self._scope = current_scope.get()
        self._before = 0 if self._scope is None else self._scope.calls

    def last_execution(self, attempt: int, outcome: Outcome) -> LastExecution:
        """What a retry of the run has to know of a failed execution.

        A handler that names no origin and asked for one thing has made its outcome of that. One that asked for several
        may have made it of any of them, and done what counts in another: none of them is done again.
        """
        scope = self._scope
        made = 0 if scope is None else scope.calls - self._before
        if outcome.origin is not None or outcome.decided or outcome.raised or made == 0:
            return LastExecution(attempt, outcome.origin, not outcome.decided)
        assert scope is not None
        return LastExecution(attempt, (scope.path, scope.latest) if made == 1 else None, made == 1)


def latest_call() -> Place | None:
    """Scope and key of the newest step, question or child that the code here has asked for."""
    scope = current_scope.get()
    return None if scope is None or not scope.calls else (scope.path, scope.latest)


def reopened_at(forgotten: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The executions of a stage that retries of the run began again with.

    Args:
        forgotten: the failures by which the stage had ended the run.
    """
    told = [error.get("details") for error in forgotten if error.get("code") == STAGE_FAILED]
    return tuple(one[ATTEMPT] for one in told if isinstance(one, dict) and isinstance(one.get(ATTEMPT), int))
