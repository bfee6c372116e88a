"""Workflows written as a graph of nodes that say where to go next."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from perdure.core.canonical import canonical
from perdure.core.errors import DefinitionError, FlowError, InvalidIdError, Problem
from perdure.core.ids import check_name
from perdure.core.values import codec_for
from perdure.workflow.effects import Effect, effect_problems, perform
from perdure.workflow.graph import Done, Fail, Graph, Handler, Next, Node, Outcome, check_version
from perdure.workflow.inputs import Inputs, InputType, parameters_of_type
from perdure.workflow.ports import Run
from perdure.workflow.signature import (
    code_hash,
    describe_object,
    function_problems,
    origin_of,
    origin_of_caller,
    summary_of,
    takes_run_alone,
)
from perdure.workflow.topology import Walk

F = TypeVar("F", bound=Callable[..., Any])

_FORMS: Final = "Next(…), Done(…), Fail(…) or an Effect(…)"


@dataclass(slots=True)
class _Declared:
    """A node as it was declared: a function, or one effect."""

    name: str
    fn: Callable[..., Any] | None
    effect: Effect | None
    next: str | None
    to: tuple[str, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """The nodes that it is known to go to."""
        named = (self.next, self.effect.next if self.effect else None)
        return tuple(dict.fromkeys([*(one for one in named if one is not None), *self.to]))


class Flow:
    """A workflow of nodes, one active at a time, each of which says where to go next. Cycles are welcome.

    Args:
        name: under which it is registered.
        version: of the definition.
        entry: the first node; the one declared first if omitted.
        input: types by parameter name (all required), or a dataclass whose fields are the parameters. Nodes read the
            input from `run.input`.
        output: the type of what `Done` carries.
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
        entry: str | None = None,
        input: InputType | None = None,
        output: Any = Any,
        description: str = "",
    ) -> None:
        self.name = check_name(name, field="workflow name")
        self.version = check_version(version)
        self.entry = entry
        self.input = input
        self.output = output
        self.description = description
        self.module, self._place = origin_of_caller()
        self._declared: list[_Declared] = []
        self._graph: Graph | None = None

    def __repr__(self) -> str:
        return f"<flow {self.name} {self.version}: {len(self._declared)} nodes>"

    # --- declaring ----------------------------------------------------------------------------------------------------

    @overload
    def node(self, fn: F, /) -> F: ...
    @overload
    def node(
        self, /, *, name: str | None = None, next: str | None = None, to: Iterable[str] | None = None
    ) -> Callable[[F], F]: ...
    def node(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        next: str | None = None,
        to: Iterable[str] | None = None,
    ) -> Any:
        """Declare a node; used as a decorator, which leaves the function as it is.

        The function takes the run and nothing else, and returns `Next("node")`, `Done(output)`, `Fail(message)`, an
        `Effect`, or nothing. A plain `def` runs in a thread with the blocking face of the run.

        Args:
            name: the node's name; that of the function if omitted.
            next: where it goes when it names no node itself.
            to: all nodes that it may go to, besides `next`. Checked before the run starts, and kept to when it runs;
                without it the node may go anywhere.

        Raises:
            DefinitionError: the flow is in use already.
        """

        def declare(fn: F) -> F:
            ways = (to,) if isinstance(to, str) else tuple(to or ())
            self._add(_Declared(name or str(getattr(fn, "__name__", "")), fn, None, next, ways))
            return fn

        return declare if fn is None else declare(fn)

    def effect(self, name: str, effect: Effect, *, next: str | None = None) -> None:
        """Declare a node that is one effect. The effect is checked before the run starts.

        Args:
            name: the node's name.
            effect: what it does.
            next: where it goes then, unless the effect says so.

        Raises:
            DefinitionError: the flow is in use already, or `effect` is none.
        """
        if not isinstance(effect, Effect):
            raise DefinitionError(f"node {name!r} must be an Effect, not {describe_object(effect)}", workflow=self.name)
        self._add(_Declared(name, None, effect, next, ()))

    def _add(self, declared: _Declared) -> None:
        if self._graph is not None:
            raise DefinitionError(
                f"flow {self.name!r} is in use already; node {declared.name!r} comes too late", workflow=self.name
            )
        self._declared.append(declared)

    # --- checking -----------------------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """All that is wrong with the flow.

        Codes: `flow_empty`, `node_name_invalid`, `node_duplicate`, `not_a_function`, `signature_generator`,
        `node_parameters`, `entry_missing`, `target_missing`, `next_missing`, `unknown_effect`, `effect_params`,
        `save_as_invalid`, `input_type`, `input_parameter_invalid`.
        """
        names = [declared.name for declared in self._declared]
        problems = [] if names else [Problem("flow_empty", "it has no nodes")]
        problems += [
            Problem("node_duplicate", f"two nodes are named {name!r}", (name,))
            for name in dict.fromkeys(names)
            if names.count(name) > 1
        ]
        if self.entry is not None and self.entry not in names:
            problems.append(Problem("entry_missing", f"the entry {self.entry!r} does not exist", (str(self.entry),)))
        for declared in self._declared:
            problems += _node_problems(declared, set(names))
        return problems + parameters_of_type(self.input)[1]

    def compile(self) -> Graph:
        """The graph, the same object each time.

        Raises:
            FlowError: the flow is invalid; it lists all problems.
        """
        if self._graph is None:
            problems = self.problems()
            if problems:
                raise FlowError(f"flow {self.name!r}", problems, workflow=self.name)
            self._graph = self._compiled()
        return self._graph

    def _compiled(self) -> Graph:
        targets = {declared.name: declared.targets for declared in self._declared}
        functions = [declared.fn for declared in self._declared if declared.fn is not None]
        effects = {one.name: _effect_data(one.effect) for one in self._declared if one.effect is not None}
        return Graph(
            name=self.name,
            version=self.version,
            form="flow",
            nodes=[_compile_node(declared, targets) for declared in self._declared],
            topology=Walk(self.entry or self._declared[0].name, targets),
            inputs=Inputs(self.name, parameters_of_type(self.input)[0], fill=True),
            output=codec_for(self.output),
            code=code_hash(functions, canonical(effects)),
            origin=[self._place, *map(origin_of, functions)],
            description=self.description,
        )


def _node_problems(declared: _Declared, names: set[str]) -> list[Problem]:
    name, problems = declared.name, []
    try:
        check_name(name, field="node name")
    except InvalidIdError as error:
        problems.append(Problem("node_name_invalid", error.message, (str(name),)))
    problems += [
        Problem("target_missing", f"node {name!r} goes to {target!r}, which does not exist", (str(name), str(target)))
        for target in declared.targets
        if target not in names
    ]
    if declared.effect is not None:
        problems += [one._replace(message=f"node {name!r}: {one.message}") for one in effect_problems(declared.effect)]
        if not declared.targets:
            message = f"node {name!r} is an effect that says no next node"
            problems.append(Problem("next_missing", message, (str(name),)))
        return problems
    unusable = function_problems(declared.fn, f"node {name!r}")
    if not unusable and declared.fn is not None and not takes_run_alone(declared.fn):
        unusable = [Problem("node_parameters", f"node {name!r} must take the run and nothing else", (name,))]
    return problems + unusable


def _effect_data(effect: Effect) -> dict[str, Any]:
    """An effect as text, for the hash of the definition; an object of the program by its name."""
    params = {name: getattr(value, "name", None) or repr(value) for name, value in effect.params.items()}
    return {"kind": effect.kind, "params": params, "save_as": effect.save_as, "next": effect.next}


# --- compiled nodes ---------------------------------------------------------------------------------------------------


def _compile_node(declared: _Declared, known: Mapping[str, Any]) -> Node:
    fn = declared.fn
    blocking = fn is not None and not inspect.iscoroutinefunction(fn)
    return Node(
        name=declared.name,
        handler=_handler(declared, known, blocking),
        blocking=blocking,
        effect=None if declared.effect is None else declared.effect.kind,
        description="" if fn is None else summary_of(fn),
    )


def _handler(declared: _Declared, known: Mapping[str, Any], blocking: bool) -> Handler:
    fn = declared.fn

    async def handler(run: Run) -> Outcome:
        returned: object = declared.effect
        if fn is not None:
            returned = await (run.in_thread(fn) if blocking else fn(run))
        if not isinstance(returned, Effect):
            return _outcome(declared, known, returned)
        # Where it goes is checked first: nobody should answer a question for a run that then fails on a typo.
        way = _way(declared, known, () if returned.next is None else (returned.next,))
        if isinstance(way, Fail):
            return way
        done = await perform(run, returned)
        return done if isinstance(done, Fail) else Next(way)

    return handler


def _outcome(declared: _Declared, known: Mapping[str, Any], returned: object) -> Outcome:
    if isinstance(returned, Done | Fail):
        return returned
    if returned is None:
        returned = Next()
    if not isinstance(returned, Next):
        message = f"node {declared.name!r} returned {describe_object(returned)}; it must return {_FORMS}"
        return Fail(message, code="bad_outcome", details={"node": declared.name})
    way = _way(declared, known, returned.nodes)
    return way if isinstance(way, Fail) else Next(way, output=returned.output)


def _way(declared: _Declared, known: Mapping[str, Any], named: tuple[str, ...]) -> str | Fail:
    """The one node to go to, or why there is none."""
    name = declared.name
    if not named and declared.next is not None:
        return declared.next
    if len(named) != 1:
        says = "says no node to go to, and has no next=" if not named else f"says {len(named)} nodes to go to, not one"
        details: Mapping[str, Any] = {"node": name, "next": [str(one) for one in named]}
        return Fail(f"node {name!r} {says}", code="no_next", details=details)
    target: object = named[0]
    details = {"node": name, "target": str(target), "known": list(known)}
    if not isinstance(target, str) or target not in known:
        return Fail(f"node {name!r} goes to {target!r}, which does not exist", code="unknown_node", details=details)
    if declared.to and target not in declared.targets:
        message = f"node {name!r} goes to {target!r}, which it did not declare in to="
        return Fail(message, code="undeclared_node", details=details)
    return target
