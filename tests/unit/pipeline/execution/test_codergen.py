"""Stages for a model: what is asked, what an answer stands for, what is kept, and threads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from perdure import Runtime
from perdure.model.request import ModelRequest
from perdure.pipeline.handlers import Handlers, handler
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.settings import graph_settings
from perdure.pipeline.stage import HandlerResult, Stage
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import StageClock, die, memory, opened, quick, seen
from tests.unit.pipeline.execution.stories import Ending, ended, ending, pipeline

pytestmark = pytest.mark.time_limit(20)


class Model:
    """A model that says what it is told to, and remembers what it was asked."""

    def __init__(self, answer: Callable[[str], Any] = lambda stage: f"done by {stage}") -> None:
        self._answer = answer
        self.asked: list[ModelRequest] = []

    async def __call__(self, request: ModelRequest) -> Any:
        self.asked.append(request)
        answer = self._answer(request.metadata["stage"])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stages(self) -> list[str]:
        return [request.metadata["stage"] for request in self.asked]

    def request_of(self, stage: str) -> ModelRequest:
        return next(request for request in self.asked if request.metadata["stage"] == stage)

    def told(self, stage: str) -> list[str]:
        """The texts of the messages that a stage sent."""
        return [message.content for message in self.request_of(stage).messages]


# --- asking -----------------------------------------------------------------------------------------------------------


@pytest.mark.clause("codergen-prompt")
async def test_the_prompt_with_the_goal_is_asked_or_else_the_label() -> None:
    model = Model()
    body = 'a [prompt="Plan: $goal"]; b [label="Do it"]; start -> a -> b -> c -> exit'
    await ended(body, graph='goal="ship";', model=model)
    assert [request.messages[-1].content for request in model.asked] == ["Plan: ship", "Do it", "c"]


@pytest.mark.clause("codergen-prompt", "stylesheet-applied")
async def test_the_request_names_model_provider_and_effort_of_the_stage() -> None:
    model = Model()
    sheet = 'model_stylesheet="* { llm_model: m; llm_provider: p } #b { reasoning_effort: low }";'
    await ended("a; b; c [llm_model=own]; start -> a -> b -> c -> exit", graph=sheet, model=model)
    asked = [(one.model, one.provider, one.effort) for one in model.asked]
    assert asked == [("m", "p", "high"), ("m", "p", "low"), ("own", "p", "high")]


@pytest.mark.clause("codergen-answer")
async def test_text_is_a_success_and_its_beginning_is_kept() -> None:
    end = await ended("start -> a -> exit", model=Model(lambda stage: "x" * 500))
    assert end.context["last_stage"] == "a"
    assert end.context["last_response"] == "x" * 200


@pytest.mark.clause("codergen-answer")
@pytest.mark.parametrize("form", [lambda told: json.dumps(told), lambda told: told, lambda told: Outcome(**told)])
async def test_an_answer_may_be_an_outcome(form: Callable[[dict[str, Any]], Any]) -> None:
    told = {"status": "partial_success", "preferred_label": "Left", "context_updates": {"plan.steps": 3}}
    body = 'start -> a; a -> b [label="Left"]; a -> c [weight=3]; b -> exit; c -> exit'
    end = await ended(body, model=Model(lambda stage: form(told) if stage == "a" else "ok"))
    assert end.path == ["start", "a", "b", "exit"]
    assert end.context["plan"] == {"steps": 3}


@pytest.mark.clause("codergen-answer")
@pytest.mark.parametrize(
    "text", ['{"colour": "red"}', '{"outcome": "great"}', "{not json", '["success"]', '{"outcome": {}}']
)
async def test_text_that_only_looks_like_an_outcome_is_text(text: str) -> None:
    end = await ended("start -> a -> exit", model=Model(lambda stage: text))
    assert end.output is not None
    assert end.output["completed_with_failures"] is False
    assert end.context["last_response"] == text


@pytest.mark.clause("codergen-artifacts", "artifact-paths")
async def test_prompt_response_and_status_are_kept_for_each_visit() -> None:
    answers = iter(['{"outcome": "fail", "failure_reason": "not yet"}', "fine"])
    made = pipeline(
        'start -> a; a -> a [condition="outcome=fail"]; a -> exit', model=Model(lambda stage: next(answers))
    )
    async with witnessed(memory(), made) as runtime:
        end = await ending(await runtime.start(made))
        status = await runtime.store.get_artifact(end.files()["a/visit-1/status.json"])
    expected = {f"a/visit-{visit}/{name}" for visit in (1, 2) for name in ("prompt.md", "response.md", "status.json")}
    assert expected <= set(end.files())
    assert status is not None
    data = json.loads(status if isinstance(status, bytes) else status.data)
    assert data["outcome"] == data["status"] == "fail"


@pytest.mark.clause("codergen-simulated")
async def test_without_a_backend_answers_are_simulated_and_the_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PERDURE_MODEL_URL", "PERDURE_MODEL", "PERDURE_MODEL_KEY"):
        monkeypatch.delenv(name, raising=False)
    end = await ended("start -> a -> exit")
    assert end.context["last_response"] == "[Simulated] Response for stage: a"
    assert end.output is not None
    assert end.output["simulated"] is True
    real = await ended("start -> a -> exit", model=Model())
    assert real.output is not None
    assert "simulated" not in real.output


@pytest.mark.clause("codergen-timeout")
async def test_a_stage_may_bound_how_long_its_model_takes() -> None:
    model = Model()
    await ended("a [timeout=90s]; start -> a -> b -> exit", model=model)
    assert model.request_of("a").timeout_s == 90
    assert model.request_of("b").timeout_s is None


@pytest.mark.clause("codergen-restart", "ruling-running-at-crash")
async def test_a_model_that_answered_is_not_asked_again_after_a_restart() -> None:
    body = "p [shape=hexagon]; start -> a -> p -> b -> exit"
    store, model = memory(), Model()
    first = await opened(store, made := pipeline(body, model=model))
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    await die(first)
    async with witnessed(store, pipeline(body, model=model)) as second:
        handle = second.run(handle.id)
        await handle.answer("b")
        assert (await ending(handle)).output is not None
    assert model.stages() == ["a", "b"]


# --- how much is told -------------------------------------------------------------------------------------------------


@pytest.mark.clause("fidelity-values")
@pytest.mark.parametrize(
    ("fidelity", "most"),
    [("truncate", 200), ("compact", 1200), ("summary:low", 2400), ("summary:medium", 6000), ("summary:high", 12000)],
)
async def test_each_fidelity_tells_the_goal_first_and_so_much_at_most(fidelity: str, most: int) -> None:
    model = Model(lambda stage: "word " * 40)
    stages = " -> ".join(f"s{number}" for number in range(60))
    given = {f"name{number}": "value " * 20 for number in range(80)}
    body = f'z [fidelity="{fidelity}"]; start -> {stages} -> z -> exit'
    await ended(body, graph='goal="ship it";', given=given, model=model)
    before, prompt = model.told("z")
    assert prompt == "z"
    assert before.startswith("Goal: ship it")
    assert len(before) <= most
    if fidelity != "truncate":
        assert len(before) > most / 2


@pytest.mark.clause("fidelity-order", "ruling-thread-fidelity")
@pytest.mark.parametrize(
    ("graph", "node", "edge", "messages"),
    [
        ("", "", "", 2),
        ("default_fidelity=full;", "", "", 3),
        ("default_fidelity=full;", "fidelity=compact", "", 2),
        ("default_fidelity=compact;", "fidelity=full", "", 3),
        ("", "fidelity=compact", "fidelity=full", 3),
        ("", "fidelity=full", "fidelity=compact", 2),
    ],
)
async def test_the_edge_comes_before_the_node_and_the_node_before_the_graph(
    graph: str, node: str, edge: str, messages: int
) -> None:
    model = Model()
    body = (
        f"b [label=B{', ' if node else ''}{node}]; start -> a; a -> b [label=on{', ' if edge else ''}{edge}]; b -> exit"
    )
    await ended(body, graph=f"thread_id=one; goal=x; {graph}", model=model)
    assert len(model.told("b")) == messages


@pytest.mark.clause("thread-order", "ruling-thread-fidelity")
@pytest.mark.parametrize(
    ("body", "graph", "told"),
    [
        ("start -> a -> b -> c -> exit; a [thread_id=t]; c [thread_id=t]", "", ["a", "done by a", "c"]),
        ("start -> a -> b; b -> c [thread_id=t]; c -> exit; a [thread_id=t]; c [thread_id=u]; b [thread_id=u]", "",
         ["a", "done by a", "c"]),
        ("start -> a -> b -> c -> exit", "thread_id=t;", ["a", "done by a", "b", "done by b", "c"]),
        ("subgraph x { label=Group; a; c } start -> a -> b -> c -> exit", "", ["a", "done by a", "c"]),
        ("start -> a -> b -> c -> exit", "", ["c"]),
    ],
)  # fmt: skip
async def test_the_thread_is_that_of_edge_node_graph_or_subgraph(body: str, graph: str, told: list[str]) -> None:
    model = Model()
    await ended(body, graph=f"default_fidelity=full; {graph}", model=model)
    assert model.told("c") == told


@pytest.mark.clause("thread-order")
async def test_without_any_name_the_previous_node_names_the_thread() -> None:
    model = Model()
    body = 'start -> a -> b; b -> a [condition="context.last_stage=b && again=yes"]; b -> exit'
    again = iter(
        [
            '{"outcome": "success", "context_updates": {"again": "yes"}}',
            '{"outcome": "success", "context_updates": {"again": "no"}}',
        ]
    )
    model = Model(lambda stage: "said" if stage == "a" else next(again))
    await ended(body, graph="default_fidelity=full;", model=model)
    last = model.asked[-1]
    assert last.metadata["stage"] == "b"
    assert last.messages[0].content == "b"
    assert len(last.messages) == 3


@pytest.mark.clause("thread-restart")
async def test_after_a_restart_a_thread_is_as_whole_as_before() -> None:
    body = "p [shape=hexagon]; start -> a -> b -> p -> c -> exit"
    store, model = memory(), Model()
    graph = "default_fidelity=full; thread_id=t;"
    first = await opened(store, made := pipeline(body, graph=graph, model=model))
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    await die(first)
    later = Model()
    async with witnessed(store, pipeline(body, graph=graph, model=later)) as second:
        handle = second.run(handle.id)
        await handle.answer("c")
        assert (await ending(handle)).output is not None
    assert later.told("c") == ["a", "done by a", "b", "done by b", "c"]


# --- restarted loops --------------------------------------------------------------------------------------------------


@pytest.mark.clause("loop-restart")
async def test_an_edge_that_restarts_begins_at_its_target_with_a_fresh_context() -> None:
    told = iter([{"outcome": "fail", "failure_reason": "x", "context_updates": {"left": 1}}, {"outcome": "success"}])
    body = """start -> a -> b; b -> a [condition="outcome=fail", loop_restart=true];
              b -> exit [condition="outcome=success"]"""
    model = Model(lambda stage: "a" if stage == "a" else next(told))
    end = await ended(body, graph='goal="ship";', given={"user": "ada"}, model=model)
    assert end.path == ["start", "a", "b", "a", "b", "exit"]
    assert "run.continued" in [event.kind for event in end.events]
    assert "left" not in end.context
    assert "user" not in end.context
    assert end.context["graph"]["goal"] == "ship"


@pytest.mark.clause("loop-restart", "bounds-steps")
async def test_a_loop_that_restarts_is_bounded_by_stages_all_the_same() -> None:
    body = "start -> a; a -> a [loop_restart=true, weight=1]; a -> exit"
    end = await ended(body, graph="max_steps=10;", model=Model())
    assert end.code == "step_limit"
    assert len(end.path) == 10


# --- handlers of one's own --------------------------------------------------------------------------------------------


@pytest.mark.clause("handlers-registered")
async def test_a_handler_is_registered_by_its_type_and_reads_its_own_attributes() -> None:
    own = Handlers(handler)

    @own("weather")
    async def look(stage: Stage) -> HandlerResult:
        return {"outcome": "success", "context_updates": {"sky": stage.attributes["colour"]}}

    end = await ended("a [type=weather, colour=blue]; start -> a -> exit", handlers=own)
    assert end.context["sky"] == "blue"
    assert "weather" not in handler.types()


@pytest.mark.clause("auto-status")
async def test_auto_status_supplies_the_success_that_a_handler_did_not_write() -> None:
    own = Handlers(handler)

    @own("silent")
    async def silent(stage: Stage) -> HandlerResult:
        return None

    def run(auto: str) -> Any:
        body = f'a [type=silent{auto}]; start -> a; a -> exit [condition="outcome=success"]'
        return ended(body, handlers=own)

    assert (await run(", auto_status=true")).output is not None
    silent_end: Ending = await run("")
    assert silent_end.code == "stage_failed"
    assert "no outcome" in silent_end.reason


# --- the definition under a run ---------------------------------------------------------------------------------------


@pytest.mark.clause("definition-pinned")
async def test_a_file_that_changed_under_a_run_parks_it() -> None:
    body = "p [shape=hexagon]; start -> p -> a -> exit"
    store = memory()
    first = await opened(store, made := pipeline(body, model=Model()), limits=quick())
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    await die(first)
    changed = pipeline(body + '; a [prompt="Other"]', model=Model())
    assert graph_settings(changed.document).goal == ""
    async with witnessed(store, changed, limits=quick()) as second:
        handle = second.run(handle.id)
        await handle.answer("a")
        await seen(handle, "run.paused")
        assert await handle.status() == "paused"


@pytest.mark.clause("codergen-restart")
async def test_a_run_that_began_with_a_model_waits_for_one_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_MODEL_URL", "http://127.0.0.1:9/v1")
    made = pipeline("start -> g; g [shape=hexagon]; g -> a; a [label=A]; a -> exit")
    clock = StageClock()
    async with Runtime(memory(), workflows=[made], clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        monkeypatch.delenv("PERDURE_MODEL_URL")
        await handle.answer("A")
        await clock.advance("5m")
        assert await handle.status() == "running"  # it has neither failed nor been passed over
        await handle.cancel()
