"""All attributes of the dialect, with their defaults: of the graph, of nodes and of edges.

These classes are the one table of attributes. Whoever runs a pipeline reads its attributes through them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, TypeVar

from perdure.pipeline.attributes import (
    ARGUMENTS,
    BOOLEAN,
    DURATION,
    FIDELITY,
    NUMBER,
    TEXT,
    AttributeSpec,
    ValueKind,
    choice,
    choice_list,
    integer,
)
from perdure.pipeline.document import Attribute, Document, DocumentEdge, DocumentNode
from perdure.pipeline.goal import expand_goal
from perdure.pipeline.handler_types import (
    BUILT_IN,
    CHILD_LOOP,
    CODERGEN,
    CONDITIONAL,
    DEFAULT_SHAPE,
    EXIT,
    FAN_IN,
    HUMAN,
    PARALLEL,
    START,
    TOOL,
)

ROUTED: Final = BUILT_IN - {START, EXIT}
"""Handlers whose outcome decides where the run goes on."""

RETRIED: Final = ROUTED - {CONDITIONAL}
ASKING_MODELS: Final = frozenset((CODERGEN, FAN_IN))


def _attribute(
    key: str,
    kind: ValueKind,
    default: object,
    *,
    read_by: frozenset[str] | None = None,
    alias: str | None = None,
) -> Any:
    spec = AttributeSpec(key, kind, read_by, () if alias is None else (alias,))
    return field(default=default, metadata={"spec": spec})


def _only(*types: str) -> frozenset[str]:
    return frozenset(types)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """What a graph says. Texts that are not given are empty."""

    goal: str = _attribute("goal", TEXT, "")
    label: str = _attribute("label", TEXT, "")
    model_stylesheet: str = _attribute("model_stylesheet", TEXT, "")
    default_max_retries: int = _attribute("default_max_retries", integer(0), 0, alias="default_max_retry")
    retry_target: str = _attribute("retry_target", TEXT, "")
    fallback_retry_target: str = _attribute("fallback_retry_target", TEXT, "")
    default_fidelity: str | None = _attribute("default_fidelity", FIDELITY, None)
    thread_id: str = _attribute("thread_id", TEXT, "")
    child_dotfile: str = _attribute("stack.child_dotfile", TEXT, "")
    child_workdir: str = _attribute("stack.child_workdir", TEXT, "")
    max_steps: int = _attribute("max_steps", integer(1), 500)
    max_visits: int = _attribute("max_visits", integer(1), 1000)
    goal_gate_limit: int = _attribute("goal_gate_limit", integer(0), 20)
    rankdir: str = _attribute("rankdir", TEXT, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What a node says, with what it inherits from its graph. Texts that are not given are empty.

    `label`, `max_retries` and `max_visits` are filled in by `node_settings`.
    """

    label: str = _attribute("label", TEXT, "")
    shape: str = _attribute("shape", TEXT, DEFAULT_SHAPE)
    type: str = _attribute("type", TEXT, "")
    classes: str = _attribute("class", TEXT, "")
    prompt: str = _attribute("prompt", TEXT, "", read_by=_only(CODERGEN, HUMAN, FAN_IN, CHILD_LOOP))
    max_retries: int = _attribute("max_retries", integer(0), 0, read_by=RETRIED)
    max_visits: int = _attribute("max_visits", integer(1), 1000)
    goal_gate: bool = _attribute("goal_gate", BOOLEAN, False, read_by=ROUTED)
    retry_target: str = _attribute("retry_target", TEXT, "", read_by=ROUTED)
    fallback_retry_target: str = _attribute("fallback_retry_target", TEXT, "", read_by=ROUTED)
    allow_partial: bool = _attribute("allow_partial", BOOLEAN, False, read_by=RETRIED)
    auto_status: bool = _attribute("auto_status", BOOLEAN, False, read_by=_only(CODERGEN, TOOL))
    timeout_s: float | None = _attribute("timeout", DURATION, None, read_by=_only(CODERGEN, FAN_IN, TOOL))

    fidelity: str | None = _attribute("fidelity", FIDELITY, None, read_by=ASKING_MODELS)
    thread_id: str = _attribute("thread_id", TEXT, "", read_by=ASKING_MODELS)
    llm_model: str = _attribute("llm_model", TEXT, "", read_by=ASKING_MODELS)
    llm_provider: str = _attribute("llm_provider", TEXT, "", read_by=ASKING_MODELS)
    reasoning_effort: str = _attribute("reasoning_effort", TEXT, "high", read_by=ASKING_MODELS)

    tool_command: str = _attribute("tool_command", TEXT, "", read_by=_only(TOOL))
    tool_argv: tuple[str, ...] = _attribute("tool_argv", ARGUMENTS, (), read_by=_only(TOOL))
    effect: Literal["idempotent", "read", "once"] = _attribute(
        "effect", choice("idempotent", "read", "once"), "idempotent", read_by=_only(TOOL)
    )
    in_doubt: Literal["ask", "fail", "retry"] = _attribute(
        "in_doubt", choice("ask", "fail", "retry"), "ask", read_by=_only(TOOL)
    )

    join_policy: Literal["wait_all", "first_success", "k_of_n"] = _attribute(
        "join_policy", choice("wait_all", "first_success", "k_of_n"), "wait_all", read_by=_only(PARALLEL)
    )
    quorum: int | None = _attribute("quorum", integer(1), None, read_by=_only(PARALLEL))
    max_parallel: int = _attribute("max_parallel", integer(1), 4, read_by=_only(PARALLEL))

    human_timeout_s: float | None = _attribute("human.timeout", DURATION, None, read_by=_only(HUMAN))
    human_default_choice: str = _attribute("human.default_choice", TEXT, "", read_by=_only(HUMAN))
    human_input: Literal["choice", "text"] = _attribute(
        "human.input", choice("choice", "text"), "choice", read_by=_only(HUMAN)
    )
    human_multiple: bool = _attribute("human.multiple", BOOLEAN, False, read_by=_only(HUMAN))

    poll_interval_s: float = _attribute("manager.poll_interval", DURATION, 45.0, read_by=_only(CHILD_LOOP))
    max_cycles: int = _attribute("manager.max_cycles", integer(1), 1000, read_by=_only(CHILD_LOOP))
    stop_condition: str = _attribute("manager.stop_condition", TEXT, "", read_by=_only(CHILD_LOOP))
    actions: tuple[str, ...] = _attribute(
        "manager.actions", choice_list("observe", "wait", "steer"), ("observe", "wait"), read_by=_only(CHILD_LOOP)
    )
    child_autostart: bool = _attribute("stack.child_autostart", BOOLEAN, True, read_by=_only(CHILD_LOOP))

    says_retries: bool = False
    """The node, or its graph, says how often it is repeated."""
    goal: str = ""
    """Of the graph, for the label that stands in for a prompt."""

    @property
    def prompt_or_label(self) -> str:
        """What is asked at this node: its prompt, else its label, with the goal put in."""
        return self.prompt or expand_goal(self.label, self.goal)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """What an edge says. Texts that are not given are empty.

    `fidelity` and `thread_id` are read by the handler of the node that the edge enters, the rest by that of the node
    that it leaves.
    """

    label: str = _attribute("label", TEXT, "")
    condition: str = _attribute("condition", TEXT, "", read_by=BUILT_IN - {PARALLEL})
    weight: int | float = _attribute("weight", NUMBER, 0, read_by=BUILT_IN - {PARALLEL})
    fidelity: str | None = _attribute("fidelity", FIDELITY, None, read_by=ASKING_MODELS)
    thread_id: str = _attribute("thread_id", TEXT, "", read_by=ASKING_MODELS)
    loop_restart: bool = _attribute("loop_restart", BOOLEAN, False, read_by=BUILT_IN - {PARALLEL})

    @property
    def is_conditional(self) -> bool:
        """Has it a condition? A blank one is none."""
        return bool(self.condition.strip())


Settings = TypeVar("Settings", GraphSettings, NodeSettings, EdgeSettings)


class _Table:
    """The attributes of one class of settings."""

    def __init__(self, settings: type[GraphSettings] | type[NodeSettings] | type[EdgeSettings]) -> None:
        self.fields: dict[str, str] = {}
        self.specs: dict[str, AttributeSpec] = {}
        for one in fields(settings):
            spec: AttributeSpec | None = one.metadata.get("spec")
            if spec is None:
                continue
            for key in (spec.key, *spec.aliases):
                self.fields[key] = one.name
                self.specs[key] = spec


_GRAPH, _NODE, _EDGE = _Table(GraphSettings), _Table(NodeSettings), _Table(EdgeSettings)

GRAPH_ATTRIBUTES: Final[Mapping[str, AttributeSpec]] = _GRAPH.specs
NODE_ATTRIBUTES: Final[Mapping[str, AttributeSpec]] = _NODE.specs
EDGE_ATTRIBUTES: Final[Mapping[str, AttributeSpec]] = _EDGE.specs
"""What the dialect says of each attribute, by its key; aliases too."""


def graph_settings(document: Document) -> GraphSettings:
    """A graph's settings.

    Raises:
        AttributeValueError: a value does not fit its attribute; validation reports the same.
    """
    return _read(GraphSettings, _GRAPH, document.attributes)


_RETRIES: Final = frozenset(("default_max_retries", "default_max_retry"))


def node_settings(document: Document, node: DocumentNode, graph: GraphSettings | None = None) -> NodeSettings:
    """A node's settings, with what it inherits.

    Args:
        document: the node's.
        node: one of its nodes.
        graph: the document's settings, where they are at hand.

    Raises:
        AttributeValueError: a value does not fit its attribute; validation reports the same.
    """
    graph = graph_settings(document) if graph is None else graph
    settings = _read(NodeSettings, _NODE, node.attributes)
    given = {key for key, attribute in node.attributes.items() if attribute.value != ""}
    return replace(
        settings,
        goal=graph.goal,
        label=settings.label or node.id,
        says_retries="max_retries" in given or not _RETRIES.isdisjoint(document.attributes),
        max_retries=settings.max_retries if "max_retries" in given else graph.default_max_retries,
        max_visits=settings.max_visits if "max_visits" in given else graph.max_visits,
    )


def edge_settings(edge: DocumentEdge) -> EdgeSettings:
    """An edge's settings.

    Raises:
        AttributeValueError: a value does not fit its attribute; validation reports the same.
    """
    return _read(EdgeSettings, _EDGE, edge.attributes)


def _read(settings: Callable[..., Settings], table: _Table, attributes: Mapping[str, Attribute]) -> Settings:
    found: dict[str, object] = {}
    for key, attribute in attributes.items():
        spec = table.specs.get(key)
        # An empty text says nothing: the default holds.
        if spec is None or attribute.value == "" or (key != spec.key and spec.key in attributes):
            continue
        value = spec.read(attribute.value)
        if value is not None:
            found[table.fields[key]] = value
    return settings(**found)
