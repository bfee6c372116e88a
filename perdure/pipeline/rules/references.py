"""Rules about what a pipeline names: nodes, handler types, models' prompts."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.pipeline.document import DocumentNode
from perdure.pipeline.handler_types import CODERGEN, EXIT
from perdure.pipeline.rules.registry import Finding, rule
from perdure.pipeline.rules.spelling import Spelling
from perdure.pipeline.rules.view import RETRY_TARGETS, PipelineView, text_at


@rule("edge_target_exists")
def edge_target_exists(view: PipelineView) -> Iterator[Finding]:
    """Every edge enters a node that has a statement of its own."""
    spelling = Spelling(node.id for node in view.document.nodes.values() if node.is_declared)
    for node in view.document.nodes.values():
        entering = view.entering[node.id]
        if node.is_declared or not entering:
            continue
        first = entering[0]
        made = "the exit" if view.types[node.id] == EXIT else "a box"
        message = f"the edge {first.start} -> {first.end} enters {node.id!r}, which is not declared: it becomes {made}"
        yield Finding.at_edge(
            first, message, node=node.id, position=node.position, fix=spelling.fix(node.id, "declare it")
        )


@rule("retry_target_exists")
def retry_target_exists(view: PipelineView) -> Iterator[Finding]:
    """Every retry target is a node."""
    nodes = view.document.nodes
    spelling = Spelling(nodes)
    for key in RETRY_TARGETS:
        target = text_at(view.document.attributes, key)
        if target and target not in nodes:
            yield Finding(
                message=f"the graph's {key} {target!r} is not a node",
                position=view.document.attributes[key].position,
                fix=spelling.fix(target, "name a node"),
            )
    for node in nodes.values():
        for key in RETRY_TARGETS:
            target = text_at(node.attributes, key)
            if target and target not in nodes:
                message = f"the {key} {target!r} of {node.id!r} is not a node"
                position = node.attributes[key].position
                yield Finding.at_node(node, message, position=position, fix=spelling.fix(target, "name a node"))


@rule("goal_gate_has_retry")
def goal_gate_has_retry(view: PipelineView) -> Iterator[Finding]:
    """A goal gate that is not passed has somewhere to go."""
    for node in view.document.nodes.values():
        if view.flag(node, "goal_gate") and not any(view.retry_targets(node)):
            message = f"the goal gate {node.id!r} has no retry target: if it is not passed, the run fails at the exit"
            position = node.attributes["goal_gate"].position
            yield Finding.at_node(node, message, position=position, fix="set retry_target at the node or the graph")


@rule("type_known")
def type_known(view: PipelineView) -> Iterator[Finding]:
    """Every handler type is one of the dialect's, or registered."""
    spelling = Spelling(sorted(view.known_types))
    for node in view.document.nodes.values():
        given = text_at(node.attributes, "type")
        if given and given not in view.known_types:
            message = f"the type {given!r} of {node.id!r} is unknown: it runs as codergen"
            fix = spelling.fix(given, "register a handler for it")
            yield Finding.at_node(node, message, position=node.attributes["type"].position, fix=fix)


@rule("prompt_on_llm_nodes")
def prompt_on_llm_nodes(view: PipelineView) -> Iterator[Finding]:
    """A model is told more than the id of a node."""
    for node in view.of_type(CODERGEN):
        if not _says_something(node):
            message = f"{node.id!r} asks a model and has neither a prompt nor a label: the model is sent its id"
            yield Finding.at_node(node, message, fix="give it a prompt")


def _says_something(node: DocumentNode) -> bool:
    return any(text_at(node.attributes, key).strip() for key in ("prompt", "label"))
