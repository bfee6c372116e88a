"""What holds over the end of a server: runs go on, questions keep their ids, and one resume is admitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure import Runtime
from perdure.server.pipelines import Library, PipelineSettings
from perdure.server.pipelines.resume import KNOWN_LIMIT, NO_ANSWER, NO_CHECKPOINT, NOT_CANCELLED, QUESTION_OPEN
from tests.unit.server_pipelines.service import GATE, PLAIN, served

pytestmark = pytest.mark.time_limit(40)


async def test_a_pipeline_is_carried_by_its_run_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    async with served(store) as service:
        run = await service.start(GATE, opts={"max_steps": 9})
        question = await service.question(run)
        before = await service.events(run)
    async with served(store) as service:
        assert await service.events(run) == before
        assert (await service.get(f"/pipelines/{run}/questions")).json()["questions"] == [question]
        await service.post("/answer", {"id": run, "qid": question["id"], "answer": "Y"})
        assert (await service.ended(run))["status"] == "success"
        after = await service.events(run)
        assert after[: len(before)] == before
        assert [one["type"] for one in after].count("InterviewStarted") == 1
        names = [one["name"] for one in after if one["type"] == "StageStarted"]
        assert names == ["start", "ask", "done"]


async def test_a_run_that_was_accepted_and_never_begun_is_executed_by_the_next_server(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    large = PLAIN.replace('"Work"', f'"{"long " * 30_000}"')
    async with served(store, execute=False) as service:
        runs = [await service.start(PLAIN), await service.start(large)]
    async with served(store) as service:
        for run in runs:
            assert (await service.ended(run))["status"] == "success"


async def test_a_run_whose_pipeline_cannot_be_made_is_named_and_harms_no_other(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "child.dot").write_text(PLAIN)
    dot = """digraph P { graph [stack.child_dotfile="child.dot"]
        start [shape=Mdiamond]; c [shape=house]; done [shape=Msquare]; start -> c -> done }"""
    async with served(store, PipelineSettings(directory=inside), execute=False) as service:
        broken = await service.start(dot)
        sound = await service.start(PLAIN)
    (inside / "child.dot").unlink()
    async with Runtime(store) as runtime:
        failed = await Library(runtime, PipelineSettings(directory=inside)).know_unfinished()
        assert list(failed) == [broken]
        assert await runtime.run(sound).result()
        assert await runtime.run(broken).status() == "pending"


async def test_resume_admits_a_cancelled_run_with_a_persons_answer_and_nothing_else() -> None:
    async with served() as service:

        async def refused(run: str, reason: str) -> None:
            response = await service.post(f"/pipelines/{run}/resume")
            assert (response.status_code, response.json()) == (409, {"error": reason})
            told = (await service.get(f"/pipelines/{run}")).json()
            assert told["resume_ready"] is False
            assert told["recovery"] == {
                "state": "refused",
                "action": "checkpoint_resume",
                "refusal_reason": reason,
                "known_limit": KNOWN_LIMIT,
            }

        run = await service.start(GATE)
        question = await service.question(run)
        await refused(run, NOT_CANCELLED)
        await service.post(f"/pipelines/{run}/cancel")
        await refused(run, QUESTION_OPEN)
        await service.post("/answer", {"id": run, "qid": question["id"], "answer": "Y"})
        told = (await service.get(f"/pipelines/{run}")).json()
        assert (told["status"], told["resume_ready"], told["recovery"]["state"]) == ("cancelled", True, "available")
        checkpoint = (await service.get(f"/pipelines/{run}/checkpoint")).json()["checkpoint"]
        assert checkpoint["context"]["human"]["answers"] == {"ask": "Y"}
        response = await service.post(f"/pipelines/{run}/resume")
        assert response.status_code == 202
        assert response.json() == {
            "pipeline_id": run,
            "status": "running",
            "recovery_action": "checkpoint_resume",
            "resumed_from_status": "cancelled",
        }
        assert (await service.ended(run))["status"] == "success"
        events = await service.events(run)
        (resumed,) = [one for one in events if one["type"] == "PipelineResumeStarted"]
        assert (resumed["resumed_from_status"], resumed["recovery_action"]) == ("cancelled", "checkpoint_resume")
        await refused(run, NOT_CANCELLED)


async def test_an_answer_that_nobody_gave_resumes_nothing() -> None:
    dot = """digraph P { start [shape=Mdiamond]; done [shape=Msquare];
        first [shape=hexagon, human.timeout=50ms, human.default_choice="second"]; second [shape=hexagon];
        start -> first -> second -> done }"""
    async with served() as service:
        run = await service.start(dot, context={"human.answers.other": "Y"})
        await service.until(run, "InterviewStarted", 2)
        await service.post(f"/pipelines/{run}/cancel")
        (question,) = (await service.get(f"/pipelines/{run}/questions")).json()["questions"]
        assert (await service.post(f"/pipelines/{run}/resume")).json() == {"error": QUESTION_OPEN}
        assert (await service.get(f"/pipelines/{run}/context")).json()["context"]["human"]["answers"] == {
            "other": "Y",
            "first": "S",
        }
        await service.post("/answer", {"id": run, "qid": question["id"], "answer": "done"})
        assert (await service.get(f"/pipelines/{run}")).json()["resume_ready"] is True


async def test_a_run_that_was_cancelled_before_it_began_or_without_a_gate_is_not_resumed() -> None:
    slow = """digraph P { start [shape=Mdiamond]; done [shape=Msquare]; start -> ask -> t -> done
        ask [shape=hexagon, human.timeout=20ms, human.default_choice="t"]
        t [shape=parallelogram, tool_command="sleep 60"] }"""
    async with served(execute=False) as service:
        run = await service.start(PLAIN)
        await service.post(f"/pipelines/{run}/cancel")
        assert (await service.post(f"/pipelines/{run}/resume")).json() == {"error": NO_CHECKPOINT}
    async with served(settings=PipelineSettings(allow_commands=True)) as service:
        run = await service.start(slow)
        await service.until(run, "StageStarted", 3)
        await service.post(f"/pipelines/{run}/cancel")
        assert (await service.post(f"/pipelines/{run}/resume")).json() == {"error": NO_ANSWER}
