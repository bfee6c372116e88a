"""`wait.human`: a gate for a person, whose choices are the edges that leave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from perdure.core.canonical import JSONValue
from perdure.core.errors import PerdureError, WaitTimeout
from perdure.pipeline.blueprint import Way
from perdure.pipeline.outcome import Outcome, failure
from perdure.pipeline.routing import accelerator_of, normalised
from perdure.pipeline.stage import Stage

DECLINED: Final = "declined"
"""Why a gate failed whose only choice a person declined."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that a person may choose.

    Args:
        key: short, unique.
        text: unique: the label, with the target where two edges have one label.
        label: of the edge as written, else its target.
        way: that is taken.
    """

    key: str
    text: str
    label: str
    way: Way


async def ask_person(stage: Stage) -> Outcome:
    """Ask, wait for days if need be, and take the edge that was chosen.

    Nothing is chosen by itself: when the gate fails, only an edge that was no choice can be followed.
    """
    choices = choices_of(stage)
    try:
        outcome = await (
            _ask_for_text(stage) if stage.settings.human_input == "text" else _ask_to_choose(stage, choices)
        )
    except PerdureError as error:
        outcome = failure(error.message, retryable=error.retryable)
    if outcome.edge is None and not outcome.failed:
        return outcome
    return replace(outcome, offered=tuple(choice.way.edge for choice in choices))


async def _ask_to_choose(stage: Stage, choices: Sequence[Choice]) -> Outcome:
    if not choices:
        return failure("the gate has no choice: no edge that leaves it is open", retryable=False)
    default = _default_of(stage, choices)
    if isinstance(default, Outcome):
        return default
    multiple = stage.settings.human_multiple
    options: dict[str, Any] = {} if default is None else {"default": [default.text] if multiple else default.text}
    try:
        answer = await stage.run.ask(
            stage.settings.prompt_or_label,
            choices=[choice.text for choice in choices],
            keys=[choice.key for choice in choices],
            kind="multiple" if multiple else "choice",
            timeout=stage.settings.human_timeout_s,
            declinable=len(choices) == 1 and not multiple,
            **options,
        )
    except WaitTimeout:
        return failure("nobody answered in time, and the gate has no default choice")
    if answer is False:
        return failure(DECLINED, retryable=False, **_kept(stage, False, False))
    chosen = [choice for choice in choices if choice.text in (answer if multiple else [answer])]
    if not chosen:
        return failure("nothing was chosen")
    return _outcome(stage, chosen, multiple=multiple)


async def _ask_for_text(stage: Stage) -> Outcome:
    settings = stage.settings
    options: dict[str, Any] = {"default": settings.human_default_choice} if settings.human_default_choice else {}
    try:
        text = await stage.run.ask(settings.prompt_or_label, kind="text", timeout=settings.human_timeout_s, **options)
    except WaitTimeout:
        return failure("nobody answered in time, and the gate has no default")
    return Outcome(preferred_label=text, context_updates=_kept(stage, text, text), notes=f"answered: {text}")


def _outcome(stage: Stage, chosen: Sequence[Choice], *, multiple: bool) -> Outcome:
    first = chosen[0]
    selected: JSONValue = [one.key for one in chosen] if multiple else first.key
    label: JSONValue = [one.label for one in chosen] if multiple else first.label
    return Outcome(
        preferred_label=first.label,
        suggested_next_ids=tuple(one.way.target for one in chosen),
        context_updates=_kept(stage, selected, label),
        notes=f"chosen: {', '.join(one.label for one in chosen)}",
        edge=first.way.edge,
    )


def _kept(stage: Stage, selected: JSONValue, label: JSONValue) -> dict[str, JSONValue]:
    """What the context keeps of an answer."""
    return {"human.gate.selected": selected, "human.gate.label": label, f"human.answers.{stage.id}": selected}


def choices_of(stage: Stage) -> list[Choice]:
    """The edges that are unconditional or whose condition holds, in the file's order, each with a key of its own."""
    before = stage.previous.outcome if stage.previous is not None else Outcome()
    ways = [way for way in stage.place.ways if way.is_open(stage.context.view, before.status, before.preferred_label)]
    labels = [way.settings.label or way.target for way in ways]
    texts = [
        label if labels.count(label) == 1 else f"{label} ({way.target})"
        for label, way in zip(labels, ways, strict=True)
    ]
    texts = list(_unique(texts, set()))
    wanted = [accelerator_of(label) or label.strip()[:1].upper() or "?" for label in labels]
    # What an accelerator names comes first, so that a first letter never takes its key away.
    taken = set(texts)
    keys: dict[int, str] = {}
    for place in sorted(range(len(ways)), key=lambda place: accelerator_of(labels[place]) is None):
        (keys[place],) = _unique([wanted[place]], taken)
    return [
        Choice(keys[place], text, label, way)
        for place, (text, label, way) in enumerate(zip(texts, labels, ways, strict=True))
    ]


def _unique(wanted: Sequence[str], taken: set[str]) -> Iterator[str]:
    """Each as it is, or with the first number behind it that makes it different from all that is taken."""
    for one in wanted:
        candidate, number = one, 1
        while candidate in taken:
            number += 1
            candidate = f"{one}{number}"
        taken.add(candidate)
        yield candidate


def _default_of(stage: Stage, choices: Sequence[Choice]) -> Choice | Outcome | None:
    """The choice that `human.default_choice` names: by key, label or target."""
    wanted = stage.settings.human_default_choice
    if not wanted:
        return None
    for matches in (
        lambda choice: choice.key == wanted,
        lambda choice: choice.label == wanted,
        lambda choice: normalised(choice.label) == normalised(wanted),
        lambda choice: choice.way.target == wanted,
    ):
        found = next(filter(matches, choices), None)
        if found is not None:
            return found
    return failure(f"the default choice {wanted!r} is none of {[choice.text for choice in choices]}", retryable=False)
