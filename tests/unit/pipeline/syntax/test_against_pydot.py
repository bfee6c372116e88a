"""Another reader of DOT sees the same graph, as far as both dialects go."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pydot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.pipeline.document import Attribute, Value
from perdure.pipeline.syntax import parse
from tests.unit.pipeline.syntax.generated import NUMBERS, PLAIN_BARE, STRINGS, laid_out, token_lists

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pydot.dot_parser")

Attributes = dict[str, str]
ESCAPES = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\\\": "\\"}
# A duration without quotes is two words to others, and they join lines at the second backslash of `\\\\`, too.
COMMON_VALUES = STRINGS.filter(lambda text: "\\\n" not in text) | NUMBERS | PLAIN_BARE
# Comments are compared elsewhere: this reader finds some in strings.
FILLERS = st.lists(st.sampled_from([" ", "\n", "\t", " \n  "]), min_size=1, max_size=4)


class Reading:
    """What pydot has read, with the scopes of defaults worked out: it keeps statements, numbered in their order."""

    def __init__(self, graph: pydot.Dot) -> None:
        self.graph: Attributes = {}
        # They do not number `key = value`, so its place among `graph [...]` is not known.
        self.assigned: Attributes = graph.obj_dict["attributes"]
        self.nodes: dict[str, Attributes] = {}
        self.edges: list[tuple[str, str, Attributes]] = []
        self._block(graph.obj_dict, {}, {}, is_graph=True)

    def _block(self, block: dict[str, Any], nodes: Attributes, edges: Attributes, *, is_graph: bool) -> None:
        for kind, name, one in sorted(statements(block), key=lambda statement: statement[2]["sequence"]):
            given = one["attributes"]
            if kind == "subgraphs":
                self._block(one, nodes, edges, is_graph=False)
            elif name == "graph":
                self.graph.update(given if is_graph else {})
            elif name == "node":
                nodes = nodes | given
            elif name == "edge":
                edges = edges | given
            elif kind == "nodes":
                self._named(name, nodes).update(given)
            else:
                for end in one["points"]:
                    self._named(end, nodes)
                self.edges.append((*one["points"], edges | given))

    def _named(self, name: str, defaults: Attributes) -> Attributes:
        return self.nodes.setdefault(name, dict(defaults))


def statements(block: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for kind in ("nodes", "edges", "subgraphs"):
        for name, found in block[kind].items():
            for one in found:
                yield kind, name, one


def text_of(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\.", lambda found: ESCAPES[found[0]], value[1:-1])


def fits(value: Value, theirs: str) -> bool:
    """They keep every value as text, strings in their quotes."""
    if theirs.startswith('"') or type(value) is str:
        return type(value) is str and value == text_of(theirs)
    return theirs == str(value).lower() if type(value) is bool else type(value)(theirs) == value


def same(ours: dict[str, Attribute], theirs: Attributes) -> bool:
    # The classes that labels of subgraphs make are this dialect's own.
    keys = ours.keys() - {"class"}
    return keys == theirs.keys() - {"class"} and all(fits(ours[key].value, theirs[key]) for key in keys)


@settings(max_examples=60)
@given(token_lists(COMMON_VALUES), FILLERS)
def test_pydot_reads_the_same_nodes_edges_and_attributes(tokens: list[str], fillers: list[str]) -> None:
    text = laid_out(tokens, fillers)
    ours = parse(text)
    graphs = pydot.graph_from_dot_data(text)
    assert graphs is not None
    theirs = Reading(graphs[0])
    assert set(ours.nodes) == set(theirs.nodes)
    assert ours.attributes.keys() == theirs.graph.keys() | theirs.assigned.keys()
    for key, one in ours.attributes.items():
        assert any(key in both and fits(one.value, both[key]) for both in (theirs.graph, theirs.assigned)), key
    for node in ours.nodes.values():
        assert same(node.attributes, theirs.nodes[node.id]), node.id
    assert [(edge.start, edge.end) for edge in ours.edges] == [(start, end) for start, end, _ in theirs.edges]
    for edge, (_, _, attributes) in zip(ours.edges, theirs.edges, strict=True):
        assert same(edge.attributes, attributes), (edge.start, edge.end)
