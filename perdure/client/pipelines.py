"""Pipelines, in the words of their own contract."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from perdure.client.face import Face, path_of
from perdure.client.views.base import View
from perdure.client.views.pipelines import (
    PipelineArtifact,
    PipelineEvent,
    PipelineQuestion,
    PipelineRef,
    PipelineSummary,
)
from perdure.core.errors import NotFoundError, OutcomeUnknownError
from perdure.core.ids import RUN_ID

GraphFormat = Literal["svg", "dot", "json", "mermaid", "text"]


class Pipelines(Face):
    """The face of `/pipelines`. Its refusals keep the texts of that contract."""

    async def start_pipeline(
        self, dot: str, *, context: Mapping[str, Any] | None = None, opts: Mapping[str, Any] | None = None
    ) -> PipelineRef:
        """Start a pipeline.

        Args:
            dot: its source.
            context: what its context begins with.
            opts: `pipeline_id`, `max_steps`, …; an id is drawn where none is given, so that a start whose answer was
                lost is sent again without a second run.

        Raises:
            PipelineInvalidError: the graph breaks rules; its `diagnostics` name them, and no run exists.
            ConflictError: the id is taken.
            OutcomeUnknownError: an answer was lost, and the id that was given is taken: perhaps by that start.
        """
        options = dict(opts or {})
        drawn = options.get("pipeline_id") is None
        if drawn:
            options["pipeline_id"] = f"p{secrets.token_hex(12)}"
        body = {"dot": dot, "context": dict(context or {}), "opts": options}
        try:
            return PipelineRef.read(await self._post("/pipelines", body, once=True))
        except OutcomeUnknownError as error:
            if drawn and getattr(error.__cause__, "code", "") == "conflict":  # nobody else has this id
                return PipelineRef.read({"pipeline_id": options["pipeline_id"]})
            raise

    async def pipelines(self) -> list[PipelineSummary]:
        """The newest pipelines."""
        return list(_Summaries.read(await self._get("/pipelines")).pipelines)

    async def pipeline(self, pipeline_id: str) -> PipelineSummary:
        """How a pipeline stands.

        Raises:
            NotFoundError: there is none.
        """
        return PipelineSummary.read(await self._get(_path(pipeline_id)))

    async def pipeline_events(
        self, pipeline_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[PipelineEvent, None]:
        """The records of a pipeline: those that are there, then live ones; no gap, no repeat, also over lost
        connections and restarts of the service.

        Args:
            pipeline_id: the pipeline.
            after: begin behind this sequence.
            follow: go on until the pipeline has ended; otherwise stop at the present end.

        Raises:
            NotFoundError: there is none.
            ServerUnreachableError: the service cannot be reached within the client's patience.
        """
        from perdure.client.following import follow as followed

        path = _path(pipeline_id, "events")
        if not follow:
            for event in await self._records(path, after):
                yield event
            return

        async def has_ended(place: int) -> bool:
            ended = (await self.pipeline(pipeline_id)).status != "running"
            return ended and not await self._records(path, place)

        async with aclosing(followed(self._transport, path, after, without_gaps=True, has_ended=has_ended)) as frames:
            async for frame in frames:
                if frame.id is not None:
                    yield PipelineEvent.read(frame.data)

    async def _records(self, path: str, after: int) -> tuple[PipelineEvent, ...]:
        return _Records.read(await self._get(path, after=after, stream=False)).events

    async def cancel_pipeline(self, pipeline_id: str) -> PipelineRef:
        """Cancel a pipeline. When this returns its processes are gone.

        Raises:
            NotFoundError: there is none.
            ConflictError: it has ended otherwise.
        """
        return PipelineRef.read(await self._post(_path(pipeline_id, "cancel"), {}))

    async def resume_pipeline(self, pipeline_id: str) -> PipelineRef:
        """Resume a cancelled pipeline in which a person has answered a gate; see `/pipelines` for the conditions.

        Raises:
            NotFoundError: there is none.
            ConflictError: a condition does not hold; the message says which.
        """
        return PipelineRef.read(await self._post(_path(pipeline_id, "resume"), {}))

    async def pipeline_graph(self, pipeline_id: str, format: GraphFormat = "svg") -> str:
        """The graph of a pipeline, as text in one of five formats.

        Raises:
            NotFoundError: there is none.
            InputError: there is no such format.
        """
        return (await self._fetch(_path(pipeline_id, "graph"), {"format": format})).content.decode("utf-8", "replace")

    async def pipeline_questions(self, pipeline_id: str) -> list[PipelineQuestion]:
        """The open questions of a pipeline.

        Raises:
            NotFoundError: there is none.
        """
        return list(_Questions.read(await self._get(_path(pipeline_id, "questions"))).questions)

    async def answer_pipeline(
        self, pipeline_id: str, question_id: str, answer: Any, *, idempotency_key: str | None = None
    ) -> PipelineRef:
        """Answer an open question of a pipeline.

        Args:
            pipeline_id: the pipeline.
            question_id: the question.
            answer: a key, a label, a target, true or false, a list of them, or text.
            idempotency_key: the same answer under it again is recognised.

        Raises:
            NotFoundError: there is no such open question.
            InputError: it matches no choice; the question stays open.
        """
        path = _path(pipeline_id, "questions", question_id, "answer")
        return PipelineRef.read(await self._post(path, {"answer": answer}, idempotency_key))

    async def pipeline_checkpoint(self, pipeline_id: str) -> dict[str, Any] | None:
        """The checkpoint of a pipeline; nothing until its start stage completed.

        Raises:
            NotFoundError: there is none.
        """
        return _Checkpoint.read(await self._get(_path(pipeline_id, "checkpoint"))).checkpoint

    async def pipeline_context(self, pipeline_id: str) -> dict[str, Any]:
        """The context of a pipeline.

        Raises:
            NotFoundError: there is none.
        """
        return _Context.read(await self._get(_path(pipeline_id, "context"))).context

    async def pipeline_artifacts(self, pipeline_id: str) -> list[PipelineArtifact]:
        """What a pipeline keeps; `Client.artifact` gives the bytes.

        Raises:
            NotFoundError: there is none.
        """
        return list(_Artifacts.read(await self._get(_path(pipeline_id, "artifacts"))).artifacts)


def _path(pipeline_id: str, *parts: str) -> str:
    if not isinstance(pipeline_id, str) or RUN_ID.fullmatch(pipeline_id) is None:
        raise NotFoundError("pipeline not found", pipeline_id=pipeline_id)
    return path_of("pipelines", pipeline_id, *parts)


@dataclass(frozen=True)
class _Summaries(View):
    pipelines: tuple[PipelineSummary, ...]


@dataclass(frozen=True)
class _Records(View):
    events: tuple[PipelineEvent, ...]


@dataclass(frozen=True)
class _Questions(View):
    questions: tuple[PipelineQuestion, ...]


@dataclass(frozen=True)
class _Checkpoint(View):
    checkpoint: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Context(View):
    context: dict[str, Any]


@dataclass(frozen=True)
class _Artifacts(View):
    artifacts: tuple[PipelineArtifact, ...]
