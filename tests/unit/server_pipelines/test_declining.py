"""A gate with one choice: what it offers can be declined."""

from __future__ import annotations

from tests.unit.server_pipelines.service import served

CONFIRMATION = """digraph Gate {
    start [shape=Mdiamond]
    ask [shape=hexagon, prompt="Ship it?", max_retries=3]
    done [shape=Msquare]
    start -> ask
    ask -> done [label="[Y] Yes"]
}"""


async def test_a_confirmation_that_is_declined_fails_its_gate() -> None:
    async with served() as service:
        run = await service.start(CONFIRMATION)
        question = await service.question(run)
        assert question["type"] == "CONFIRMATION"
        accepted = await service.post("/answer", {"id": run, "qid": question["id"], "answer": False})
        assert accepted.status_code == 202
        records = await service.until(run, "PipelineFailed")
        (completed,) = [one for one in records if one["type"] == "InterviewCompleted"]
        assert (completed["stage"], completed["answer"]) == ("ask", False)
        (failed,) = [one for one in records if one["type"] == "StageFailed"]
        assert (failed["name"], failed["error"], failed["will_retry"]) == ("ask", "declined", False)
        assert failed["error_category"] == "terminal"
        context = (await service.get(f"/pipelines/{run}/context")).json()["context"]
        assert context["human"]["answers"] == {"ask": False}
        again = await service.post("/answer", {"id": run, "qid": question["id"], "answer": True})
        assert again.status_code == 404
