"""Pipelines as `/pipelines` shows them, in the words of that contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perdure.client.views.base import View


@dataclass(frozen=True)
class PipelineArtifact(View):
    """A file that a pipeline keeps."""

    artifact_id: str
    path: str
    kind: str
    size: int
    updated_at: str | None = None


@dataclass(frozen=True)
class PipelineSummary(View):
    """How a pipeline stands.

    Attributes:
        status: `running`, `success`, `fail` or `cancelled`.
        recovery: whether the checkpoint-backed resume is admitted, and why not.
    """

    pipeline_id: str
    status: str
    event_count: int = 0
    pending_questions: int = 0
    logs_root: str | None = None
    inserted_at: str | None = None
    updated_at: str | None = None
    has_checkpoint: bool = False
    resume_ready: bool = False
    recovery: dict[str, Any] = field(default_factory=dict)
    artifacts: tuple[PipelineArtifact, ...] = ()
    current_node: str | None = None
    error: str | None = None
    diagnostics: tuple[dict[str, Any], ...] = ()
    waiting_for: tuple[dict[str, Any], ...] = ()
    completed_with_failures: bool = False


@dataclass(frozen=True)
class PipelineEvent(View):
    """A record of a pipeline; what its type tells stands in `raw`.

    Attributes:
        sequence: from 1, without gaps.
    """

    sequence: int
    pipeline_id: str
    type: str
    timestamp: str
    status: str | None = None


@dataclass(frozen=True)
class PipelineQuestion(View):
    """An open question of a pipeline.

    Attributes:
        type: `MULTIPLE_CHOICE`, `YES_NO`, `CONFIRMATION` or `FREEFORM`.
        options: each with `key`, `label` and `to`.
    """

    id: str
    text: str
    type: str
    multiple: bool = False
    required: bool = True
    options: tuple[dict[str, Any], ...] = ()
    timeout_seconds: float | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    inserted_at: str | None = None


@dataclass(frozen=True)
class PipelineRef(View):
    """A pipeline, and what was taken."""

    pipeline_id: str
    status: str | None = None
    question_id: str | None = None
    accepted: bool = True
