"""Rules about attributes: what their values may be, and whether anything reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from perdure.core.pipeline_errors import AttributeValueError, StylesheetSyntaxError
from perdure.pipeline.attributes import FIDELITIES, FIDELITY, AttributeSpec, text_of_value
from perdure.pipeline.document import Attribute, Document, DocumentEdge, DocumentNode, Position
from perdure.pipeline.handler_types import BUILT_IN, PARALLEL
from perdure.pipeline.rules.registry import Finding, rule
from perdure.pipeline.rules.spelling import Spelling
from perdure.pipeline.rules.view import PipelineView, text_at, typed_at
from perdure.pipeline.settings import ASKING_MODELS, EDGE_ATTRIBUTES, GRAPH_ATTRIBUTES, NODE_ATTRIBUTES
from perdure.pipeline.stylesheet import parse_stylesheet

Owner = Document | DocumentNode | DocumentEdge

_READ_AT_THE_END: Final = frozenset(key for key, spec in EDGE_ATTRIBUTES.items() if spec.read_by == ASKING_MODELS)


def _all_attributes(document: Document) -> Iterator[tuple[Owner, Mapping[str, AttributeSpec], str, Attribute]]:
    """Every attribute with its owner. One that a default gave to many stands here for each of them."""
    for key, attribute in document.attributes.items():
        yield document, GRAPH_ATTRIBUTES, key, attribute
    for node in document.nodes.values():
        for key, attribute in node.attributes.items():
            yield node, NODE_ATTRIBUTES, key, attribute
    for edge in document.edges:
        for key, attribute in edge.attributes.items():
            yield edge, EDGE_ATTRIBUTES, key, attribute


def _finding(owner: Owner, attribute: Attribute, message: str, fix: str | None = None) -> Finding:
    if isinstance(owner, DocumentNode) and not attribute.is_default:
        return Finding.at_node(owner, f"{owner.id!r}: {message}", position=attribute.position, fix=fix)
    if isinstance(owner, DocumentEdge) and not attribute.is_default:
        told = f"{owner.start} -> {owner.end}: {message}"
        return Finding.at_edge(owner, told, position=attribute.position, fix=fix)
    return Finding(message=message, position=attribute.position, fix=fix)


@rule("attribute_value", severity="error")
def attribute_value(view: PipelineView) -> Iterator[Finding]:
    """Every value fits its attribute."""
    told: set[tuple[str, Attribute]] = set()
    for owner, table, key, attribute in _all_attributes(view.document):
        spec = table.get(key)
        # What is written once, for many nodes or for a chain of edges, is told once.
        if spec is None or attribute.value == "" or (key, attribute) in told:
            continue
        try:
            spec.read(attribute.value)
        except AttributeValueError as error:
            told.add((key, attribute))
            yield _finding(owner, attribute, error.message)
    yield from _quorums(view)


def _quorums(view: PipelineView) -> Iterator[Finding]:
    """A join that waits for k of n has a k, and the n to reach it."""
    for node in view.of_type(PARALLEL):
        if text_at(node.attributes, "join_policy") != "k_of_n":
            continue
        quorum = typed_at(node.attributes, "quorum", NODE_ATTRIBUTES)
        branches = len(view.leaving[node.id])
        if text_at(node.attributes, "quorum") == "":
            position = node.attributes["join_policy"].position
            message = f"{node.id!r}: join_policy=k_of_n needs a quorum"
            yield Finding.at_node(node, message, position=position, fix="set quorum to the successes that it takes")
        elif isinstance(quorum, int) and quorum > branches:
            message = f"{node.id!r}: a quorum of {quorum} can never be reached by {branches} branches"
            yield Finding.at_node(node, message, position=node.attributes["quorum"].position)


@rule("fidelity_valid")
def fidelity_valid(view: PipelineView) -> Iterator[Finding]:
    """Every fidelity is one that there is."""
    told: set[tuple[str, Attribute]] = set()
    for owner, table, key, attribute in _all_attributes(view.document):
        spec = table.get(key)
        if spec is None or spec.kind is not FIDELITY or attribute.value == "" or attribute.value in FIDELITIES:
            continue
        if (key, attribute) not in told:
            told.add((key, attribute))
            message = f"the fidelity {text_of_value(attribute.value)!r} is unknown: it counts as not given"
            yield _finding(owner, attribute, message, f"use one of {', '.join(FIDELITIES)}")


@rule("stylesheet_syntax", severity="error")
def stylesheet_syntax(view: PipelineView) -> Iterator[Finding]:
    """The model stylesheet can be read."""
    given = view.document.attributes.get("model_stylesheet")
    if given is None:
        return
    try:
        parse_stylesheet(text_of_value(given.value))
    except StylesheetSyntaxError as error:
        message = f"model_stylesheet: {error.message}"
        yield Finding(message=message, position=given.position, fix=error.hint)


@dataclass(slots=True)
class _Unread:
    """A default of which nothing is known yet to read it."""

    attribute: Attribute
    key: str
    is_known: bool
    is_read: bool = field(default=False)


@rule("inert_attribute")
def inert_attribute(view: PipelineView) -> Iterator[Finding]:
    """Something reads every attribute.

    A default that a `node [...]` or `edge [...]` statement gives, or the stylesheet, is inert only if nothing that got
    it reads it; then it is reported once.
    """
    defaults: dict[tuple[Position, str], _Unread] = {}
    spelling = {id(table): Spelling(table) for table in (GRAPH_ATTRIBUTES, NODE_ATTRIBUTES, EDGE_ATTRIBUTES)}
    for owner, table, key, attribute in _all_attributes(view.document):
        spec = table.get(key)
        is_read = _is_read(view, owner, key, spec)
        if attribute.is_default:
            unread = defaults.setdefault((attribute.position, key), _Unread(attribute, key, spec is not None))
            unread.is_read |= is_read
        elif not is_read:
            yield _finding(owner, attribute, *_inert(view, owner, key, spec, spelling[id(table)]))
    for unread in defaults.values():
        if not unread.is_read:
            told = "no node or edge that gets it reads it" if unread.is_known else "nothing reads it"
            message = f"the default {unread.key!r} is inert: {told}"
            yield Finding(message=message, position=unread.attribute.position, fix="remove it")


def _is_read(view: PipelineView, owner: Owner, key: str, spec: AttributeSpec | None) -> bool:
    handler = _reader(view, owner, key)
    if handler is not None and handler not in BUILT_IN:
        return True  # a handler of somebody's own may read whatever it likes
    return spec is not None and (handler is None or spec.read_by is None or handler in spec.read_by)


def _reader(view: PipelineView, owner: Owner, key: str) -> str | None:
    """The type of the handler that would read an attribute; `None` for those of the graph."""
    if isinstance(owner, DocumentNode):
        return view.types[owner.id]
    if isinstance(owner, DocumentEdge):
        return view.types[owner.end if key in _READ_AT_THE_END else owner.start]
    return None


def _inert(
    view: PipelineView, owner: Owner, key: str, spec: AttributeSpec | None, spelling: Spelling
) -> tuple[str, str]:
    """The message and the fix."""
    if spec is None:
        return f"nothing reads {key!r}", spelling.fix(key, "remove it")
    handler = _reader(view, owner, key)
    message = f"a node of type {handler} does not read {key!r}"
    return message, f"it is read by {', '.join(sorted(spec.read_by or ()))}"
