"""Every verb of `/runs` over a real socket."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from json import dumps
from typing import Any

import httpx2
import pytest

from perdure.core.events import Event
from perdure.store.memory import MemoryStore
from tests.http.server.served import JSON, served


def told(answer: httpx2.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("code", answer.json().get("error"))


# --- starting ---------------------------------------------------------------------------------------------------------


async def test_a_run_is_started_and_shown() -> None:
    async with served() as place:
        body = {"workflow": "add", "input": {"a": 2, "b": 3}, "id": "sum", "tags": ["x"]}
        answer = await place.client.post("/runs", json=body)
        assert (answer.status_code, answer.headers["location"]) == (201, "/runs/sum")
        assert answer.json()["run_id"] == "sum"
        await place.reaches("sum", "completed")
        shown = (await place.client.get("/runs/sum")).json()
        assert (shown["output"], shown["error"], shown["input"]) == (5, None, {"a": 2, "b": 3})
        assert (shown["status"], shown["tags"], shown["why"], shown["damage"]) == ("completed", ["x"], [], None)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, "invalid_input"),
        ({"workflow": 5}, 422, "invalid_input"),
        ({"workflow": "add", "input": {"a": 1}, "unknown": 1}, 422, "invalid_input"),
        ({"workflow": "add", "input": [1]}, 422, "invalid_input"),
        ({"workflow": "add", "input": {}}, 422, "input_type"),
        ({"workflow": "add", "input": {"a": "one"}}, 422, "input_type"),
        ({"workflow": "add", "input": {"a": 1, "c": 1}}, 422, "input_type"),
        ({"workflow": "add", "input": {"a": 1}, "id": "../x"}, 422, "invalid_id"),
        ({"workflow": "add", "input": {"a": 1}, "tags": ["a,b"]}, 422, "invalid_id"),
        ({"workflow": "ask", "input": {"text": "AKIA" + "ABCDEFGHIJKLMNOP"}}, 422, "secret_shape"),
        ({"workflow": "ask", "input": {"text": "\ud800"}}, 422, "value_refused"),
        ({"workflow": "nothing"}, 404, "unknown_workflow"),
        ({"workflow": "\ud800"}, 404, "unknown_workflow"),
    ],
)
async def test_a_start_that_is_refused_leaves_no_run(body: dict[str, Any], status: int, said: str) -> None:
    async with served() as place:
        answer = await place.client.post("/runs", content=dumps(body), headers=JSON)
        assert told(answer) == (status, said)
        assert (await place.client.get("/runs")).json() == {"runs": [], "next_cursor": None}


async def test_a_refusal_names_the_field() -> None:
    async with served() as place:
        answer = await place.client.post("/runs", json={"workflow": "add", "tags": "x"})
        assert (answer.status_code, answer.json()["field"]) == (422, "tags")
        assert answer.json()["error"].startswith("tags: ")


async def test_an_idempotency_key_starts_one_run_for_each_sender() -> None:
    async with served() as place:
        assert place.keys is not None
        other = {"authorization": f"Bearer {place.keys.add('other', ['runs:write'])}"}
        key = {"idempotency-key": "order 5"}
        body = {"workflow": "add", "input": {"a": 1}}
        answers = await asyncio.gather(*(place.client.post("/runs", json=body, headers=key) for _ in range(5)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["run_id"] for answer in answers}) == 1
        again = await place.client.post("/runs", json=body | {"input": {"a": 2}}, headers=key)
        assert told(again) == (409, "run_conflict")
        theirs = await place.plain.post("/runs", json=body, headers=key | other)
        assert theirs.json()["run_id"] != answers[0].json()["run_id"]
        both = await place.client.post("/runs", json=body | {"id": "x"}, headers=key)
        assert told(both) == (422, "invalid_input")


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_runs_are_listed_newest_first_by_pages_and_filters() -> None:
    async with served() as place:
        for number in range(7):
            tags = ["odd"] if number % 2 else ["even"]
            body = {"workflow": "add", "input": {"a": number}, "id": f"r{number}", "tags": tags}
            await place.client.post("/runs", json=body)
            await place.reaches(f"r{number}", "completed")
        await place.start("ask")
        rows: list[Any] = []
        query: dict[str, Any] = {"workflow": "add", "limit": 3}
        while True:
            page = (await place.client.get("/runs", params=query)).json()
            assert len(page["runs"]) <= 3
            rows += page["runs"]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert sorted(row["run_id"] for row in rows) == [f"r{number}" for number in range(7)]
        assert [row["created_ms"] for row in rows] == sorted((row["created_ms"] for row in rows), reverse=True)
        odd = (await place.client.get("/runs", params={"tag": "odd"})).json()["runs"]
        assert {row["run_id"] for row in odd} == {"r1", "r3", "r5"}
        ended = (await place.client.get("/runs?status=failed&status=completed")).json()["runs"]
        assert len(ended) == 7
        none = (await place.client.get("/runs", params={"created_before_ms": rows[-1]["created_ms"]})).json()["runs"]
        assert none == []


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "status=over", "cursor=x", "cursor=%00", "created_after_ms=" + "9" * 30],
)
async def test_a_list_that_cannot_be_given_is_refused(query: str) -> None:
    async with served() as place:
        assert (await place.client.get(f"/runs?{query}")).status_code == 422


# --- one run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/state"),
        ("GET", "/questions"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/x"),
        ("GET", "/verify"),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/retry"),
    ],
)
@pytest.mark.parametrize("run_id", ["nothing", "a%20b", "%2e%2e"])
async def test_what_is_asked_of_no_run_is_not_found(method: str, path: str, run_id: str) -> None:
    async with served() as place:
        answer = await place.client.request(method, f"/runs/{run_id}{path}")
        assert answer.status_code == 404
        assert answer.json().get("code") in ("run_not_found", None)


async def test_a_run_says_why_it_waits() -> None:
    async with served() as place:
        asking, listening = await place.start("ask"), await place.start("listen")
        for run_id in (asking, listening):
            await place.reaches(run_id, "waiting")
        why = (await place.client.get(f"/runs/{asking}")).json()["why"]
        assert [(one["kind"], one["text"]) for one in why] == [("question", "it asks: Publish?")]
        why = (await place.client.get(f"/runs/{listening}")).json()["why"]
        assert [(one["kind"], one["name"]) for one in why] == [("signal", "go")]


async def test_the_state_of_a_run_at_any_seq() -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        shown = (await place.client.get(f"/runs/{run_id}/state", params={"at": 1})).json()
        assert (shown["seq"], shown["status"], shown["state"]) == (1, "pending", {})
        assert (await place.client.get(f"/runs/{run_id}/state")).json()["status"] == "completed"
        for at in ("0", "1000", "9" * 30, "x"):
            assert (await place.client.get(f"/runs/{run_id}/state", params={"at": at})).status_code == 422


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_a_question_is_found_and_answered() -> None:
    async with served() as place:
        run_id = await place.start("ask")
        await place.reaches(run_id, "waiting")
        inbox = (await place.client.get("/questions")).json()
        own = (await place.client.get(f"/runs/{run_id}/questions")).json()
        assert inbox == own | {"damaged": [], "more": False}
        [question] = inbox["questions"]
        assert (question["text"], question["choices"], question["run_id"]) == ("Publish?", ["yes", "no"], run_id)
        path = f"/runs/{run_id}/questions/{question['wait_id']}/answer"
        assert told(await place.client.post(path, json={"value": "perhaps"})) == (422, "answer_refused")
        assert told(await place.client.post(path, json={})) == (422, "invalid_input")
        assert told(await place.client.post(f"/runs/{run_id}/questions/x/answer", json={"value": "no"}))[0] == 404
        key = {"idempotency-key": "a1"}
        answer = await place.client.post(path, json={"value": "no"}, headers=key)
        assert (answer.status_code, answer.json()["wait_id"]) == (202, question["wait_id"])
        await place.reaches(run_id, "completed")
        assert (await place.client.post(path, json={"value": "no"}, headers=key)).status_code == 202  # a resend
        assert told(await place.client.post(path, json={"value": "yes"})) == (409, "run_ended")
        assert (await place.client.get(f"/runs/{run_id}")).json()["output"] == "no"
        assert (await place.client.get("/questions")).json()["questions"] == []


async def test_the_only_question_of_a_run_needs_no_id() -> None:
    async with served() as place:
        run_id = await place.start("ask")
        await place.reaches(run_id, "waiting")
        assert (await place.client.post(f"/runs/{run_id}/answer", json={"value": "yes"})).status_code == 202
        await place.reaches(run_id, "completed")


async def test_a_signal_reaches_its_run_or_whoever_waits_for_it() -> None:
    async with served() as place:
        one, other = await place.start("listen"), None
        await place.reaches(one, "waiting")
        answer = await place.client.post("/signals", json={"name": "go", "payload": {"n": 1}})
        assert (answer.status_code, answer.json()["run_id"]) == (202, one)
        await place.reaches(one, "completed")
        assert told(await place.client.post("/signals", json={"name": "go"})) == (404, "wait_not_found")
        other = await place.start("listen")
        assert (await place.client.post(f"/runs/{other}/signal", json={"name": "go", "payload": 7})).status_code == 202
        await place.reaches(other, "completed")
        assert (await place.client.get(f"/runs/{other}")).json()["output"] == 7


async def test_a_run_is_paused_resumed_and_cancelled() -> None:
    async with served() as place:
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        assert (await place.client.post(f"/runs/{run_id}/pause")).status_code == 202
        await place.reaches(run_id, "paused")
        assert (await place.client.get(f"/runs/{run_id}")).json()["why"][0]["text"] == "it is paused"
        assert (await place.client.post(f"/runs/{run_id}/resume", json={})).status_code == 202
        assert told(await place.client.post(f"/runs/{run_id}/resume")) == (409, "wrong_state")
        answer = await place.client.post(f"/runs/{run_id}/cancel", json={"reason": "enough"})
        assert answer.status_code == 202
        await place.reaches(run_id, "cancelled")
        events = (await place.client.get(f"/runs/{run_id}/events")).json()["events"]
        asked = [one for one in events if one["kind"] == "run.cancel_requested"]
        assert [(one["payload"]["reason"], one["actor"]) for one in asked] == [("enough", "service:first")]


async def test_a_failed_run_says_why_and_is_tried_again() -> None:
    async with served() as place:
        run_id = await place.start("fails")
        await place.reaches(run_id, "failed")
        shown = (await place.client.get(f"/runs/{run_id}")).json()
        assert "it is broken" in shown["error"]["message"]
        assert shown["why"][0]["kind"] == "failed"
        assert (await place.client.post(f"/runs/{run_id}/retry", json={"reason": "mended"})).status_code == 202
        events = (await place.client.get(f"/runs/{run_id}/events")).json()["events"]
        assert "run.reopened" in [one["kind"] for one in events]
        assert told(await place.client.post(f"/runs/{run_id}/resolve", json={"resolution": "done"}))[0] in (404, 409)


# --- journals and artifacts -------------------------------------------------------------------------------------------


async def test_a_journal_that_was_changed_is_told_and_harms_no_other_run() -> None:
    store = MemoryStore()
    async with served(store) as place:
        good, bad = await place.start("add", a=1), await place.start("add", a=2)
        for run_id in (good, bad):
            await place.reaches(run_id, "completed")
            assert (await place.client.get(f"/runs/{run_id}/verify")).json()["ok"] is True
        event = store._runs[bad].events[1]
        store._runs[bad].events[1] = Event(*(b"{" if name == "payload" else getattr(event, name) for name in EVENT))
        assert told(await place.client.get(f"/runs/{bad}/verify")) == (500, "corrupt_record")
        shown = (await place.client.get(f"/runs/{bad}")).json()
        assert (shown["status"], shown["damage"]["code"]) == ("completed", "corrupt_record")
        assert (await place.client.get(f"/runs/{good}")).json()["damage"] is None
        assert len((await place.client.get("/runs")).json()["runs"]) == 2


EVENT = (
    "run_id", "seq", "kind", "time_ms", "node", "scope", "key", "actor", "epoch", "header", "salt", "payload",
)  # fmt: skip


async def test_an_artifact_is_given_as_an_attachment_whole_or_in_part() -> None:
    async with served() as place:
        run_id = await place.start("keep", text="durable")
        await place.reaches(run_id, "completed")
        [one] = (await place.client.get(f"/runs/{run_id}/artifacts")).json()["artifacts"]
        name = sha256(b"durable").hexdigest()
        assert (one["artifact_id"], one["size"], one["media_type"], one["name"]) == (name, 7, "text/plain", "note.txt")
        path = f"/runs/{run_id}/artifacts/{name}"
        whole = await place.client.get(path)
        assert (whole.status_code, whole.content) == (200, b"durable")
        assert whole.headers["content-disposition"] == f'attachment; filename="{name}"'
        for asked, status, content, told_range in [
            ("bytes=0-3", 206, b"dura", "bytes 0-3/7"),
            ("bytes=4-", 206, b"ble", "bytes 4-6/7"),
            ("bytes=-2", 206, b"le", "bytes 5-6/7"),
            ("bytes=5-100", 206, b"le", "bytes 5-6/7"),
            ("bytes=7-", 416, b"", "bytes */7"),
            ("bytes=-0", 416, b"", "bytes */7"),
            ("bytes=3-2", 416, b"", "bytes */7"),
            ("lines=1-2", 200, b"durable", None),
        ]:
            part = await place.client.get(path, headers={"range": asked})
            assert (part.status_code, part.content, part.headers.get("content-range")) == (status, content, told_range)


async def test_an_artifact_is_not_given_by_another_run() -> None:
    async with served() as place:
        one, other = await place.start("keep", text="mine"), await place.start("keep", text="yours")
        for run_id in (one, other):
            await place.reaches(run_id, "completed")
        name = sha256(b"mine").hexdigest()
        assert told(await place.client.get(f"/runs/{other}/artifacts/{name}")) == (404, "artifact_not_found")


# --- operations -------------------------------------------------------------------------------------------------------


async def test_workflows_tell_the_schema_of_their_input() -> None:
    async with served() as place:
        found = (await place.client.get("/workflows")).json()["workflows"]
        add = next(one for one in found if one["name"] == "add")
        assert (add["description"], add["input"]["required"]) == ("Adds two numbers.", ["a"])
        assert (await place.client.get("/workflows/add")).json()["nodes"]
        assert told(await place.client.get("/workflows/ad")) == (404, "unknown_workflow")


async def test_workers_and_metrics_tell_what_this_service_does() -> None:
    async with served() as place:
        run_id = await place.start("add", a=1)
        await place.reaches(run_id, "completed")
        [worker] = (await place.client.get("/workers")).json()["workers"]
        assert (worker["worker_id"], worker["alive"]) == (place.runtime.worker_id, True)
        answer = await place.client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'perdure_runs{status="completed"} 1' in answer.text.splitlines()
        assert "perdure_workers_alive 1" in answer.text.splitlines()


async def test_a_service_whose_store_is_gone_lives_and_is_not_ready() -> None:
    async with served() as place:
        assert (await place.plain.get("/readyz")).json() == {"status": "ready"}
        await place.runtime.store.close()
        assert (await place.plain.get("/healthz")).status_code == 200
        answer = await place.plain.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        await place.runtime.store.open()


async def test_openapi_names_every_route_with_an_id_of_its_own() -> None:
    async with served() as place:
        document = (await place.client.get("/openapi.json")).json()
        ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
        assert len(ids) == len(set(ids))
        assert {"/runs", "/runs/{run_id}/events", "/healthz"} <= set(document["paths"])
        assert "value" in document["components"]["schemas"]["AnswerBody"]["required"]


async def test_a_method_that_a_route_lacks_is_refused() -> None:
    async with served() as place:
        answer = await place.client.request("DELETE", "/runs", headers=JSON)
        assert (answer.status_code, answer.json()) == (405, {"error": "method not allowed"})


async def test_a_journal_that_names_a_missing_artifact_is_not_what_was_written() -> None:
    store = MemoryStore()
    async with served(store) as place:
        run_id = await place.start("keep", text="durable")
        await place.reaches(run_id, "completed")
        assert (await place.client.get(f"/runs/{run_id}/verify")).json()["artifacts"] == 1
        store._artifacts.clear()
        assert told(await place.client.get(f"/runs/{run_id}/verify")) == (500, "corrupt_record")
