"""What a step, a child or a wait came to."""

from __future__ import annotations

from typing import Any, ClassVar

from perdure.core.errors.base import Category, PerdureError


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
