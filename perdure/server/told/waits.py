"""What answers about waits and questions hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from perdure.server.told.errors import Damage
from perdure.server.told.runs import Deadline


class OpenWait(TypedDict):
    """An open wait, and the run that waits."""

    run_id: str
    workflow: str
    wait_id: str
    kind: Literal["question", "signal", "timer", "child"]
    name: Annotated[str, Field(description="of the signal, `question`, `doubt`, or the id of a child")]
    key: Annotated[str | None, Field(description="of the signal")]
    deadline_ms: Deadline


class OpenWaits(TypedDict):
    """Open waits, oldest first."""

    waits: list[OpenWait]
    more: bool


class Question(TypedDict):
    """An open question."""

    run_id: str
    wait_id: str
    workflow: str
    text: str
    kind: Annotated[str, Field(description="choice, multiple, confirm, text; doubt: what became of a step")]
    choices: list[str]
    keys: Annotated[list[str], Field(description="by which choices may be named; none, or one for each")]
    deadline_ms: Deadline
    has_default: bool
    default: Any
    step: Annotated[str | None, Field(description="that is in doubt")]
    approve: Annotated[Any, Field(description="what is to be approved")]
    hash: Annotated[str | None, Field(description="of what is to be approved; an answer names it")]
    declinable: Annotated[bool, Field(description="`false` declines it")]


class Questions(TypedDict):
    """The open questions of a run, oldest first."""

    questions: list[Question]


class DamagedRun(Damage):
    """A run whose questions cannot be read."""

    run_id: str


class Inbox(Questions):
    """The open questions of all runs, oldest first."""

    damaged: list[DamagedRun]
    more: bool
