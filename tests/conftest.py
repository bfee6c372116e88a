"""How the tests of Perdure run: `async def` tests under `asyncio.run`, a time limit for each, no skip unseen.

Every test has a limit of 60 s, or what `@pytest.mark.time_limit(seconds)` says. What hangs is ended in three steps,
each for what the one before cannot reach:

1. an async test that waits for ever fails with the stacks of all its tasks;
2. `GRACE_S` later a test that blocks the main thread gets an exception there, after the stacks of all threads;
3. `GRACE_S` after that the whole session is ended, with the stacks of all threads.

With `PERDURE_NO_SKIPS=1` (set where the tests must be complete) a skipped test is a failed one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, TypeVar

import hypothesis
import pytest

LIMIT_S = 60.0
GRACE_S = 10.0
NO_SKIPS = "PERDURE_NO_SKIPS"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

# The limits above are the only clock: how long one example takes on a busy machine says nothing.
hypothesis.settings.register_profile("perdure", deadline=None)
hypothesis.settings.load_profile("perdure")

_terminal: TextIO = sys.stderr


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a test keeps its SQLite store; the file does not exist yet."""
    return tmp_path / "runs.db"


# --- async tests ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test, also one under hypothesis' `@given`, in an event loop of its own."""
    function = pyfuncitem.obj
    limit_s = _limit_s(pyfuncitem)
    given = getattr(function, "hypothesis", None)
    if given is not None and inspect.iscoroutinefunction(given.inner_test):
        given.inner_test = _blocking(given.inner_test, limit_s)
        return None
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    _blocking(function, limit_s)(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


def _blocking(function: Callable[..., Coroutine[Any, Any, None]], limit_s: float) -> Callable[..., None]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(_within(function(*args, **kwargs), limit_s))

    return run


async def _within(test: Coroutine[Any, Any, None], limit_s: float) -> None:
    task = asyncio.create_task(test, name="the test itself")
    await asyncio.wait({task}, timeout=limit_s)
    if task.done():
        return task.result()
    stacks = _task_stacks(leave_out=asyncio.current_task())
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE_S)
    pytest.fail(f"not finished after {limit_s:g} s; its tasks:\n\n{stacks}", pytrace=False)


def _task_stacks(leave_out: asyncio.Task[Any] | None) -> str:
    text = io.StringIO()
    for task in sorted(asyncio.all_tasks() - {leave_out}, key=lambda task: task.get_name()):
        task.print_stack(file=text)
        text.write("\n")
    return text.getvalue()


# --- time limits ------------------------------------------------------------------------------------------------------


def _limit_s(item: pytest.Item) -> float:
    marker = item.get_closest_marker("time_limit")
    return LIMIT_S if marker is None else float(marker.args[0])


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error at hand: output is not captured yet.

    A shell starts its background jobs with interrupts ignored, and programs that a test starts would inherit that: what
    Ctrl-C does is tested, so it is set as in the foreground.
    """
    global _terminal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _terminal = os.fdopen(os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2), "w")


def pytest_unconfigure() -> None:
    """Let go of it."""
    if _terminal is not sys.stderr:
        _terminal.close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Interrupt the main thread, then end the session, when a test outlives its limit; fixtures count too."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        faulthandler.dump_traceback(_terminal)
        raise TimeoutError(f"{item.nodeid} blocked the main thread for longer than {limit_s:g} s")

    limit_s = _limit_s(item)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit_s + GRACE_S)
    faulthandler.dump_traceback_later(limit_s + 2 * GRACE_S, exit=True, file=_terminal)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- skips ------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test (not one that is expected to fail) fails where skips are not allowed."""
    report = yield
    return report if hasattr(report, "wasxfail") else _refuse_skip(report)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    return _refuse_skip((yield))


def _refuse_skip(report: Report) -> Report:
    if report.skipped and os.environ.get(NO_SKIPS) == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} ({NO_SKIPS} is set: every test must run)"
    return report
