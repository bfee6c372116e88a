"""What a step's function may know of the step that it runs in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.core.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.core.secrets import Secret


@dataclass(frozen=True, slots=True)
class StepInfo:
    """The step that is running.

    Attributes:
        run_id: the run.
        scope, key: the step's place in it.
        attempt: from 1.
        epoch: of the lease under which it runs: it grows with each change of owner, so another system can refuse a
            worker that was stopped and woken too late.
        idempotency_key: the same for each attempt of this step, whatever its input; hashed from run, scope and key.
    """

    run_id: str
    scope: str
    key: str
    attempt: int
    epoch: int
    idempotency_key: str
    _reveal: Callable[[Secret], str] | None = None

    def reveal(self, secret: Secret) -> str:
        """The value of a secret reference; from now on it is redacted wherever it would be recorded.

        Raises:
            SecretError: the reference cannot be resolved.
        """
        if self._reveal is None:
            raise StateError("secrets cannot be revealed here", run_id=self.run_id)
        return self._reveal(secret)


step_info: ContextVar[StepInfo | None] = ContextVar("perdure_step", default=None)


def current_step() -> StepInfo:
    """The step whose function is running.

    Raises:
        StateError: no step is running here.
    """
    info = step_info.get()
    if info is None:
        raise StateError("current_step() is for the inside of a step's function")
    return info
