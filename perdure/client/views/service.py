"""Workflows, workers, waits, and how the service is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perdure.client.views.base import View


@dataclass(frozen=True)
class WorkflowView(View):
    """A workflow that can be started.

    Attributes:
        form: how it is written: `function`, `flow`, `plan` or `pipeline`.
        input: the JSON schema of its input.
    """

    name: str
    version: str
    form: str | None = None
    description: str | None = None
    input: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerView(View):
    """A worker that is registered with the store."""

    worker_id: str
    host: str
    pid: int
    started_ms: int
    alive: bool
    draining: bool = False
    workflows: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenWait(View):
    """An open wait of a run.

    Attributes:
        kind: `question`, `signal`, `timer` or `child`.
        name: of the signal, the subject of the question, or the child's run id.
        key: the signal's key to match, if any.
    """

    run_id: str
    wait_id: str
    kind: str
    workflow: str | None = None
    name: str | None = None
    key: str | None = None
    deadline_ms: int | None = None


@dataclass(frozen=True)
class Health(View):
    """How the service is.

    Attributes:
        status: `ok` or `ready`; anything else is a no.
        error: why.
    """

    status: str
    error: str | None = None

    def __bool__(self) -> bool:
        return self.status in ("ok", "ready")


@dataclass(frozen=True)
class VersionView(View):
    """What answers, and its version."""

    name: str
    version: str
