"""The context of a run: what its stages wrote, and what people answered that no stage has taken up yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.core.pipeline_errors import ContextKeyError
from perdure.core.values.plain import unescape_key
from perdure.core.values.tags import TAG_OF_NAME, WIDE_INTEGER
from perdure.core.values.trees import shape_of
from perdure.journal.state import DELETED
from perdure.pipeline.context import Context, find, updated
from perdure.pipeline.run_context import OWN
from perdure.pipeline.views import context_of
from perdure.server.pipelines.answers import recorded_answer, recorded_label
from perdure.server.pipelines.portrait import Answered, Portrait

ANSWERS = "human.answers"


def current_context(portrait: Portrait) -> Context:
    """The context as it is now; large values are marks that refer to artifacts."""
    return _with_answers(portrait, context_of(portrait.state))


def checkpoint_context(portrait: Portrait) -> Context:
    """The context as of the last stage that completed, with the answers that are durable since."""
    state = portrait.state
    kept = {name: value for name, value in state.context.items() if value is not DELETED and not name.startswith(OWN)}
    return _with_answers(portrait, kept)


def as_given(recorded: Any) -> Any:
    """A recorded value as plain JSON: keys as they were given, integers of any size as numbers. What JSON lacks stays
    tagged text."""
    if isinstance(recorded, list):
        return [as_given(one) for one in recorded]
    if not isinstance(recorded, dict):
        return recorded
    shape = shape_of(recorded)
    if shape == "object":
        return {unescape_key(key): as_given(value) for key, value in recorded.items()}
    return TAG_OF_NAME[shape].read(recorded[shape]) if shape == WIDE_INTEGER.tag else recorded


def answered_by_a_person(portrait: Portrait) -> bool:
    """Whether the context holds an answer that a person gave; a timeout's default, or what a caller handed in, is
    none."""
    answers = find(current_context(portrait), ANSWERS)
    if not isinstance(answers, dict):
        return False
    return any(node in answers and answered.is_a_persons for node, answered in portrait.answered.items())


def _with_answers(portrait: Portrait, context: Context) -> Context:
    """A person's answer counts from when it is durable, also where the run was cancelled before its gate took it."""
    for node, answered in portrait.answered.items():
        if answered.is_a_persons and _is_waiting_for_its_gate(portrait, answered):
            try:
                context = updated(context, _told(node, answered))
            except ContextKeyError:  # something else stands there; the gate will fail for the same reason
                continue
    return context


def _is_waiting_for_its_gate(portrait: Portrait, answered: Answered) -> bool:
    state = portrait.state
    in_its_generation = answered.scope.startswith(f"{state.generation}/")
    return in_its_generation and (answered.node in state.active or answered.node in state.reenter)


def _told(node: str, answered: Answered) -> Mapping[str, Any]:
    selected = recorded_answer(answered.question, answered.answer)
    return {
        "human.gate.selected": selected,
        "human.gate.label": recorded_label(answered.question, answered.answer),
        f"{ANSWERS}.{node}": selected,
    }
