"""Definitions and functions by reference: how another process finds the same one again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from perdure.core.errors import CrashMatrixError
from perdure.workflow.graph import Definition
from perdure.workflow.loading import FILE_ATTRIBUTE, load_definition, load_module, split_spec

_ADVICE: Final = "define it at the top level of a file, or name it as 'path.py:NAME'"


def definition_reference(definition: Definition | str | os.PathLike[str]) -> str:
    """`path.py:NAME` of a workflow.

    Args:
        definition: a workflow, flow or plan of some file, or such a reference itself.

    Raises:
        CrashMatrixError: it cannot be found again: it was made inside a function, or typed in.
    """
    if isinstance(definition, str | os.PathLike):
        path, name = split_spec(definition)
        return os.path.abspath(path) + (f":{name}" if name is not None else "")
    module = getattr(definition, "module", None) or getattr(definition, "__module__", None)
    file = _file_of(module)
    for name, value in vars(sys.modules[module]).items() if file is not None and module is not None else ():
        if value is definition:
            return f"{file}:{name}"
    raise CrashMatrixError(f"workflow {definition.name!r} is no variable of a file", hint=_ADVICE)


def function_reference(function: Callable[..., Any] | str | None) -> str | None:
    """`path.py:NAME` of a function.

    Raises:
        CrashMatrixError: it is not at the top level of a file.
    """
    if function is None:
        return None
    if isinstance(function, str):
        path, name = split_spec(function)
        if name is None:
            raise CrashMatrixError(f"{function!r} names no function", hint="write 'path.py:NAME'")
        return f"{os.path.abspath(path)}:{name}"
    file = _file_of(getattr(function, "__module__", None))
    name = getattr(function, "__qualname__", "")
    if file is None or not name.isidentifier() or getattr(sys.modules[function.__module__], name, None) is not function:
        raise CrashMatrixError(f"function {name or function!r} cannot be found from another process", hint=_ADVICE)
    return f"{file}:{name}"


def _file_of(module: str | None) -> str | None:
    loaded = sys.modules.get(module or "")
    file = getattr(loaded, FILE_ATTRIBUTE, None) or getattr(loaded, "__file__", None)
    return None if file is None else os.path.abspath(file)


def load_function(reference: str) -> Callable[..., Any]:
    """The function that a reference names.

    Raises:
        CrashMatrixError: its file has no such function.
    """
    path, name = split_spec(reference)
    found = getattr(load_module(path), name or "", None)
    if not callable(found):
        raise CrashMatrixError(f"{path} has no function {name!r}")
    function: Callable[..., Any] = found
    return function


__all__ = ["definition_reference", "function_reference", "load_definition", "load_function"]
