"""What answers to operators hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from perdure.server.told.runs import Milliseconds


class Health(TypedDict):
    """The process answers."""

    status: Literal["ok"]


class Readiness(TypedDict):
    """Whether requests can be served."""

    status: Literal["ready", "unavailable"]
    error: NotRequired[str]


class Version(TypedDict):
    """What serves here."""

    name: Literal["perdure"]
    version: str


class Workflow(TypedDict):
    """A workflow that can be started."""

    name: str
    version: str
    form: Annotated[str, Field(description="function, flow, plan or pipeline")]
    description: str
    input: Annotated[dict[str, Any], Field(description="the JSON schema of its input")]


class Workflows(TypedDict):
    """The workflows that can be started here."""

    workflows: list[Workflow]


class Node(TypedDict):
    """A node of a workflow; what does not apply is left out."""

    name: str
    kind: NotRequired[str]
    step: NotRequired[str]
    effect: NotRequired[str]
    tags: NotRequired[list[str]]
    recovery: NotRequired[str]
    blocking: NotRequired[bool]
    description: NotRequired[str]


Edge = TypedDict("Edge", {"from": str, "to": str})


class WorkflowGraph(Workflow):
    """A workflow with its nodes and edges."""

    concurrency: int | None
    fingerprint: str
    skip_tags: list[str]
    nodes: list[Node]
    edges: list[Edge]


class Worker(TypedDict):
    """A worker."""

    worker_id: str
    host: str
    pid: int
    started_ms: Milliseconds
    alive: bool
    draining: Annotated[bool, Field(description="it was told to stop, and takes up nothing new")]
    workflows: list[str]


class Workers(TypedDict):
    """The workers that are registered with the store."""

    workers: list[Worker]
