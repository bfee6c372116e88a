"""What answers about runs hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from perdure.server.told.errors import Damage

RunStatus = Literal["pending", "running", "waiting", "paused", "completed", "failed", "cancelled"]
Milliseconds = Annotated[int, Field(description="milliseconds since 1970")]
Deadline = Annotated[int | None, Field(description="when it times out, in milliseconds since 1970")]


class RunSummary(TypedDict):
    """A run as its index row shows it."""

    run_id: str
    workflow: str
    version: str
    status: RunStatus
    reason: Annotated[str | None, Field(description="why it is paused")]
    created_ms: Milliseconds
    updated_ms: Milliseconds
    due_ms: Annotated[int | None, Field(description="from when a worker takes it up; null: at once, or when woken")]
    owner: Annotated[str | None, Field(description="the worker that executes it")]
    parent_id: str | None
    caller_owned: Annotated[bool, Field(description="its loop belongs to the program that started it")]
    tags: list[str]


class RunPage(TypedDict):
    """A page of runs."""

    runs: list[RunSummary]
    next_cursor: Annotated[str | None, Field(description="of the next page; null on the last")]


class Reason(TypedDict):
    """Why a run stands where it stands; beside these two members, what the reason is about."""

    kind: Annotated[
        str,
        Field(
            description="question, signal, timer, child, doubt, paused, cancel, failed, caller, worker, due, no_worker"
        ),
    ]
    text: Annotated[str, Field(description="for people")]


class Nodes(TypedDict):
    """The nodes of a run."""

    active: Annotated[dict[str, int], Field(description="node and visit, and the attempt that it is in")]
    ended: Annotated[dict[str, str], Field(description="name, and how its last visit ended")]


class ShortWait(TypedDict):
    """An open wait of a run."""

    wait_id: str
    kind: str
    deadline_ms: Deadline
    scope: str | None


class Doubt(TypedDict):
    """A step of which nobody knows whether it happened."""

    scope: str
    key: str


class RunView(RunSummary):
    """A run: its index row, what its journal folds to, and why it stands where it stands. Of one whose journal cannot
    be read, `damage` says what is wrong, and the members behind it are missing."""

    damage: Damage | None
    seq: NotRequired[Annotated[int, Field(description="of the newest event")]]
    generation: NotRequired[int]
    input: NotRequired[dict[str, Any]]
    output: NotRequired[Any]
    error: NotRequired[Annotated[dict[str, Any] | None, Field(description="how it failed")]]
    state: NotRequired[Annotated[dict[str, Any], Field(description="the key-value state")]]
    nodes: NotRequired[Nodes]
    waits: NotRequired[list[ShortWait]]
    in_doubt: NotRequired[list[Doubt]]
    children: NotRequired[Annotated[dict[str, str], Field(description="ids, and their status")]]
    steps: NotRequired[Annotated[int, Field(description="how many facts are recorded")]]
    last_ms: NotRequired[Milliseconds]
    why: NotRequired[list[Reason]]


class RunState(TypedDict):
    """A run's key-value state as of a seq."""

    run_id: str
    seq: int
    status: RunStatus
    state: dict[str, Any]


class Started(TypedDict):
    """A run that was started."""

    run_id: str
    status: RunStatus


class Taken(TypedDict):
    """A command that is durable, and how the run stands now."""

    run_id: str
    status: RunStatus
    accepted: Literal[True]
    wait_id: NotRequired[Annotated[str, Field(description="of the question that was answered")]]


class Event(TypedDict):
    """An event of a run."""

    run_id: str
    seq: Annotated[int, Field(ge=1, description="from 1 in each run, without gaps")]
    time_ms: Milliseconds
    kind: str
    node: str | None
    scope: str | None
    key: str | None
    actor: Annotated[str, Field(description="who caused it")]
    epoch: Annotated[int, Field(description="of the lease under which it was written; 0 for commands")]
    payload: Annotated[Any, Field(description="null also where it was erased")]


class Events(TypedDict):
    """A page of a run's events."""

    events: list[Event]
    more: bool


class FeedEvent(TypedDict):
    """An event with its place in the feed. One that cannot be read has the kind `damage`."""

    position: Annotated[int, Field(ge=1, description="in the order of all commits")]
    kind: str
    run_id: str | None
    seq: NotRequired[int]
    time_ms: NotRequired[Milliseconds]
    node: NotRequired[str | None]
    scope: NotRequired[str | None]
    key: NotRequired[str | None]
    actor: NotRequired[str]
    epoch: NotRequired[int]
    payload: NotRequired[Any]
    damage: NotRequired[Damage]


class FeedPage(TypedDict):
    """A page of the feed."""

    events: list[FeedEvent]
    next: Annotated[int, Field(description="the position behind which the next page begins")]
    more: Annotated[bool, Field(description="whether something stands there already")]
    newest: Annotated[int, Field(description="the newest position of all")]


class Record(TypedDict):
    """A record of a journal as it was hashed."""

    seq: int
    header: Annotated[str, Field(description="the exact text that is hashed, in UTF-8")]
    salt: Annotated[str, Field(description="in hexadecimal digits")]
    payload: Annotated[str | None, Field(description="the exact text; null where it was erased")]


class JournalHead(TypedDict):
    """The end of a journal."""

    seq: int
    hash: Annotated[str, Field(description="in hexadecimal digits", pattern="^[0-9a-f]{64}$")]


class JournalPage(TypedDict):
    """A page of a run's journal."""

    run_id: str
    records: list[Record]
    more: bool
    head: JournalHead


class Verified(TypedDict):
    """A journal that is what was written."""

    run_id: str
    ok: Literal[True]
    records: int
    head: Annotated[str, Field(description="hash of the last record, in hexadecimal digits")]
    artifacts: Annotated[int, Field(description="that are named, all of them there and unchanged")]


class Artifact(TypedDict):
    """An artifact of a run, without its bytes."""

    artifact_id: Annotated[str, Field(description="their SHA-256, in hexadecimal digits")]
    size: Annotated[int, Field(description="in bytes")]
    media_type: str
    name: str | None
    kind: str | None
    seq: Annotated[int, Field(description="of the event that names it first")]
    named_by: Annotated[str, Field(description="the step, or the kind of that event")]


class Artifacts(TypedDict):
    """The artifacts of a run."""

    artifacts: list[Artifact]
