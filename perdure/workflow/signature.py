"""What a function that the author hands over must look like, and what it says about itself."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from perdure.core.errors import Problem

_VARIADIC: Final = {
    inspect.Parameter.VAR_POSITIONAL: ("signature_var_positional", "*"),
    inspect.Parameter.VAR_KEYWORD: ("signature_var_keyword", "**"),
}
_LEADING: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function; annotations are not evaluated."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(fn)


def function_problems(fn: object, label: str) -> list[Problem]:
    """Whether this is a function that can be called and whose source is of the author (codes `not_a_function`,
    `signature_generator`).

    Args:
        fn: what was decorated or handed over.
        label: names it in messages.
    """
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)):
        return [Problem("not_a_function", f"{label} must be a function, not {describe_object(fn)}")]
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        return [Problem("signature_generator", f"{label} is a generator; return a value instead of yielding")]
    return []


def run_function_problems(fn: Callable[..., Any], label: str) -> list[Problem]:
    """What keeps a function from being called with a run first and everything else by name.

    Codes: `signature_run_missing` (no first positional parameter), `signature_positional_only`,
    `signature_var_positional` (`*args`), `signature_var_keyword` (`**kwargs`).
    """
    parameters = list(signature_of(fn).parameters.values())
    problems = []
    if not parameters or parameters[0].kind not in _LEADING:
        problems.append(
            Problem("signature_run_missing", f"{label} must take the run as its first parameter: def f(run, …)")
        )
    return problems + named_parameter_problems(parameters[1:] if not problems else parameters, label)


def named_parameter_problems(parameters: Iterable[inspect.Parameter], label: str) -> list[Problem]:
    """What keeps parameters from being passed by name."""
    problems = []
    for parameter in parameters:
        name = parameter.name
        if parameter.kind in _VARIADIC:
            code, stars = _VARIADIC[parameter.kind]
            problems.append(Problem(code, f"{label} must name its parameters; it has {stars}{name}", (name,)))
        elif parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            message = f"{label} must take {name!r} by name; it is positional-only"
            problems.append(Problem("signature_positional_only", message, (name,)))
    return problems


def takes_run_alone(fn: Callable[..., Any]) -> bool:
    """Whether a function can be called with one positional argument and needs nothing else."""
    parameters = list(signature_of(fn).parameters.values())
    if not parameters or parameters[0].kind not in (*_LEADING, inspect.Parameter.VAR_POSITIONAL):
        return False
    return not any(map(is_required, parameters[1:]))


def is_required(parameter: inspect.Parameter) -> bool:
    """Whether a call without this parameter fails."""
    return parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC


def describe_object(value: object) -> str:
    """A value that is not what was expected, in a few words."""
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def summary_of(fn: Callable[..., Any]) -> str:
    """The first line of a function's docstring."""
    return (inspect.getdoc(fn) or "").partition("\n")[0].strip()


def code_hash(functions: Iterable[Callable[..., Any]], data: bytes = b"") -> str:
    """SHA-256 (hex) of the source text of functions; of their byte code where there is no text (a REPL, `exec`).

    Args:
        functions: in a stable order.
        data: what else the definition is made of.
    """
    digest = hashlib.sha256(data)
    for fn in functions:
        try:
            text = inspect.getsource(fn).encode(errors="surrogatepass")
        except (OSError, TypeError, SyntaxError):
            code = getattr(fn, "__code__", None)
            text = code.co_code + repr(code.co_names).encode() if code is not None else repr(type(fn)).encode()
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()


def origin_of(fn: Callable[..., Any]) -> str:
    """Where a function stands, so that a second import of one file can be told from another function of the same text.

    A function that closes over variables is only ever itself.
    """
    code = getattr(fn, "__code__", None)
    if code is None or getattr(fn, "__closure__", None) or getattr(fn, "__self__", None) is not None:
        return f"object {id(fn)}"
    return f"{os.path.abspath(code.co_filename)}:{code.co_firstlineno}"


def origin_of_caller(depth: int = 2) -> tuple[str, str]:
    """The module name and place of the code that called the caller of this function.

    Args:
        depth: how many calls up; 2 is the caller's caller.
    """
    frame = sys._getframe(depth)
    place = f"{os.path.abspath(frame.f_code.co_filename)}:{frame.f_lineno}"
    return frame.f_globals.get("__name__", ""), place
