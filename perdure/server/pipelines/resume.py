"""The one resume that `/pipelines` admits: of a cancelled run in which a person has answered a gate."""

from __future__ import annotations

from typing import Any, Final

from perdure.server.pipelines.context import answered_by_a_person
from perdure.server.pipelines.portrait import Portrait
from perdure.server.pipelines.records import CHECKPOINT_RESUME

NOT_CANCELLED: Final = "checkpoint resume is only admitted for the selected cancelled packet"
NO_CHECKPOINT: Final = "checkpoint resume requires a persisted checkpoint snapshot"
QUESTION_OPEN: Final = "checkpoint resume stays blocked until the selected human gate is fully cleared"
NO_ANSWER: Final = "checkpoint resume is limited to the post-action cancelled packet with a recorded human answer"
KNOWN_LIMIT: Final = (
    "This packet proves one explicit checkpoint-backed recovery slice only. It does not generalize retry, replay, "
    "restart, or non-selected-route recovery."
)


def refusal_reason(portrait: Portrait) -> str | None:
    """Why a run is not resumed: the first condition that does not hold; `None` when all do."""
    if portrait.state.status != "cancelled":
        return NOT_CANCELLED
    if portrait.checkpoint is None:
        return NO_CHECKPOINT
    if portrait.questions:
        return QUESTION_OPEN
    return None if answered_by_a_person(portrait) else NO_ANSWER


def recovery_data(portrait: Portrait) -> dict[str, Any]:
    """What a resume would say, ahead of time."""
    reason = refusal_reason(portrait)
    return {
        "state": "available" if reason is None else "refused",
        "action": CHECKPOINT_RESUME,
        "refusal_reason": reason,
        "known_limit": KNOWN_LIMIT,
    }
