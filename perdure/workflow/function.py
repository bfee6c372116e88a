"""Workflows written as one function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

from perdure.core.errors import SignatureError
from perdure.core.ids import check_name
from perdure.core.values import codec_for
from perdure.workflow.graph import Done, Graph, Node, Outcome, check_version
from perdure.workflow.inputs import Inputs, output_of_function, parameters_of_function
from perdure.workflow.ports import Run
from perdure.workflow.signature import code_hash, function_problems, origin_of, run_function_problems, summary_of
from perdure.workflow.topology import Walk

P = ParamSpec("P")
R = TypeVar("R")
RunT = TypeVar("RunT")

MAIN: Final = "main"
"""The name of a function workflow's only node."""


class Workflow(Generic[P, R]):
    """A workflow written as one function; made by `@workflow`.

    The type parameters are the function's own: `P` its parameters after the run, `R` what it returns.

    Attributes:
        name: under which it is registered.
        version: of the definition.
        fn: the plain function, to call it inside another workflow's function or a test.
        blocking: the function is synchronous: it runs in a thread and is given the blocking face of the run.
        description: for people.

    Raises:
        SignatureError: the function cannot be called with a run and named arguments (codes `not_a_function`,
            `signature_generator`, `signature_run_missing`, `signature_positional_only`, `signature_var_positional`,
            `signature_var_keyword`).
        InvalidIdError: name or version are outside their grammar.
    """

    def __init__(
        self,
        fn: Callable[Concatenate[RunT, P], Awaitable[R]] | Callable[Concatenate[RunT, P], R],
        *,
        name: str | None = None,
        version: str = "1",
        description: str | None = None,
    ) -> None:
        label = f"workflow {name or getattr(fn, '__name__', '')!r}"
        problems = function_problems(fn, label) or run_function_problems(fn, label)
        if problems:
            raise SignatureError(label, problems)
        self.fn: Callable[..., Any] = fn
        self.name = check_name(name or fn.__name__, field="workflow name")
        self.version = check_version(version)
        self.blocking = not inspect.iscoroutinefunction(fn)
        self.description = summary_of(fn) if description is None else description
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__doc__ = fn.__doc__
        self._graph: Graph | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.name} {self.version}>"

    def compile(self) -> Graph:
        """The graph, of one node; the same object each time."""
        if self._graph is None:
            self._graph = self._compiled()
        return self._graph

    def _compiled(self) -> Graph:
        fn = self.fn
        output = codec_for(output_of_function(fn))

        async def call(run: Run) -> Outcome:
            return Done(await fn(run, **run.input))

        async def call_in_thread(run: Run) -> Outcome:
            return Done(await run.in_thread(partial(_call_with, fn, dict(run.input))))

        handler = call_in_thread if self.blocking else call
        node = Node(name=MAIN, handler=handler, blocking=self.blocking, output=output, description=self.description)
        return Graph(
            name=self.name,
            version=self.version,
            form="function",
            nodes=[node],
            topology=Walk(MAIN, {MAIN: ()}),
            inputs=Inputs(self.name, parameters_of_function(fn, skip=1), fill=False),
            output=output,
            code=code_hash([fn]),
            origin=[origin_of(fn)],
            description=self.description,
        )


def _call_with(fn: Callable[..., Any], arguments: dict[str, Any], run: object) -> Any:
    return fn(run, **arguments)


class _Decorator:
    """What `workflow(...)` with options returns."""

    def __init__(self, name: str | None, version: str, description: str | None) -> None:
        self._name = name
        self._version = version
        self._description = description

    @overload
    def __call__(self, fn: Callable[Concatenate[RunT, P], Awaitable[R]], /) -> Workflow[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[RunT, P], R], /) -> Workflow[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Workflow[..., Any]:
        """Make a workflow of a function."""
        return Workflow(fn, name=self._name, version=self._version, description=self._description)


@overload
def workflow(fn: Callable[Concatenate[RunT, P], Awaitable[R]], /) -> Workflow[P, R]: ...
@overload
def workflow(fn: Callable[Concatenate[RunT, P], R], /) -> Workflow[P, R]: ...
@overload
def workflow(*, name: str | None = None, version: str = "1", description: str | None = None) -> _Decorator: ...
def workflow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    description: str | None = None,
) -> Workflow[..., Any] | _Decorator:
    """Make a workflow of a function whose first parameter is the run.

    An `async def` gets the `Run`; a plain `def` runs in a thread and gets its blocking face. All other parameters are
    the workflow's input, passed by name or position when it is started.

    Args:
        name: under which it is registered; the function's own name if omitted.
        version: of the definition, pinned in each run. Change it to tell old runs from new code.
        description: for people; the first line of the docstring if omitted.

    Returns:
        A `Workflow` with the function's signature, without the run.

    Raises:
        SignatureError: the function cannot be called with a run and named arguments.
        InvalidIdError: name or version are outside their grammar.
    """
    decorator = _Decorator(name, version, description)
    return decorator if fn is None else decorator(fn)
