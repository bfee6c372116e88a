"""The kinds of events that the kernel writes: each listed once, with its version and the fields of its payload.

Names are `noun.past_participle`. An author's own event (`run.emit`) may not use a noun that stands here.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from perdure.core.errors import InvalidIdError
from perdure.core.ids import check_name

# The run itself.
RUN_STARTED: Final = "run.started"
RUN_CONTINUED: Final = "run.continued"
RUN_SUSPENDED: Final = "run.suspended"
RUN_PAUSED: Final = "run.paused"
RUN_RESUMED: Final = "run.resumed"
RUN_CANCEL_REQUESTED: Final = "run.cancel_requested"
RUN_COMPLETED: Final = "run.completed"
RUN_FAILED: Final = "run.failed"
RUN_CANCELLED: Final = "run.cancelled"
RUN_REOPENED: Final = "run.reopened"

# Nodes.
NODE_ENTERED: Final = "node.entered"
NODE_COMPLETED: Final = "node.completed"
NODE_FAILED: Final = "node.failed"
NODE_SKIPPED: Final = "node.skipped"
NODE_INTERRUPTED: Final = "node.interrupted"

# Steps.
STEP_INTENDED: Final = "step.intended"
STEP_COMPLETED: Final = "step.completed"
STEP_FAILED: Final = "step.failed"
STEP_RETRIED: Final = "step.retried"
STEP_DOUBTED: Final = "step.doubted"
STEP_RESOLVED: Final = "step.resolved"
STEP_ABANDONED: Final = "step.abandoned"
STEP_NOTED: Final = "step.noted"

# Waits and signals.
WAIT_OPENED: Final = "wait.opened"
WAIT_ANSWERED: Final = "wait.answered"
WAIT_RESOLVED: Final = "wait.resolved"
WAIT_CANCELLED: Final = "wait.cancelled"
SIGNAL_RECEIVED: Final = "signal.received"

# Children, branches, state, artifacts.
CHILD_SPAWNED: Final = "child.spawned"
CHILD_SETTLED: Final = "child.settled"
BRANCHES_JOINED: Final = "branches.joined"
STATE_WRITTEN: Final = "state.written"
ARTIFACT_PUT: Final = "artifact.put"
PATCH_DECIDED: Final = "patch.decided"

# For later rooms; listed so that nobody else takes the names.
PAYLOAD_ERASED: Final = "payload.erased"
BOOKMARK_SET: Final = "bookmark.set"
HEAD_SIGNED: Final = "head.signed"


class KindSpec(NamedTuple):
    """What a kernel event's payload holds.

    Args:
        version: of the payload's schema.
        fields: names that must be present.
        optional: names that may be present.
    """

    version: int
    fields: tuple[str, ...]
    optional: tuple[str, ...] = ()


KINDS: Final[dict[str, KindSpec]] = {
    RUN_STARTED: KindSpec(
        1,
        ("workflow", "version", "fingerprint", "input", "policy", "profile", "provenance"),
        ("code", "tags", "parent", "caller_owned", "fork", "deadline_ms"),
    ),
    RUN_CONTINUED: KindSpec(
        1,
        ("generation", "input", "state", "signals", "children", "waits", "manifest"),
        ("commands", "senders", "secrets", "last_ms"),
    ),
    RUN_SUSPENDED: KindSpec(1, ("due_ms",)),
    RUN_PAUSED: KindSpec(1, ("reason",), ("command_id", "detail", "message", "via")),
    RUN_RESUMED: KindSpec(1, (), ("command_id", "accepted", "reason", "via")),
    RUN_CANCEL_REQUESTED: KindSpec(1, (), ("command_id", "reason", "via")),
    RUN_COMPLETED: KindSpec(1, ("output",), ("unread_signals", "live_children", "in_doubt")),
    RUN_FAILED: KindSpec(1, ("error",), ("unread_signals", "live_children", "in_doubt")),
    RUN_CANCELLED: KindSpec(1, (), ("reason", "in_doubt", "unread_signals", "live_children")),
    RUN_REOPENED: KindSpec(1, ("reason", "forgets"), ("command_id", "via")),
    NODE_ENTERED: KindSpec(1, ("attempt",), ("input",)),
    NODE_COMPLETED: KindSpec(1, (), ("output", "next", "state", "end")),
    NODE_FAILED: KindSpec(1, ("error",), ("attempt", "due_ms")),
    NODE_SKIPPED: KindSpec(1, ("reason",)),
    NODE_INTERRUPTED: KindSpec(1, ("attempt", "counted"), ("cause", "worker")),
    STEP_INTENDED: KindSpec(
        1, ("attempt", "idempotency_key", "fingerprint", "step_kind"), ("input", "step", "until_ms")
    ),
    STEP_COMPLETED: KindSpec(
        1,
        ("fingerprint",),
        (
            "result",
            "result_refused",
            "error",
            "input",
            "step_kind",
            "step",
            "intent",
            "attempt",
            "duration_ms",
            "secrets",
        ),
    ),
    STEP_FAILED: KindSpec(
        1, ("error", "fingerprint"), ("input", "step_kind", "step", "intent", "attempt", "duration_ms", "secrets")
    ),
    STEP_RETRIED: KindSpec(1, ("attempt", "error", "due_ms"), ("free", "fingerprint", "since_ms")),
    STEP_DOUBTED: KindSpec(1, ("attempt", "cause"), ("error", "not_before_ms")),
    STEP_RESOLVED: KindSpec(1, ("resolution",), ("value", "command_id", "by", "error", "via")),
    STEP_ABANDONED: KindSpec(1, ("attempt", "cause")),
    STEP_NOTED: KindSpec(1, ("note",), ("value", "error")),
    WAIT_OPENED: KindSpec(
        1,
        ("wait_id", "wait", "fingerprint"),
        ("asked", "name", "match", "question", "deadline_ms", "default", "has_default", "child", "subject"),
    ),
    WAIT_ANSWERED: KindSpec(1, ("wait_id", "answer"), ("command_id", "saw", "via")),
    WAIT_RESOLVED: KindSpec(1, ("wait_id", "outcome"), ("value", "signal_seq", "error")),
    WAIT_CANCELLED: KindSpec(1, ("wait_id",), ("reason",)),
    SIGNAL_RECEIVED: KindSpec(1, ("name", "payload"), ("match", "sender_id", "command_id", "via")),
    CHILD_SPAWNED: KindSpec(1, ("child", "workflow", "fingerprint"), ("input", "detached")),
    CHILD_SETTLED: KindSpec(1, ("child", "status"), ("output", "error", "child_seq")),
    BRANCHES_JOINED: KindSpec(1, ("fingerprint", "count"), ("failed", "branches", "conflict")),
    STATE_WRITTEN: KindSpec(1, ("fingerprint",), ("name", "value", "deleted", "values")),
    ARTIFACT_PUT: KindSpec(1, ("fingerprint", "artifact", "size"), ("name", "media_type", "artifact_kind")),
    PATCH_DECIDED: KindSpec(1, ("fingerprint", "patch", "active")),
    PAYLOAD_ERASED: KindSpec(1, ("seq", "fields"), ("command_id", "reason")),
    BOOKMARK_SET: KindSpec(1, ("name", "at_seq"), ("command_id", "tags", "description")),
    HEAD_SIGNED: KindSpec(1, ("at_seq", "hash", "signature", "key_id")),
}

RESERVED_NOUNS: Final = frozenset(kind.split(".", 1)[0] for kind in KINDS)
TERMINAL_KINDS: Final = frozenset((RUN_COMPLETED, RUN_FAILED, RUN_CANCELLED))
EXECUTING_KINDS: Final = frozenset(
    kind
    for kind in KINDS
    if kind.split(".", 1)[0] in ("node", "step", "branches", "state", "artifact", "patch")
    and kind not in (STEP_NOTED, STEP_RESOLVED)
) | {WAIT_OPENED, CHILD_SPAWNED}
"""What only a run that is executing appends: with one of these it is no longer waiting."""
FACT_KINDS: Final = frozenset(
    (STEP_COMPLETED, STEP_FAILED, STATE_WRITTEN, ARTIFACT_PUT, PATCH_DECIDED, BRANCHES_JOINED)
)


def check_event_name(name: object) -> str:
    """Return an author's event name if it is free to use, else raise `InvalidIdError`."""
    text = check_name(name, field="event name")
    if text.split(".", 1)[0] in RESERVED_NOUNS:
        raise InvalidIdError(
            f"event name {text!r} is reserved for the kernel",
            hint="choose a name whose part before the first '.' is not one of: " + ", ".join(sorted(RESERVED_NOUNS)),
            field="event name",
        )
    return text
