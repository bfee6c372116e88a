"""What answers of `/pipelines` hold, in the words of the pipeline dialect."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Status = Literal["running", "success", "fail", "cancelled"]
Instant = Annotated[str, Field(description="ISO 8601, in UTC", json_schema_extra={"format": "date-time"})]


class PipelineStarted(TypedDict):
    """A pipeline that was started."""

    pipeline_id: str


class PipelineArtifact(TypedDict):
    """What a run keeps."""

    artifact_id: Annotated[str, Field(description="the SHA-256 of its bytes")]
    path: str
    kind: Literal["json", "log", "text", "graphviz", "file"]
    size: Annotated[int, Field(description="in bytes")]
    updated_at: Instant


class Recovery(TypedDict):
    """What a resume would say."""

    state: Literal["available", "refused"]
    action: Literal["checkpoint_resume"]
    refusal_reason: str | None
    known_limit: str


class WaitingFor(TypedDict):
    """What a run waits for."""

    kind: str
    id: str
    node: str | None
    deadline: Instant | None


class Diagnostic(TypedDict):
    """What a rule found in a graph; what is not known is left out."""

    rule: str
    severity: str
    message: str
    node: NotRequired[str]
    edge: NotRequired[list[str]]
    line: NotRequired[int]
    column: NotRequired[int]
    fix: NotRequired[str]


class PipelineSummary(TypedDict):
    """A run of a pipeline."""

    pipeline_id: str
    status: Status
    event_count: int
    pending_questions: int
    logs_root: str
    inserted_at: Instant
    updated_at: Instant
    has_checkpoint: bool
    resume_ready: bool
    recovery: Recovery
    artifacts: list[PipelineArtifact]
    current_node: str | None
    error: str | None
    diagnostics: list[Diagnostic]
    waiting_for: list[WaitingFor]
    completed_with_failures: bool


class Pipelines(TypedDict):
    """Runs of pipelines, newest first."""

    pipelines: list[PipelineSummary]


class PipelineRecord(TypedDict):
    """A record of a run; beside these members, those of its type."""

    sequence: Annotated[int, Field(ge=1, description="from 1, without gaps")]
    pipeline_id: str
    type: str
    timestamp: Instant
    status: NotRequired[str]


class PipelineEvents(TypedDict):
    """The records of a run."""

    events: list[PipelineRecord]


class PipelineCancelled(TypedDict):
    """A run that is cancelled."""

    pipeline_id: str
    status: Literal["cancelled"]


class PipelineResumed(TypedDict):
    """A run that goes on."""

    pipeline_id: str
    status: Literal["running"]
    recovery_action: Literal["checkpoint_resume"]
    resumed_from_status: Literal["cancelled"]


class GraphNode(TypedDict):
    """A node of a graph."""

    id: str
    type: Annotated[str, Field(description="of its handler")]
    shape: str
    prompt: str
    goal_gate: bool
    attrs: dict[str, Any]


GraphEdge = TypedDict("GraphEdge", {"from": str, "to": str, "condition": Any, "status": Any, "attrs": dict[str, Any]})


class Graph(TypedDict):
    """A graph as data."""

    id: str
    attrs: dict[str, Any]
    nodes: dict[str, GraphNode]
    edges: list[GraphEdge]


class PipelineGraph(TypedDict):
    """The graph of a run."""

    graph: Graph


class GateOption(TypedDict):
    """What may be chosen."""

    key: str
    label: str
    to: str | None


class GateQuestion(TypedDict):
    """A question of a gate."""

    id: str
    text: str
    type: Literal["MULTIPLE_CHOICE", "YES_NO", "CONFIRMATION", "FREEFORM"]
    multiple: bool
    required: bool
    options: list[GateOption]
    timeout_seconds: float | None
    metadata: dict[str, Any]
    inserted_at: Instant


class GateQuestions(TypedDict):
    """The open questions of a run, sorted by id."""

    questions: list[GateQuestion]


class GateAnswered(TypedDict):
    """An answer that was taken."""

    pipeline_id: str
    question_id: str
    accepted: Literal[True]


class PipelineCheckpoint(TypedDict):
    """Where a run stood when its newest stage completed."""

    current_node: Annotated[str, Field(description="the stage that completed last")]
    completed_nodes: Annotated[list[str], Field(description="one entry a visit, in order")]
    context: dict[str, Any]
    timestamp: Instant
    next_node: str | None
    outcomes: dict[str, str]
    seq: int


class Checkpointed(TypedDict):
    """The checkpoint of a run; null until the first stage completed."""

    checkpoint: PipelineCheckpoint | None


class PipelineContext(TypedDict):
    """The context of a run."""

    context: dict[str, Any]


class PipelineArtifacts(TypedDict):
    """What a run keeps."""

    artifacts: list[PipelineArtifact]
