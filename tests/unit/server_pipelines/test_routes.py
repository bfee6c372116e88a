"""The routes of `/pipelines` to the letter: status codes and bodies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from perdure import workflow
from perdure.engine.run import Run
from perdure.server.pipelines import PipelineSettings
from perdure.server.pipelines.following import Followed
from tests.unit.server_pipelines.service import GATE, PLAIN, served

pytestmark = pytest.mark.time_limit(40)


@workflow
async def plain_function(run: Run) -> int:
    return 1


async def test_a_pipeline_is_started_shown_listed_and_told() -> None:
    async with served() as service:
        first = await service.start(PLAIN, opts={"pipeline_id": "first"}, context={"a.b": 1})
        told = await service.ended(first)
        assert (told["pipeline_id"], told["status"], told["error"]) == ("first", "success", None)
        assert (told["pending_questions"], told["logs_root"], told["has_checkpoint"]) == (0, "runs/first", True)
        assert told["event_count"] == len(await service.events(first))
        second = (await service.post("/run", {"dot_source": PLAIN})).json()["pipeline_id"]
        await service.ended(second)
        listed = (await service.get("/pipelines")).json()["pipelines"]
        assert [one["pipeline_id"] for one in listed] == [second, first]
        for query in ("pipeline_id", "id"):
            assert (await service.get(f"/status?{query}=first")).json() == told
        context = (await service.get("/pipelines/first/context")).json()["context"]
        assert (context["a"], context["outcome"]) == ({"b": 1}, "success")


async def test_what_cannot_be_started_is_refused_with_its_reason_and_leaves_no_run() -> None:
    async with served() as service:
        dot = {"dot": PLAIN}
        wanted: list[tuple[Any, int, dict[str, Any]]] = [
            ({}, 400, {"error": "pipeline dot source is required"}),
            ({"dot": "  "}, 400, {"error": "pipeline dot source is required"}),
            ({"dot": 5}, 422, {"field": "dot"}),
            ({**dot, "context": "text"}, 422, {"field": "context"}),
            ({**dot, "context": {"": 1}}, 422, {"field": "context"}),
            ({**dot, "context": {".submitted": 1}}, 422, {"field": "context"}),
            ({**dot, "context": {"a": 1, "a.b": 2}}, 422, {"field": "context"}),
            ({**dot, "opts": {"pipeline_id": 5}}, 422, {"field": "opts.pipeline_id"}),
            ({**dot, "opts": {"nope": 5}}, 422, {"field": "opts.nope"}),
        ]
        for body, status, members in wanted:
            response = await service.post("/pipelines", body)
            assert response.status_code == status, (body, response.text)
            assert members.items() <= response.json().items()
            assert isinstance(response.json()["error"], str)
        for text, rule in (("digraph {", "parse_error"), ("digraph P { a -> b }", "start_node")):
            response = await service.post("/pipelines", {"dot": text})
            assert response.status_code == 422
            assert rule in [one["rule"] for one in response.json()["diagnostics"]]
        assert (await service.get("/pipelines")).json() == {"pipelines": []}
        await service.ended(await service.start(PLAIN))


async def test_a_body_that_is_no_json_object_is_refused_before_it_is_read_as_one() -> None:
    async with served() as service:
        send = service.client.post
        headers = {"content-type": "application/json"}
        for body in (b"{", b"[]", b"5", b'{"a":1,"a":2}', b'"\\ud800"', b"[" * 5000, b"9" * 5000):
            response = await send("/pipelines", content=body, headers=headers)
            assert (response.status_code, response.json()) == (400, {"error": "invalid json body"})
        response = await send("/pipelines", content=b"{}", headers={"content-type": "text/plain"})
        assert response.status_code == 415
        response = await send("/pipelines", content=b" " * 1_000_001, headers=headers)
        told = {"error": "request body too large", "max_bytes": 1_000_000}
        assert (response.status_code, response.json()) == (413, told)


async def test_an_id_is_taken_once_also_for_the_same_text_and_at_the_same_time() -> None:
    async with served() as service:
        body = {"dot": PLAIN, "opts": {"pipeline_id": "mine"}}
        both = await asyncio.gather(*(service.post("/pipelines", body) for _ in range(5)))
        assert sorted(one.status_code for one in both) == [202, 409, 409, 409, 409]
        refused = await service.post("/pipelines", body)
        assert (refused.status_code, refused.json()) == (409, {"error": "pipeline id already exists"})


PLACES = [
    ("GET", ""),
    ("GET", "/events"),
    ("POST", "/cancel"),
    ("POST", "/resume"),
    ("GET", "/graph?format=nope"),
    ("GET", "/questions"),
    ("POST", "/questions/q/answer"),
    ("GET", "/checkpoint"),
    ("GET", "/context"),
    ("GET", "/artifacts"),
    ("GET", "/artifacts/x"),
]


async def test_an_unknown_id_is_not_found_on_every_route_before_the_body_is_looked_at() -> None:
    async with served() as service:
        handle = await service.runtime.start(plain_function, id="function")
        await handle.result()
        for name in ("nobody", "function", "%00", "%ff", "x" * 200):
            for method, place in PLACES:
                response = await service.client.request(method, f"/pipelines/{name}{place}", content=b"{")
                assert (response.status_code, response.json()) == (404, {"error": "pipeline not found"}), (name, place)
        assert (await service.get("/status?id=nobody")).status_code == 404
        assert (await service.post("/answer", {"id": "nobody", "qid": "q"})).json() == {"error": "pipeline not found"}
        assert (await service.get("/status")).json() == {"error": "pipeline_id is required"}
        assert (await service.get("/pipelines")).json() == {"pipelines": []}


async def test_events_are_given_behind_a_sequence_in_both_modes() -> None:
    async with served() as service:
        run = await service.start(PLAIN)
        await service.ended(run)
        all_of_them = await service.events(run)
        count = len(all_of_them)
        for text, after in (("3", 3), ("-1", 0), ("x", 0), ("1.5", 0), ("", 0), ("99999", count), ("9" * 5000, 0)):
            assert await service.events(run, after=text) == all_of_them[after:]
        seen = [record async for record in service.stream(run, **{"last-event-id": "4"})]
        assert seen == all_of_them[4:]
        response = await service.get(f"/pipelines/{run}/events?after=2", headers={"last-event-id": str(count - 1)})
        last = all_of_them[-1]
        assert response.text.startswith(f"id: {count}\nevent: {last['type']}\ndata: ")
        assert response.text.endswith("\n\n")


async def test_replay_goes_over_into_live_for_all_readers_alike() -> None:
    async with served() as service:
        run = await service.start(GATE)
        question = await service.question(run)

        async def read() -> list[dict[str, Any]]:
            return [record async for record in service.stream(run)]

        readers = [asyncio.ensure_future(read()) for _ in range(5)]
        await service.until(run, "InterviewStarted")
        await service.get(f"/pipelines/{run}")
        response = await service.post("/answer", {"id": run, "qid": question["id"], "answer": "Y"})
        assert response.status_code == 202
        for found in await asyncio.gather(*readers):
            assert found == await service.events(run)


async def test_a_reader_that_comes_as_the_last_one_leaves_misses_nothing() -> None:
    async with served() as service:
        run = await service.start(GATE)
        question = await service.question(run)
        followed = Followed(service.library)
        row = await followed.row(run)
        assert row is not None
        leaving = followed.follow(row, 0, 15)
        before = len(await anext(leaving))
        assert before > 0
        await leaving.aclose()
        coming = followed.follow(row, before, 15)
        news = asyncio.ensure_future(anext(coming))
        await service.post("/answer", {"id": run, "qid": question["id"], "answer": "N"})
        await followed.portrait(row)  # whoever reads the journal, readers hear of it
        assert (await news)[0]["sequence"] == before + 1
        await coming.aclose()


async def test_streams_end_when_the_service_closes() -> None:
    async with served() as service:
        run = await service.start(GATE)
        await service.question(run)
        followed = Followed(service.library)
        row = await followed.row(run)
        assert row is not None
        stream = followed.follow(row, 0, 15)
        await anext(stream)
        rest = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0)
        followed.close()
        assert await rest is None


async def test_a_quiet_stream_gets_comments() -> None:
    async with served(heartbeat_s=0.05) as service:
        run = await service.start(GATE)
        await service.question(run)
        async with service.client.stream("GET", f"/pipelines/{run}/events?after=1000") as response:
            lines: AsyncIterator[str] = response.aiter_lines()
            assert (await anext(lines)).startswith(":")


async def test_an_answer_is_accepted_once_and_a_wrong_one_leaves_the_question_open() -> None:
    async with served() as service:
        run = await service.start(GATE)
        question = await service.question(run)
        place = f"/pipelines/{run}/questions/{question['id']}/answer"
        assert (await service.post(f"/pipelines/{run}/questions/nope/answer", {"answer": "Y"})).status_code == 404
        for body in ({}, {"answer": None}, {"answer": "nope"}, {"value": ["Y", "N"]}):
            response = await service.post(place, body)
            assert response.status_code == 422, body
            assert response.json()["field"] == "answer"
        assert (await service.post("/answer", {"answer": "Y"})).json() == {
            "error": "pipeline_id and question_id are required"
        }
        assert (await service.get(f"/pipelines/{run}/questions")).json()["questions"] == [question]
        accepted = await service.post(place, {"answer": True})
        told = {"pipeline_id": run, "question_id": question["id"], "accepted": True}
        assert (accepted.status_code, accepted.json()) == (202, told)
        again = await service.post(place, {"answer": True})
        assert (again.status_code, again.json()) == (404, {"error": "question not found"})
        assert (await service.ended(run))["status"] == "success"
        context = (await service.get(f"/pipelines/{run}/context")).json()["context"]
        assert context["human"] == {"gate": {"selected": "Y", "label": "[Y] Yes"}, "answers": {"ask": "Y"}}


async def test_each_visit_of_a_gate_asks_a_question_with_an_id_of_its_own() -> None:
    async with served() as service:
        run = await service.start(GATE)
        first = await service.question(run)
        await service.post("/answer", {"id": run, "qid": first["id"], "answer": "again"})
        await service.until(run, "InterviewStarted", 2)
        (second,) = (await service.get(f"/pipelines/{run}/questions")).json()["questions"]
        assert second["id"] != first["id"]


async def test_a_cancel_is_answered_when_the_run_is_cancelled_and_its_command_is_gone(tmp_path: Path) -> None:
    told_pid = tmp_path / "pid"
    os.mkfifo(told_pid)
    dot = f"""digraph P {{ start [shape=Mdiamond]; done [shape=Msquare]; start -> t -> done
        t [shape=parallelogram, tool_command="echo $$ > {told_pid}; exec sleep 60"] }}"""
    async with served(settings=PipelineSettings(allow_commands=True)) as service:
        run = await service.start(dot)
        pid = (await asyncio.to_thread(told_pid.read_text)).strip()  # blocks until the command writes it
        for _ in range(2):
            response = await service.client.post(f"/pipelines/{run}/cancel")
            assert (response.status_code, response.json()) == (202, {"pipeline_id": run, "status": "cancelled"})
        assert not Path(f"/proc/{pid}/cmdline").exists()
        told = (await service.get(f"/pipelines/{run}")).json()
        assert (told["status"], told["error"]) == ("cancelled", "cancelled")
        last = (await service.events(run))[-1]
        assert (last["type"], last["status"], last["error"]) == ("PipelineFailed", "cancelled", "cancelled")


async def test_what_has_ended_is_not_cancelled() -> None:
    async with served() as service:
        good = await service.start(PLAIN)
        bad = await service.start(
            "digraph P { start [shape=Mdiamond]; t [shape=parallelogram, tool_command=ls]; "
            'done [shape=Msquare]; start -> t; t -> done [condition="outcome=success"] }'
        )
        for run, status in ((good, "success"), (bad, "fail")):
            assert (await service.ended(run))["status"] == status
            response = await service.post(f"/pipelines/{run}/cancel")
            told = {"error": "pipeline already finished", "status": status}
            assert (response.status_code, response.json()) == (409, told)


async def test_a_graph_is_given_in_five_formats_and_no_other() -> None:
    async with served() as service:
        run = await service.start(GATE)
        await service.question(run)
        begins = {
            "svg": ("image/svg+xml", "<svg"),
            "DOT": ("text/vnd.graphviz", GATE),
            "Mermaid": ("text/plain", "flowchart TD\n"),
            "text": ("text/plain", "Graph: Gate\nGoal: ship\nNodes:\n"),
        }
        for name, (media_type, text) in begins.items():
            response = await service.get(f"/pipelines/{run}/graph?format={name}")
            assert response.status_code == 200
            assert response.headers["content-type"].startswith(media_type)
            assert response.text.startswith(text)
        assert (await service.get(f"/pipelines/{run}/graph")).text.startswith("<svg")
        graph = (await service.get(f"/pipelines/{run}/graph?format=json")).json()["graph"]
        assert graph["nodes"]["ask"]["type"] == "wait.human"
        assert graph["nodes"]["ask"]["prompt"] == "Ship it?"
        edge = {"from": "ask", "to": "done", "condition": None, "status": None, "attrs": {"label": "[Y] Yes"}}
        assert edge in graph["edges"]
        refused = await service.get(f"/pipelines/{run}/graph?format=Png")
        told = {
            "error": "unsupported graph format",
            "format": "Png",
            "supported_formats": ["dot", "json", "mermaid", "svg", "text"],
        }
        assert (refused.status_code, refused.json()) == (400, told)


async def test_artifacts_are_listed_and_sent_as_attachments_by_their_hash() -> None:
    async with served() as service:
        run = await service.start(PLAIN)
        await service.ended(run)
        listed = (await service.get(f"/pipelines/{run}/artifacts")).json()["artifacts"]
        kinds = {one["path"]: one["kind"] for one in listed}
        assert kinds["pipeline.dot"] == "graphviz"
        assert (kinds["work/prompt.md"], kinds["work/visit-1/status.json"]) == ("text", "json")
        (source,) = [one for one in listed if one["path"] == "pipeline.dot"]
        response = await service.get(f"/pipelines/{run}/artifacts/{source['artifact_id']}")
        assert response.text == PLAIN
        assert len(response.content) == source["size"]
        assert response.headers["content-disposition"] == 'attachment; filename="pipeline.dot"'
        assert (await service.get(f"/pipelines/{run}/artifacts/{'0' * 64}")).status_code == 404


async def test_the_checkpoint_is_null_until_a_stage_completed_and_then_names_the_last_one() -> None:
    async with served(execute=False) as service:
        pending = await service.start(PLAIN)
        assert (await service.get(f"/pipelines/{pending}/checkpoint")).json() == {"checkpoint": None}
        assert (await service.get(f"/pipelines/{pending}")).json()["has_checkpoint"] is False
    async with served() as service:
        run = await service.start(GATE)
        question = await service.question(run)
        told = (await service.get(f"/pipelines/{run}/checkpoint")).json()["checkpoint"]
        assert (told["current_node"], told["next_node"], told["completed_nodes"]) == ("start", "ask", ["start"])
        await service.post("/answer", {"id": run, "qid": question["id"], "answer": "Y"})
        await service.ended(run)
        told = (await service.get(f"/pipelines/{run}/checkpoint")).json()["checkpoint"]
        assert told["completed_nodes"] == ["start", "ask", "done"]
        assert told["outcomes"] == {"start": "success", "ask": "success", "done": "success"}
        assert told["context"]["human"]["answers"] == {"ask": "Y"}


async def test_a_child_pipeline_is_a_file_below_the_operators_directory_or_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "child.dot").write_text(PLAIN)
    (tmp_path / "outside.dot").write_text(PLAIN)
    (inside / "link.dot").symlink_to(tmp_path / "outside.dot")
    dot = "digraph P { graph [%s] start [shape=Mdiamond]; c [shape=house]; done [shape=Msquare]; start -> c -> done }"
    async with served(settings=PipelineSettings(directory=inside)) as service:
        for attribute in (
            'stack.child_dotfile="../outside.dot"',
            'stack.child_dotfile="link.dot"',
            'stack.child_dotfile="/etc/passwd"',
            'stack.child_dotfile="missing.dot"',
            'stack.child_workdir="/tmp"',
        ):
            response = await service.post("/pipelines", {"dot": dot.replace("%s", attribute)})
            assert response.status_code == 422, attribute
            assert response.json()["field"] == attribute.partition("=")[0]
        run = await service.start(dot.replace("%s", 'stack.child_dotfile="child.dot", max_steps=50'))
        assert (await service.ended(run))["status"] == "success"
    async with served() as service:
        assert (
            await service.post("/pipelines", {"dot": dot.replace("%s", 'stack.child_dotfile="child.dot"')})
        ).status_code == 422


async def test_the_options_bound_the_run_and_commands_are_off_unless_they_are_allowed() -> None:
    loop = (
        "digraph P { start [shape=Mdiamond]; a [prompt=x]; b [prompt=y]; done [shape=Msquare]; start -> a -> b -> a; "
    )
    loop += 'b -> done [condition="context.never=1"] }'
    tool = "digraph P { start [shape=Mdiamond]; t [shape=parallelogram, tool_command=true]; done [shape=Msquare]; "
    tool += 'start -> t; t -> done [condition="outcome=success"] }'
    async with served() as service:
        run = await service.start(loop, opts={"max_steps": 5})
        told = await service.ended(run)
        assert told["status"] == "fail"
        assert "5 stages" in told["error"]
        assert (await service.ended(await service.start(tool)))["status"] == "fail"
