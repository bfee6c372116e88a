"""Questions that ask to approve something, over real sockets: what is seen, what an answer names, and who decides."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import httpx2
import pytest
import rfc8785
from fastapi import FastAPI

from perdure import Run, Runtime, workflow
from perdure.pipeline import Pipeline
from perdure.server import Service, Settings
from perdure.store.memory import MemoryStore
from perdure.testing import VirtualClock
from tests.http.server.served import Served, served

PAYMENT = {"to": "Ada", "amount": 12.0}
HASH = sha256(rfc8785.dumps(PAYMENT)).hexdigest()
OTHER_HASH = sha256(b"something else").hexdigest()


@workflow
async def pay(run: Run) -> Any:
    """Asks to approve a payment."""
    return await run.ask("Pay?", choices=["yes", "no"], approve=PAYMENT)


@workflow
async def closes(run: Run) -> Any:
    """Asks for an hour."""
    return await run.ask("Pay?", choices=["yes", "no"], approve=PAYMENT, timeout="1h", default="no")


GATE = Pipeline.parse(
    """digraph gate { start [shape=Mdiamond]; ask [shape=hexagon]; done [shape=Msquare]; start -> ask -> done }"""
)

TIMED_GATE = Pipeline.parse(
    """digraph timed_gate { start [shape=Mdiamond]; ask [shape=hexagon, human.timeout="1h"]; done [shape=Msquare];
       start -> ask -> done }"""
)


def told(answer: httpx2.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("code", answer.json().get("error"))


async def asked(place: Served, workflow: str = "pay") -> tuple[str, dict[str, Any]]:
    """A run that waits, and its question."""
    run_id = await place.start(workflow)
    await place.reaches(run_id, "waiting")
    [question] = (await place.client.get(f"/runs/{run_id}/questions")).json()["questions"]
    return run_id, question


async def answers_of(place: Served, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Actor and payload of each answer in the journal."""
    events = (await place.client.get(f"/runs/{run_id}/events")).json()["events"]
    return [(one["actor"], one["payload"]) for one in events if one["kind"] == "wait.answered"]


@pytest.mark.parametrize("named", [True, False])
async def test_an_answer_names_what_was_seen(named: bool) -> None:
    async with served(workflows=[pay]) as place:
        run_id, question = await asked(place)
        assert (question["approve"], question["hash"]) == (PAYMENT, HASH)
        assert (await place.client.get("/questions")).json()["questions"] == [question]
        path = f"/runs/{run_id}/questions/{question['wait_id']}/answer" if named else f"/runs/{run_id}/answer"
        for body, refused in (
            ({"value": "yes"}, (422, "answer_refused")),
            ({"value": "yes", "hash": None}, (422, "answer_refused")),
            ({"value": "yes", "hash": OTHER_HASH}, (409, "approval_stale")),
            ({"value": "yes", "hash": 5}, (422, "invalid_input")),
            ({"value": "yes", "saw": HASH}, (422, "invalid_input")),
            ({"value": "yes", "hash": HASH, "by": "no\nname"}, (422, "invalid_id")),
            ({"value": "yes", "hash": HASH, "by": ""}, (422, "invalid_id")),
            ({"value": "perhaps", "hash": HASH}, (422, "answer_refused")),
        ):
            assert told(await place.client.post(path, json=body)) == refused, body
        assert await answers_of(place, run_id) == []
        assert (await place.client.post(path, json={"value": "yes", "hash": HASH})).status_code == 202
        await place.reaches(run_id, "completed")
        [(actor, payload)] = await answers_of(place, run_id)
        assert (actor, payload["saw"], "via" in payload) == ("service:first", HASH, False)


async def test_the_decision_names_the_person_and_the_service_that_brought_it() -> None:
    async with served(workflows=[pay]) as place:
        run_id, _ = await asked(place)
        body = {"value": "no", "hash": HASH, "by": "ada"}
        assert (await place.client.post(f"/runs/{run_id}/answer", json=body)).status_code == 202
        [(actor, payload)] = await answers_of(place, run_id)
        assert (actor, payload["via"], payload["answer"]) == ("person:ada", "service:first", "no")


async def test_where_nobody_says_who_they_are_a_decision_names_the_person_alone() -> None:
    async with served(workflows=[pay], open_to_all=True) as place:
        for by, actor in (("ada", "person:ada"), (None, "person")):
            run_id, _ = await asked(place)
            body = {"value": "no", "hash": HASH} | ({} if by is None else {"by": by})
            assert (await place.client.post(f"/runs/{run_id}/answer", json=body)).status_code == 202
            [(found, payload)] = await answers_of(place, run_id)
            assert (found, "via" in payload) == (actor, False)


async def test_a_resend_is_recognised_and_a_second_decision_is_refused() -> None:
    async with served(workflows=[pay]) as place:
        run_id, question = await asked(place)
        path = f"/runs/{run_id}/questions/{question['wait_id']}/answer"
        key, body = {"idempotency-key": "a1"}, {"value": "yes", "hash": HASH}
        for _ in range(2):
            assert (await place.client.post(path, json=body, headers=key)).status_code == 202
        changed = body | {"hash": OTHER_HASH}
        assert told(await place.client.post(path, json=changed, headers=key)) == (409, "command_conflict")
        assert told(await place.client.post(path, json=body))[0] == 409
        assert len(await answers_of(place, run_id)) == 1


async def test_a_hash_that_nothing_was_asked_about_is_refused() -> None:
    async with served() as place:
        run_id, question = await asked(place, "ask")
        assert (question["approve"], question["hash"]) == (None, None)
        refused = await place.client.post(f"/runs/{run_id}/answer", json={"value": "yes", "hash": HASH})
        assert told(refused) == (422, "answer_refused")


async def test_an_answer_after_the_deadline_is_refused_though_nobody_has_recorded_the_timeout() -> None:
    store = MemoryStore()
    clock = VirtualClock(datetime(2020, 1, 1, tzinfo=UTC))
    async with Runtime(store, workflows=[closes], clock=clock) as first:
        await first.start(closes, id="late")
        await clock.settle()
        store.close = _stays_open  # type: ignore[method-assign]
    async with served(store, workflows=()) as place:
        [question] = (await place.client.get("/questions")).json()["questions"]
        path = f"/runs/late/questions/{question['wait_id']}/answer"
        refused = await place.client.post(path, json={"value": "yes", "hash": HASH})
        assert told(refused) == (409, "question_expired")
        assert refused.json()["ids"]["deadline_ms"] == question["deadline_ms"]
        assert await answers_of(place, "late") == []


async def test_a_gate_whose_time_is_over_has_no_question_any_more_for_clients_of_pipelines() -> None:
    store = MemoryStore()
    clock = VirtualClock(datetime(2020, 1, 1, tzinfo=UTC))
    async with Runtime(store, workflows=[TIMED_GATE], clock=clock) as first:
        await first.start(TIMED_GATE, id="late")
        await clock.settle()
        store.close = _stays_open  # type: ignore[method-assign]
    async with (
        Runtime(store, workflows=[TIMED_GATE], execute=False) as clerk,
        Service(clerk, Settings(None)) as service,
        httpx2.AsyncClient(base_url=service.url, timeout=30) as client,
    ):
        [question] = await store.open_waits(kind="question")
        path = f"/pipelines/late/questions/{question.wait.wait_id}/answer"
        refused = await client.post(path, json={"answer": True})
        assert (refused.status_code, refused.json()) == (404, {"error": "question not found"})
        assert len(await clerk.questions("late")) == 1, "nobody has executed the run meanwhile"


async def _stays_open() -> None:
    """One of two runtimes over a store lets the other one have it."""


def gets(app: FastAPI) -> Iterator[str]:
    """The path of every GET route that the service documents."""
    for path, methods in app.openapi()["paths"].items():
        if "get" in methods:
            yield path


async def test_no_get_changes_a_question() -> None:
    """Of every route of the application, so that a new one cannot be forgotten."""
    async with served(workflows=[pay, GATE]) as place:
        run_id, question = await asked(place)
        gate_id, gate = await asked(place, "gate")
        waits = {run_id: question["wait_id"], gate_id: gate["wait_id"]}
        heads = {one: await place.runtime.store.head(one) for one in waits}
        paths = [*gets(place.service.app), "/answer", "/runs/{run_id}/answer"]
        paths += ["/runs/{run_id}/questions/{wait_id}/answer", "/pipelines/{run_id}/questions/{wait_id}/answer"]
        assert len(paths) > 20
        value = {"value": "yes", "answer": "yes", "hash": HASH, "saw": HASH, "by": "ada"}
        answered = set()
        for path in paths:
            for one, wait_id in waits.items():
                where = path.replace("{wait_id}", wait_id).replace("{question_id}", wait_id)
                where = re.sub(r"{(run_id|pipeline_id|id)}", one, where)
                where = re.sub(r"{[^}]*}", "x", where)
                query = value | {"id": one, "qid": wait_id, "run_id": one}
                for method in ("GET", "HEAD"):
                    async with place.client.stream(method, where, params=query) as answer:
                        assert answer.status_code < 500, where
                        answered.add(answer.status_code)
                        if where.endswith("/answer"):
                            assert answer.status_code in (404, 405), where
        assert 200 in answered
        assert {one: await place.runtime.store.head(one) for one in waits} == heads
        open_now = (await place.client.get("/questions")).json()["questions"]
        assert {one["run_id"]: one["wait_id"] for one in open_now} == waits
        assert [await answers_of(place, one) for one in waits] == [[], []]
