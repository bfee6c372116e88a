"""Rules about conditions: whether they can be read, and whether some outcome falls through them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from perdure.core.pipeline_errors import ConditionSyntaxError
from perdure.pipeline.conditions import OUTCOME, Clause, Condition
from perdure.pipeline.document import Attribute, DocumentEdge, Position
from perdure.pipeline.handler_types import CHILD_LOOP, EXIT, HUMAN, PARALLEL, START
from perdure.pipeline.rules.registry import Finding, rule
from perdure.pipeline.rules.view import PipelineView, text_at

OUTCOMES: Final = ("success", "partial_success", "fail", "skipped")
"""What a stage can end with; `retry` becomes one of these."""

_COMBINATIONS: Final = 64
"""So many combinations of values are tried; conditions that need more are taken not to cover."""

_OTHER: Final = "\0other"
"""A value that no condition names."""


@rule("condition_syntax", severity="error")
def condition_syntax(view: PipelineView) -> Iterator[Finding]:
    """Every condition can be read."""
    told: set[Position] = set()
    for edge in view.document.edges:
        attribute = edge.attributes.get("condition")
        error = _syntax_error(view, edge.attributes, "condition")
        if attribute is None or error is None or attribute.position in told:
            continue
        told.add(attribute.position)  # a chain of edges has one condition
        message = f"condition of {edge.start} -> {edge.end}: {error.message}"
        yield Finding.at_edge(edge, message, position=attribute.position, fix=error.hint)
    for node in view.of_type(CHILD_LOOP):
        error = _syntax_error(view, node.attributes, "manager.stop_condition")
        if error is not None:
            position = node.attributes["manager.stop_condition"].position
            message = f"manager.stop_condition of {node.id!r}: {error.message}"
            yield Finding.at_node(node, message, position=position, fix=error.hint)


def _syntax_error(view: PipelineView, attributes: Mapping[str, Attribute], key: str) -> ConditionSyntaxError | None:
    read = view.read_condition(text_at(attributes, key))
    return read if isinstance(read, ConditionSyntaxError) else None


@rule("all_conditional_edges")
def all_conditional_edges(view: PipelineView) -> Iterator[Finding]:
    """Where every edge of a node has a condition, together they cover all that can happen."""
    known: dict[tuple[Condition, ...], str | None] = {}
    for name, edges in view.leaving.items():
        if not edges or view.types[name] in (PARALLEL, EXIT) or not all(map(view.is_conditional, edges)):
            continue
        conditions = tuple(condition for condition in map(view.condition, edges) if condition is not None)
        if len(conditions) < len(edges):
            continue  # `condition_syntax` tells it
        if conditions not in known:
            known[conditions] = _missed(conditions)
        missed = known[conditions]
        if missed is not None:
            message = f"every edge of {name!r} has a condition, and none holds when {missed}"
            fix = "add an edge without a condition, or one for what is left"
            yield Finding.at_node(view.document.nodes[name], message, fix=fix)


def _missed(conditions: Sequence[Condition]) -> str | None:
    """A case in which none of the conditions holds, in words; `None` if there is no such case."""
    values = _values(conditions)
    if _count(values) > _COMBINATIONS:
        return "another combination of values comes up"
    keys = list(values)
    for case in itertools.product(*values.values()):
        texts = dict(zip(keys, case, strict=True))
        if not any(all(clause.accepts(texts[_key(clause)]) for clause in one.clauses) for one in conditions):
            return " and ".join(f"{key} is {_in_words(text)}" for key, text in texts.items())
    return None


def _values(conditions: Sequence[Condition]) -> dict[str, tuple[str, ...]]:
    """Of each key in the conditions, the values between which they can tell a difference."""
    named: dict[str, dict[str, None]] = {OUTCOME: {}}
    for clause in itertools.chain.from_iterable(one.clauses for one in conditions):
        literals = named.setdefault(_key(clause), {"": None, _OTHER: None})
        if clause.operator != "truthy":
            literals[clause.literal] = None
    return {key: OUTCOMES if key == OUTCOME else tuple(literals) for key, literals in named.items()}


def _count(values: Mapping[str, Sequence[str]]) -> int:
    count = 1
    for one in values.values():
        count *= len(one)
        if count > _COMBINATIONS:
            break
    return count


def _key(clause: Clause) -> str:
    """`context.tests` and `tests` are taken for one, which they are unless an object `context` is in the context."""
    return clause.key.removeprefix("context.")


def _in_words(text: str) -> str:
    return "something else" if text == _OTHER else text or "empty"


@rule("terminal_condition_edge")
def terminal_condition_edge(view: PipelineView) -> Iterator[Finding]:
    """A stage that failed does not reach the exit as if it had not.

    An edge to the exit is taken after a failure when it has no condition, or one that does not look at the outcome,
    unless another edge of the node is there for failures. The start does not fail, a person's choice is followed
    whatever happened, branches end at their fan-in, and a goal gate that failed does not pass the exit.
    """
    for end in view.exits:
        for edge in view.entering[end.id]:
            if _can_fail_unseen(view, edge) and not _is_failure_routed(view, edge):
                message = f"the edge {edge.start} -> {edge.end} leads a failed stage to the exit unseen"
                fix = 'give it condition="outcome=success", and failures an edge of their own'
                yield Finding.at_edge(edge, message, fix=fix)


def _can_fail_unseen(view: PipelineView, edge: DocumentEdge) -> bool:
    if view.types[edge.start] in (START, EXIT, HUMAN, PARALLEL):
        return False
    if view.flag(view.document.nodes[edge.start], "goal_gate"):
        return False
    if not view.is_conditional(edge):
        return True
    condition = view.condition(edge)
    return condition is not None and not any(_key(clause) == OUTCOME for clause in condition.clauses)


def _is_failure_routed(view: PipelineView, edge: DocumentEdge) -> bool:
    """Is there an edge whose condition surely holds after a failure, and that is chosen before an unconditional one?"""
    if view.is_conditional(edge):
        return False
    return any(
        all(_key(clause) == OUTCOME and clause.accepts("fail") for clause in condition.clauses)
        for condition in map(view.condition, view.leaving[edge.start])
        if condition is not None
    )
