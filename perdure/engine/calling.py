"""Calling a step's function: inline, in a thread, or in a process, within its timeout."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from perdure.core.errors import PerdureError, StepTimeout
from perdure.core.policies import StepPolicy
from perdure.engine.current import StepInfo, step_info

if TYPE_CHECKING:
    from perdure.engine.services import Services
    from perdure.workflow.steps import Step


class TimedOut(Exception):
    """An attempt did not end within its timeout; `thread` says that its thread still runs."""

    def __init__(self, timeout_s: float, *, thread: bool = False) -> None:
        super().__init__(f"no answer within {timeout_s:g} s")
        self.timeout_s = timeout_s
        self.thread = thread
        self.error_code = StepTimeout.code
        self.error_type = "TimeoutError"


class RefusedResult:
    """Stands for a result that a step's process could not hand over, because it cannot be recorded."""

    __slots__ = ("error",)

    def __init__(self, error: PerdureError) -> None:
        self.error = error


async def call(
    services: Services,
    step: Step[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    info: StepInfo,
    late: Callable[[asyncio.Future[Any]], None] | None = None,
    ready: Callable[[], None] = lambda: None,
) -> Any:
    """Call a step's function once.

    Args:
        ready: called directly before the function; it may raise.
        late: told about the future of a thread that was abandoned, so that its late result can be noted.

    Raises:
        TimedOut: it did not end in time.
        Exception: whatever the function raised.
    """
    policy = step.policy
    token = step_info.set(info)
    try:
        if step.is_async:
            ready()
            awaitable: Awaitable[Any] = step.fn(*args, **kwargs)
            if policy.timeout_s is None:
                return await awaitable
            return await _within(services, policy.timeout_s, awaitable)
        if policy.isolation == "inline":
            ready()
            value = step.fn(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        if policy.isolation == "process":
            return await _in_process(services, step, args, kwargs, info, ready)
        async with services.thread_places:  # one that is abandoned gives its place away
            ready()
            return await _in_thread(services, step, policy, args, kwargs, info, late)
    finally:
        step_info.reset(token)


async def _within(services: Services, timeout_s: float, awaitable: Awaitable[Any]) -> Any:
    deadline = services.clock.timeout(timeout_s)
    try:
        async with deadline:
            return await awaitable
    except TimeoutError as error:
        if deadline.expired():
            raise TimedOut(timeout_s) from error
        raise


async def _in_thread(
    services: Services,
    step: Step[..., Any],
    policy: StepPolicy,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    info: StepInfo,
    late: Callable[[asyncio.Future[Any]], None] | None,
) -> Any:
    future = services.threads.run(step.fn, *args, **kwargs)
    place = (info.run_id, info.scope, info.key)
    services.running_threads[place] = future
    future.add_done_callback(lambda _: services.running_threads.pop(place, None))
    try:
        if policy.timeout_s is None:
            await asyncio.wait((future,))
        else:
            await _within(services, policy.timeout_s, asyncio.wait((future,)))
    except asyncio.CancelledError:
        _abandon(future, late)
        raise
    except TimedOut as error:
        if not future.done():
            _abandon(future, late)
            raise TimedOut(error.timeout_s, thread=True) from error
    return future.result()


async def _in_process(
    services: Services,
    step: Step[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    info: StepInfo,
    ready: Callable[[], None],
) -> Any:
    from perdure.engine.processes import call_in_process

    timeout_s = step.policy.timeout_s
    async with services.process_places:
        ready()
        called = call_in_process(step, args, kwargs, info)
        return await (called if timeout_s is None else _within(services, timeout_s, called))


def _abandon(future: asyncio.Future[Any], late: Callable[[asyncio.Future[Any]], None] | None) -> None:
    if future.done():
        _ignore(future)
    else:
        future.add_done_callback(late if late is not None else _ignore)


def _ignore(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception, so that asyncio does not report it as forgotten."""
    if not future.cancelled():
        future.exception()
