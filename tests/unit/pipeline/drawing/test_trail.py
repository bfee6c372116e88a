"""What a run did, in the picture of its workflow: from real runs, and from journals made by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from time import perf_counter
from typing import Any

import pytest

from perdure import Done, Flow, Next, Plan, Run, RunHandle
from perdure.core.errors import RunFailed
from perdure.core.events import Event
from perdure.journal.fold import fold_all
from perdure.journal.state import NodeResult
from perdure.pipeline.drawing.picture import Picture, PictureEdge, PictureNode, of_graph
from perdure.pipeline.drawing.trail import UNDEFINED, with_run
from tests.unit.engine.staging import journal, memory, quick, running, seen

pytestmark = pytest.mark.time_limit(20)


async def pictured(definition: Flow | Plan, handle: RunHandle[Any]) -> Picture:
    events = await journal(handle)
    return with_run(of_graph(definition.compile().describe()), events, fold_all(handle.id, events))


def statuses(picture: Picture) -> dict[str, tuple[str, int]]:
    return {node.id: (node.status, node.visits) for node in picture.nodes}


def counts(picture: Picture) -> dict[tuple[str, str], int]:
    return {(edge.start, edge.end): edge.count for edge in picture.edges}


# --- real runs --------------------------------------------------------------------------------------------------------


def asking_flow() -> Flow:
    flow = Flow("asking")

    @flow.node(to=["write", "ask", "never"])
    async def write(run: Run) -> Any:
        count = run.state.get("count", 0) + 1
        run.state["count"] = count
        return Next("write") if count < 3 else Next("ask")

    @flow.node(to=["write"])
    async def ask(run: Run) -> Any:
        answer = await run.ask("Publish <this>?", choices=["yes", "no"])
        return Done(answer)

    @flow.node(to=["write"])
    async def never(run: Run) -> Any:
        return Next("write")

    return flow


async def test_a_walk_shows_visits_counts_and_what_it_waits_for() -> None:
    flow = asking_flow()
    async with running(memory(), flow, limits=quick()) as runtime:
        handle = await runtime.start(flow)
        await seen(handle, "wait.opened")
        picture = await pictured(flow, handle)
        assert statuses(picture) == {"write": ("done", 3), "ask": ("waiting", 1), "never": ("none", 0)}
        assert counts(picture) == {
            ("write", "write"): 2,
            ("write", "ask"): 1,
            ("write", "never"): 0,
            ("ask", "write"): 0,
            ("never", "write"): 0,
        }
        assert picture.nodes[1].detail == "asks: Publish <this>?"
        assert handle.id in picture.note
        await handle.answer("yes")
        assert await handle.result() == "yes"
        done = await pictured(flow, handle)
        assert statuses(done)["ask"] == ("done", 1)
        assert done.nodes[1].detail == ""
        assert done.note.endswith("completed")


async def test_a_plan_counts_the_edges_between_states_that_ran() -> None:
    plan = Plan("release", mode="fan_out")
    plan.state("a.b.base", kind="pure")(lambda: 1)
    plan.state("a.b.left", kind="pure", after=["a.b.base"])(lambda: 2)
    plan.state("a.b.right", kind="pure", after=["a.b.base"], tags=["slow"])(lambda: 3)
    plan.state("a.b.last", kind="pure", after=["a.b.left", "a.b.right"])(lambda: 1 // 0)
    async with running(memory(), plan, limits=quick()) as runtime:
        handle = await runtime.start(plan, skip_tags=["slow"])
        with pytest.raises(RunFailed):
            await handle.result()
        picture = await pictured(plan, handle)
    assert statuses(picture) == {
        "a.b.base": ("done", 1),
        "a.b.left": ("done", 1),
        "a.b.right": ("skipped", 0),
        "a.b.last": ("failed", 1),
    }
    assert counts(picture) == {
        ("a.b.base", "a.b.left"): 1,
        ("a.b.base", "a.b.right"): 0,
        ("a.b.left", "a.b.last"): 1,
        ("a.b.right", "a.b.last"): 0,
    }
    assert "division" in picture.nodes[3].detail


# --- journals made by hand --------------------------------------------------------------------------------------------


class Journal:
    """Events of one run."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.add("run.started", workflow="w", version="1", fingerprint="f", input={})

    def add(self, kind: str, node: str | None = None, **payload: Any) -> Journal:
        seq = len(self.events) + 1
        scope = f"0/{node}" if node else None
        data = json.dumps(payload).encode()
        self.events.append(Event("r", seq, kind, seq, node, scope, "k", "worker:w", 1, b"", b"", data))
        return self

    def visit(self, node: str, *following: str, **payload: Any) -> Journal:
        self.add("node.entered", node, attempt=1)
        return self.add("node.completed", node, **({"next": following} if following else {}), **payload)

    def on(self, picture: Picture, **options: Any) -> Picture:
        return with_run(picture, self.events, fold_all("r", self.events), **options)


def chain(*names: str) -> Picture:
    edges = [PictureEdge(start, end) for start, end in pairwise(names)]
    return Picture("w", [PictureNode(name, name) for name in names], edges)


def test_another_attempt_is_not_another_visit() -> None:
    run = Journal().add("node.entered", "a#1", attempt=1).add("node.interrupted", "a#1", attempt=1, counted=True)
    assert run.on(chain("a")).nodes[0].detail == "interrupted"
    picture = run.add("node.entered", "a#1", attempt=2).on(chain("a"))
    assert (picture.nodes[0].status, picture.nodes[0].visits, picture.nodes[0].detail) == ("running", 1, "")


def test_visits_and_ways_go_on_over_continue_as() -> None:
    run = Journal().visit("a#1", "b").add("node.entered", "b#1", attempt=1)
    state = {"generation": 1, "input": {}, "state": {}, "signals": [], "children": [], "waits": [], "manifest": {}}
    run.add("run.continued", **state).visit("a#1", "b")
    picture = run.on(Picture("w", chain("a", "b").nodes, [PictureEdge("a", "b"), PictureEdge("b", "a")]))
    assert statuses(picture) == {"a": ("done", 2), "b": ("done", 1)}
    assert counts(picture) == {("a", "b"): 2, ("b", "a"): 1}


def test_a_node_that_ended_the_run_with_an_error_has_failed() -> None:
    run = Journal().visit("a#1", end={"error": {"code": "c", "message": "no way"}})
    node = run.on(chain("a")).nodes[0]
    assert (node.status, node.detail) == ("failed", "no way")


def test_the_caller_may_say_that_a_completed_node_failed() -> None:
    run = Journal().visit("a#1", "b", output={"status": "fail"}).visit("b#1", output={"status": "success"})

    def has_failed(result: NodeResult) -> bool:
        return bool(result.output["status"] == "fail")

    assert [node.status for node in run.on(chain("a", "b"), has_failed=has_failed).nodes] == ["failed", "done"]
    assert [node.status for node in run.on(chain("a", "b")).nodes] == ["done", "done"]


def test_what_the_definition_does_not_have_is_added() -> None:
    run = Journal().visit("a#1", "old").visit("old#1", "b").visit("b#1", "nowhere")
    picture = run.on(chain("a", "b"))
    assert statuses(picture) == {"a": ("done", 1), "b": ("done", 1), "old": ("done", 1)}
    assert picture.nodes[2].detail == UNDEFINED
    assert counts(picture) == {("a", "b"): 0, ("a", "old"): 1, ("old", "b"): 1}


def test_of_several_edges_to_one_node_the_first_is_counted() -> None:
    edges = [PictureEdge("a", "b", "yes"), PictureEdge("a", "b", "no")]
    picture = Journal().visit("a#1", "b").on(Picture("w", chain("a", "b").nodes, edges))
    assert [edge.count for edge in picture.edges] == [1, 0]


@pytest.mark.parametrize(
    ("wait", "told"),
    [
        ({"wait": "question", "question": {"text": "Go?"}}, "asks: Go?"),
        ({"wait": "signal", "name": "paid", "match": "7"}, "waits for signal paid (7)"),
        ({"wait": "child", "child": "c1"}, "waits for run c1"),
        ({"wait": "timer", "deadline_ms": 0}, "waits until 1970-01-01 00:00:00 UTC"),
        ({"wait": "timer", "deadline_ms": 10**18}, "waits until a day that no calendar has"),
    ],
)
def test_a_waiting_node_tells_what_for(wait: dict[str, Any], told: str) -> None:
    run = Journal().add("node.entered", "a#1", attempt=1)
    run.add("wait.opened", "a#1", wait_id="w1", fingerprint="f", **wait)
    node = run.on(chain("a")).nodes[0]
    assert (node.status, node.detail) == ("waiting", told)
    second = run.add("wait.opened", "a#1", wait_id="w2", fingerprint="f", **wait).on(chain("a")).nodes[0]
    assert second.detail == f"{told} (and 1 more)"


def test_a_node_that_was_stopped_with_the_run_does_not_run() -> None:
    run = Journal().add("node.entered", "a#1", attempt=1).add("run.cancelled", reason="enough")
    node = run.on(chain("a")).nodes[0]
    assert (node.status, node.detail) == ("failed", "stopped with the run")


def test_the_cost_is_in_proportion_to_the_journal() -> None:
    """A node with 2,000 ways in is visited 20,000 times: looking at all of them each time would take minutes."""
    names = [f"n{place}" for place in range(2_000)]
    edges = [PictureEdge(name, "hub") for name in names] + [PictureEdge("hub", name) for name in names]
    picture = Picture("w", [PictureNode(name, name) for name in (*names, "hub")], edges)
    run = Journal()
    for visit in range(1, 20_001):
        name = names[visit % 2_000]
        run.visit(f"hub#{visit}", name).visit(f"{name}#{visit}", "hub")
    state = fold_all("r", run.events)
    before = perf_counter()
    drawn = with_run(picture, run.events, state)
    assert perf_counter() - before < 5
    assert sum(edge.count for edge in drawn.edges) == 40_000
