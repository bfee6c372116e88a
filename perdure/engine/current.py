"""What a step's function may know of the step that it runs in."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.core.errors import InputTypeError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from perdure.core.secrets import Secret
    from perdure.engine.logs import RunLogger


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
        workflow: the name of the run's workflow.
    """

    run_id: str
    scope: str
    key: str
    attempt: int
    epoch: int
    idempotency_key: str
    workflow: str = ""
    _reveal: Callable[[Secret], str] | None = None
    _tell: Callable[[int, str], None] | None = None

    def reveal(self, secret: Secret) -> str:
        """The value of a secret reference; from now on it is redacted wherever it would be recorded.

        Raises:
            SecretError: the reference cannot be resolved.
        """
        if self._reveal is None:
            raise StateError("secrets cannot be revealed here", run_id=self.run_id)
        return self._reveal(secret)

    @property
    def place(self) -> dict[str, object]:
        """What a log record says of where it comes from: run, workflow, scope, step and attempt."""
        return {
            "run_id": self.run_id,
            "workflow": self.workflow,
            "scope": self.scope,
            "step": self.key,
            "attempt": self.attempt,
        }

    @property
    def log(self) -> RunLogger:
        """The run's logger, `perdure.run.<workflow>`, with this step's `place` in each record."""
        from perdure.engine.logs import RunLogger

        return RunLogger(self.workflow, lambda: self.place)

    def tell(self, text: str) -> None:
        """Tell text to whoever watches the run just now, for example the words of a model as they come.

        It is transient: never recorded, never told again to one who comes later, dropped for one who reads slowly.
        Secrets are redacted. Costs next to nothing when nobody watches; may be called in a thread.

        Args:
            text: the next piece; the next attempt of this step tells from the beginning.

        Raises:
            InputTypeError: it is no text.
        """
        if not isinstance(text, str):
            raise InputTypeError(f"a step tells text, not {type(text).__name__}", run_id=self.run_id)
        if self._tell is not None and text:
            self._tell(self.attempt, text)


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
