"""The run is not in a state that admits this."""

from __future__ import annotations

from typing import ClassVar

from perdure.core.errors.base import Category, PerdureError


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


class QuestionExpiredError(StateError):
    """The question's deadline has passed; the answer came too late, and nothing was written."""

    code = "question_expired"
    default_hint = "the question takes its default, or times out, as soon as a worker executes the run"


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
