"""Steps: what is durable before one starts, what is recorded after, and what a failure of it means.

The kind of a step decides. A `pure` or `read` step is called at once and its fact is committed in the background. An
effect (`idempotent`, `once`) first commits its intent, and with it everything that stands before it in the journal;
then the lease is checked; then it is called; its fact shares the commit of whatever barrier comes next.

A call whose key is recorded is matched with the record: the same input gives the recorded fact, another input is drift,
and a record without a fact is gone on with where the crash left it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from perdure.core import kinds
from perdure.core.canonical import canonical
from perdure.core.errors import (
    FencedError,
    InputTypeError,
    PerdureError,
    RunAbandoned,
    SecretLeakError,
    ValueRefusedError,
)
from perdure.core.secrets import payload_secret_shape
from perdure.core.values import is_scalar
from perdure.engine.calling import RefusedResult, TimedOut, call
from perdure.engine.doubt import settle_doubt
from perdure.engine.failures import asked_to_wait_s, describe, is_refused_for_now, revive
from perdure.engine.large import by_reference
from perdure.engine.logs import logger
from perdure.engine.observing import FailedAttempt, code_of, observed
from perdure.engine.step_call import StepCall
from perdure.journal.state import Record

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.scopes import Scope
    from perdure.workflow.steps import Step

KEY_FORGOTTEN: Final = "by the time of the next attempt the other side may have forgotten the idempotency key"


async def run_step(
    execution: Execution,
    scope: Scope,
    step: Step[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    key: str | None,
) -> Any:
    """Call a step through the journal. The scope is entered already."""
    data = step.dump_input(step.bind(args, kwargs))
    shape = payload_secret_shape(data)
    if shape is not None:
        raise SecretLeakError(
            f"an argument of step {step.name!r} has the shape of a secret ({shape})",
            run_id=execution.run_id,
            step=step.name,
        )
    made = StepCall(execution, scope, step, scope.key_for(step.name, step.key if key is None else key), data)
    scope.call(made.key)
    record = made.record = scope.recall(made.key)
    if record is not None:
        if record.what != "step" or (record.fingerprint and record.fingerprint != made.fingerprint):
            await execution.drifted_input(scope, made.key, record, "step", data)
        if record.fact is not None:
            return await _replayed(made, record)
        made.attempt = record.attempt
        made.free_waits = record.free_waits
        made.since_ms = record.since_ms
    elif step.policy.effect:
        await execution.check_start(scope, made.key)
    if execution.permits is not None:
        await execution.permit()
    made.args, made.kwargs = args, kwargs
    if not (step.plain_input and _immutable(args, kwargs)):
        made.args, made.kwargs = step.load_input(orjson.loads(data))
    if execution.services.observers:
        return await observed(made, _executed)
    return await _executed(made)


async def _executed(made: StepCall) -> Any:
    """Execute a step that has no fact: go on with its record, or begin."""
    record = made.record
    if record is not None and await _resumed(made, record):
        return await _replayed(made, record)
    return await _attempts(made)


def _immutable(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the function may be given the caller's own objects: nothing in them can change or differ when
    recorded."""
    for value in args:
        if not is_scalar(value):
            return False
    return not kwargs or all(map(is_scalar, kwargs.values()))


# --- replay -----------------------------------------------------------------------------------------------------------


async def _replayed(made: StepCall, record: Record) -> Any:
    """The recorded fact: a value, decoded afresh, or the recorded failure."""
    assert record.fact is not None
    data = record.fact.data
    execution = made.execution
    if record.fact.kind == kinds.STEP_FAILED or data.get("result_refused"):
        raise revive(data, made.policy, execution.run_id, made.scope.path, made.key)
    tree = await execution.value_of(data, "result")
    try:
        return made.step.output.load_json(tree)
    except (ValueRefusedError, InputTypeError) as error:
        await execution.drifted_type(made.scope, made.key, "result", error)


async def _resumed(made: StepCall, record: Record) -> bool:
    """Go on with a record that has no fact: an effect in flight at a crash, a retry that is due, a doubt.

    Returns:
        True when the record has its fact now.
    """
    execution = made.execution
    if record.intent is not None:
        await _take_recorded_input(made, record)
    if record.doubt is not None:
        return await settle_doubt(made, record)
    if record.due_ms is not None:
        await execution.pause_until(made.scope, record.due_ms)
        if not _window_over(made):
            return False
        doubt(made, KEY_FORGOTTEN, None)
        return await settle_doubt(made, record)
    if record.intent is not None and (made.policy.kind == "once" or _window_over(made)):
        doubt(made, "the answer was lost with the worker", None)
        return await settle_doubt(made, record)
    return False


def _window_over(made: StepCall) -> bool:
    """Whether the other side may have forgotten the idempotency key, so that a repeat counts as `once`."""
    window_s = made.policy.window_s
    if window_s is None or made.since_ms is None:
        return False
    return made.execution.services.clock.now_ms() >= made.since_ms + window_s * 1000


async def _take_recorded_input(made: StepCall, record: Record) -> None:
    """A repeat of an effect sends the recorded input."""
    assert record.intent is not None
    tree = await made.execution.value_of(record.intent.data, "input")
    try:
        made.args, made.kwargs = made.step.load_input(tree)
    except (ValueRefusedError, InputTypeError) as error:
        await made.execution.drifted_type(made.scope, made.key, "input", error)
    made.data = canonical(tree)


# --- live -------------------------------------------------------------------------------------------------------------


async def _attempts(made: StepCall) -> Any:
    """Attempt after attempt, until there is a fact."""
    execution = made.execution
    policy = made.policy
    once = policy.kind == "once"
    while True:
        execution.check()
        made.attempt += 1
        made.started_ms = execution.services.clock.now_ms()
        if made.since_ms is None:
            made.since_ms = made.started_ms
        if policy.effect:
            await _intend(made)
        try:
            value = await _call(made, shielded=once)
        except (RunAbandoned, KeyboardInterrupt, SystemExit):
            raise
        except asyncio.CancelledError:
            if policy.isolation == "thread" and not made.step.is_async:
                made.append(kinds.STEP_ABANDONED, orjson.dumps({"attempt": made.attempt, "cause": "cancelled"}))
            if once and execution.stopping in (None, "cancel"):
                doubt(made, "the call was cancelled", None)
            raise
        except BaseException as error:
            if not isinstance(error, Exception | BaseExceptionGroup):
                raise
            settled = await _failed(made, error)
            if settled is not None:
                return settled[0]
            # The function may have changed what it was given.
            made.args, made.kwargs = made.step.load_input(orjson.loads(made.data))
            continue
        result = _completed(made, value)
        if policy.commit_now:
            await execution.barrier()
        elif not policy.effect:
            await execution.breathe()
        return result


async def _intend(made: StepCall) -> None:
    """Commit the intent, and with it all that stands before it."""
    execution = made.execution
    services = execution.services
    draft = services.draft(
        kinds.STEP_INTENDED, made.intent(), node=made.scope.node, scope=made.scope.path, key=made.key
    )
    try:
        stands = await execution.log.decide(draft, execution.start_again(draft))
    except PerdureError as error:
        raise RunAbandoned(error.message) from error
    if not stands:
        execution.check()
        raise RunAbandoned("the start of a step was withdrawn")


def _check_lease(made: StepCall) -> None:
    """Directly before an effect's call: this worker may not begin it when its lease has ended.

    A store that no other process can write to has nobody who could have taken the run; its append was just accepted.
    """
    execution = made.execution
    services = execution.services
    if services.store.shared and services.lease is not None and not services.lease.valid():
        ended = FencedError("the lease ended before the effect began", run_id=execution.run_id)
        execution.log.lost(ended)
        raise RunAbandoned(ended.message)


def _nothing() -> None:
    """What is to be checked before a step that changes nothing."""


async def _call(made: StepCall, *, shielded: bool) -> Any:
    execution = made.execution
    task = asyncio.current_task()
    assert task is not None
    execution.in_step[task] = shielded
    try:
        return await call(
            execution.services,
            made.step,
            made.args,
            made.kwargs,
            made.info(),
            lambda future: _late(made, future),
            partial(_check_lease, made) if made.policy.effect else _nothing,
        )
    finally:
        execution.in_step.pop(task, None)
        made.hush()
        if execution.stopping is not None:
            task.cancel()


def _late(made: StepCall, future: asyncio.Future[Any]) -> None:
    """A thread that was abandoned came back: its result is kept as a note only."""
    if future.cancelled():
        return
    error = future.exception()
    execution = made.execution
    if execution.log.error is not None or execution.log.state.terminal or execution.stopping is not None:
        return
    try:
        note = (
            {"note": "late", "error": describe(error)}
            if error
            else {
                "note": "late",
                "value": orjson.Fragment(made.step.output.dump(future.result())),
            }
        )
    except PerdureError as refusal:
        note = {"note": "late", "error": describe(refusal)}
    made.append(kinds.STEP_NOTED, execution.redact(orjson.dumps(note)))


def _completed(made: StepCall, value: Any) -> Any:
    """Record a result and give the caller what is recorded."""
    step = made.step
    try:
        if type(value) is RefusedResult:
            raise value.error
        data = step.output.dump(value, "$")
        redacted = made.execution.redact(data)
        if redacted is not data:
            step.output.load(redacted)  # the label of a secret need not be of the declared type
    except PerdureError as error:
        payload = made.execution.redact(made.fact(result_refused=True, error=describe(error)))
        made.append(kinds.STEP_COMPLETED, payload)
        lost = revive(orjson.loads(payload), made.policy, made.execution.run_id, made.scope.path, made.key)
        raise lost from error
    execution = made.execution
    if made.observed is not None:
        made.observed.value = value
    recorded = by_reference(redacted, execution.log.keep)
    made.append(kinds.STEP_COMPLETED, made.fact(result=orjson.Fragment(recorded)))
    if redacted is data and is_scalar(value) and step.output.plain:
        return value
    return step.output.load(redacted)


async def _failed(made: StepCall, error: BaseException) -> tuple[Any] | None:
    """What a failed attempt means.

    Returns:
        None for another attempt; the value in a tuple if a doubt was resolved as done.

    Raises:
        The recorded failure, when it is final.
    """
    execution = made.execution
    policy = made.policy
    if isinstance(error, TimedOut) and error.thread:
        made.append(kinds.STEP_ABANDONED, orjson.dumps({"attempt": made.attempt, "cause": "timeout"}))
    wait_s = asked_to_wait_s(error, execution.services.clock.now_ms())
    lost = policy.kind == "once" and not (isinstance(error, policy.not_done) or is_refused_for_now(error))
    if lost or _window_over(made):
        doubt(made, "the call ended without an answer", error)
        assert made.record is not None
        if await settle_doubt(made, made.record, error):
            return (await _replayed(made, made.record),)
        return None
    if wait_s is not None and made.in_time(wait_s):
        return await _retry(made, error, wait_s, free=True)
    if wait_s is None and made.repeats(error):
        delay_s = made.backoff_s()
        if made.in_time(delay_s):
            return await _retry(made, error, delay_s, free=False)
    redacted = execution.redact(made.failure(error))
    made.append(kinds.STEP_FAILED, redacted)
    raise revive(orjson.loads(redacted), policy, execution.run_id, made.scope.path, made.key) from error


async def _retry(made: StepCall, error: BaseException, delay_s: float, *, free: bool) -> tuple[Any] | None:
    """Record that an attempt failed and when the next is due, and wait for it; what it gives is as for `_failed`."""
    execution = made.execution
    due_ms = execution.services.clock.now_ms() + int(delay_s * 1000)
    if free:
        made.free_waits += 1
    described = describe(error)
    payload = {
        "attempt": made.attempt,
        "error": described,
        "due_ms": due_ms,
        "fingerprint": made.fingerprint,
        "since_ms": made.since_ms,
    } | ({"free": True} if free else {})
    made.append(kinds.STEP_RETRIED, execution.redact(orjson.dumps(payload)))
    if made.observed is not None:
        code = code_of(execution, described)
        made.observed.failed_attempts.append(FailedAttempt(made.attempt, due_ms - int(delay_s * 1000), code))
    await execution.pause_until(made.scope, due_ms)
    if not _window_over(made):
        return None
    doubt(made, KEY_FORGOTTEN, None)
    assert made.record is not None
    return (await _replayed(made, made.record),) if await settle_doubt(made, made.record) else None


def doubt(made: StepCall, cause: str, error: BaseException | None) -> None:
    """Record that nobody knows whether an effect happened."""
    execution = made.execution
    payload: dict[str, Any] = {"attempt": made.attempt, "cause": cause}
    if error is not None:
        payload["error"] = describe(error)
    draft = execution.services.draft(
        kinds.STEP_DOUBTED,
        execution.redact(orjson.dumps(payload)),
        node=made.scope.node,
        scope=made.scope.path,
        key=made.key,
    )
    record = made.record
    if record is None:
        record = made.record = Record("step", made.fingerprint, made.policy.kind)
        record.attempt = made.attempt
        execution.remember(made.scope, made.key, record)
    record.doubt = execution.own_event(draft)
    record.resolution = None
    execution.log.add(draft)
    place = made.info().place
    execution.log.when_durable(
        lambda: logger.warning("run %s: step %s is in doubt: %s", made.execution.run_id, made.key, cause, extra=place)
    )
