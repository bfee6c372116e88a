"""Questions of gates, as clients of `/pipelines` see them: made of the event that opened them and the gate's edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from perdure.core.events import Event
from perdure.pipeline.blueprint import Blueprint, Place
from perdure.pipeline.routing import normalised
from perdure.server.pipelines.times import iso

MULTIPLE_CHOICE: Final = "MULTIPLE_CHOICE"
YES_NO: Final = "YES_NO"
CONFIRMATION: Final = "CONFIRMATION"
FREEFORM: Final = "FREEFORM"

YES_LIKE: Final = frozenset(("yes", "y", "true", "approve", "approved"))
NO_LIKE: Final = frozenset(("no", "n", "false", "reject", "rejected"))


class Option(NamedTuple):
    """One thing that may be chosen.

    Args:
        key: short, unique.
        label: of the edge as written.
        to: the node that it leads to; `None` where the definition does not tell.
        text: by which the engine knows it.
    """

    key: str
    label: str
    to: str | None
    text: str

    @property
    def words(self) -> set[str]:
        """What it says, for finding out whether it says yes or no."""
        return {normalised(self.key), normalised(self.label)}


class GateQuestion(NamedTuple):
    """A question of a gate.

    Args:
        id: unique in the run.
        stage: the gate.
        type: one of the four.
        multiple: several options may be chosen.
        options: in the order of the file.
        data: as clients see it.
        deadline_ms: when it times out, if ever.
        opened_ms: when it was asked.
    """

    id: str
    stage: str
    type: str
    multiple: bool
    options: tuple[Option, ...]
    data: Mapping[str, Any]
    deadline_ms: int | None
    opened_ms: int


def is_gate(opened: Mapping[str, Any]) -> bool:
    """Whether an opened wait is the question of a gate; what asks about a step in doubt is none.

    Args:
        opened: the payload of `wait.opened`.
    """
    return opened.get("wait") == "question" and opened.get("subject") is None and "question" in opened


def question_of(event: Event, stage: str, blueprint: Blueprint | None) -> GateQuestion:
    """A question from the event that opened it.

    Args:
        event: `wait.opened`, for which `is_gate` holds.
        stage: the gate.
        blueprint: of the run's pipeline; without it nobody knows where options lead.
    """
    opened = event.data
    asked = opened["question"]
    place = None if blueprint is None else blueprint.places.get(stage)
    options = _options(asked, place)
    multiple = asked["kind"] == "multiple"
    kind = type_of(asked["kind"], options)
    deadline_ms = opened.get("deadline_ms")
    timeout_s = None if deadline_ms is None else _timeout_s(place, event.time_ms, deadline_ms)
    data = {
        "id": opened["wait_id"],
        "text": asked["text"],
        "type": kind,
        "multiple": multiple,
        "required": True,
        "options": [{"key": option.key, "label": option.label, "to": option.to} for option in options],
        "timeout_seconds": timeout_s,
        "metadata": {
            "node_id": stage,
            "question_type": kind,
            "multiple": multiple,
            "choice_count": len(options),
            "default_choice": (place.settings.human_default_choice or None) if place is not None else None,
            "deadline": None if deadline_ms is None else iso(deadline_ms),
        },
        "inserted_at": iso(event.time_ms),
    }
    return GateQuestion(opened["wait_id"], stage, kind, multiple, options, data, deadline_ms, event.time_ms)


def type_of(kind: str, options: Sequence[Option]) -> str:
    """The type of a question.

    Args:
        kind: the engine's: `choice`, `multiple` or `text`.
        options: that it has.
    """
    if kind == "multiple":
        return MULTIPLE_CHOICE
    if kind == "text":
        return FREEFORM
    if len(options) == 1:
        return CONFIRMATION
    if len(options) == 2 and yes_and_no(options) is not None:
        return YES_NO
    return MULTIPLE_CHOICE


def yes_and_no(options: Sequence[Option]) -> tuple[Option, Option] | None:
    """Of two options, the one that says yes and the one that says no; `None` if they do not."""
    first, second = options
    for yes, no in ((first, second), (second, first)):
        if yes.words & YES_LIKE and no.words & NO_LIKE:
            return yes, no
    return None


def _options(asked: Mapping[str, Any], place: Place | None) -> tuple[Option, ...]:
    texts: Sequence[str] = asked.get("choices") or ()
    keys: Sequence[str] = asked.get("keys") or texts
    edges = _edges(texts, place)
    return tuple(
        Option(key, *(edges.get(text) or (text, None)), text=text) for key, text in zip(keys, texts, strict=False)
    )


def _edges(texts: Sequence[str], place: Place | None) -> dict[str, tuple[str, str | None]]:
    """By the text of a choice, the label of its edge and where it leads; the engine's texts are those of the edges, in
    the order of the file, made different where two are alike."""
    found: dict[str, tuple[str, str | None]] = {}
    ways = list(place.ways) if place is not None else []
    for text in texts:
        for way in ways:
            label = way.settings.label or way.target
            if text in (label, f"{label} ({way.target})") or text.startswith(f"{label} ({way.target})"):
                found[text] = (label, way.target)
                ways.remove(way)
                break
    return found


def _timeout_s(place: Place | None, opened_ms: int, deadline_ms: int) -> float:
    written = place.settings.human_timeout_s if place is not None else None
    return written if written is not None else (deadline_ms - opened_ms) / 1000
