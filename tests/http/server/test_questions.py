"""The inbox: the open questions of all runs, oldest first, narrowed to those that somebody is there for."""

from __future__ import annotations

from typing import Any

from perdure import Run, workflow
from tests.http.server.served import WORKFLOWS, Served, served


@workflow
async def approve(run: Run, days: int) -> str:
    """Asks with a deadline, twice."""
    first = await run.ask("First?", choices=["yes", "no"], timeout=f"{days}d")
    second = await run.ask("Second?", choices=["yes", "no"])
    return f"{first} {second}"


async def asked(place: Served, name: str, workflow: str, tags: list[str], **given: Any) -> None:
    body = {"workflow": workflow, "input": given, "id": name, "tags": tags}
    assert (await place.client.post("/runs", json=body)).status_code == 201
    await place.reaches(name, "waiting")


async def inbox(place: Served, **query: Any) -> tuple[list[str], bool]:
    answer = await place.client.get("/questions", params=query)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["damaged"] == []
    return [one["run_id"] for one in told["questions"]], told["more"]


async def test_the_inbox_is_narrowed_by_workflow_and_tags() -> None:
    async with served(workflows=(*WORKFLOWS, approve)) as place:
        await asked(place, "b", "approve", ["legal", "urgent"], days=3)
        await asked(place, "a", "ask", ["legal"])
        await asked(place, "c", "ask", [])
        assert await inbox(place) == (["b", "a", "c"], False)
        assert await inbox(place, workflow="ask") == (["a", "c"], False)
        assert await inbox(place, workflow=["ask", "approve"]) == (["b", "a", "c"], False)
        assert await inbox(place, tag="legal") == (["b", "a"], False)
        assert await inbox(place, tag=["legal", "urgent"]) == (["b"], False)
        assert await inbox(place, tag="legal", workflow="ask") == (["a"], False)
        assert await inbox(place, tag="nothing") == ([], False)
        assert await inbox(place, limit=2) == (["b", "a"], True)
        assert await inbox(place, tag="legal", limit=1) == (["b"], True)
        for query in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}):
            assert (await place.client.get("/questions", params=query)).status_code == 422


async def test_a_question_tells_its_deadline_and_moves_behind_when_it_is_asked_later() -> None:
    async with served(workflows=(*WORKFLOWS, approve)) as place:
        await asked(place, "one", "approve", [], days=3)
        await asked(place, "two", "ask", [])
        first = (await place.client.get("/questions")).json()["questions"][0]
        started_ms = (await place.client.get("/runs/one")).json()["created_ms"]
        assert 0 <= first["deadline_ms"] - started_ms - 3 * 86_400_000 < 60_000
        await place.client.post(f"/runs/one/questions/{first['wait_id']}/answer", json={"value": "yes"})
        await place.reaches("one", "waiting")
        told = (await place.client.get("/questions")).json()["questions"]
        while [one["text"] for one in told] != ["Publish?", "Second?"]:
            assert [one["text"] for one in told] in (["Publish?"], ["First?", "Publish?"])  # it is between the two
            told = (await place.client.get("/questions")).json()["questions"]
        assert told[1]["deadline_ms"] is None
