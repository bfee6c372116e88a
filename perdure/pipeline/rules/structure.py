"""Rules about the graph: its start and its exit, what can be reached, and where branches meet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from perdure.pipeline.document import DocumentNode
from perdure.pipeline.handler_types import PARALLEL
from perdure.pipeline.rules.registry import Finding, rule
from perdure.pipeline.rules.view import RETRY_TARGETS, PipelineView, text_at


@rule("start_node", severity="error")
def start_node(view: PipelineView) -> Iterator[Finding]:
    """There is exactly one start."""
    yield from _exactly_one(view, view.starts, "start", "Mdiamond", "start")


@rule("terminal_node", severity="error")
def terminal_node(view: PipelineView) -> Iterator[Finding]:
    """There is exactly one exit."""
    yield from _exactly_one(view, view.exits, "exit", "Msquare", "exit")


def _exactly_one(view: PipelineView, found: list[DocumentNode], what: str, shape: str, name: str) -> Iterator[Finding]:
    if not found:
        fix = f"add {name} [shape={shape}]"
        yield Finding(message=f"there is no {what} node", position=view.document.position, fix=fix)
    for extra in found[1:]:
        message = f"{extra.id!r} is a second {what} node; the first is {found[0].id!r}"
        yield Finding.at_node(extra, message, fix="keep one; a node of another kind says so with type= or shape=")


@rule("start_no_incoming", severity="error")
def start_no_incoming(view: PipelineView) -> Iterator[Finding]:
    """No edge enters the start."""
    for start in view.starts:
        for edge in view.entering[start.id]:
            message = f"the edge {edge.start} -> {edge.end} enters the start node"
            yield Finding.at_edge(edge, message, node=start.id, fix="let it enter the node after the start")


@rule("exit_no_outgoing", severity="error")
def exit_no_outgoing(view: PipelineView) -> Iterator[Finding]:
    """No edge leaves the exit."""
    for end in view.exits:
        for edge in view.leaving[end.id]:
            message = f"the edge {edge.start} -> {edge.end} leaves the exit node"
            yield Finding.at_edge(edge, message, node=end.id, fix="remove it")


@rule("reachability", severity="error")
def reachability(view: PipelineView) -> Iterator[Finding]:
    """Every node can be reached from the start, by edges or by a jump to a retry target."""
    if not view.starts:
        return
    seen = {start.id for start in view.starts}
    seen |= {text_at(view.document.attributes, key) for key in RETRY_TARGETS} & view.document.nodes.keys()
    queue = deque(seen)
    while queue:
        name = queue.popleft()
        targets = [edge.end for edge in view.leaving[name]]
        targets += [text_at(view.document.nodes[name].attributes, key) for key in RETRY_TARGETS]
        for target in targets:
            if target in view.document.nodes and target not in seen:
                seen.add(target)
                queue.append(target)
    for name, node in view.document.nodes.items():
        if name not in seen:
            message = f"the node {name!r} is unreachable from the start"
            yield Finding.at_node(node, message, fix="draw an edge to it, or remove it")


@rule("parallel_join", severity="error")
def parallel_join(view: PipelineView) -> Iterator[Finding]:
    """The branches of every `parallel` node lead to a common fan-in."""
    for node in view.of_type(PARALLEL):
        if not view.leaving[node.id]:
            fix = "draw an edge to the first node of each branch"
            yield Finding.at_node(node, f"the parallel node {node.id!r} has no branches", fix=fix)
        elif view.joins[node.id] is None:
            message = f"the branches of the parallel node {node.id!r} lead to no common fan-in"
            fix = "let all branches end at one node with shape=tripleoctagon; a fan-out inside a branch needs its own"
            yield Finding.at_node(node, message, fix=fix)
