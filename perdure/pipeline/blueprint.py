"""A pipeline made ready to be executed: settings and conditions read once, joins found."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from perdure.core.canonical import JSONValue
from perdure.pipeline.conditions import Condition, parse_condition
from perdure.pipeline.document import Document, DocumentEdge, DocumentNode
from perdure.pipeline.handler_types import CODERGEN, FAN_IN, PARALLEL, START, handler_type
from perdure.pipeline.joins import joins_of
from perdure.pipeline.settings import (
    EdgeSettings,
    GraphSettings,
    NodeSettings,
    edge_settings,
    graph_settings,
    node_settings,
)

FULL = "full"


@dataclass(frozen=True, slots=True)
class Way:
    """An edge that can be taken.

    Args:
        edge: of the document.
        settings: what it says.
        condition: that must hold; `None` for an unconditional edge.
    """

    edge: DocumentEdge
    settings: EdgeSettings
    condition: Condition | None

    @property
    def target(self) -> str:
        """The node that it leads to."""
        return self.edge.end

    def is_open(self, context: Mapping[str, JSONValue], outcome: str, preferred_label: str) -> bool:
        """Is it unconditional, or does its condition hold?"""
        return self.condition is None or self.condition.holds(context, outcome, preferred_label)


@dataclass(frozen=True, slots=True)
class Place:
    """A node that can be executed.

    Args:
        node: of the document.
        type: of its handler.
        settings: what it says, with what it inherits.
        ways: that leave it, in the order of the file.
        join: of a fan-out, the fan-in where its branches meet.
    """

    node: DocumentNode
    type: str
    settings: NodeSettings
    ways: tuple[Way, ...]
    join: str | None

    @property
    def id(self) -> str:
        """The node's."""
        return self.node.id


class Region(NamedTuple):
    """The nodes that the branches of a fan-out can come to.

    Args:
        inside: all of them.
        shared: those that more than one branch can come to.
    """

    inside: frozenset[str]
    shared: frozenset[str]


class Blueprint:
    """A prepared and valid document, ready to be executed.

    Args:
        document: after the transforms.
        registered: handler types beside those of the dialect.

    Attributes:
        settings: of the graph.
        places: by node.
        start: the node that begins.
        gates: the nodes with `goal_gate=true`, in the order of the file.
        edge_places: by identity of an edge, its place among the document's edges.
        asks_models: some stage may ask a model.
        keeps_threads: some stage may be told all of a thread.
    """

    def __init__(self, document: Document, registered: Collection[str] = ()) -> None:
        self.document = document
        self.settings: GraphSettings = graph_settings(document)
        ways: dict[str, list[Way]] = {name: [] for name in document.nodes}
        for edge in document.edges:
            ways[edge.start].append(_way(edge))
        types = {name: handler_type(node, registered) for name, node in document.nodes.items()}
        joins = joins_of(types, {name: [way.target for way in leaving] for name, leaving in ways.items()})
        self.places = {
            name: Place(
                node, types[name], node_settings(document, node, self.settings), tuple(ways[name]), joins.get(name)
            )
            for name, node in document.nodes.items()
        }
        self.start = next((name for name, kind in types.items() if kind == START), "")
        self.gates = tuple(name for name, place in self.places.items() if place.settings.goal_gate)
        self._regions: dict[str, Region] = {}
        self.edge_places = {id(edge): place for place, edge in enumerate(document.edges)}
        self.asks_models = any(_asks_model(place) for place in self.places.values())
        self.keeps_threads = FULL in self._fidelities()

    def _fidelities(self) -> Iterator[str | None]:
        yield self.settings.default_fidelity
        for place in self.places.values():
            if place.type in (CODERGEN, FAN_IN):
                yield place.settings.fidelity
            for way in place.ways:
                yield way.settings.fidelity

    def region(self, fan_out: str) -> Region:
        """What lies between a fan-out and its join."""
        if fan_out not in self._regions:
            self._regions[fan_out] = _region(self.places, self.places[fan_out])
        return self._regions[fan_out]

    def in_branch(self, node: str) -> bool:
        """Whether a branch of a fan-out can come to a node."""
        fan_outs = (place for place in self.places.values() if place.type == PARALLEL and place.join is not None)
        return any(node in self.region(place.id).inside for place in fan_outs)

    def target_of(self, *names: str) -> str | None:
        """The first of these that is a node."""
        return next((name for name in names if name in self.places), None)


def _asks_model(place: Place) -> bool:
    return place.type == CODERGEN or (place.type == FAN_IN and bool(place.settings.prompt))


def _way(edge: DocumentEdge) -> Way:
    settings = edge_settings(edge)
    return Way(edge, settings, parse_condition(settings.condition) if settings.is_conditional else None)


def _region(places: Mapping[str, Place], fan_out: Place) -> Region:
    """Follow the branches of a fan-out along all edges, up to its join and not through itself."""
    seen: set[str] = set()
    shared: set[str] = set()
    for way in fan_out.ways:
        branch: set[str] = set()
        waiting = [way.target]
        while waiting:
            node = waiting.pop()
            if node in branch or node in (fan_out.join, fan_out.id):
                continue
            branch.add(node)
            waiting += [onward.target for onward in places[node].ways]
        shared |= seen & branch
        seen |= branch
    return Region(frozenset(seen), frozenset(shared))
