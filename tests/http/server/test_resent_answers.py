"""`/pipelines`: a command under an `Idempotency-Key` is told the same when it comes again; the others as ever."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.server.served import Served, served

GATE = 'digraph g { start [shape=Mdiamond] ask [shape=hexagon, label="Go?"] done [shape=Msquare]'
DOT = GATE + ' start -> ask  ask -> done [label="[Y] yes"]  ask -> done [label="[N] no"] }'
KEY = {"idempotency-key": "once"}


async def asked(place: Served, run_id: str) -> str:
    """Start a pipeline that asks, and give the id of its question."""
    made = await place.client.post("/pipelines", json={"dot": DOT, "opts": {"pipeline_id": run_id}})
    assert made.status_code == 202, made.text
    await place.reaches(run_id, "waiting")
    [question] = (await place.client.get(f"/pipelines/{run_id}/questions")).json()["questions"]
    return str(question["id"])


def paths(run_id: str, question: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"/pipelines/{run_id}/questions/{question}/answer", {}),
        ("/answer", {"pipeline_id": run_id, "question_id": question}),
    ]


@pytest.mark.parametrize("route", [0, 1], ids=["route", "alias"])
async def test_an_answer_that_comes_again_under_its_key_is_accepted_again(route: int) -> None:
    async with served() as place:
        question = await asked(place, "p")
        path, more = paths("p", question)[route]
        accepted = {"pipeline_id": "p", "question_id": question, "accepted": True}
        for _ in range(2):
            told = await place.client.post(path, json=more | {"answer": "Y"}, headers=KEY)
            assert (told.status_code, told.json()) == (202, accepted)
        await place.reaches("p", "completed")
        told = await place.client.post(path, json=more | {"answer": "Y"}, headers=KEY)
        assert (told.status_code, told.json()) == (202, accepted)
        events = (await place.client.get("/pipelines/p/events?stream=false")).json()["events"]
        assert [one["answer"] for one in events if one["type"] == "InterviewCompleted"] == ["Y"]


@pytest.mark.parametrize("route", [0, 1], ids=["route", "alias"])
@pytest.mark.parametrize(
    ("headers", "answer"),
    [({}, "Y"), (KEY, "N"), ({"idempotency-key": "another"}, "Y")],
    ids=["no key", "another answer", "another key"],
)
async def test_another_answer_is_refused_as_ever(headers: dict[str, str], answer: str, route: int) -> None:
    async with served() as place:
        path, more = paths("p", await asked(place, "p"))[route]
        assert (await place.client.post(path, json=more | {"answer": "Y"}, headers=KEY)).status_code == 202
        told = await place.client.post(path, json=more | {"answer": answer}, headers=headers)
        assert (told.status_code, told.json()) == (404, {"error": "question not found"})


@pytest.mark.parametrize("headers", [{}, KEY], ids=["no key", "key"])
async def test_a_refused_answer_leaves_its_key_free(headers: dict[str, str]) -> None:
    async with served() as place:
        path, _ = paths("p", await asked(place, "p"))[0]
        for body in ({"answer": "maybe"}, {}):
            assert (await place.client.post(path, json=body, headers=headers)).status_code == 422
        assert (await place.client.post(path, json={"answer": "Y"}, headers=headers)).status_code == 202
        unknown = path.replace("/p/", "/q/")
        told = await place.client.post(unknown, json={"answer": "Y"}, headers=headers)
        assert (told.status_code, told.json()) == (404, {"error": "pipeline not found"})
        for nothing, more in paths("p", "none"):
            told = await place.client.post(nothing, json=more | {"answer": "Y"}, headers=headers)
            assert (told.status_code, told.json()) == (404, {"error": "question not found"})
            told = await place.client.post(nothing, json=more, headers={})
            assert (told.status_code, told.json()) == (404, {"error": "question not found"})
