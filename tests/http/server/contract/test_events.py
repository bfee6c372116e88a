"""Events: which types there are, what each carries, and in which order they come."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

from tests.http.server.contract.pipelines import GATE, PLAIN, Record, graph, pipelines

ALWAYS: Final = {"sequence", "pipeline_id", "type", "timestamp"}
PAYLOADS: Final[dict[str, set[str]]] = {
    "PipelineStarted": {"name", "id"},
    "StageStarted": {"name", "index"},
    "CheckpointSaved": {"node_id"},
    "StageCompleted": {"name", "index", "status"},
    "StageFailed": {"name", "index", "error", "error_category", "will_retry"},
    "StageRetrying": {"name", "index", "attempt", "delay_ms"},
    "ParallelStarted": {"name"},
    "ParallelBranchStarted": {"name", "branch", "index"},
    "ParallelBranchCompleted": {"name", "branch", "index", "status"},
    "ParallelCompleted": {"name", "success_count", "failure_count"},
    "InterviewStarted": {"stage", "question"},
    "InterviewCompleted": {"stage", "answer", "question"},
    "InterviewTimeout": {"stage", "duration_ms", "question"},
    "PipelineQuestionsUpdated": {"questions"},
    "PipelineResumeStarted": {"status", "recovery_action", "resumed_from_status"},
    "PipelineCompleted": {"status", "completed_with_failures"},
    "PipelineFailed": {"status", "error"},
}
ALL: Final = graph("""
    first [shape=hexagon, human.timeout=30ms, human.default_choice=fan]; fan [shape=component];
    join [shape=tripleoctagon]; good [prompt=x]; bad [shape=parallelogram, tool_command="exit 1", max_retries=1];
    ask [shape=hexagon]; start -> first -> fan; fan -> good -> join; fan -> bad -> join; join -> ask -> done""")
ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def told(records: list[Record], *names: str) -> list[tuple[Any, ...]]:
    """Each record as its type and some of its members."""
    return [(one["type"], *(one.get(name) for name in names)) for one in records]


async def test_each_type_has_its_payload_and_no_other_and_every_type_is_told() -> None:
    async with pipelines(commands=True) as place:
        run = await place.start(ALL, opts={"initial_delay_ms": 1})
        await place.until(run, "InterviewStarted", 2)
        assert (await place.post(run, "/cancel"))[0] == 202
        (question,) = await place.questions(run)
        await place.answer(run, question["id"], True)
        assert (await place.post(run, "/resume"))[0] == 202
        assert (await place.ended(run))["status"] == "success"
        records = await place.events(run)
        assert {one["type"] for one in records} == set(PAYLOADS)
        for place_of, one in enumerate(records, 1):
            of_stage = one["type"].startswith("Stage")
            in_branch = {"branch"} if of_stage and one["name"] in ("good", "bad") else set()
            assert set(one) == ALWAYS | PAYLOADS[one["type"]] | in_branch, one
            assert (one["sequence"], one["pipeline_id"]) == (place_of, run)
            assert ISO.fullmatch(one["timestamp"])
        assert sorted(one["timestamp"] for one in records) == [one["timestamp"] for one in records]


async def test_a_failed_attempt_is_told_with_the_delay_before_the_next() -> None:
    options = {"initial_delay_ms": 10, "backoff_factor": 3, "max_delay_ms": 20, "retry_jitter": False}
    dot = graph('t [shape=parallelogram, tool_command="exit 3", max_retries=3]; start -> t -> done')
    async with pipelines(commands=True) as place:
        run = await place.start(dot, opts=options)
        summary = await place.ended(run)
        assert (summary["status"], summary["completed_with_failures"]) == ("success", True)
        records = [one for one in await place.events(run) if "t" in (one.get("name"), one.get("node_id"))]
        again, last = ("retryable", True, None, None), ("terminal", False, None, None)
        assert told(records, "error_category", "will_retry", "attempt", "delay_ms") == [
            ("StageStarted", None, None, None, None),
            ("StageFailed", *again),
            ("StageRetrying", None, None, 2, 10),
            ("StageFailed", *again),
            ("StageRetrying", None, None, 3, 20),
            ("StageFailed", *again),
            ("StageRetrying", None, None, 4, 20),
            ("StageFailed", *last),
            ("CheckpointSaved", None, None, None, None),
        ]
        assert {one["error"] for one in records if one["type"] == "StageFailed"} == {"exit code 3"}


async def test_a_gate_that_times_out_tells_what_it_took_and_is_left_by_its_default() -> None:
    dot = graph("""ask [shape=hexagon, human.timeout=60ms, human.default_choice=no]; x [prompt=x];
        start -> ask; ask -> done [label="[Y] Yes"]; ask -> x [label="[N] No"]; x -> done""")
    async with pipelines() as place:
        run = await place.start(dot)
        assert (await place.ended(run))["status"] == "success"
        records = await place.events(run)
        kinds = [one["type"] for one in records if one.get("stage") == "ask" or "questions" in one]
        updated = "PipelineQuestionsUpdated"
        assert kinds == ["InterviewStarted", updated, "InterviewTimeout", updated]
        asked, late = (one for one in records if "question" in one)
        assert late["question"] == asked["question"]
        opened, deadline = late["question"]["inserted_at"], late["question"]["metadata"]["deadline"]
        waited = datetime.fromisoformat(deadline) - datetime.fromisoformat(opened)
        assert 0 < late["duration_ms"] == waited / timedelta(milliseconds=1) <= 60
        assert late["question"]["timeout_seconds"] == 0.06
        assert [one["questions"] for one in records if "questions" in one] == [[asked["question"]], []]
        assert (await place.context(run))["human"] == {
            "gate": {"selected": "N", "label": "[N] No"},
            "answers": {"ask": "N"},
        }


async def test_branches_within_branches_are_told_each_under_its_own_fan_out() -> None:
    dot = graph("""f [shape=component]; j [shape=tripleoctagon]; g [shape=component]; k [shape=tripleoctagon];
        a [prompt=a]; b [prompt=b]; c [prompt=c];
        start -> f; f -> a -> j; f -> g; g -> b -> k; g -> c -> k; k -> j; j -> done""")
    async with pipelines() as place:
        run = await place.start(dot)
        assert (await place.ended(run))["status"] == "success"
        records = await place.events(run)
        begun = [one for one in records if one["type"] == "ParallelBranchStarted"]
        assert sorted(told(begun, "name", "branch", "index")) == [
            ("ParallelBranchStarted", "f", "a", 0),
            ("ParallelBranchStarted", "f", "g", 1),
            ("ParallelBranchStarted", "g", "b", 0),
            ("ParallelBranchStarted", "g", "c", 1),
        ]
        stages = {one["name"]: one.get("branch") for one in records if one["type"] == "StageStarted"}
        within = {"a": "a", "g": "g", "b": "b", "c": "c", "k": "g"}
        assert stages == {name: within.get(name) for name in ("start", "f", "a", "g", "b", "c", "k", "j", "done")}
        for fan_out, count in (("f", 2), ("g", 2)):
            of_it = [one["type"] for one in records if one["type"].startswith("Parallel") and one["name"] == fan_out]
            begins, ends = ["ParallelBranchStarted"] * count, ["ParallelBranchCompleted"] * count
            assert of_it == ["ParallelStarted", *begins, *ends, "ParallelCompleted"]


async def test_a_question_of_a_branch_that_is_not_needed_any_more_is_closed() -> None:
    dot = graph("""f [shape=component, join_policy=first_success]; j [shape=tripleoctagon]; ask [shape=hexagon];
        b [prompt=b]; start -> f; f -> ask -> j; f -> b -> j; j -> done""")
    async with pipelines() as place:
        run = await place.start(dot)
        summary = await place.ended(run)
        assert (summary["status"], summary["pending_questions"]) == ("success", 0)
        records = await place.events(run)
        ended = [(one["branch"], one["status"]) for one in records if one["type"] == "ParallelBranchCompleted"]
        assert ended == [("ask", "skipped"), ("b", "success")]
        updated = [one["questions"] for one in records if one["type"] == "PipelineQuestionsUpdated"]
        assert not updated or updated[-1] == []


async def test_a_visit_has_its_number_in_every_record_of_it() -> None:
    async with pipelines() as place:
        run = await place.start(GATE)
        for count, given in ((1, "N"), (2, "again"), (3, "done")):
            question = await place.asked(run, count)
            assert (await place.answer(run, question["id"], given))[0] == 202
        await place.ended(run)
        records = await place.events(run)
        for kind in ("StageStarted", "StageCompleted"):
            visits = [(one["name"], one["index"]) for one in records if one["type"] == kind]
            looped = [("ask", 0), ("again", 0), ("ask", 1), ("again", 1), ("ask", 2)]
            assert visits == [("start", 0), *looped, ("done", 0)]
        asked = [one["question"]["id"] for one in records if one["type"] == "InterviewStarted"]
        assert len(set(asked)) == len(asked) == 3


async def test_two_hundred_stages_and_a_large_context_stay_under_one_megabyte() -> None:
    chain = " -> ".join(f"s{number}" for number in range(200))
    async with pipelines() as place:
        run = await place.start(graph(f"start -> {chain} -> done"), context={"kept": "x" * 40_000})
        assert (await place.ended(run))["status"] == "success"
        for query in ("", "?stream=false"):
            answer = await place.client.get(f"/pipelines/{run}/events{query}")
            assert len(answer.content) < 1_000_000
        assert len(await place.events(run)) == 1 + 3 * 202 + 1
        assert len((await place.context(run))["kept"]) == 40_000


async def test_the_last_event_id_beats_after_whatever_it_holds_in_both_modes() -> None:
    async with pipelines() as place:
        run = await place.start(PLAIN)
        await place.ended(run)
        count = len(await place.events(run))
        for last, begins in (("8", 9), ("x", 1), ("-1", 1), ("1.5", 1)):
            path, headers = f"/pipelines/{run}/events?after={count}", {"last-event-id": last}
            streamed = await place.client.get(path, headers=headers)
            assert streamed.text.startswith(f"id: {begins}\n")
            listed = await place.client.get(f"{path}&stream=0", headers=headers)
            assert [one["sequence"] for one in listed.json()["events"]] == list(range(begins, count + 1))


async def test_a_stream_does_not_end_at_a_record_that_bears_a_status() -> None:
    """A cancelled run that is resumed tells `PipelineFailed` in the middle, and more behind it."""
    async with pipelines() as place:
        run = await place.start(GATE)
        question = await place.asked(run)
        await place.post(run, "/cancel")
        await place.answer(run, question["id"], "N")
        await place.post(run, "/resume")
        second = await place.asked(run, 2)
        records = await place.until(run, "PipelineQuestionsUpdated", 3)
        assert "PipelineFailed" in [one["type"] for one in records[:-1]]
        await place.answer(run, second["id"], "Y")
        assert (await place.until(run, "PipelineCompleted"))[-1]["type"] == "PipelineCompleted"
