"""The graph that every authoring form compiles to, and that one engine executes.

A graph is nodes and a topology. A node's handler runs the author's code and says what it returned; the topology is a
pure function from what has happened so far (`Progress`) to what comes next (`Route`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeGuard

from perdure.core.canonical import canonical, sha256_hex
from perdure.core.errors import InvalidIdError, PerdureError, PlanError, Problem
from perdure.core.ids import check_tag
from perdure.core.values import Codec, codec_for
from perdure.journal.state import NodeResult
from perdure.workflow.inputs import Inputs
from perdure.workflow.merge import Merger, merge_writes
from perdure.workflow.ports import Run

Form = Literal["function", "flow", "plan", "pipeline"]

_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def check_version(version: object) -> str:
    """Return a workflow's version if it fits the grammar `[A-Za-z0-9][A-Za-z0-9._+-]{0,63}`, else raise
    `InvalidIdError`."""
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        raise InvalidIdError(
            f"version {version!r} is outside the grammar",
            hint="use text such as '1' or '2.0.1': letters, digits, and any of . _ + -, at most 64 characters",
            field="version",
        )
    return version


# --- what a node returns ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, init=False)
class Next:
    """The node is done and the run goes on.

    Args:
        nodes: where to; none leaves it to what the node declares (`next=`), or to the edges of a plan.
        output: kept under the node's name in `run.outputs`.
    """

    nodes: tuple[str, ...]
    output: Any

    def __init__(self, *nodes: str, output: Any = None) -> None:
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "output", output)


@dataclass(frozen=True, slots=True)
class Done:
    """The node is done, and the run completes.

    Args:
        output: the run's output.
    """

    output: Any = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The run ends `failed`.

    Args:
        message: the cause, in one line.
        code: what programs match on.
        details: plain data.
    """

    message: str
    code: str = field(default="failed", kw_only=True)
    details: Any = field(default=None, kw_only=True)

    def to_error(self) -> dict[str, Any]:
        """The failure in the form in which errors are recorded."""
        return {"code": self.code, "type": "Fail", "message": self.message, "details": self.details}


Outcome = Next | Done | Fail
Handler = Callable[[Run], Awaitable[Outcome]]


# --- nodes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One unit of routing, compiled.

    Args:
        name: unique in the graph. A plan's state ids may have up to 191 characters.
        handler: runs the author's code within one visit of the node. What that code raises passes through.
        blocking: the author's code is synchronous; the handler runs it by `run.in_thread`.
        output: how the output that the node gives with `Next` is recorded; that of `Done` is the graph's.
        kind: for a state that is one step: the step's kind.
        step: for a state that is one step: the step's name.
        tags: of a state.
        recovery: of a state: from where a run goes on that is opened again after it ended here.
        effect: for a node that is one effect: the effect's kind.
        description: for people.
    """

    name: str
    handler: Handler
    blocking: bool = False
    output: Codec[Any] = field(default_factory=lambda: codec_for(Any), repr=False)
    kind: str | None = None
    step: str | None = None
    tags: tuple[str, ...] = ()
    recovery: str = "latest"
    effect: str | None = None
    description: str = ""

    def describe(self) -> dict[str, Any]:
        """The node as plain data, for pictures; what does not apply is left out."""
        members = {
            "kind": self.kind,
            "step": self.step,
            "effect": self.effect,
            "tags": list(self.tags),
            "recovery": None if self.recovery == "latest" else self.recovery,
            "blocking": self.blocking,
            "description": self.description,
        }
        return {"name": self.name} | {key: value for key, value in members.items() if value}


# --- what has happened, and what comes next ---------------------------------------------------------------------------

# How one visit of a node ended is a `NodeResult` of the journal's fold: `status` is `completed`, `failed` or `skipped`,
# `output` stands in recorded form (routing passes it through unread), `next` is where the node said to go, and `end`
# how it ended the run, if it did: `{"output": …}` or `{"error": …}`.


@dataclass(slots=True)
class Progress:
    """What routing knows of a run.

    Args:
        completed: the latest result of each node that has ended, in journal order.
        active: nodes that were entered and have not ended.
        last: the most recent result.
        started: whether any node was entered yet.
        skip_tags: states with one of these are skipped.
        input: of the run, in recorded form.
    """

    completed: dict[str, NodeResult] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    last: NodeResult | None = None
    started: bool = False
    skip_tags: tuple[str, ...] = ()
    input: Mapping[str, Any] = field(default_factory=dict)


class Enter(NamedTuple):
    """Enter these nodes and record those as skipped, then route again. `nodes` may be empty when `skip` is not."""

    nodes: tuple[str, ...]
    skip: tuple[str, ...] = ()


class Finish(NamedTuple):
    """The run completes; the output is in recorded form."""

    output: Any


class Break(NamedTuple):
    """The run fails, now: nodes that are still active are stopped."""

    error: Mapping[str, Any]


class Hold(NamedTuple):
    """There is nothing to enter until an active node ends."""


Route = Enter | Finish | Break | Hold
Router = Callable[[Progress], Route]


class Topology(Protocol):
    """The shape of a graph."""

    @property
    def linear(self) -> bool:
        """Whether one node is active at a time, so that each sees all that was written before it."""

    def router(self) -> Router:
        """A function from progress to route, which may remember progress that it has seen to be quick."""

    def precedes(self, earlier: str, later: str) -> bool:
        """Whether the first node's writes are seen by the second."""

    def sort(self, names: Iterable[str]) -> list[str]:
        """Nodes in an order that agrees with `precedes`."""

    def edges(self) -> Iterable[tuple[str, str]]:
        """The known ways from node to node."""

    def structure(self) -> dict[str, Any]:
        """What the graph's fingerprint is made of, as plain data."""


# --- the graph --------------------------------------------------------------------------------------------------------


class Graph:
    """A compiled workflow.

    Args:
        name: of the workflow.
        version: of the workflow.
        form: how it was written.
        nodes: in the order of their declaration.
        topology: what comes after what.
        inputs: the parameters.
        output: how the run's output is recorded.
        concurrency: how many nodes may be active at once.
        code: SHA-256 (hex) of the source text of the author's functions; informational.
        origin: where the definition and its functions stand in files; tells two definitions of the same text apart
            within a process, and is not recorded.
        skip_tags: states with one of these are skipped unless told otherwise.
        description: for people.

    Attributes:
        fingerprint: SHA-256 (hex) of the structure: form, name, version, parameter names, nodes and edges. It does not
            change with the code of functions.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        form: Form,
        nodes: Sequence[Node],
        topology: Topology,
        inputs: Inputs,
        output: Codec[Any],
        concurrency: int = 1,
        code: str = "",
        origin: Sequence[str] = (),
        skip_tags: Sequence[str] = (),
        description: str = "",
    ) -> None:
        self.name = name
        self.version = version
        self.form: Form = form
        self.nodes: Mapping[str, Node] = {node.name: node for node in nodes}
        self.topology = topology
        self.inputs = inputs
        self.output = output
        self.concurrency = concurrency
        self.code = code
        self.origin = tuple(origin)
        self.skip_tags = tuple(skip_tags)
        self.description = description
        self.fingerprint = sha256_hex(
            canonical(
                {
                    "form": form,
                    "name": name,
                    "version": version,
                    "parameters": sorted(inputs.names),
                    "topology": topology.structure(),
                }
            )
        )

    def __repr__(self) -> str:
        return f"<graph {self.name} {self.version}: {self.form} of {len(self.nodes)} nodes>"

    # --- input --------------------------------------------------------------------------------------------------------

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The raw input by parameter name, as given; see `Inputs.bind`."""
        return self.inputs.bind(args, kwargs)

    def dump_input(self, raw: Mapping[str, Any]) -> bytes:
        """Canonical JSON of the raw input; see `Inputs.dump`."""
        return self.inputs.dump(raw)

    def check_input(self, tree: object) -> dict[str, Any]:
        """Raw input from untyped JSON; see `Inputs.check`."""
        return self.inputs.check(tree)

    def load_input(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """The input as user code receives it, from its recorded form; see `Inputs.load`."""
        return self.inputs.load(tree)

    def input_schema(self) -> dict[str, Any]:
        """The JSON schema of the input; see `Inputs.schema`."""
        return self.inputs.schema()

    # --- execution ----------------------------------------------------------------------------------------------------

    def router(self) -> Router:
        """A router for one run; kept while the run executes, each routing costs the same however far the run is."""
        return self.topology.router()

    def route(self, progress: Progress) -> Route:
        """What comes next. A pure function of `progress`."""
        return self.topology.router()(progress)

    def view(self, node: str, base: Mapping[str, Any], writes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The state that a node starts from: the base and the writes of those that come before it.

        Args:
            node: about to be entered.
            base: the run's state before any node.
            writes: by node, what each that has ended wrote (see `merge_writes`).

        Raises:
            MergeConflictError: two nodes before this one wrote one key differently, side by side.
        """
        precedes = self.topology.precedes
        return self.merge(base, {name: mine for name, mine in writes.items() if precedes(name, node)})

    def merge(self, base: Mapping[str, Any], writes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The state after all these nodes.

        Args:
            base: the run's state before any node.
            writes: by node (see `merge_writes`).

        Raises:
            MergeConflictError: two nodes wrote one key differently, side by side.
        """
        return merge_writes(base, writes, self.topology.sort(writes), self.topology.precedes)

    def merger(self, base: Mapping[str, Any]) -> Merger:
        """What `view` and `merge` say, kept up to date while nodes end one after the other.

        Args:
            base: the run's state before any node.
        """
        return Merger(base, None if self.topology.linear else self.topology.precedes)

    def resolve_skip_tags(self, given: Iterable[str] = ()) -> tuple[str, ...]:
        """The skip tags of a new run: the definition's own and the given ones, sorted.

        Raises:
            PlanError: a tag is outside its grammar (`tag_invalid`) or no state bears it (`tag_dangling`).
        """
        borne = {tag for node in self.nodes.values() for tag in node.tags}
        tags = [*self.skip_tags, *given]
        problems = skip_tag_problems(tags, borne)
        if problems:
            raise PlanError(f"{self.form} {self.name!r}", problems, workflow=self.name)
        return tuple(sorted(set(tags)))

    def describe(self) -> dict[str, Any]:
        """The graph as plain JSON data, for pictures and for people."""
        return {
            "name": self.name,
            "version": self.version,
            "form": self.form,
            "description": self.description,
            "concurrency": self.concurrency,
            "fingerprint": self.fingerprint,
            "skip_tags": list(self.skip_tags),
            "input": self.input_schema(),
            "nodes": [node.describe() for node in self.nodes.values()],
            "edges": [{"from": start, "to": end} for start, end in self.topology.edges()],
        }


def skip_tag_problems(tags: Iterable[object], borne: set[str]) -> list[Problem]:
    """What is wrong with tags to skip, given the tags that states bear."""
    problems = []
    for tag in tags:
        try:
            text = check_tag(tag)
        except InvalidIdError as error:
            problems.append(Problem("tag_invalid", error.message, (str(tag),)))
        else:
            if text not in borne:
                problems.append(Problem("tag_dangling", f"skip tag {text!r} is borne by no state", (text,)))
    return problems


class Definition(Protocol):
    """What can be registered and started: a `Workflow`, `Flow`, `Plan`, or anything else with these members."""

    @property
    def name(self) -> str:
        """Of the workflow."""

    @property
    def version(self) -> str:
        """Of the workflow."""

    def compile(self) -> Graph:
        """The graph, the same object each time.

        Raises:
            DefinitionError: the definition is invalid.
        """


def is_definition(value: object) -> TypeGuard[Definition]:
    """Whether a value can be registered. Classes and modules never are, whatever attributes they have."""
    if isinstance(value, type) or not callable(getattr(type(value), "compile", None)):
        return False
    return isinstance(getattr(value, "name", None), str) and isinstance(getattr(value, "version", None), str)


def as_problem(error: PerdureError, *subject: str) -> Problem:
    """An error that was met while checking a definition, as one of its problems."""
    return Problem(error.code, error.message, subject)
