"""How much of what happened before a stage's model is told, and in which thread."""

from __future__ import annotations

from typing import Final

from perdure.pipeline.document import DocumentNode
from perdure.pipeline.settings import EdgeSettings, GraphSettings, NodeSettings

DEFAULT_FIDELITY: Final = "compact"


def fidelity_of(graph: GraphSettings, node: NodeSettings, edge: EdgeSettings | None) -> str:
    """The fidelity of a stage: the edge's, else the node's, else the graph's, else `compact`.

    Args:
        graph: of the pipeline.
        node: that is entered.
        edge: by which it is entered, if by one.
    """
    by_edge = None if edge is None else edge.fidelity
    return by_edge or node.fidelity or graph.default_fidelity or DEFAULT_FIDELITY


def thread_of(
    graph: GraphSettings,
    node: NodeSettings,
    edge: EdgeSettings | None,
    document_node: DocumentNode,
    previous: str | None,
) -> str:
    """The key of the thread that a stage under `full` goes on with.

    The edge's, else the node's, else the graph's, else the class of the innermost subgraph that has one, else the
    previous node; a node that nothing comes before has a thread of its own.

    Args:
        graph: of the pipeline.
        node: that is entered.
        edge: by which it is entered, if by one.
        document_node: the same node in the document.
        previous: the id of the node before it.
    """
    by_edge = "" if edge is None else edge.thread_id
    by_subgraph = document_node.subgraph_classes[-1] if document_node.subgraph_classes else ""
    return by_edge or node.thread_id or graph.thread_id or by_subgraph or previous or document_node.id
