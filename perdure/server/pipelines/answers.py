"""What a client sent as an answer, as the engine takes it: an option by key, label or target, a boolean, a list, an
object. Nothing is guessed: what names no option, or more than one, is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from perdure.core.errors import AnswerRefusedError
from perdure.pipeline.routing import normalised
from perdure.server.pipelines.questions import CONFIRMATION, FREEFORM, YES_NO, GateQuestion, Option, yes_and_no

WRAPPERS: Final = ("answer", "answers", "value", "values", "selected", "selection", "key", "keys")
"""The members of an object that may hold the answer."""
_DEEPEST: Final = 4

_MATCHES: Final[tuple[Callable[[Option, str], bool], ...]] = (
    lambda option, given: given in (option.key, option.text),
    lambda option, given: given == option.label,
    lambda option, given: given == option.to,
    lambda option, given: normalised(given) in (normalised(option.label), option.key.lower()),
)
"""How an option may be named; the first way by which any is named decides."""


def engine_answer(question: GateQuestion, given: Any) -> Any:
    """The answer that the engine takes.

    Args:
        question: that is open.
        given: plain JSON data.

    Returns:
        The text of an option, a list of them for a question that takes several, or free text. `False` declines what a
        question of type CONFIRMATION offers.

    Raises:
        AnswerRefusedError: it names no option, or is of the wrong type; the question stays open.
    """
    value = _unwrapped(question, given)
    if question.type == FREEFORM:
        if not isinstance(value, str) or not value.strip():  # `required`, as every question says
            raise _refused(question, "the question wants text")
        return value
    if question.multiple:
        chosen = [_option(question, one) for one in (value if isinstance(value, list) else [value])]
        texts = list(dict.fromkeys(option.text for option in chosen))
        if not texts:
            raise _refused(question, "nothing was chosen")
        return texts
    if value is False and question.type == CONFIRMATION:
        return False
    return _option(question, value).text


def recorded_answer(question: GateQuestion, recorded: Any) -> Any:
    """A recorded answer by its key, or `False` where it declined: what the context keeps in `human.answers.<node>`.

    Args:
        question: that was answered.
        recorded: as the journal holds it.
    """
    return _by(question, recorded, lambda option: option.key)


def recorded_label(question: GateQuestion, recorded: Any) -> Any:
    """A recorded answer by its label as written: what stands in the context under `human.gate.label`."""
    return _by(question, recorded, lambda option: option.label)


def _by(question: GateQuestion, recorded: Any, told: Callable[[Option], str]) -> Any:
    names = {option.text: told(option) for option in question.options}
    if isinstance(recorded, list):  # in the order of the file, as the gate takes it up
        return [name for text, name in names.items() if text in recorded]
    return names.get(recorded, recorded)


def _unwrapped(question: GateQuestion, given: Any) -> Any:
    value = given
    for _ in range(_DEEPEST):
        if isinstance(value, dict):
            held = [value[name] for name in WRAPPERS if value.get(name) is not None]
            if not held:
                raise _refused(question, f"the object holds none of {', '.join(WRAPPERS)}")
            value = held[0]
        elif isinstance(value, list) and len(value) == 1 and not question.multiple:
            value = value[0]
        else:
            return value
    raise _refused(question, "the answer is wrapped too often")


def _option(question: GateQuestion, given: Any) -> Option:
    if isinstance(given, bool):
        return _of_boolean(question, given)
    if isinstance(given, dict):
        given = _unwrapped(question, given)
    if isinstance(given, int):
        given = str(given)
    if not isinstance(given, str):
        raise _refused(question, "an option is named by its key, its label or its target")
    text = given.strip()
    for matches in _MATCHES:
        found = [option for option in question.options if matches(option, text)]
        if len(found) == 1:
            return found[0]
        if found:
            raise _refused(question, f"{text[:80]!r} names more than one option")
    raise _refused(question, f"{text[:80]!r} is no option")


def _of_boolean(question: GateQuestion, given: bool) -> Option:
    if question.type == CONFIRMATION and given:
        return question.options[0]
    pair = yes_and_no(question.options) if question.type == YES_NO else None
    if pair is None:
        raise _refused(question, "a boolean answers a question of type YES_NO or CONFIRMATION only")
    return pair[0] if given else pair[1]


def _refused(question: GateQuestion, reason: str) -> AnswerRefusedError:
    keys = ", ".join(option.key for option in question.options)
    return AnswerRefusedError(
        f"no matching choice: {reason}",
        hint=f"the keys are: {keys}" if keys else "answer with text",
        wait_id=question.id,
    )
