"""Effects as data: a flow's node names what is to be done, and the runtime does it.

A kind of effect is an async function that takes the run and named parameters. It may use all that a run offers, so
whatever it does to the world goes through `run.step` and is journaled there.

The idea of a node that returns one effect as data, with the place of its result and the next node, is that of the
Elm architecture's commands and of step plans in durable agent runtimes; here the set of kinds is open.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from perdure.core.errors import EffectError, InputTypeError, InvalidIdError, PerdureError, Problem
from perdure.core.ids import check_key, check_name
from perdure.core.values import codec_for
from perdure.workflow.graph import Fail, Next
from perdure.workflow.ports import Run
from perdure.workflow.signature import describe_object, function_problems, is_required, origin_of, signature_of

LONGEST_STATE_KEY: Final = 180
"""In characters; a key of the state is part of the key under which its write is recorded."""

EffectFunction = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=EffectFunction)


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as data.

    Args:
        kind: `ask`, `wait_for`, `sleep`, `sleep_until`, `step`, `spawn`, `emit`, `put`, or one registered by `@effect`.
        params: the kind's named parameters: plain data, except where a kind takes a step or a workflow.
        save_as: the key of `run.state` that keeps the result.
        next: the node to go to then; that of the node's `next=` if omitted.
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    save_as: str | None = None
    next: str | None = None


class EffectKind(NamedTuple):
    """A registered kind of effect.

    Args:
        name: by which effects name it.
        fn: does it.
        references: parameters that take an object of the program (a step, a workflow) instead of plain data.
    """

    name: str
    fn: EffectFunction
    references: frozenset[str]


_kinds: dict[str, EffectKind] = {}


def effect(kind: str, *, references: Iterable[str] = ()) -> Callable[[F], F]:
    """Register a kind of effect.

    Args:
        kind: its name, for example `http.get`.
        references: names of parameters that take a step or a workflow instead of plain data.

    Returns:
        A decorator for an async function that takes the run and named parameters; the function stays as it is.

    Raises:
        EffectError: the function does not fit (codes as for `signature_…`, and `effect_not_async`), or another function
            has this name (`effect_duplicate`).
        InvalidIdError: the name is outside its grammar.
    """
    name = check_name(kind, field="effect kind")

    def register(fn: F) -> F:
        problems = function_problems(fn, f"effect {name!r}") or _effect_function_problems(name, fn)
        known = _kinds.get(name)
        if known is not None and not problems and _place(known.fn) != _place(fn):
            problems = [Problem("effect_duplicate", f"another function is registered as effect {name!r}", (name,))]
        if problems:
            raise EffectError(f"effect {name!r}", problems, effect=name)
        _kinds[name] = EffectKind(name, fn, frozenset(references))
        return fn

    return register


def _place(fn: EffectFunction) -> tuple[str, str]:
    """The same for every import of one function, also after its file was edited."""
    return origin_of(fn).rpartition(":")[0] or origin_of(fn), fn.__qualname__


def _effect_function_problems(name: str, fn: EffectFunction) -> list[Problem]:
    problems = []
    if not inspect.iscoroutinefunction(fn):
        problems.append(Problem("effect_not_async", f"effect {name!r} must be an async function", (name,)))
    first = next(iter(signature_of(fn).parameters.values()), None)
    if first is None or first.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        message = f"effect {name!r} must take the run as its first parameter"
        problems.append(Problem("signature_run_missing", message, (name,)))
    return problems


def effect_kinds() -> list[str]:
    """The names of all registered kinds, sorted."""
    return sorted(_kinds)


def effect_problems(value: Effect) -> list[Problem]:
    """What is wrong with an effect.

    Codes: `unknown_effect`; `effect_params` (a parameter is missing, unknown, or no plain data); `save_as_invalid`.
    """
    problems = []
    if value.save_as is not None:
        try:
            check_key(value.save_as, field="save_as")
            if len(value.save_as) > LONGEST_STATE_KEY:
                raise InvalidIdError(f"save_as has more than {LONGEST_STATE_KEY} characters")
        except InvalidIdError as error:
            problems.append(Problem("save_as_invalid", error.message, (str(value.save_as),)))
    name: object = value.kind
    kind = _kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        message = f"no effect {value.kind!r} is registered (known: {', '.join(effect_kinds())})"
        return [*problems, Problem("unknown_effect", message, (str(value.kind),))]
    misfits = _misfits(kind, value.params)
    return problems + [Problem("effect_params", f"effect {kind.name!r}: {one}", (kind.name,)) for one in misfits]


def _misfits(kind: EffectKind, params: object) -> list[str]:
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        return [f"params must be a mapping of names to values, not {describe_object(params)}"]
    _, *takes = signature_of(kind.fn).parameters.values()
    names = {one.name for one in takes}
    is_open = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes)
    misfits = [f"it has no parameter {name!r}" for name in params if name not in names and not is_open]
    misfits += [f"parameter {one.name!r} is missing" for one in takes if is_required(one) and one.name not in params]
    for name, value in params.items():
        if name not in kind.references:
            try:
                codec_for(Any).dump(value, f"$.{name}")
            except PerdureError as error:
                misfits.append(f"not plain data: {error.message}")
    return misfits


async def perform(run: Run, value: Effect) -> Next | Fail:
    """Do an effect, keep its result, and say where to go.

    Args:
        run: bound to the node that returned the effect.
        value: the effect.

    Returns:
        `Next`, without a node if the effect names none; or `Fail` with one of the codes of `effect_problems`. What the
        effect raises passes through.
    """
    problems = effect_problems(value)
    if problems:
        return fail_for(problems)
    result = await _kinds[value.kind].fn(run, **value.params)
    if value.save_as is not None:
        run.state[value.save_as] = result
    return Next() if value.next is None else Next(value.next)


def fail_for(problems: Sequence[Problem]) -> Fail:
    """The failure of a node that returned something invalid: the first problem's code, and all in the details."""
    message = "; ".join(problem.message for problem in problems)
    return Fail(message, code=problems[0].code, details={"problems": [problem.to_dict() for problem in problems]})


# --- the kinds that every run has -------------------------------------------------------------------------------------


class _Unset:
    """The type of `_UNSET`: an option that was not given."""


_UNSET: Final = _Unset()


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not _UNSET}


@effect("ask")
async def _ask(
    run: Run,
    text: str,
    *,
    choices: Any = _UNSET,
    kind: Any = _UNSET,
    default: Any = _UNSET,
    timeout: Any = _UNSET,
    key: Any = _UNSET,
) -> Any:
    """Ask a person; the result is the answer."""
    return await run.ask(text, **_given(choices=choices, kind=kind, default=default, timeout=timeout, key=key))


@effect("wait_for")
async def _wait_for(
    run: Run,
    signal: str,
    *,
    match: Any = _UNSET,
    timeout: Any = _UNSET,
    default: Any = _UNSET,
    key: Any = _UNSET,
) -> Any:
    """Wait for a signal; the result is its payload."""
    return await run.wait_for(signal, **_given(match=match, timeout=timeout, default=default, key=key))


@effect("sleep")
async def _sleep(run: Run, duration: Any, *, key: Any = _UNSET) -> None:
    """Sleep for a duration."""
    await run.sleep(duration, **_given(key=key))


@effect("sleep_until")
async def _sleep_until(run: Run, until: Any, *, key: Any = _UNSET) -> None:
    """Sleep until an instant."""
    await run.sleep_until(until, **_given(key=key))


@effect("step", references=("step",))
async def _step(run: Run, step: Any, args: Any = MappingProxyType({}), *, key: Any = _UNSET) -> Any:
    """Call a step; `args` is a list of positional or a dict of named arguments. The result is the step's."""
    positional, named = _arguments(args)
    return await run.step(step, *positional, **named, **_given(key=key))


@effect("spawn", references=("workflow",))
async def _spawn(run: Run, workflow: Any, input: Any = MappingProxyType({}), *, key: Any = _UNSET) -> Any:
    """Start a child run and wait for it; `input` as `args` of `step`. The result is the child's output."""
    positional, named = _arguments(input)
    child = await run.spawn(workflow, *positional, **named, **_given(key=key))
    return await child.result()


@effect("emit")
async def _emit(run: Run, name: str, payload: Any = None, *, level: Any = _UNSET) -> None:
    """Append a domain event."""
    run.emit(name, payload, **_given(level=level))


@effect("put")
async def _put(run: Run, value: Any, *, name: Any = _UNSET, media_type: Any = _UNSET, kind: Any = _UNSET) -> str:
    """Keep an artifact; the result is its SHA-256 (hex), by which it can be read."""
    return run.put(value, **_given(name=name, media_type=media_type, kind=kind)).sha256


def _arguments(given: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(given, Mapping):
        return (), given
    if isinstance(given, list):
        return given, {}
    raise InputTypeError(f"arguments are a dict by name or a list by position, not {describe_object(given)}")
