"""A pipeline that failed and is retried: what `/pipelines` shows of it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.http.server.contract.pipelines import graph, pipelines


async def test_a_stage_that_is_executed_again_is_shown_as_one_visit(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    dot = graph(
        f"""make [shape=parallelogram, effect=once, tool_command="echo x >> {tmp_path}/made"];
            test [shape=parallelogram, tool_command={json.dumps(f"test -f {mended}")}];
            start -> make -> test; test -> done [condition="outcome=success"]"""
    )
    async with pipelines(commands=True) as place:
        run = await place.start(dot)
        assert (await place.ended(run))["status"] == "fail"
        assert (await place.context(run))["tool"]["exit_code"] == 1
        assert (await place.post(run, "/resume"))[0] == 409, "that is for cancelled runs alone"
        mended.touch()
        answer = await place.client.post(f"/runs/{run}/retry")
        assert answer.status_code == 202, answer.text
        await place.until(run, "PipelineCompleted")
        summary = await place.get(run)
        assert (summary["status"], summary["completed_with_failures"]) == ("success", False)
        checkpoint = await place.checkpoint(run)
        records = await place.events(run)
        context = await place.context(run)
    assert [one["sequence"] for one in records] == list(range(1, len(records) + 1))
    shown = [(one["type"], one.get("name") or one.get("node_id")) for one in records]
    behind = shown.index(("StageFailed", "test"))
    assert shown[behind:] == [
        ("StageFailed", "test"),
        ("CheckpointSaved", "test"),
        ("PipelineFailed", None),
        ("PipelineResumeStarted", None),
        ("CheckpointSaved", "test"),
        ("StageCompleted", "test"),
        ("StageStarted", "done"),
        ("CheckpointSaved", "done"),
        ("StageCompleted", "done"),
        ("PipelineCompleted", None),
    ]
    (resumed,) = [one for one in records if one["type"] == "PipelineResumeStarted"]
    assert (resumed["status"], resumed["recovery_action"], resumed["resumed_from_status"]) == (
        "running",
        "retry",
        "fail",
    )
    assert [one for one in shown if one == ("StageStarted", "test")] == [("StageStarted", "test")]
    assert checkpoint["completed_nodes"] == ["start", "make", "test", "done"]
    assert context["tool"]["exit_code"] == 0
    assert (tmp_path / "made").read_text() == "x\n"


async def test_an_answer_that_ended_the_run_counts_no_more_once_its_gate_is_asked_again() -> None:
    async with pipelines() as place:
        run = await place.start(graph('ask [shape=hexagon]; start -> ask -> done [label="[Y] Yes"]'))
        first = await place.asked(run)
        assert (await place.answer(run, first["id"], False))[0] == 202
        assert (await place.ended(run))["status"] == "fail"
        assert (await place.context(run))["human"]["answers"] == {"ask": False}
        assert (await place.client.post(f"/runs/{run}/retry")).status_code == 202
        second = await place.asked(run, 2)
        assert second["id"] != first["id"]
        assert (await place.get(run))["status"] == "running"
        assert "human" not in await place.context(run)
        assert "human" not in (await place.checkpoint(run))["context"]
        assert (await place.checkpoint(run))["completed_nodes"] == ["start"]
        assert (await place.answer(run, first["id"], "Y"))[0] == 404
        assert (await place.answer(run, second["id"], "Y"))[0] == 202
        await place.until(run, "PipelineCompleted")
        assert (await place.context(run))["human"]["answers"] == {"ask": "Y"}


async def test_what_would_come_to_the_same_is_refused_and_stays_as_it_is() -> None:
    async with pipelines() as place:
        run = await place.start(graph('work [prompt=x]; start -> work; work -> done [condition="outcome=fail"]'))
        assert (await place.ended(run))["status"] == "fail"
        answer = await place.client.post(f"/runs/{run}/retry")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_reopenable")
        assert "no_eligible_edge" in answer.json()["error"]
        assert (await place.events(run))[-1]["type"] == "PipelineFailed"
        assert (await place.get(run))["status"] == "fail"
