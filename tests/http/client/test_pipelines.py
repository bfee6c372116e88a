"""The verbs of `/pipelines` against a real service, and their commands over a line that loses answers."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from perdure.client import Client, PipelineQuestion
from perdure.core.errors import ConflictError, InputError, NotFoundError, OutcomeUnknownError
from perdure.core.pipeline_errors import PipelineInvalidError, PipelineSyntaxError
from tests.http.client.lines import CUT, answer, line_to, stranger
from tests.http.server.served import served

GATE = """digraph release {
    start [shape=Mdiamond]
    gate [shape=hexagon, label="Ship it?"]
    ship [shape=parallelogram, tool_command="true"]
    exit [shape=Msquare]
    start -> gate
    gate -> ship [label="[Y] Yes"]
    gate -> exit [label="[N] No"]
    ship -> exit
}"""
STRAIGHT = "digraph straight { start [shape=Mdiamond] exit [shape=Msquare] start -> exit }"


async def question_of(client: Client, pipeline_id: str) -> PipelineQuestion:
    """The question of a pipeline, once it asks."""
    async with aclosing(client.pipeline_events(pipeline_id)) as events:
        async for event in events:
            if event.type == "InterviewStarted":
                break
    (question,) = await client.pipeline_questions(pipeline_id)
    return question


async def test_a_pipeline_is_started_answered_and_looked_at() -> None:
    async with served() as service, Client(service.service.start_url) as client:
        started = await client.start_pipeline(GATE, context={"team": "blue"}, opts={"max_steps": 50})
        pipeline_id = started.pipeline_id
        question = await question_of(client, pipeline_id)
        assert (question.text, [one["key"] for one in question.options]) == ("Ship it?", ["Y", "N"])
        with pytest.raises(InputError):
            await client.answer_pipeline(pipeline_id, question.id, "perhaps")
        taken = await client.answer_pipeline(pipeline_id, question.id, "N")
        assert (taken.pipeline_id, taken.question_id, taken.accepted) == (pipeline_id, question.id, True)
        events = [event async for event in client.pipeline_events(pipeline_id)]
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert (events[0].type, events[-1].type) == ("PipelineStarted", "PipelineCompleted")
        assert [one async for one in client.pipeline_events(pipeline_id, follow=False, after=2)] == events[2:]
        summary = await client.pipeline(pipeline_id)
        assert (summary.status, summary.event_count) == ("success", len(events))
        assert [one.pipeline_id for one in await client.pipelines()] == [pipeline_id]
        checkpoint = await client.pipeline_checkpoint(pipeline_id)
        assert checkpoint is not None
        assert "gate" in checkpoint["completed_nodes"]
        context = await client.pipeline_context(pipeline_id)
        assert (context["team"], context["human"]["answers"]["gate"]) == ("blue", "N")
        for artifact in await client.pipeline_artifacts(pipeline_id):
            assert len(await client.artifact(pipeline_id, artifact.artifact_id)) == artifact.size


async def test_graphs_come_in_five_formats() -> None:
    async with served() as service, Client(service.service.start_url) as client:
        pipeline_id = (await client.start_pipeline(STRAIGHT)).pipeline_id
        assert await client.pipeline_graph(pipeline_id, "dot") == STRAIGHT
        assert (await client.pipeline_graph(pipeline_id, "mermaid")).startswith("flowchart TD")
        assert (await client.pipeline_graph(pipeline_id, "text")).startswith("Graph: straight")
        assert '"graph"' in await client.pipeline_graph(pipeline_id, "json")
        assert "<svg" in await client.pipeline_graph(pipeline_id)
        with pytest.raises(InputError) as caught:
            await client.pipeline_graph(pipeline_id, "gif")  # type: ignore[arg-type]
        assert caught.value.message == "unsupported graph format"
        assert caught.value.ids["supported_formats"] == ["dot", "json", "mermaid", "svg", "text"]


async def test_a_pipeline_is_cancelled_and_resumed() -> None:
    async with served() as service, Client(service.service.start_url) as client:
        pipeline_id = (await client.start_pipeline(GATE)).pipeline_id
        question = await question_of(client, pipeline_id)
        for _ in range(2):
            assert (await client.cancel_pipeline(pipeline_id)).status == "cancelled"
        with pytest.raises(ConflictError) as caught:
            await client.resume_pipeline(pipeline_id)
        assert "question" in caught.value.message or "gate" in caught.value.message
        await client.answer_pipeline(pipeline_id, question.id, "N")
        assert (await client.resume_pipeline(pipeline_id)).status == "running"
        async for event in client.pipeline_events(pipeline_id):
            last = event
        assert last.type == "PipelineCompleted"
        with pytest.raises(ConflictError) as finished:
            await client.cancel_pipeline(pipeline_id)
        assert (finished.value.message, finished.value.ids["status"]) == ("pipeline already finished", "success")


async def test_refusals_keep_the_words_of_the_contract() -> None:
    async with served() as service, Client(service.service.start_url) as client:
        for called in (
            client.pipeline("no"),
            client.cancel_pipeline("no"),
            client.resume_pipeline("no"),
            client.pipeline_graph("no"),
            client.pipeline_questions("no"),
            client.answer_pipeline("no", "q", "x"),
            client.pipeline_checkpoint("no"),
            client.pipeline_context("no"),
            client.pipeline_artifacts("no"),
            anext(client.pipeline_events("no")),
            anext(client.pipeline_events("no", follow=False)),
        ):
            with pytest.raises(NotFoundError) as caught:
                await called
            assert caught.value.message == "pipeline not found"
        with pytest.raises((PipelineInvalidError, PipelineSyntaxError)) as invalid:
            await client.start_pipeline("digraph x { a -> b }")
        assert getattr(invalid.value, "diagnostics", None)
        with pytest.raises(InputError) as empty:
            await client.start_pipeline(" ")
        assert empty.value.message == "pipeline dot source is required"
        await client.start_pipeline(STRAIGHT, opts={"pipeline_id": "mine"})
        with pytest.raises(ConflictError) as taken:
            await client.start_pipeline(STRAIGHT, opts={"pipeline_id": "mine"})
        assert taken.value.message == "pipeline id already exists"
        assert len(await client.pipelines()) == 1


async def test_a_start_whose_answer_was_lost_is_one_pipeline() -> None:
    async with served() as service, line_to(service.service.port) as line:
        left = 2

        def lost(passed: int) -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        line.cuts = lost
        async with Client(line.url, token=service.keys.token if service.keys else None) as client:
            started = await client.start_pipeline(STRAIGHT)
            assert line.requests == ["POST /pipelines"] * 3
            assert [one.pipeline_id for one in await client.pipelines()] == [started.pipeline_id]
            async for event in client.pipeline_events(started.pipeline_id):
                last = event
            assert last.type == "PipelineCompleted"


async def test_an_answer_that_was_lost_is_recognised_and_what_may_have_been_done_says_so() -> None:
    async with served() as service, line_to(service.service.port) as line:
        token = service.keys.token if service.keys else None
        async with Client(line.url, token=token) as client:
            await client.start_pipeline(GATE, opts={"pipeline_id": "mine"})
            question = await question_of(client, "mine")
            left = [1]

            def lost(passed: int) -> bool:
                left[0] -= 1
                return left[0] >= 0

            line.cuts = lost
            answered = await client.answer_pipeline("mine", question.id, "N")
            assert (answered.accepted, line.requests[-1]) == (True, line.requests[-2])
            assert (await client.pipeline_context("mine"))["human"]["answers"]["gate"] == "N"
            left[0] = 1
            with pytest.raises(OutcomeUnknownError) as started:
                await client.start_pipeline(GATE, opts={"pipeline_id": "mine"})
            assert isinstance(started.value.__cause__, ConflictError)


async def test_a_resume_whose_answer_was_lost_is_one_resume() -> None:
    async with (
        served() as service,
        line_to(service.service.port) as line,
        Client(line.url, token=service.keys.token if service.keys else None) as client,
    ):
        await client.start_pipeline(GATE, opts={"pipeline_id": "mine"})
        question = await question_of(client, "mine")
        await client.cancel_pipeline("mine")
        await client.answer_pipeline("mine", question.id, "N")
        left = [1]

        def lost(passed: int) -> bool:
            left[0] -= 1
            return left[0] >= 0

        line.cuts = lost
        assert (await client.resume_pipeline("mine")).status == "running"
        assert line.requests[-2:] == ["POST /pipelines/mine/resume"] * 2
        with pytest.raises(ConflictError):
            await client.resume_pipeline("mine")
        records = [one.type async for one in client.pipeline_events("mine")]
        assert records.count("PipelineResumeStarted") == 1


async def test_a_refusal_after_a_connection_that_never_was_is_plain() -> None:
    """Nothing reached the service at the first time, so its refusal is about this command."""
    taken = answer(409, {"error": "pipeline id already exists"})
    async with stranger(CUT, taken) as server, Client(server.url) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.start_pipeline(STRAIGHT, opts={"pipeline_id": "mine"})
    async with stranger(answer(429, {"error": "later"}), taken) as server, Client(server.url) as client:
        with pytest.raises(ConflictError):
            await client.start_pipeline(STRAIGHT, opts={"pipeline_id": "mine"})
