# Made by tests/unit/client/blocking_stub.py.
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from perdure.client.commanding import Resolution
from perdure.client.pipelines import GraphFormat
from perdure.client.portal import BlockingIterator
from perdure.client.views.pipelines import (
    PipelineArtifact,
    PipelineEvent,
    PipelineQuestion,
    PipelineRef,
    PipelineSummary,
)
from perdure.client.views.runs import (
    ArtifactInfo,
    FeedEvent,
    FeedPage,
    Inbox,
    JournalPage,
    Piece,
    Question,
    RunEvent,
    RunPage,
    RunRef,
    RunRow,
    RunView,
    StateView,
    Verified,
)
from perdure.client.views.service import Health, OpenWait, VersionView, WorkerView, WorkflowView
from perdure.core.durations import Duration
from perdure.core.events import Event

class BlockingClient:
    """The blocking face of `Client`."""

    @property
    def url(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...
    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: Duration = "60s",
        patience: Duration = "30s",
        heartbeat: Duration = "45s",
    ) -> None: ...
    def start(
        self,
        workflow: str,
        input: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        tags: Iterable[str] | None = None,
        skip_tags: Iterable[str] | None = None,
        profile: Literal["minimal", "normal", "verbose"] | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef: ...
    def answer(
        self,
        run_id: str,
        value: Any,
        *,
        wait_id: str | None = None,
        hash: str | None = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef: ...
    def signal(
        self,
        name: str,
        payload: Any = None,
        *,
        run_id: str | None = None,
        match: str | None = None,
        sender_id: str | None = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef: ...
    def cancel(
        self, run_id: str, *, reason: str = "", by: str | None = None, idempotency_key: str | None = None
    ) -> RunRef: ...
    def pause(self, run_id: str, *, by: str | None = None, idempotency_key: str | None = None) -> RunRef: ...
    def resume(
        self, run_id: str, *, accept_definition: bool = False, by: str | None = None, idempotency_key: str | None = None
    ) -> RunRef: ...
    def retry(
        self, run_id: str, *, reason: str = "", by: str | None = None, idempotency_key: str | None = None
    ) -> RunRef: ...
    def resolve(
        self,
        run_id: str,
        resolution: Resolution,
        *,
        step: str | None = None,
        value: Any = None,
        by: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunRef: ...
    def result(self, run_id: str, *, timeout: Duration | None = None, wait_parked: bool = False) -> Any: ...
    def runs_page(
        self,
        *,
        status: Iterable[str] | None = None,
        workflow: str | None = None,
        tags: Iterable[str] | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after_ms: int | None = None,
        created_before_ms: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> RunPage: ...
    def runs(
        self,
        *,
        status: Iterable[str] | None = None,
        workflow: str | None = None,
        tags: Iterable[str] | None = None,
        parent: str | None = None,
        id_prefix: str | None = None,
        created_after_ms: int | None = None,
        created_before_ms: int | None = None,
    ) -> BlockingIterator[RunRow]: ...
    def inbox(self, *, cursor: str | None = None, limit: int | None = None) -> Inbox: ...
    def questions(self, run_id: str | None = None) -> list[Question]: ...
    def show(self, run_id: str) -> RunView: ...
    def state(self, run_id: str, *, at: int | None = None) -> StateView: ...
    def verify(self, run_id: str) -> Verified: ...
    def events(self, run_id: str, *, after: int = 0, follow: bool = True) -> BlockingIterator[RunEvent]: ...
    def live(self, run_id: str, *, after: int = 0) -> BlockingIterator[RunEvent | Piece]: ...
    def feed(
        self, *, after: int = 0, workflows: Iterable[str] | None = None, kinds: Iterable[str] | None = None
    ) -> BlockingIterator[FeedEvent]: ...
    def feed_page(
        self,
        *,
        after: int = 0,
        workflows: Iterable[str] | None = None,
        kinds: Iterable[str] | None = None,
        limit: int | None = None,
    ) -> FeedPage: ...
    def journal_page(self, run_id: str, *, after: int = 0, limit: int | None = None) -> JournalPage: ...
    def journal(self, run_id: str, *, after: int = 0) -> BlockingIterator[Event]: ...
    def artifacts(self, run_id: str) -> list[ArtifactInfo]: ...
    def artifact(self, run_id: str, sha256: str, *, range: tuple[int, int] | None = None) -> bytes: ...
    def workflows(self) -> list[WorkflowView]: ...
    def workflow(self, name: str) -> WorkflowView: ...
    def workers(self) -> list[WorkerView]: ...
    def waits(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        key: str | None = None,
        run_id: str | None = None,
        limit: int | None = None,
    ) -> list[OpenWait]: ...
    def metrics(self) -> str: ...
    def health(self) -> Health: ...
    def ready(self) -> Health: ...
    def version(self) -> VersionView: ...
    def hurry(self, patience: Duration) -> None: ...
    def start_pipeline(
        self, dot: str, *, context: Mapping[str, Any] | None = None, opts: Mapping[str, Any] | None = None
    ) -> PipelineRef: ...
    def pipelines(self) -> list[PipelineSummary]: ...
    def pipeline(self, pipeline_id: str) -> PipelineSummary: ...
    def pipeline_events(
        self, pipeline_id: str, *, after: int = 0, follow: bool = True
    ) -> BlockingIterator[PipelineEvent]: ...
    def cancel_pipeline(self, pipeline_id: str) -> PipelineRef: ...
    def resume_pipeline(self, pipeline_id: str) -> PipelineRef: ...
    def pipeline_graph(self, pipeline_id: str, format: GraphFormat = "svg") -> str: ...
    def pipeline_questions(self, pipeline_id: str) -> list[PipelineQuestion]: ...
    def answer_pipeline(
        self, pipeline_id: str, question_id: str, answer: Any, *, idempotency_key: str | None = None
    ) -> PipelineRef: ...
    def pipeline_checkpoint(self, pipeline_id: str) -> dict[str, Any] | None: ...
    def pipeline_context(self, pipeline_id: str) -> dict[str, Any]: ...
    def pipeline_artifacts(self, pipeline_id: str) -> list[PipelineArtifact]: ...
