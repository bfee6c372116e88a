"""One call of a step: its place, its input, the limits of its policy, and what is written of it."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from perdure.core.ids import idempotency_key
from perdure.core.policies import StepPolicy
from perdure.core.secrets import Secret
from perdure.engine.calling import TimedOut
from perdure.engine.current import StepInfo
from perdure.engine.failures import arguments_of, describe
from perdure.engine.large import by_reference
from perdure.engine.live import Piece, Teller
from perdure.engine.logs import logger
from perdure.engine.observing import ObservedStep, code_of
from perdure.journal.state import Record

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.scopes import Scope
    from perdure.workflow.steps import Step


class StepCall:
    """One call of a step: its place, its input, its policy, and the attempts made so far."""

    __slots__ = (
        "args",
        "attempt",
        "data",
        "execution",
        "failed",
        "fingerprint",
        "free_waits",
        "key",
        "kwargs",
        "observed",
        "policy",
        "record",
        "revealed",
        "scope",
        "settled",
        "since_ms",
        "started_ms",
        "step",
        "teller",
        "told",
    )

    def __init__(self, execution: Execution, scope: Scope, step: Step[..., Any], key: str, data: bytes) -> None:
        self.execution = execution
        self.scope = scope
        self.step = step
        self.policy: StepPolicy = step.policy
        self.key = key
        self.data = data
        self.fingerprint = sha256(data).hexdigest()
        self.record: Record | None = None
        self.attempt = 0
        self.free_waits = 0
        self.since_ms: int | None = None
        self.started_ms = 0
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.revealed: set[str] = set()
        self.teller: Teller | None = None
        self.told = 0
        self.settled = False
        self.failed: str | None = None
        self.observed: ObservedStep | None = None

    # --- what is written ----------------------------------------------------------------------------------------------

    def input_fields(self) -> dict[str, Any]:
        """The input as a payload holds it: itself, or the artifact that does."""
        return {"input": orjson.Fragment(by_reference(self.execution.redact(self.data), self.execution.log.keep))}

    def intent(self) -> bytes:
        """The payload of `step.intended`."""
        now_ms = self.started_ms
        window_s = self.policy.window_s
        since_ms = self.since_ms or now_ms
        return orjson.dumps(
            {
                "attempt": self.attempt,
                "fingerprint": self.fingerprint,
                "idempotency_key": self.idempotency_key(),
                **self.input_fields(),
                "step": self.step.name,
                "step_kind": self.policy.kind,
            }
            | ({} if window_s is None else {"until_ms": since_ms + int(window_s * 1000)})
        )

    def idempotency_key(self) -> str:
        """The recorded key if there is one, else the derived one."""
        if self.record is not None and self.record.intent is not None:
            key: str = self.record.intent.data["idempotency_key"]
            return key
        return idempotency_key(self.execution.run_id, self.scope.path, self.key)

    def fact(self, **fields: Any) -> bytes:
        """The payload of `step.completed` or `step.failed`."""
        self.settled = True
        execution = self.execution
        if "error" in fields:
            self.failed = code_of(execution, fields["error"])
        payload: dict[str, Any] = {"attempt": self.attempt, "fingerprint": self.fingerprint}
        payload.update(fields)
        if self.policy.effect:
            payload["step_kind"] = self.policy.kind
        else:
            payload.update(self.input_fields())
            payload["step"] = self.step.name
            payload["step_kind"] = self.policy.kind
        if self.revealed:
            payload["secrets"] = sorted(self.revealed)
        if self.started_ms:  # else it was called by a worker that is gone, and resolved from outside
            payload["duration_ms"] = max(0, execution.services.clock.now_ms() - self.started_ms)
        return orjson.dumps(payload)

    def failure(self, error: BaseException) -> bytes:
        """The payload of `step.failed` for an exception."""
        described = describe(error)
        if isinstance(error, self.policy.raises):
            described["args"] = arguments_of(error)
            found = [cls for cls in type(error).__mro__ if cls in self.policy.raises]
            described["raised_as"] = (found or [type(error)])[0].__name__
        return self.fact(error=described)

    # --- the limits of its policy -------------------------------------------------------------------------------------

    @property
    def tried(self) -> int:
        """How many attempts were used up."""
        return self.attempt - self.free_waits

    def repeats(self, error: BaseException) -> bool:
        """Whether an attempt that ended like this is followed by another one."""
        return isinstance(error, (*self.policy.retry_on, TimedOut)) and self.tried < self.policy.attempts

    def backoff_s(self) -> float:
        """The delay before the next attempt."""
        return self.policy.backoff.delay_s(self.tried, self.execution.services.random.uniform())

    def in_time(self, delay_s: float) -> bool:
        """Whether another attempt after this delay begins before `give_up_after`."""
        limit_s = self.policy.give_up_after_s
        if limit_s is None:
            return True
        assert self.since_ms is not None
        return (self.execution.services.clock.now_ms() - self.since_ms) / 1000 + delay_s < limit_s

    # --- what others ask of it ----------------------------------------------------------------------------------------

    def append(self, kind: str, payload: bytes) -> None:
        """Append in the background under this step's key."""
        execution = self.execution
        execution.log.add(
            execution.services.draft(kind, payload, node=self.scope.node, scope=self.scope.path, key=self.key)
        )

    def info(self) -> StepInfo:
        """What the function may know."""
        execution = self.execution
        return StepInfo(
            execution.run_id,
            self.scope.path,
            self.key,
            self.attempt,
            execution.log.epoch,
            self.idempotency_key(),
            execution.graph.name,
            self.reveal,
            self.tell,
        )

    def reveal(self, secret: Secret) -> str:
        """Resolve a secret; the fact of this step names its reference, so that a restart redacts the value too."""
        value = self.execution.reveal(secret)
        self.revealed.add(secret.reference)
        return value

    def tell(self, attempt: int, text: str) -> None:
        """The function tells text, in whatever thread it runs."""
        self.execution.services.live.call(partial(self._tell, attempt, text))

    def _tell(self, attempt: int, text: str) -> None:
        if attempt <= self.told:
            return  # an abandoned thread of an attempt that has ended
        if self.teller is None:
            execution = self.execution
            place = Piece(execution.run_id, self.scope.path, self.key, attempt, 0, "")
            self.teller = Teller(execution.services.live, place, execution.services.redactor)
        self.teller.feed(text)

    def hush(self) -> None:
        """The attempt has ended: nothing more is told of it."""
        self.told = self.attempt
        teller, self.teller = self.teller, None
        if teller is not None:
            try:
                teller.end()
            except Exception:  # what was told is transient: what becomes of the call is not to depend on it
                logger.exception("run %s: what step %s told is cut off", self.execution.run_id, self.key)
