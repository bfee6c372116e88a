"""The witness: what really happened in the processes of a crash matrix, told by none of their journals.

Each process appends lines to one file, each by a single `write` to a descriptor opened with `O_APPEND`, so what is
written before a SIGKILL stays. From these lines the matrix knows how often each step was called, with which idempotency
key and input, and what the process had told the outside before it died.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import orjson

from perdure.core.errors import PerdureError
from perdure.engine.current import StepInfo
from perdure.engine.failures import is_refused_for_now
from perdure.testing.crash.points import CrashPoint, Moment, die
from perdure.workflow.steps import Step

MOST_LINES: Final = 10_000
"""How many executed lines of a step's body are counted to find its middle."""

Line = dict[str, Any]


def record_effect(name: str, **details: object) -> None:
    """Say, inside a step's function, that the world has changed now. Without a crash matrix this does nothing.

    The matrix then also kills the process directly before and directly after this instant, and counts effects by what
    was recorded here instead of by the calls of the step.

    Args:
        name: of the effect.
        details: plain data, for the report.
    """
    call = _call.get()
    if call is not None:
        call.effect(name, details)


class Witness:
    """Writes down what happens in this process.

    Args:
        path: of the file.
        process: which process of its point this is, from 0.
        point: where it is to die, if at a step's call.
        tracing: whether to count the lines of steps.
        sync: whether to sync the file after each line.
    """

    def __init__(
        self, path: Path, process: int, point: CrashPoint | None = None, *, tracing: bool = False, sync: bool = False
    ) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._process = process
        self._sync = sync
        self.point = point
        self.tracing = tracing

    def write(self, what: str, **fields: object) -> None:
        """Append a line."""
        line = {"what": what, "process": self._process, **fields}
        os.write(self._file, orjson.dumps(line, default=repr) + b"\n")
        if self._sync:
            os.fsync(self._file)

    def told(self, what: str, **fields: object) -> None:
        """This process has just been told, or has told somebody, that something is so: it must be durable."""
        self.write("told", told=what, **fields)

    def at(self, site: str, moment: Moment, subject: str) -> None:
        """Die if this is the point."""
        point = self.point
        if point is not None and (point.site, point.moment, point.subject) == (site, moment, subject):
            die()

    def middle_of(self, call: str) -> int | None:
        """The number of the line at which to die inside a call, if it is to die there."""
        point = self.point
        if point is None or (point.site, point.moment) != ("step", "middle"):
            return None
        subject, _, line = point.subject.rpartition(":")
        return int(line) if subject == call else None


def read_lines(path: Path) -> list[Line]:
    """What was witnessed, in order; a line that a crash cut off is left out."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


class Call:
    """One call of a step's function."""

    def __init__(self, witness: Witness, step: Step[..., Any], info: StepInfo) -> None:
        self._witness = witness
        self._step = step
        self._place: Line = {
            "run": info.run_id,
            "scope": info.scope,
            "key": info.key,
            "attempt": info.attempt,
        }
        self._info = info
        self._effects = 0
        self.name = f"{info.run_id}/{info.scope}/{info.key}@{info.attempt}"
        self.tracer = _Tracer.of(step.fn, witness.middle_of(self.name), witness.tracing)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The function is about to be called."""
        step = self._step
        self._witness.at("step", "before", self.name)
        data = step.dump_input(step.bind(args, kwargs))
        self._witness.write(
            "called",
            **self._place,
            step=step.name,
            kind=step.policy.kind,
            in_doubt=step.policy.in_doubt,
            epoch=self._info.epoch,
            idempotency_key=self._info.idempotency_key,
            input=hashlib.sha256(data).hexdigest(),
        )

    def effect(self, name: str, details: dict[str, object]) -> None:
        """The world changes."""
        self._effects += 1
        subject = f"{self.name}!{name}#{self._effects}"
        self._witness.at("effect", "before", subject)
        self._witness.write(
            "effect", **self._place, kind=self._step.policy.kind, effect=name, subject=subject, details=details
        )
        self._witness.at("effect", "after", subject)

    def returned(self, value: Any) -> None:
        """The function has returned, and nothing is recorded of it yet."""
        try:
            result: str | None = self._step.output.dump(value).decode()
        except PerdureError:
            result = None
        lines = None if self.tracer is None else self.tracer.lines
        self._witness.write("returned", **self._place, result=result, lines=lines)
        self._witness.at("step", "after", self.name)

    def raised(self, error: BaseException) -> None:
        """The function has raised."""
        lines = None if self.tracer is None else self.tracer.lines
        refused = isinstance(error, self._step.policy.not_done) or is_refused_for_now(error)
        self._witness.write(
            "raised", **self._place, error=f"{type(error).__name__}: {error}", refused=refused, lines=lines
        )
        self._witness.at("step", "after", self.name)


_call: ContextVar[Call | None] = ContextVar("perdure_witnessed_call", default=None)


def watched(witness: Witness, step: Step[..., Any], info: StepInfo) -> Step[..., Any]:
    """The same step, whose call is witnessed."""
    call = Call(witness, step, info)
    return step._copy(fn=(_async_watched if step.is_async else _watched)(call, step.fn))


def _watched(call: Call, fn: Callable[..., Any]) -> Callable[..., Any]:
    def witnessed(*args: Any, **kwargs: Any) -> Any:
        call.begin(args, kwargs)
        token = _call.set(call)
        try:
            value = fn(*args, **kwargs) if call.tracer is None else call.tracer.call(fn, args, kwargs)
        except BaseException as error:
            call.raised(error)
            raise
        finally:
            _call.reset(token)
        if inspect.isawaitable(value):
            return value
        call.returned(value)
        return value

    return witnessed


def _async_watched(call: Call, fn: Callable[..., Any]) -> Callable[..., Any]:
    async def witnessed(*args: Any, **kwargs: Any) -> Any:
        call.begin(args, kwargs)
        token = _call.set(call)
        try:
            coroutine = fn(*args, **kwargs)
            value = await (coroutine if call.tracer is None else call.tracer.drive(coroutine))
        except BaseException as error:
            call.raised(error)
            raise
        finally:
            _call.reset(token)
        call.returned(value)
        return value

    return witnessed


class _Tracer:
    """Counts the lines of one function's body as they are executed, and dies at one of them."""

    def __init__(self, code: CodeType, die_at: int | None) -> None:
        self._code = code
        self._die_at = die_at
        self.lines = 0

    @classmethod
    def of(cls, fn: Callable[..., Any], die_at: int | None, tracing: bool) -> _Tracer | None:
        code = getattr(inspect.unwrap(fn), "__code__", None)
        if code is None or (die_at is None and not tracing):
            return None
        return cls(code, die_at)

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code is self._code and self.lines < MOST_LINES else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        if event == "line":
            self.lines += 1
            if self.lines == self._die_at:
                die()
        return self._line if self.lines < MOST_LINES else None

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function under this trace."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return fn(*args, **kwargs)
        finally:
            sys.settrace(before)

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await a coroutine under this trace."""
        resume, value = coroutine.send, None
        while True:
            try:
                awaited = self.call(resume, (value,), {})
            except StopIteration as end:
                return end.value
            try:
                resume, value = coroutine.send, (yield awaited)
            except BaseException as error:
                resume, value = coroutine.throw, error
