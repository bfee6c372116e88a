"""What is shown of a run: summary, checkpoint, graph, artifacts; and of a run that cannot be read."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from perdure.core.events import Event
from perdure.store.memory import MemoryStore
from tests.http.server.contract.pipelines import GATE, PLAIN, graph, pipelines

SUMMARY: dict[str, Any] = {
    "pipeline_id": str,
    "status": str,
    "event_count": int,
    "pending_questions": int,
    "logs_root": str,
    "inserted_at": str,
    "updated_at": str,
    "has_checkpoint": bool,
    "resume_ready": bool,
    "recovery": dict,
    "artifacts": list,
    "current_node": str,
    "error": (str, type(None)),
    "diagnostics": list,
    "waiting_for": list,
    "completed_with_failures": bool,
}
FAILS = graph("t [shape=parallelogram, tool_command=x]; start -> t -> done")


async def test_a_summary_has_these_members_whatever_became_of_the_run() -> None:
    async with pipelines() as place:
        ended = await place.start(PLAIN)
        waiting = await place.start(GATE)
        cancelled = await place.start(GATE)
        for run in (waiting, cancelled):
            await place.asked(run)
        await place.post(cancelled, "/cancel")
        await place.ended(ended)
        for run, status, error in (
            (ended, "success", None),
            (waiting, "running", None),
            (cancelled, "cancelled", "cancelled"),
        ):
            told = await place.get(run)
            assert set(told) == set(SUMMARY)
            assert [name for name, kind in SUMMARY.items() if not isinstance(told[name], kind)] == []
            assert (told["status"], told["error"], told["logs_root"]) == (status, error, f"runs/{run}")
            assert set(told["recovery"]) == {"state", "action", "refusal_reason", "known_limit"}
            assert told["event_count"] == len(await place.events(run))
            assert told["pending_questions"] == len(await place.questions(run))
            for one in told["artifacts"]:
                assert set(one) == {"artifact_id", "path", "kind", "size", "updated_at"}
        assert (await place.get(waiting))["waiting_for"][0]["kind"] == "question"


async def test_a_run_that_passed_over_a_failure_says_so_however_large_its_context_is() -> None:
    async with pipelines() as place:
        for kept in (10, 100_000):
            run = await place.start(FAILS, context={"kept": "x" * kept})
            told = await place.ended(run)
            assert (told["status"], told["completed_with_failures"]) == ("success", True)
            last = (await place.events(run))[-1]
            assert (last["type"], last["completed_with_failures"]) == ("PipelineCompleted", True)


async def test_the_newest_run_is_listed_first_and_a_method_of_no_route_changes_nothing() -> None:
    async with pipelines() as place:
        runs = [await place.start(PLAIN, opts={"pipeline_id": f"run.{number}"}) for number in range(5)]
        for run in runs:
            await place.ended(run)
        listed = (await place.client.get("/pipelines")).json()["pipelines"]
        assert [one["pipeline_id"] for one in listed] == runs[::-1]
        for method, path in (("GET", "/nope"), ("POST", "/pipelines/run.1/nope"), ("DELETE", "/pipelines/run.1/a/b/c")):
            answer = await place.client.request(method, path)
            assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


async def test_a_checkpoint_has_one_entry_a_visit_and_what_each_node_came_to() -> None:
    async with pipelines() as place:
        run = await place.start(GATE)
        for count, given in ((1, "N"), (2, "N")):
            question = await place.asked(run, count)
            await place.answer(run, question["id"], given)
        await place.asked(run, 3)
        told = await place.checkpoint(run)
        assert {"current_node", "completed_nodes", "context", "timestamp", "next_node", "outcomes"} <= set(told)
        assert (told["current_node"], told["next_node"]) == ("again", "ask")
        assert told["completed_nodes"] == ["start", "ask", "again", "ask", "again"]
        assert told["outcomes"] == {"start": "success", "ask": "success", "again": "success"}
        assert told["context"]["human"]["answers"] == {"ask": "N"}
        saved = [one for one in await place.events(run) if one["type"] == "CheckpointSaved"]
        assert [one["node_id"] for one in saved] == told["completed_nodes"]
        assert saved[-1]["timestamp"] == told["timestamp"]


async def test_a_context_is_shown_as_it_was_given() -> None:
    given = {
        "a": {"$price": 5, "wide": 1 << 60, "wider": 10**30, "in": [{"$int": "7"}, {"$x": {"$$y": None}}]},
        "$top": 1,
    }
    async with pipelines() as place:
        run = await place.start(PLAIN, context={**given, "b.c": 1, "large": [{"$k": "x" * 70_000}]})
        await place.ended(run)
        for told in (await place.context(run), (await place.checkpoint(run))["context"]):
            assert {name: told[name] for name in given} == given
            assert (told["b"], told["large"]) == ({"c": 1}, [{"$k": "x" * 70_000}])


async def test_a_failed_stage_is_the_last_checkpoint_of_the_run_that_it_ended() -> None:
    dot = graph('t [shape=parallelogram, tool_command=x]; start -> t; t -> done [condition="outcome=success"]')
    async with pipelines() as place:
        run = await place.start(dot)
        told = await place.ended(run)
        assert (told["status"], told["current_node"]) == ("fail", "t")
        checkpoint = await place.checkpoint(run)
        assert (checkpoint["current_node"], checkpoint["next_node"]) == ("t", None)
        assert checkpoint["outcomes"] == {"start": "success", "t": "fail"}
        assert checkpoint["context"]["outcome"] == "fail"


async def test_the_graph_as_json_tells_all_that_was_written() -> None:
    dot = """digraph Told { graph [goal="ship", max_steps=9] start [shape=Mdiamond]; done [shape=Msquare];
        work [prompt="Do $goal", goal_gate=true, retry_target=work, timeout=5m];
        start -> work; work -> done [label="[O] Ok", condition="outcome=success", weight=2] }"""
    async with pipelines() as place:
        told = (await place.get(await place.start(dot), "/graph", format="JSON"))["graph"]
        assert set(told) == {"id", "attrs", "nodes", "edges"}
        assert (told["id"], told["attrs"]) == ("Told", {"goal": "ship", "max_steps": 9})
        assert list(told["nodes"]) == ["start", "done", "work"]
        work = told["nodes"]["work"]
        assert set(work) == {"id", "type", "shape", "prompt", "goal_gate", "attrs"}
        assert (work["id"], work["type"], work["shape"], work["goal_gate"]) == ("work", "codergen", "box", True)
        assert (work["attrs"]["retry_target"], work["attrs"]["timeout"]) == ("work", "5m")
        label = {"label": "[O] Ok", "condition": "outcome=success", "weight": 2}
        assert told["edges"] == [
            {"from": "start", "to": "work", "condition": None, "status": None, "attrs": {}},
            {"from": "work", "to": "done", "condition": "outcome=success", "status": None, "attrs": label},
        ]


FILES = {"a.log": "log", "b.json": "json", "c.txt": "text", "d.dot": "graphviz", "e.bin": "file"}


async def test_files_of_a_stage_are_told_by_kind_and_the_newest_visit_by_its_short_path() -> None:
    text = "for n in " + " ".join(FILES) + '; do echo "$n $PERDURE_IDEMPOTENCY_KEY" > $PERDURE_STAGE_DIR/$n; done'
    quoted = text.replace('"', '\\"')
    dot = graph(f"""t [shape=parallelogram, tool_command="{quoted}"]; ask [shape=hexagon]; start -> t -> ask;
        ask -> t [label=Again]; ask -> done [label=End]""")
    async with pipelines(commands=True) as place:
        run = await place.start(dot)
        for count, given in ((1, "Again"), (2, "End")):
            question = await place.asked(run, count)
            await place.answer(run, question["id"], given)
        await place.ended(run)
        found = {one["path"]: one for one in (await place.get(run, "/artifacts"))["artifacts"]}
        assert (await place.get(run))["artifacts"] == list(found.values())
        for name, kind in FILES.items():
            newest, first, second = (found[f"t/{visit}{name}"] for visit in ("", "visit-1/", "visit-2/"))
            assert newest["kind"] == kind
            assert newest["artifact_id"] == second["artifact_id"] != first["artifact_id"]
            for one in (first, second):
                answer = await place.client.get(f"/pipelines/{run}/artifacts/{one['artifact_id']}")
                assert (answer.status_code, len(answer.content)) == (200, one["size"])
                assert sha256(answer.content).hexdigest() == one["artifact_id"]
                assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
                assert answer.headers["x-content-type-options"] == "nosniff"
        missing = await place.client.get(f"/pipelines/{run}/artifacts/{'0' * 64}")
        assert missing.status_code == 404


# --- what cannot be read ----------------------------------------------------------------------------------------------

PLACES = ("/events?stream=0", "/events", "/graph", "/questions", "/checkpoint", "/context", "/artifacts")


def damage(store: MemoryStore, run_id: str, seq: int) -> None:
    """Let a record hold what is no JSON."""
    event = store._runs[run_id].events[seq - 1]
    told = ("run_id", "seq", "kind", "time_ms", "node", "scope", "key", "actor", "epoch", "header", "salt")
    store._runs[run_id].events[seq - 1] = Event(*(getattr(event, name) for name in told), b"{")


async def test_a_run_that_cannot_be_read_is_listed_and_says_so_on_every_route() -> None:
    store = MemoryStore()
    async with pipelines(store) as place:
        good, bad = await place.start(PLAIN), await place.start(PLAIN)
        for run in (good, bad):
            await place.ended(run)
    damage(store, bad, 4)
    async with pipelines(store) as place:
        other = await place.start(PLAIN)
        assert (await place.ended(other))["status"] == "success"
        listed = (await place.client.get("/pipelines")).json()["pipelines"]
        assert [one["pipeline_id"] for one in listed] == [other, bad, good]
        assert set(listed[1]) >= set(SUMMARY)
        assert listed[1]["error"] is not None
        for rest in PLACES:
            answer = await place.client.get(f"/pipelines/{bad}{rest}")
            assert (answer.status_code, answer.json()["code"]) == (500, "corrupt_record"), rest
            assert (await place.client.get(f"/pipelines/{good}{rest}")).status_code == 200
        for command in ("/resume", "/cancel"):
            status, told = await place.post(bad, command)
            assert (status, told["code"]) == (500, "corrupt_record")
        assert (await place.client.get(f"/pipelines/{bad}/graph?format=dot")).text == PLAIN
