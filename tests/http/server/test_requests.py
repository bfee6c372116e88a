"""What holds for every request: methods, unknown paths, bodies that mean one thing, the order of the checks."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.http.server.served import JSON, Served, served
from tests.http.server.test_security import routes_of

STREAM = {"accept": "text/event-stream"}


# --- methods ----------------------------------------------------------------------------------------------------------


async def test_every_route_tells_which_methods_its_path_has() -> None:
    async with served() as place:
        by_path: dict[str, set[str]] = {}
        for method, path in routes_of(place.service.app):
            by_path.setdefault(path, set()).add(method)
        assert len(by_path) > 25
        for path, methods in by_path.items():
            if "GET" in methods:
                methods.add("HEAD")
            answer = await place.client.request("PROPFIND", path)
            assert (answer.status_code, answer.json()) == (405, {"error": "method not allowed"}), path
            assert set(answer.headers["allow"].split(", ")) == methods, path


async def test_head_answers_like_get_without_the_body() -> None:
    async with served() as place:
        run_id = await place.start("keep", text="durable")
        await place.reaches(run_id, "completed")
        [artifact] = (await place.client.get(f"/runs/{run_id}/artifacts")).json()["artifacts"]
        paths = ["/runs", f"/runs/{run_id}", f"/runs/{run_id}/artifacts/{artifact['artifact_id']}", "/version"]
        for path in [*paths, "/runs/nothing", "/nothing", "/runs?limit=0"]:
            got, head = await place.client.get(path), await place.client.head(path)
            assert (head.status_code, head.content) == (got.status_code, b""), path
            assert head.headers["content-length"] == got.headers["content-length"], path
            assert head.headers["content-type"] == got.headers["content-type"], path
        part = await place.client.head(paths[2], headers={"range": "bytes=0-2"})
        assert (part.status_code, part.headers["content-range"], part.content) == (206, "bytes 0-2/7", b"")
        assert (await place.plain.head("/runs")).status_code == 401


async def test_head_of_a_stream_does_not_begin_it() -> None:
    async with served() as place:
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        for path in (f"/runs/{run_id}/events", "/events"):
            async with asyncio.timeout(10):
                answer = await place.client.head(path, headers=STREAM)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["content-type"].startswith("text/event-stream")
        assert place.service.app.state.tails.readers == place.service.app.state.feed.readers == 0
        assert (await place.client.get("/version")).status_code == 200  # the connection is still of use


async def test_head_changes_nothing() -> None:
    async with served() as place:
        answer = await place.client.head("/pipelines/nothing/cancel")
        assert answer.status_code == 405


async def test_what_is_not_there_is_not_found_whatever_is_asked() -> None:
    async with served() as place:
        for path in ("/nothing", "/runs/", "/runs/r/nothing", "/pipelines/p/nothing", "/Runs"):
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                for content, headers in ((b"", {}), (b"{", JSON), (b"x", {"content-type": "text/plain"})):
                    answer = await place.client.request(method, path, content=content, headers=headers)
                    about = f"{method} {path} {content!r}"
                    assert answer.status_code == 404, about
                    assert method == "HEAD" or answer.json() == {"error": "not found"}, about


# --- bodies -----------------------------------------------------------------------------------------------------------

TWICE = b'{"workflow": "add", "input": {"a": 1, "a": 2}}'


async def test_a_key_that_stands_twice_is_named_and_refused() -> None:
    async with served() as place:
        answer = await place.client.post("/runs", content=TWICE, headers=JSON)
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "invalid json body",
            "reason": "the key 'a' stands twice in one object",
        }
        run_id = await place.start("listen")
        await place.reaches(run_id, "waiting")
        for path, body in [
            (f"/runs/{run_id}/signal", b'{"name": "go", "name": "other"}'),
            (f"/runs/{run_id}/cancel", b'{"reason": "a", "reason": "b"}'),
            ("/signals", b'{"name": "go", "payload": {"x": 1, "x": 2}}'),
            ("/pipelines", b'{"dot": "digraph {}", "dot": "digraph {}"}'),
            ("/webhooks", b'{"url": "https://a.example", "url": "https://b.example"}'),
        ]:
            answer = await place.client.post(path, content=body, headers=JSON)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid json body"), path
        assert await place.runtime.run(run_id).status() == "waiting"


async def test_numbers_that_are_none_are_no_json() -> None:
    async with served() as place:
        body = b'{"workflow": "add", "input": {"a": NaN}}'
        answer = await place.client.post("/runs", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["reason"]) == (400, "NaN is no number")


async def test_a_refusal_by_types_has_the_form_of_every_error() -> None:
    async with served() as place:
        told = (await place.client.post("/runs", json={"workflow": 5})).json()
        assert (told["code"], told["field"], told["ids"]) == ("invalid_input", "workflow", {"field": "workflow"})
        assert set(told) == {"error", "code", "category", "retryable", "hint", "ids", "field", "problems"}


# --- the order of the checks of /pipelines ----------------------------------------------------------------------------

UNKNOWN = (404, {"error": "pipeline not found"})
DEEP = b'{"answer": ' + b"[" * 100 + b"]" * 100 + b"}"
POSTS = ("/cancel", "/resume", "/questions/q/answer")


async def test_an_unknown_pipeline_is_told_before_the_body_is_looked_at() -> None:
    async with served() as place:
        for rest in POSTS:
            for content, headers in (
                (b"", {}),
                (b"{", JSON),
                (b"x", {"content-type": "text/plain"}),
                (b"x", {}),
                (DEEP, JSON),
                (b'{"answer": 1, "answer": 2}', JSON),
            ):
                answer = await place.client.post(f"/pipelines/nothing{rest}", content=content, headers=headers)
                assert (answer.status_code, answer.json()) == UNKNOWN, f"{rest} {content!r}"


async def test_a_body_that_is_too_large_is_told_before_all_else() -> None:
    async with served() as place:
        body = b'{"answer": "' + b"x" * 1_000_000 + b'"}'
        answer = await place.client.post("/pipelines/nothing/questions/q/answer", content=body, headers=JSON)
        assert (answer.status_code, answer.json()) == (413, {"error": "request body too large", "max_bytes": 1_000_000})


GATE = """
digraph g {
    start [shape=Mdiamond]; ask [shape=hexagon, label="Go?"]; exit [shape=Msquare]
    start -> ask
    ask -> exit [label="Yes"]
}
"""


async def waiting_pipeline(place: Served) -> str:
    answer = await place.client.post("/pipelines", json={"dot": GATE})
    assert answer.status_code == 202, answer.text
    pipeline_id = str(answer.json()["pipeline_id"])
    await place.reaches(pipeline_id, "waiting")
    return pipeline_id


async def test_a_body_that_is_not_as_it_should_be_changes_no_known_pipeline() -> None:
    async with served() as place:
        pipeline_id = await waiting_pipeline(place)
        for content, headers, status in (
            (b"x", {"content-type": "text/plain"}, 415),
            (b"{}", {"content-type": "text/plain"}, 415),
            (DEEP, JSON, 400),
        ):
            for rest in POSTS:
                answer = await place.client.post(f"/pipelines/{pipeline_id}{rest}", content=content, headers=headers)
                assert answer.status_code == status, f"{rest} {content!r}"
        assert (await place.client.get(f"/pipelines/{pipeline_id}")).json()["status"] == "running"
        assert len((await place.client.get(f"/pipelines/{pipeline_id}/questions")).json()["questions"]) == 1


# --- lists by time and id ---------------------------------------------------------------------------------------------


async def test_runs_are_found_by_instants_and_by_what_their_ids_begin_with() -> None:
    async with served() as place:
        for name in ("red-1", "red-2", "blue-1"):
            body = {"workflow": "add", "input": {"a": 1}, "id": name}
            assert (await place.client.post("/runs", json=body)).status_code == 201

        async def found(**query: Any) -> set[str]:
            answer = await place.client.get("/runs", params=query)
            assert answer.status_code == 200, answer.text
            return {row["run_id"] for row in answer.json()["runs"]}

        assert await found(id_prefix="red") == {"red-1", "red-2"}
        assert await found(id_prefix="green") == set()
        everything = await found()
        assert await found(created_after="2020-01-01T00:00:00Z", created_before="9999-01-01") == everything
        assert await found(created_after="9999-01-01") == await found(created_before="2020-01-01") == set()
        created_ms = (await place.client.get("/runs/red-1")).json()["created_ms"]
        assert "red-1" in await found(created_after=created_ms)
        assert "red-1" not in await found(created_before=created_ms)
        assert "red-1" not in await found(created_after="2020-01-01", created_after_ms=created_ms + 1)
        assert "red-1" not in await found(created_before="9999-01-01", created_before_ms=created_ms)
        for query in ("created_after=soon", "id_prefix=" + "x" * 200):
            assert (await place.client.get(f"/runs?{query}")).status_code == 422, query
