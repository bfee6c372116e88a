"""Steps: functions with a declared kind, whose calls are journaled."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, cast, get_type_hints, overload

from perdure.core.canonical import canonical
from perdure.core.durations import Duration, parse_duration
from perdure.core.errors import DefinitionError, InputTypeError, PolicyError
from perdure.core.ids import check_key, check_name
from perdure.core.policies import Backoff, Idempotent, InDoubt, StepKind, StepPolicy
from perdure.core.values import Codec, codec_for

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Errors = type[BaseException] | Sequence[type[BaseException]]
_MISSING: Final = object()


class UndeclaredKindWarning(UserWarning):
    """A step does not say what a crash in the middle of it means."""


class Step(Generic[P, R_co]):
    """A function whose calls through `run.step` are journaled; made by `@step`.

    Called directly it is the plain function, so that it can be tested alone.

    Attributes:
        name: part of the step's key; unique within a workflow by convention.
        fn: the plain function.
        policy: how it is executed.
        probe: looks whether a `once` step in doubt happened.
        key: an explicit key, if `keyed` gave one.
    """

    def __init__(
        self,
        fn: Callable[P, Awaitable[R_co]] | Callable[P, R_co],
        policy: StepPolicy,
        *,
        name: str | None = None,
        probe: Callable[..., Any] | None = None,
    ) -> None:
        self.fn = fn
        self.name = check_name(name or getattr(fn, "__name__", ""), field="step name")
        self.policy = policy.check(self.name)
        self.probe = probe
        self.key: str | None = None
        self.is_async = inspect.iscoroutinefunction(fn)
        self._signature: inspect.Signature | None = None
        self.__doc__ = fn.__doc__
        self.__name__ = self.name
        self.__qualname__ = getattr(fn, "__qualname__", self.name)
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R_co] | R_co:
        """Call the plain function, outside any run."""
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<step {self.name} {self.policy.kind}>"

    def keyed(self, key: str) -> Step[P, R_co]:
        """The same step under an explicit key instead of its name and occurrence."""
        return self._copy(key=check_key(key))

    def options(
        self,
        *,
        key: str | None = None,
        retries: int | None = None,
        timeout: Duration | None = None,
        give_up_after: Duration | None = None,
        backoff: Backoff | None = None,
    ) -> Step[P, R_co]:
        """The same step with another policy for this call; its kind cannot be changed."""
        policy = self.policy
        if retries is not None:
            policy = replace(policy, attempts=retries + 1)
        if timeout is not None:
            policy = replace(policy, timeout_s=parse_duration(timeout, name="timeout"))
        if give_up_after is not None:
            policy = replace(policy, give_up_after_s=parse_duration(give_up_after, name="give_up_after"))
        if backoff is not None:
            policy = replace(policy, backoff=backoff)
        return self._copy(key=self.key if key is None else check_key(key), policy=policy.check(self.name))

    def _copy(self, **changes: Any) -> Step[P, R_co]:
        copy: Step[P, R_co] = object.__new__(Step)
        copy.__dict__.update(self.__dict__)
        copy.__dict__.update(changes)
        return copy

    # --- input and output ---------------------------------------------------------------------------------------------

    @property
    def signature(self) -> inspect.Signature:
        """The function's signature."""
        if self._signature is None:
            self._resolve()
        assert self._signature is not None
        return self._signature

    def _resolve(self) -> None:
        hints = type_hints(self.fn)
        signature = inspect.signature(self.fn)
        self._names = tuple(signature.parameters)
        self._codecs: dict[str, Codec[Any]] = {}
        self._simple = True
        self._required = 0
        self._labels = {name: b"{" + canonical(name) + b":" for name in signature.parameters}
        for name, parameter in signature.parameters.items():
            declared = hints.get(name, Any)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                declared = tuple[declared, ...]  # type: ignore[valid-type]
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                declared = dict[str, declared]  # type: ignore[valid-type]
            self._codecs[name] = codec_for(declared)
            if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
                self._simple = False
            elif parameter.default is inspect.Parameter.empty:
                self._required += 1
        self.output: Codec[R_co] = codec_for(hints.get("return", Any))
        self.plain_input = all(codec.plain for codec in self._codecs.values())
        self._signature = signature

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name, as given: defaults are not filled in.

        Raises:
            InputTypeError: an argument is missing, unknown or given twice.
        """
        if self._signature is None:
            self._resolve()
        names = self._names
        if self._simple and not kwargs and self._required <= len(args) <= len(names):
            return dict(zip(names, args, strict=False))
        try:
            return dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise InputTypeError(f"step {self.name!r}: {error}", step=self.name) from error

    def dump_input(self, arguments: dict[str, Any]) -> bytes:
        """Canonical JSON of bound arguments; this is what is recorded and fingerprinted.

        Raises:
            ValueRefusedError, InputTypeError: an argument cannot be recorded.
        """
        codecs = self._codecs
        if len(arguments) == 1:
            ((name, value),) = arguments.items()
            return self._labels[name] + codecs[name].dump(value, name) + b"}"
        if not arguments:
            return b"{}"
        members = [(name, codecs[name].dump(arguments[name], name)) for name in sorted(arguments, key=_utf16)]
        return b"{" + b",".join([self._labels[name][1:] + data for name, data in members]) + b"}"

    def load_input(self, tree: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments for the function, from a recorded input.

        Raises:
            ValueRefusedError, InputTypeError: the recorded value no longer validates against the declared types.
        """
        if self._signature is None:
            self._resolve()
        codecs = self._codecs
        unknown = [name for name in tree if name not in codecs]
        if unknown:
            raise InputTypeError(f"step {self.name!r} has no parameter {unknown[0]!r} any more", step=self.name)
        values = {name: codecs[name].load_json(value) for name, value in tree.items()}
        if self._simple:
            return (), values
        bound = inspect.BoundArguments(self.signature, cast(Any, values))
        return bound.args, bound.kwargs


def _utf16(name: str) -> bytes:
    """RFC 8785 sorts members by their UTF-16 code units."""
    return name.encode("utf-16-be")


def type_hints(fn: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of a function; a name that cannot be resolved leaves its parameter undeclared."""
    try:
        return get_type_hints(fn, include_extras=True)
    except (NameError, TypeError):
        return _hints_one_by_one(fn)


def _hints_one_by_one(fn: Callable[..., Any]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    namespace = getattr(sys.modules.get(fn.__module__), "__dict__", {})
    for name, annotation in getattr(fn, "__annotations__", {}).items():
        holder = type("Holder", (), {"__annotations__": {name: annotation}})
        try:
            hints[name] = get_type_hints(holder, globalns=namespace, include_extras=True)[name]
        except (NameError, TypeError):
            hints[name] = Any
    return hints


def _errors(value: Errors, name: str) -> tuple[type[BaseException], ...]:
    found = (value,) if isinstance(value, type) else tuple(value)
    for one in found:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise PolicyError(f"{name} must list exception classes, not {one!r}")
    return found


class _Decorator:
    """What `step(...)` with options returns; keeps the signature of what it decorates."""

    def __init__(
        self,
        policy: StepPolicy,
        name: str | None,
        probe: Callable[..., Any] | None,
        thread: bool | None,
        *,
        declared: bool,
    ) -> None:
        self._declared = declared
        self._policy = policy
        self._name = name
        self._probe = probe
        self._thread = thread

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]]) -> Step[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R]) -> Step[P, R]: ...
    def __call__(self, fn: Callable[..., Any]) -> Step[..., Any]:
        """Make a step of a function."""
        if not callable(fn) or inspect.isclass(fn):
            raise DefinitionError(f"@step decorates a function, not {fn!r}")
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise DefinitionError(f"step {fn.__name__!r} is a generator; return a list instead")
        if not self._declared:
            warnings.warn(
                f"step {fn.__name__!r} declares no kind, so it is 'idempotent': after a crash it may run again under "
                "the same key",
                UndeclaredKindWarning,
                stacklevel=3,
            )
        policy = self._policy
        if policy.isolation != "process" and not inspect.iscoroutinefunction(fn):
            inline = self._thread is False or (self._thread is None and policy.kind == "pure")
            policy = replace(policy, isolation="inline" if inline else "thread")
        if policy.isolation == "process" and inspect.iscoroutinefunction(fn):
            raise DefinitionError(
                f"step {fn.__name__!r} is async and cannot run in a process",
                hint="make it a plain def; an async step is cancelled anyway",
            )
        if policy.isolation == "process" and "<locals>" in fn.__qualname__:
            raise DefinitionError(f"step {fn.__name__!r} must be defined at module level to run in a process")
        return Step(fn, policy, name=self._name, probe=self._probe)


@overload
def step(fn: Callable[P, Awaitable[R]], /) -> Step[P, R]: ...
@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    kind: StepKind | Idempotent = ...,
    name: str | None = None,
    retries: int = 0,
    backoff: Backoff = ...,
    retry_on: Errors = ...,
    timeout: Duration | None = None,
    give_up_after: Duration | None = None,
    in_doubt: InDoubt | None = None,
    probe: Callable[..., Any] | None = None,
    not_done: Errors = (),
    raises: Errors = (),
    thread: bool | None = None,
    isolation: Literal["process"] | None = None,
    commit: Literal["now"] | None = None,
) -> _Decorator: ...
def step(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    kind: StepKind | Idempotent | None = None,
    name: str | None = None,
    retries: int = 0,
    backoff: Backoff = Backoff(),
    retry_on: Errors = (Exception,),
    timeout: Duration | None = None,
    give_up_after: Duration | None = None,
    in_doubt: InDoubt | None = None,
    probe: Callable[..., Any] | None = None,
    not_done: Errors = (),
    raises: Errors = (),
    thread: bool | None = None,
    isolation: Literal["process"] | None = None,
    commit: Literal["now"] | None = None,
) -> Any:
    """Declare a step.

    Args:
        kind: `pure` (only computes), `read` (looks at the world), `idempotent` (changes the world, safe to repeat under
            one key), `once` (must not be repeated), or `idempotent(window="24h")`. Without it the step is `idempotent`
            and a warning says so once.
        name: the step's name; that of the function if omitted. It is part of the key, so renaming is drift.
        retries: how often to try again after the first attempt failed.
        backoff: the delay between attempts.
        retry_on: the exceptions that are worth another attempt.
        timeout: of one attempt.
        give_up_after: of all attempts together, delays included.
        in_doubt: for `once`: `ask` a person (default), `fail`, `retry`, or `probe`.
        probe: for `once`: called with the step's arguments when it is in doubt; returns `Done(value)`, `NotDone` or
            `Unknown` (from `perdure`).
        not_done: for `once`: exceptions which prove that nothing happened.
        raises: exceptions that reach the workflow as themselves.
        thread: run a synchronous function in a thread (default for all kinds but `pure`).
        isolation: `process` runs a synchronous function in a process that can be killed.
        commit: `now` commits the fact of a costly `read` at once.

    Raises:
        PolicyError: the options contradict each other.
        DefinitionError: what is decorated is no function.
    """
    window_s = kind.window_s if isinstance(kind, Idempotent) else None
    policy = StepPolicy(
        kind="idempotent" if isinstance(kind, Idempotent) else kind or "idempotent",
        attempts=retries + 1,
        backoff=backoff,
        retry_on=_errors(retry_on, "retry_on"),
        timeout_s=None if timeout is None else parse_duration(timeout, name="timeout"),
        give_up_after_s=None if give_up_after is None else parse_duration(give_up_after, name="give_up_after"),
        window_s=window_s,
        in_doubt=in_doubt or ("probe" if probe is not None else "ask"),
        not_done=_errors(not_done, "not_done"),
        raises=_errors(raises, "raises"),
        isolation=isolation or "thread",
        commit_now=commit == "now",
    )
    if policy.in_doubt == "probe" and probe is None:
        raise PolicyError("in_doubt='probe' needs probe=", step=name)
    policy.check(name or str(getattr(fn, "__name__", "step")))
    decorator = _Decorator(policy, name, probe, thread, declared=kind is not None)
    return decorator if fn is None else decorator(fn)
