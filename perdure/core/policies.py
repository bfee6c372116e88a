"""What a step may cost and what a failure of it means: plain data, checked when it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import PolicyError

StepKind = Literal["pure", "read", "idempotent", "once"]
InDoubt = Literal["ask", "fail", "retry", "probe"]

KINDS: Final[tuple[StepKind, ...]] = ("pure", "read", "idempotent", "once")
EFFECTS: Final = frozenset(("idempotent", "once"))
LEAST_RETRY_AFTER_S: Final = 0.1
"""Floor on the delay that another side asks for, so that `Retry-After: 0` is no busy loop."""


class Idempotent(NamedTuple):
    """The kind `idempotent` with a bound on how long the other side remembers the key."""

    window_s: float


def idempotent(window: Duration) -> Idempotent:
    """The kind `idempotent`, whose key the other side remembers for `window` only; after that a repeat counts as
    `once`.

    Args:
        window: for example `"24h"`.
    """
    return Idempotent(parse_duration(window, name="window"))


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay between attempts: `min(initial · factor^(n−1), max) · U(1 − jitter, 1 + jitter)` before attempt n+1."""

    initial_s: float = 0.2
    factor: float = 2.0
    max_s: float = 60.0
    jitter: float = 0.5

    def delay_s(self, attempt: int, uniform: float) -> float:
        """Seconds to wait after attempt number `attempt` (from 1), with `uniform` in [0, 1) for the jitter."""
        try:
            exact = self.initial_s * self.factor ** (attempt - 1)
        except OverflowError:
            exact = self.max_s
        return min(exact, self.max_s) * (1 - self.jitter + 2 * self.jitter * uniform)


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """How a step is executed.

    Args:
        kind: what a crash in the middle means.
        attempts: how often it is tried in all.
        backoff: the delay between attempts.
        retry_on: which exceptions are worth another attempt.
        timeout_s: for one attempt.
        give_up_after_s: for all attempts and the delays between them.
        window_s: how long an idempotency key holds; `None` for ever.
        in_doubt: what becomes of a `once` step whose answer was lost.
        not_done: exceptions of a `once` step that prove that nothing happened.
        raises: exceptions that reach the workflow as themselves instead of `StepFailed`.
        isolation: run a synchronous function in a `thread` or a killable `process`; `inline` in the event loop.
        commit_now: commit the fact at once, because doing it again is costly.
    """

    kind: StepKind = "idempotent"
    attempts: int = 1
    backoff: Backoff = Backoff()
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    timeout_s: float | None = None
    give_up_after_s: float | None = None
    window_s: float | None = None
    in_doubt: InDoubt = "ask"
    not_done: tuple[type[BaseException], ...] = ()
    raises: tuple[type[BaseException], ...] = ()
    isolation: Literal["inline", "thread", "process"] = "thread"
    commit_now: bool = False

    @property
    def effect(self) -> bool:
        """Whether the step changes the world."""
        return self.kind in EFFECTS

    def check(self, name: str) -> StepPolicy:
        """Return the policy if it does not contradict itself, else raise `PolicyError` that names the step."""
        problem = self._problem()
        if problem is not None:
            raise PolicyError(f"step {name!r}: {problem}", step=name)
        return self

    def _problem(self) -> str | None:
        if self.kind not in KINDS:
            return f"kind {self.kind!r} is none of {', '.join(KINDS)}"
        if self.attempts < 1:
            return "retries must be 0 or more"
        if self.timeout_s is not None and self.timeout_s <= 0:
            return "timeout must be positive"
        if self.in_doubt not in ("ask", "fail", "retry", "probe"):
            return f"in_doubt {self.in_doubt!r} is none of ask, fail, retry, probe"
        if self.kind != "once" and (self.in_doubt != "ask" or self.not_done) and self.window_s is None:
            return "in_doubt, probe and not_done are for the kind 'once' (or idempotent with a window)"
        if self.in_doubt in ("retry", "probe") and self.timeout_s is None:
            return f"in_doubt={self.in_doubt!r} needs a timeout, so that a lost worker is waited out"
        return None
