"""Runs, their events, questions and artifacts, as the service shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from perdure.client.views.base import View
from perdure.core.events import Event, Head

TERMINAL: Final = frozenset(("completed", "failed", "cancelled"))


@dataclass(frozen=True)
class RunRef(View):
    """A run, and how it stood when the service had taken what it was asked.

    Attributes:
        wait_id: of the question that was answered, where one was named.
    """

    run_id: str
    status: str
    wait_id: str | None = None


@dataclass(frozen=True)
class RunRow(View):
    """A run as lists show it. Times are in milliseconds since 1970 (UTC)."""

    run_id: str
    workflow: str
    version: str
    status: str
    created_ms: int
    updated_ms: int
    reason: str | None = None
    due_ms: int | None = None
    owner: str | None = None
    parent_id: str | None = None
    caller_owned: bool = False
    tags: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.status in TERMINAL


@dataclass(frozen=True)
class RunPage(View):
    """Some runs, newest first.

    Attributes:
        next_cursor: of the page that follows, if one does.
    """

    runs: tuple[RunRow, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Reason(View):
    """Why a run stands where it stands.

    Attributes:
        kind: `question`, `signal`, `timer`, `child`, `doubt`, `paused`, `worker`, `due`, `no_worker`, …
        text: for people.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class RunView(RunRow):
    """All that is known of a run.

    Attributes:
        seq: of its newest event.
        input, state, output: as they are recorded, as plain JSON data.
        error: why it failed.
        why: why it stands where it stands.
        damage: what is wrong with its journal; then most of the rest is not known.
    """

    seq: int | None = None
    generation: int | None = None
    input: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Any] = field(default_factory=dict)
    waits: tuple[dict[str, Any], ...] = ()
    in_doubt: tuple[dict[str, Any], ...] = ()
    children: dict[str, str] = field(default_factory=dict)
    steps: int | None = None
    last_ms: int | None = None
    output: Any = None
    error: dict[str, Any] | None = None
    why: tuple[Reason, ...] = ()
    damage: dict[str, Any] | None = None


@dataclass(frozen=True)
class StateView(View):
    """The key-value state of a run as of a seq; its values are decoded, those in `raw` are as they are recorded."""

    run_id: str
    seq: int
    status: str
    state: dict[str, Any]


@dataclass(frozen=True)
class RunEvent(View):
    """An event of a run's journal.

    Attributes:
        payload: as plain JSON data; `None` when it was erased.
    """

    run_id: str
    seq: int
    time_ms: int
    kind: str
    actor: str
    epoch: int
    node: str | None = None
    scope: str | None = None
    key: str | None = None
    payload: Any = None


@dataclass(frozen=True)
class FeedEvent(RunEvent):
    """An event with its place in the order of all commits of the store.

    Attributes:
        damage: what is wrong with the record that stands there; then the rest is not known, and `kind` is `damage`.
    """

    run_id: str = ""
    seq: int = 0
    time_ms: int = 0
    kind: str = ""
    actor: str = ""
    epoch: int = 0
    position: int = 0
    damage: dict[str, Any] | None = None


@dataclass(frozen=True)
class FeedPage(View):
    """Some events of all runs, in the order of their commits.

    Attributes:
        next: the position behind which the next page begins.
        more: whether something stands there already.
        newest: the newest position of all.
    """

    events: tuple[FeedEvent, ...]
    next: int
    more: bool = False
    newest: int | None = None


@dataclass(frozen=True)
class Piece(View):
    """A piece of text that a step told while it ran; it is kept nowhere, and nothing is lost with it.

    Attributes:
        step, attempt: which attempt of which step told it; another attempt tells from the beginning.
        offset: how many characters that attempt had told before.
    """

    run_id: str
    text: str
    scope: str = ""
    step: str = ""
    attempt: int = 1
    offset: int = 0


@dataclass(frozen=True)
class JournalPage:
    """Some records of a run's journal, exactly as they were hashed.

    Attributes:
        records: in their order.
        more: whether others stand behind them.
        head: the end of the journal.
    """

    records: tuple[Event, ...]
    more: bool
    head: Head


@dataclass(frozen=True)
class Question(View):
    """An open question of a run.

    Attributes:
        run_id, wait_id: where it is asked; an answer names both.
        text, kind, choices: what is asked; kind `doubt` asks what became of a step.
        keys: by which the choices may be named; empty, or one for each.
        deadline_ms: when it times out, if ever.
        has_default, default: what it takes then.
        step: the key of the step in doubt.
        approve: what is to be approved.
        hash: of that; an answer names the hash that its author saw.
        declinable: `false` is an answer, too, where one choice alone is to be confirmed.
    """

    run_id: str
    wait_id: str
    text: str
    kind: str
    workflow: str | None = None
    choices: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    deadline_ms: int | None = None
    has_default: bool = False
    default: Any = None
    step: str | None = None
    approve: Any = None
    hash: str | None = None
    declinable: bool = False


@dataclass(frozen=True)
class Inbox(View):
    """Open questions, oldest first.

    Attributes:
        damaged: runs that cannot be read, and why.
        next_cursor: of the page that follows, if one does.
    """

    questions: tuple[Question, ...]
    damaged: tuple[dict[str, Any], ...] = ()
    next_cursor: str | None = None


@dataclass(frozen=True)
class ArtifactInfo(View):
    """An artifact that a run's journal names.

    Attributes:
        artifact_id: its SHA-256.
        size: in bytes.
        seq: of the event that named it first.
    """

    artifact_id: str
    size: int
    media_type: str
    name: str | None = None
    kind: str | None = None
    seq: int | None = None


@dataclass(frozen=True)
class Verified(View):
    """A journal that is what was written.

    Attributes:
        records: how many it has.
        head: the hash of the newest, in hex.
        artifacts: how many it names; all are there.
    """

    run_id: str
    ok: bool
    records: int
    head: str
    artifacts: int = 0
