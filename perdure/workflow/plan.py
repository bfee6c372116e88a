"""Workflows written as a dependency graph of states."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, TypeVar, Unpack, cast, overload

from perdure.core.durations import Duration
from perdure.core.errors import DefinitionError, PlanError, Problem
from perdure.core.ids import check_name
from perdure.core.policies import Backoff, Idempotent, InDoubt, StepKind
from perdure.core.values import codec_for
from perdure.workflow.effects import Effect
from perdure.workflow.graph import Done, Fail, Graph, Handler, Next, Node, Outcome, check_version
from perdure.workflow.inputs import Inputs, InputType, Parameter, output_of_function
from perdure.workflow.planning import check_plan
from perdure.workflow.ports import Run
from perdure.workflow.signature import code_hash, describe_object, origin_of, origin_of_caller, signature_of, summary_of
from perdure.workflow.steps import Errors, Step
from perdure.workflow.topology import Dag, Mode

F = TypeVar("F", bound=Callable[..., Any])

Recovery = Literal["latest", "earliest", "latest_successful"]


class StepOptions(TypedDict, total=False):
    """Options of a state that is one step, as for `@step`."""

    retries: int
    backoff: Backoff
    retry_on: Errors
    timeout: Duration | None
    give_up_after: Duration | None
    in_doubt: InDoubt | None
    probe: Callable[..., Any] | None
    not_done: Errors
    raises: Errors
    thread: bool | None
    isolation: Literal["process"] | None
    commit: Literal["now"] | None


@dataclass(slots=True, kw_only=True)
class State:
    """A state of a plan as it was declared.

    Args:
        id: `<machine>.<step>.<state>`.
        fn: a function or a `Step`.
        after: ids of the states that come before.
        kind: of the step that the state is; `None` for code that takes the run, and for a `Step`.
        inputs: which state's output fills a parameter.
        tags: by which the state can be skipped.
        recovery: from where a run goes on that is opened again after it ended here.
        options: of the step.
    """

    id: str
    fn: Callable[..., Any]
    after: tuple[str, ...] = ()
    kind: StepKind | Idempotent | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    recovery: Recovery = "latest"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The states that come before: those of `after`, and those whose output it takes."""
        return tuple(dict.fromkeys([*self.after, *self.inputs.values()]))

    @property
    def author_function(self) -> Callable[..., Any]:
        """The plain function."""
        return self.fn.fn if isinstance(self.fn, Step) else self.fn


class Plan:
    """A workflow of states with dependencies; each is executed once, after all that it depends on.

    Args:
        name: under which it is registered.
        version: of the definition.
        mode: `sequential` (one at a time, each sees all that was written before) or `fan_out` (side by side; each sees
            what the states before it wrote, and disjoint writes merge).
        limit: how many states may be active at once in `fan_out`.
        input: types by parameter name (all required), or a dataclass whose fields are the parameters. If omitted, the
            parameters that no output fills are the input.
        output: the id of the state whose output is the run's. If omitted, the run's output maps the ids of the states
            that nothing depends on to their outputs.
        skip_tags: states with one of these tags are skipped, besides those given when the run is started. What depends
            on a skipped state runs, and finds `None` as its output.
        description: for people.

    Attributes:
        module: the name of the module that made it.

    Raises:
        InvalidIdError: name or version are outside their grammar.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = "1",
        mode: Mode = "sequential",
        limit: int = 4,
        input: InputType | None = None,
        output: str | None = None,
        skip_tags: Iterable[str] = (),
        description: str = "",
    ) -> None:
        self.name = check_name(name, field="workflow name")
        self.version = check_version(version)
        self.mode: Mode = mode
        self.limit = limit
        self.input = input
        self.output = output
        self.skip_tags = _texts(skip_tags)
        self.description = description
        self.module, self._place = origin_of_caller()
        self.states: list[State] = []
        self._graph: Graph | None = None

    def __repr__(self) -> str:
        return f"<plan {self.name} {self.version}: {len(self.states)} states>"

    # --- declaring ----------------------------------------------------------------------------------------------------

    @overload
    def state(
        self,
        id: str,
        fn: F,
        *,
        after: Iterable[str] = (),
        kind: StepKind | Idempotent | None = None,
        inputs: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        recovery: Recovery = "latest",
        **options: Unpack[StepOptions],
    ) -> F: ...
    @overload
    def state(
        self,
        id: str,
        *,
        after: Iterable[str] = (),
        kind: StepKind | Idempotent | None = None,
        inputs: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        recovery: Recovery = "latest",
        **options: Unpack[StepOptions],
    ) -> Callable[[F], F]: ...
    def state(
        self,
        id: str,
        fn: Callable[..., Any] | None = None,
        *,
        after: Iterable[str] = (),
        kind: StepKind | Idempotent | None = None,
        inputs: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        recovery: Recovery = "latest",
        **options: Unpack[StepOptions],
    ) -> Any:
        """Declare a state; without `fn` it is a decorator, which leaves the function as it is.

        A state is code or one step. *Code* takes the run and nothing else, and returns the state's output, or `Fail`.
        A *step* is a `Step`, or a function with a `kind`; its parameters are filled from outputs (`inputs=`) and from
        the run's input by name, and what it returns is the state's output.

        Args:
            id: `<machine>.<step>.<state>`, each of lower-case letters, digits and `_`, at most 63 characters.
            fn: the function.
            after: ids of the states that come before.
            kind: of the step that the function becomes.
            inputs: by parameter, the id of the state whose output fills it; that state comes before, too.
            tags: by which the state can be skipped.
            recovery: from where a run goes on that is opened again after it ended here.
            options: of the step that the function becomes, as for `@step`.

        Raises:
            DefinitionError: the plan is in use already.
        """

        def declare(fn: F) -> F:
            self._add(
                State(
                    id=_text(id),
                    fn=fn,
                    after=tuple(map(_text, _texts(after))),
                    kind=kind,
                    inputs={name: _text(of) for name, of in (inputs or {}).items()},
                    tags=_texts(tags),
                    recovery=recovery,
                    options=cast("dict[str, Any]", options),
                )
            )
            return fn

        return declare if fn is None else declare(fn)

    def _add(self, state: State) -> None:
        if self._graph is not None:
            raise DefinitionError(
                f"plan {self.name!r} is in use already; state {state.id!r} comes too late", workflow=self.name
            )
        self.states.append(state)

    # --- compiling ----------------------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """All that is wrong with the plan; see `perdure.workflow.planning` for the codes."""
        return check_plan(self).problems

    def compile(self) -> Graph:
        """The graph, the same object each time.

        Raises:
            PlanError: the plan is invalid; it lists all problems.
        """
        if self._graph is None:
            checked = check_plan(self)
            if checked.problems:
                raise PlanError(f"plan {self.name!r}", checked.problems, workflow=self.name)
            self._graph = self._compiled(checked.steps, checked.parameters)
        return self._graph

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON data, for pictures; also of an invalid plan, which lists its problems."""
        problems = self.problems()
        shape = {} if problems else self.compile().describe()
        states = [
            {"id": one.id, "after": list(one.dependencies), "tags": list(one.tags), "recovery": one.recovery}
            for one in self.states
        ]
        return shape | {
            "name": self.name,
            "version": self.version,
            "mode": self.mode,
            "limit": self.limit,
            "states": states,
            "problems": [problem.to_dict() for problem in problems],
        }

    def _compiled(self, steps: Mapping[str, Step[..., Any]], parameters: Sequence[Parameter]) -> Graph:
        nodes = [_compile_state(state, steps.get(state.id)) for state in self.states]
        functions = [state.author_function for state in self.states]
        return Graph(
            name=self.name,
            version=self.version,
            form="plan",
            nodes=nodes,
            topology=Dag(
                {state.id: state.dependencies for state in self.states},
                mode=self.mode,
                limit=self.limit,
                tags={state.id: state.tags for state in self.states},
                kinds={node.name: node.kind or "" for node in nodes},
                output=self.output,
            ),
            inputs=Inputs(self.name, parameters, fill=self.input is not None),
            output=codec_for(Any),
            concurrency=self.limit if self.mode == "fan_out" else 1,
            code=code_hash(functions),
            origin=[self._place, *map(origin_of, functions)],
            skip_tags=self.skip_tags,
            description=self.description,
        )


def _text(given: object) -> str:
    """What is no text cannot be an id; its representation fails the grammar, and the error shows it."""
    return given if isinstance(given, str) else repr(given)


def _texts(given: Iterable[str]) -> tuple[str, ...]:
    """One text, or several, as several."""
    return (given,) if isinstance(given, str) else tuple(given)


# --- compiled states --------------------------------------------------------------------------------------------------


def _compile_state(state: State, step: Step[..., Any] | None) -> Node:
    fn = state.author_function
    blocking = step is None and not inspect.iscoroutinefunction(fn)
    return Node(
        name=state.id,
        handler=_code_handler(state, blocking) if step is None else _step_handler(state, step),
        blocking=blocking,
        output=codec_for(output_of_function(fn)),
        kind=None if step is None else step.policy.kind,
        step=None if step is None else step.name,
        tags=state.tags,
        recovery=state.recovery,
        description=summary_of(fn),
    )


def _step_handler(state: State, step: Step[..., Any]) -> Handler:
    names = list(signature_of(step.fn).parameters)

    async def handler(run: Run) -> Outcome:
        given = run.input  # decoded afresh whenever it is asked for
        arguments = {name: given[name] for name in names if name in given and name not in state.inputs}
        arguments |= {name: run.outputs[of] for name, of in state.inputs.items()}
        return Next(output=await run.step(step, **arguments))

    return handler


def _code_handler(state: State, blocking: bool) -> Handler:
    async def handler(run: Run) -> Outcome:
        returned = await (run.in_thread(state.fn) if blocking else state.fn(run))
        if isinstance(returned, Fail):
            return returned
        if isinstance(returned, Next | Done | Effect):
            message = f"state {state.id!r} returned {describe_object(returned)}; a state returns its output, or Fail(…)"
            return Fail(message, code="bad_outcome", details={"state": state.id})
        return Next(output=returned)

    return handler
