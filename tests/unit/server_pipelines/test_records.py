"""The records of a pipeline are a function of its journal, with numbers that have no gaps."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Runtime
from perdure.core.errors import RunFailed
from perdure.core.events import Event
from perdure.pipeline import Pipeline
from perdure.server.pipelines.portrait import Portrait
from perdure.server.pipelines.records import PipelineRecords

pytestmark = pytest.mark.time_limit(20)

ENDS = "start [shape=Mdiamond]; done [shape=Msquare];"


async def portrait_of(dot: str, *, answer: Any = None) -> tuple[Portrait, list[Event], Pipeline]:
    pipeline = Pipeline.parse(dot.replace("ENDS", ENDS))
    async with Runtime("memory://") as runtime:
        handle = await runtime.start(pipeline, id="one")
        if answer is not None:
            async for event in handle.events():
                if event.kind == "wait.opened":
                    await handle.answer(answer, wait_id=event.data["wait_id"])
        try:
            await handle.result()
        except RunFailed:
            assert await handle.status() == "failed"
        events = [event async for event in handle.events(follow=False)]
    return fed(events, pipeline), events, pipeline


def fed(events: list[Event], pipeline: Pipeline) -> Portrait:
    portrait = Portrait("one", pipeline.blueprint)
    for event in events:
        portrait.feed(event)
    return portrait


def lines(portrait: Portrait) -> list[str]:
    """Each record as its type and its name, in one line."""
    return [" ".join([one["type"], one.get("name") or one.get("node_id") or ""]).strip() for one in portrait.log]


def of_type(portrait: Portrait, kind: str) -> list[dict[str, Any]]:
    return [one for one in portrait.log if one["type"] == kind]


async def test_a_stage_is_started_then_checkpointed_then_completed() -> None:
    portrait, _, _ = await portrait_of("digraph P { ENDS work [prompt=x]; start -> work -> done }")
    assert lines(portrait) == [
        "PipelineStarted P",
        *(
            f"{kind} {node}"
            for node in ("start", "work", "done")
            for kind in ("StageStarted", "CheckpointSaved", "StageCompleted")
        ),
        "PipelineCompleted",
    ]


async def test_the_numbers_have_no_gap_and_are_the_same_however_the_journal_is_fed() -> None:
    portrait, events, pipeline = await portrait_of("digraph P { ENDS work [prompt=x]; start -> work -> done }")
    assert [one["sequence"] for one in portrait.log] == list(range(1, len(portrait.log) + 1))
    late = Portrait("one", pipeline.blueprint)
    for event in events[:7]:
        late.feed(event)
    head = list(late.log)
    for event in events[7:]:
        late.feed(event)
    assert late.log == portrait.log
    assert portrait.log[: len(head)] == head


async def test_each_failed_attempt_is_one_stage_failed_and_a_retry_follows_where_there_is_one() -> None:
    dot = 'digraph P { ENDS t [shape=parallelogram, tool_command="exit 3", max_retries=1]; start -> t -> done }'
    portrait, _, _ = await portrait_of(dot)
    told = [one for one in portrait.log if one.get("name") == "t"]
    assert [one["type"] for one in told] == ["StageStarted", "StageFailed", "StageRetrying", "StageFailed"]
    assert [one["will_retry"] for one in told if one["type"] == "StageFailed"] == [True, False]
    assert told[1]["error"] == "exit code 3"
    assert (told[2]["attempt"], told[2]["delay_ms"] > 0) == (2, True)
    assert of_type(portrait, "PipelineCompleted")[0]["completed_with_failures"] is True
    assert portrait.checkpoint is not None
    assert portrait.checkpoint.outcomes["t"] == "fail"


async def test_a_run_that_fails_says_so_once_and_last() -> None:
    dot = 'digraph P { ENDS t [prompt=x]; start -> t; t -> done [condition="outcome=fail"] }'
    portrait, _, _ = await portrait_of(dot)
    assert of_type(portrait, "StageFailed") == []
    assert portrait.log[-1]["type"] == "PipelineFailed"
    assert portrait.log[-1]["status"] == "fail"
    assert "no eligible edge" in portrait.log[-1]["error"]


async def test_branches_are_told_with_their_stages_and_their_ends() -> None:
    dot = """digraph P { ENDS fan [shape=component]; join [shape=tripleoctagon];
        good [prompt=x]; bad [shape=parallelogram, tool_command="exit 1"];
        start -> fan; fan -> good -> join; fan -> bad -> join; join -> done }"""
    portrait, _, _ = await portrait_of(dot)
    assert [one["branch"] for one in of_type(portrait, "ParallelBranchStarted")] == ["good", "bad"]
    ended = of_type(portrait, "ParallelBranchCompleted")
    assert [(one["branch"], one["status"]) for one in ended] == [("good", "success"), ("bad", "fail")]
    assert [one["name"] for one in of_type(portrait, "ParallelStarted")] == ["fan"]
    (joined,) = of_type(portrait, "ParallelCompleted")
    assert (joined["success_count"], joined["failure_count"]) == (1, 1)
    started = [one for one in of_type(portrait, "StageStarted") if one["name"] == "good"]
    assert [one["branch"] for one in started] == ["good"]
    assert portrait.checkpoint is not None
    assert portrait.checkpoint.completed_nodes == ["start", "fan", "join", "done"]


async def test_a_visit_that_is_begun_again_after_a_crash_was_started_once() -> None:
    _, events, pipeline = await portrait_of("digraph P { ENDS work [prompt=x]; start -> work -> done }")
    records = PipelineRecords("one", pipeline.blueprint)
    for event in events:
        begun = len(records.feed(event))
        if event.kind == "node.entered":
            assert begun == 1
            assert records.feed(event) == []


async def test_each_visit_counts_on_also_where_a_loop_restarts() -> None:
    dot = """digraph P { graph [max_steps=4] ENDS a [prompt=x];
        start -> a; a -> done [condition="context.never=1"]; a -> a [loop_restart=true] }"""
    portrait, _, _ = await portrait_of(dot)
    for kind in ("StageStarted", "StageCompleted"):
        assert [one["index"] for one in of_type(portrait, kind) if one["name"] == "a"] == [0, 1, 2]


async def test_a_question_is_told_when_it_opens_and_when_it_is_answered_by_its_key() -> None:
    dot = 'digraph P { ENDS ask [shape=hexagon]; start -> ask; ask -> done [label="[G] Go"] }'
    portrait, _, _ = await portrait_of(dot, answer="G")
    (asked,) = of_type(portrait, "InterviewStarted")
    (answered,) = of_type(portrait, "InterviewCompleted")
    assert asked["question"]["options"] == [{"key": "G", "label": "[G] Go", "to": "done"}]
    assert (answered["stage"], answered["answer"]) == ("ask", "G")
    assert [len(one["questions"]) for one in of_type(portrait, "PipelineQuestionsUpdated")] == [1, 0]


async def test_a_gate_that_nobody_answers_in_time_tells_how_long_it_waited() -> None:
    dot = "digraph P { ENDS ask [shape=hexagon, human.timeout=50ms]; start -> ask -> done }"
    portrait, _, _ = await portrait_of(dot)
    (late,) = of_type(portrait, "InterviewTimeout")
    assert late["stage"] == "ask"
    assert 45 <= late["duration_ms"] <= 60
    assert portrait.answered["ask"].is_a_persons is False


async def test_records_of_two_hundred_stages_stay_small() -> None:
    chain = " -> ".join(["start", *(f"s{number}" for number in range(200)), "done"])
    portrait, _, _ = await portrait_of("digraph P { ENDS " + chain + " }")
    assert len(of_type(portrait, "StageCompleted")) == 202
    assert len(str(portrait.log)) < 1_000_000
