"""Doubt: a side effect whose answer was lost is never silently repeated and never silently assumed.

The step's policy decides: a person is asked, the step fails, a probe looks whether it happened, or it is tried again.
After a lost lease a probe or another try waits until the lost worker's call has certainly ended.
"""

from __future__ import annotations

import inspect
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.core import kinds
from perdure.core.errors import InputTypeError, RunAbandoned, ValueRefusedError
from perdure.core.values import codec_for
from perdure.engine.failures import describe
from perdure.journal.state import Record
from perdure.workflow.graph import Done

if TYPE_CHECKING:
    from perdure.engine.step_call import StepCall


class _Answer:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NotDone: Final = _Answer("NotDone")
"""What a probe returns when it found that the effect did not happen: the step is tried again, after a call that failed
as often as it has attempts."""
Unknown: Final = _Answer("Unknown")
"""What a probe returns when it cannot tell: a person is asked."""


async def settle_doubt(made: StepCall, record: Record, error: BaseException | None = None) -> bool:
    """Resolve a doubt by the step's policy.

    Args:
        error: how the call ended that left it in doubt; `None` when the worker was lost.

    Returns:
        True when the step has its fact now, False when it is to be tried again (its time has come then).
    """
    resolution = record.resolution.data if record.resolution is not None else None
    while True:
        if resolution is None:
            resolution = await _by_policy(made, error)
        if resolution["resolution"] == "not_done":
            return await _not_done(made, record, resolution, error)
        if resolution["resolution"] == "fail":
            recorded = resolution.get("error") or _doubt_error("the step was in doubt and was resolved as failed")
            _settle(made, record, kinds.STEP_FAILED, made.fact(error=recorded))
            return True
        try:
            data = await _done_value(made, resolution)
        except (ValueRefusedError, InputTypeError) as misfit:
            _doubt_again(made, record, f"the value that was given does not fit: {misfit.message}")
            resolution = None
            continue
        _settle(made, record, kinds.STEP_COMPLETED, made.fact(result=orjson.Fragment(data)))
        return True


async def _by_policy(made: StepCall, error: BaseException | None) -> dict[str, Any]:
    policy = made.policy
    if policy.in_doubt == "fail":
        return {"resolution": "fail", "by": "policy"}
    if policy.in_doubt == "probe" or (policy.in_doubt == "retry" and (error is None or _may_repeat(made))):
        assert policy.timeout_s is not None
        await made.execution.wait_out_lost_lease(made.scope, made.key, policy.timeout_s)
        if policy.in_doubt == "retry":
            return {"resolution": "not_done", "by": "policy"}
        found = await _probed(made)
        if found is not None:
            return found
    return await _asked(made)


def _may_repeat(made: StepCall) -> bool:
    """Whether `in_doubt="retry"` repeats a call that ended without an answer: once at least, and as often as the step
    has attempts. When a worker was lost it is repeated however often: there the crash budget is the limit."""
    return made.tried < max(made.policy.attempts, 2) and made.in_time(made.backoff_s())


async def _probed(made: StepCall) -> dict[str, Any] | None:
    """What the probe found; `None` when it cannot tell."""
    execution = made.execution
    probe = made.step.probe
    assert probe is not None
    try:
        args, kwargs = made.step.load_input(orjson.loads(made.data))
        if inspect.iscoroutinefunction(probe):
            answer = await probe(*args, **kwargs)
        else:
            answer = await execution.services.threads.run(probe, *args, **kwargs)
        value = _fitting(made, made.step.output.tree(answer.output)) if isinstance(answer, Done) else None
    except RunAbandoned:
        raise
    except Exception as error:
        note = {"note": "probe failed", "error": describe(error)}
        made.append(kinds.STEP_NOTED, execution.redact(orjson.dumps(note)))
        return None
    if answer is NotDone:
        resolution: dict[str, Any] = {"resolution": "not_done", "by": "probe"}
    elif answer is Unknown or answer is None:
        return None
    elif isinstance(answer, Done):
        resolution = {"resolution": "done", "by": "probe", "value": value}
    else:
        made.append(kinds.STEP_NOTED, orjson.dumps({"note": f"probe returned {type(answer).__name__}"}))
        return None
    made.append(kinds.STEP_RESOLVED, execution.redact(orjson.dumps(resolution)))
    return resolution


async def _asked(made: StepCall) -> dict[str, Any]:
    """Ask a person, and wait for the answer."""
    execution = made.execution
    event = await execution.ask_about_doubt(made)
    return event.data or {"resolution": "fail"}


async def _done_value(made: StepCall, resolution: dict[str, Any]) -> bytes:
    """The recorded bytes of the value that a doubt was resolved with, validated against the step's return type."""
    tree = await made.execution.value_of(resolution, "value")
    return made.step.output.dump(made.step.output.check_input(codec_for(Any).load_json(tree)))


def _fitting(made: StepCall, tree: Any) -> Any:
    """A probe's value, if it can be taken from the journal too: what cannot would be probed for again and again."""
    made.step.output.check_input(codec_for(Any).load_json(tree))
    return tree


def _settle(made: StepCall, record: Record, kind: str, payload: bytes) -> None:
    execution = made.execution
    draft = execution.services.draft(
        kind, execution.redact(payload), node=made.scope.node, scope=made.scope.path, key=made.key
    )
    execution.log.add(draft)
    record.fact = execution.own_event(draft)
    record.doubt = None


async def _not_done(made: StepCall, record: Record, resolution: dict[str, Any], error: BaseException | None) -> bool:
    """It did not happen, or is to be repeated: at once if a person says so or the worker was lost; otherwise it was a
    failed attempt like others, and the policy's limits hold. Returns as `settle_doubt` does."""
    if error is None or resolution.get("by", "person") == "person":
        await _try_again(made, record, 0.0, free=True)
        return False
    delay_s = made.backoff_s()
    if resolution["by"] == "probe" and not (made.repeats(error) and made.in_time(delay_s)):
        _settle(made, record, kinds.STEP_FAILED, made.failure(error))
        return True
    await _try_again(made, record, delay_s, free=False)
    return False


async def _try_again(made: StepCall, record: Record, delay_s: float, *, free: bool) -> None:
    execution = made.execution
    due_ms = execution.services.clock.now_ms() + int(delay_s * 1000)
    payload = {
        "attempt": made.attempt,
        "error": _doubt_error("it was in doubt and is tried again"),
        "due_ms": due_ms,
        "fingerprint": made.fingerprint,
        "since_ms": made.since_ms,
    }
    if free:
        made.free_waits += 1
        payload["free"] = True
    made.append(kinds.STEP_RETRIED, orjson.dumps(payload))
    record.doubt = None
    record.resolution = None
    await execution.pause_until(made.scope, due_ms)


def _doubt_again(made: StepCall, record: Record, cause: str) -> None:
    payload = orjson.dumps({"attempt": made.attempt, "cause": cause})
    made.append(kinds.STEP_DOUBTED, made.execution.redact(payload))
    record.resolution = None


def _doubt_error(message: str) -> dict[str, Any]:
    return {"code": "in_doubt", "type": "InDoubt", "message": message, "details": None}


def wait_id_of(prefix: str, scope: str, key: str, attempt: int = 0) -> str:
    """The id of a wait: derived from its place, so that it is the same after a restart."""
    return prefix + sha256(f"{scope}\x00{key}\x00{attempt}".encode()).hexdigest()[:12]
