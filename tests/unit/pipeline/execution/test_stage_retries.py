"""How often a failed stage is executed again, and when."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from perdure.core.events import Event
from perdure.core.policies import Backoff
from perdure.model.errors import ModelBusyError, ModelRefusedError, ModelUnauthorizedError, ModelUnavailableError
from perdure.model.request import ModelRequest
from perdure.pipeline.outcome import Outcome
from perdure.pipeline.retries import RETRY_PRESETS, RetryPolicy
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import StageClock, die, memory, opened, quick, seen
from tests.unit.pipeline.execution.stories import AGAIN, FAIL, FOR_GOOD, Script, ended, ending, pipeline

ONE = 'start -> a; a -> exit [condition="outcome=success"]; a -> exit [condition="outcome=partial_success"]'


def delays_s(events: Sequence[Event]) -> list[float]:
    """How long the run slept between executions."""
    # What a timer waits for is recorded by its fingerprint alone; when it was opened, and until when, is not.
    waits = [event for event in events if event.kind == "wait.opened" and event.data["wait"] == "timer"]
    return [(event.data["deadline_ms"] - event.time_ms) / 1000 for event in waits]


@pytest.mark.clause("retry-count", "ruling-retried")
@pytest.mark.parametrize(
    ("node", "graph", "executions"),
    [
        ("", "", 1),
        ("max_retries=2", "", 3),
        ("", "default_max_retries=3;", 4),
        ("", "default_max_retry=1;", 2),
        ("max_retries=0", "default_max_retries=3;", 1),
    ],
)
async def test_a_stage_is_executed_once_and_as_often_again_as_it_or_the_graph_says(
    node: str, graph: str, executions: int
) -> None:
    script = Script(a=FAIL)
    end = await ended(f"a [label=A{', ' if node else ''}{node}]; {ONE}", script, graph=graph)
    assert end.code == "stage_failed"
    assert script.calls == [f"a#1@{attempt}" for attempt in range(1, executions + 1)]


@pytest.mark.clause("retry-count")
async def test_the_executions_end_with_the_first_that_does_not_fail() -> None:
    script = Script(a=[FAIL, AGAIN, Outcome()])
    end = await ended(f"a [max_retries=5]; {ONE}", script)
    assert end.output is not None
    assert not end.output["completed_with_failures"]
    assert len(script.calls) == 3


@pytest.mark.clause("retry-count")
async def test_each_execution_that_is_repeated_is_told_with_its_error_and_the_delay() -> None:
    end = await ended(f"a [max_retries=2]; {ONE}", Script(a=[FAIL, FAIL, Outcome()]))
    told = [event.data for event in end.events if event.kind == "stage.failed"]
    assert [(one["node"], one["visit"], one["attempt"]) for one in told] == [("a", 1, 1), ("a", 1, 2)]
    assert all(one["error"] for one in told)
    assert [one["delay_ms"] / 1000 for one in told] == delays_s(end.events)


@pytest.mark.clause("retry-count")
async def test_each_visit_has_its_own_executions() -> None:
    script = Script(a=[FAIL, Outcome(), FAIL, Outcome()], b=[FAIL, Outcome()])
    end = await ended('a [max_retries=1]; start -> a -> b; b -> a [condition="outcome=fail"]; b -> exit', script)
    assert end.output is not None
    assert script.calls == ["a#1@1", "a#1@2", "b#1@1", "a#2@1", "a#2@2", "b#2@1"]


@pytest.mark.clause("retry-count")
@pytest.mark.parametrize("partial", [False, True])
async def test_retries_that_are_used_up_end_in_a_failure_also_of_one_who_asks_for_more(partial: bool) -> None:
    allowed = ", allow_partial=true" if partial else ""
    script = Script(a=AGAIN)
    end = await ended(f"a [max_retries=1{allowed}]; {ONE}", script)
    assert len(script.calls) == 2
    if partial:
        assert end.output is not None
    else:
        assert end.code == "stage_failed"


@pytest.mark.clause("retry-allow-partial")
async def test_with_allow_partial_retries_that_are_used_up_end_in_a_partial_success() -> None:
    end = await ended(f"a [max_retries=1, allow_partial=true, goal_gate=true]; {ONE}", Script(a=FAIL))
    assert end.output is not None
    completed = next(event for event in end.events if event.kind == "node.completed" and event.node == "a#1")
    assert completed.data["output"]["status"] == "partial_success"


@pytest.mark.clause("retry-deterministic", "ruling-retried")
async def test_what_fails_for_good_is_not_executed_again() -> None:
    script = Script(a=FOR_GOOD)
    assert (await ended(f"a [max_retries=4]; {ONE}", script)).code == "stage_failed"
    assert len(script.calls) == 1


@pytest.mark.clause("retry-deterministic", "ruling-retried")
@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (ModelRefusedError("bad request", status=400), 1),
        (ModelUnauthorizedError("who are you", status=401), 1),
        (ModelUnavailableError("gone", status=500), 3),
        (ConnectionError("no route"), 3),
    ],
)
async def test_a_model_that_refuses_is_not_asked_again_one_that_is_away_is(error: Exception, asked: int) -> None:
    requests: list[ModelRequest] = []

    async def model(request: ModelRequest) -> str:
        requests.append(request)
        raise error

    end = await ended(f"a [max_retries=2]; {ONE}", model=model)
    assert end.code == "stage_failed"
    assert len(requests) == asked


@pytest.mark.clause("retry-deterministic", "ruling-retried")
async def test_a_command_that_does_not_exist_is_not_executed_again() -> None:
    for tool in ('tool_argv="no-such-program-anywhere"', 'tool_command="no-such-program-anywhere"'):
        end = await ended(f"a [shape=parallelogram, {tool}, max_retries=3]; {ONE}")
        assert end.code == "stage_failed"
        assert sum(event.kind == "step.intended" for event in end.events) == 1


@pytest.mark.clause("retry-delay")
async def test_delays_grow_by_the_factor_up_to_a_minute_and_are_spread() -> None:
    end = await ended(f"a [max_retries=11]; {ONE}", Script(a=FAIL))
    slept = delays_s(end.events)
    assert len(slept) == 11
    for number, delay_s in enumerate(slept):
        middle_s = min(0.2 * 2**number, 60)
        assert 0.49 * middle_s <= delay_s <= 1.51 * middle_s
    assert len({round(delay_s / min(0.2 * 2**number, 60), 2) for number, delay_s in enumerate(slept)}) > 3


@pytest.mark.clause("retry-presets")
@pytest.mark.parametrize(
    ("name", "attempts", "initial_s", "factor"),
    [
        ("none", 1, 0.2, 2),
        ("standard", 5, 0.2, 2),
        ("aggressive", 5, 0.5, 2),
        ("linear", 3, 0.5, 1),
        ("patient", 3, 2, 3),
    ],
)
async def test_a_preset_says_how_often_and_how_long_between(
    name: str, attempts: int, initial_s: float, factor: float
) -> None:
    script = Script(a=FAIL)
    end = await ended(f"a; {ONE}", script, retry=name)
    assert len(script.calls) == attempts
    for number, delay_s in enumerate(delays_s(end.events)):
        assert 0.49 <= delay_s / (initial_s * factor**number) <= 1.51


@pytest.mark.clause("retry-presets", "retry-one-policy")
async def test_the_node_says_how_often_and_the_policy_how_long_between() -> None:
    script = Script(a=FAIL)
    policy = RetryPolicy(9, Backoff(10.0, 1.0, jitter=0))
    end = await ended(f"a [max_retries=2]; {ONE}", script, retry=policy)
    assert len(script.calls) == 3
    assert delays_s(end.events) == [10.0, 10.0]


@pytest.mark.clause("retry-presets")
def test_the_presets_are_these_five() -> None:
    assert sorted(RETRY_PRESETS) == ["aggressive", "linear", "none", "patient", "standard"]


@pytest.mark.clause("retry-after")
async def test_a_model_that_asks_to_wait_is_waited_for_inside_the_execution() -> None:
    clock, asked_ms = StageClock(), []

    async def model(request: ModelRequest) -> str:
        asked_ms.append(clock.passed_ms)
        if len(asked_ms) <= 3:
            raise ModelBusyError("slowly", delay_s=30)
        return "done"

    end = await ended("start -> a -> exit", clock=clock, model=model)
    assert end.output is not None
    assert not end.output["completed_with_failures"]
    assert [later - earlier >= 30_000 for earlier, later in itertools.pairwise(asked_ms)] == [True] * 3
    assert delays_s(end.events) == []


@pytest.mark.clause("retry-one-policy")
async def test_a_stage_has_one_policy_no_second_one_hides_below_it() -> None:
    asked: list[ModelRequest] = []

    async def model(request: ModelRequest) -> str:
        asked.append(request)
        raise ModelUnavailableError("gone", status=503)

    await ended(f"a; {ONE}", model=model)
    assert len(asked) == 1


@pytest.mark.clause("retry-restart")
async def test_executions_are_counted_over_a_restart_and_the_delay_is_not_begun_anew() -> None:
    body, clock, store = f"a [max_retries=2]; {ONE}", StageClock(), memory()
    script = Script(a=FAIL)
    policy = RetryPolicy(backoff=Backoff(600.0, 1.0, max_s=600.0, jitter=0))
    tried: list[int] = []

    async def model(request: ModelRequest) -> str:
        tried.append(clock.passed_ms)
        raise ModelUnavailableError("gone", status=503)

    made = pipeline(body, model=model, retry=policy)
    first = await opened(store, made, clock=clock, limits=quick())
    handle = await first.start(made)
    await seen(handle, "wait.opened")
    await clock.advance("5m")
    await die(first)
    async with witnessed(store, pipeline(body, model=model, retry=policy), clock=clock, limits=quick()) as second:
        end = await ending(second.run(handle.id), clock)
    assert end.code == "stage_failed"
    assert len(tried) == 3
    assert tried[1] - tried[0] == pytest.approx(600_000, abs=12_000)  # the lease of the dead takes its time
    assert script.calls == []


# --- where a failure leads --------------------------------------------------------------------------------------------


@pytest.mark.clause("failure-routing", "ruling-failed-unconditional")
async def test_an_unconditional_edge_is_followed_after_a_failure_and_the_result_says_so() -> None:
    end = await ended("a [retry_target=b]; start -> a -> exit; start -> b -> exit", Script(a=FAIL))
    assert end.path == ["start", "a", "exit"]
    assert end.output is not None
    assert end.output["status"] == "success"
    assert end.output["completed_with_failures"] is True


@pytest.mark.clause("failure-routing", "ruling-failed-unconditional")
async def test_a_failure_that_an_edge_was_made_for_was_not_passed_over() -> None:
    body = 'start -> a; a -> b [condition="outcome=fail"]; a -> exit [condition="outcome=success"]; b -> exit'
    end = await ended(body, Script(a=FAIL))
    assert end.path == ["start", "a", "b", "exit"]
    assert end.output is not None
    assert end.output["completed_with_failures"] is False


@pytest.mark.clause("failure-routing")
@pytest.mark.parametrize(
    ("targets", "after"),
    [
        ("retry_target=b, fallback_retry_target=c", "b"),
        ("retry_target=nowhere, fallback_retry_target=c", "c"),
        ("fallback_retry_target=c", "c"),
    ],
)
async def test_without_an_edge_a_failure_goes_to_the_nodes_targets(targets: str, after: str) -> None:
    body = f"""a [{targets}]; start -> a [weight=1]; start -> b; start -> c; b -> exit; c -> exit;
               a -> exit [condition="outcome=success"]"""
    assert (await ended(body, Script(a=FAIL))).path == ["start", "a", after, "exit"]


@pytest.mark.clause("failure-routing")
async def test_the_graphs_targets_are_for_gates_and_not_for_failures() -> None:
    end = await ended(f"{ONE}; start -> b -> exit", Script(a=FAIL), graph="retry_target=b;")
    assert end.code == "stage_failed"
    assert "told to fail" in end.reason
    assert end.path == ["start", "a"]


@pytest.mark.clause("failure-routing")
async def test_a_success_without_an_edge_is_not_sent_to_the_targets() -> None:
    body = 'a [retry_target=b]; start -> a; start -> b -> exit; a -> exit [condition="outcome=fail"]'
    assert (await ended(body, Script())).code == "no_eligible_edge"


# --- bounds -----------------------------------------------------------------------------------------------------------

LOOP = "start -> a -> b; b -> a [weight=1]; b -> exit"


@pytest.mark.clause("bounds-steps", "ruling-unbounded")
async def test_stages_of_a_run_are_bounded() -> None:
    script = Script()
    end = await ended(LOOP, script, graph="max_steps=8;")
    assert end.code == "step_limit"
    assert len(end.path) == 8
    assert len((await ended(LOOP, Script())).path) == 500


@pytest.mark.clause("bounds-visits", "ruling-unbounded")
async def test_visits_of_a_node_are_bounded_by_the_node_or_the_graph() -> None:
    end = await ended(f"b [max_visits=3]; {LOOP}", Script(), graph="max_visits=5;")
    assert end.code == "visit_limit"
    assert end.path.count("b") == 3
    end = await ended(LOOP, Script(), graph="max_visits=5;")
    assert end.code == "visit_limit"
    assert end.path.count("a") == 5
    end = await ended(LOOP, Script(), graph="max_steps=5000;")
    assert end.path.count("a") == 1000


@pytest.mark.clause("bounds-steps")
async def test_retries_are_no_stages() -> None:
    assert (await ended(f"a [max_retries=9]; {ONE}", Script(a=[FAIL] * 9 + [Outcome()]), graph="max_steps=3;")).output


@pytest.mark.clause("bounds-restart")
async def test_stages_and_visits_are_counted_over_a_restart() -> None:
    body = 'p [shape=hexagon]; start -> p; p -> p [label="again"]; p -> exit'
    store, made = memory(), pipeline(body, graph="max_visits=3;")
    first = await opened(store, made)
    handle = await first.start(made)
    for number in (1, 2):
        await seen(handle, "wait.opened", number)
        await handle.answer("again")
    await seen(handle, "wait.opened", 3)
    await die(first)
    async with witnessed(store, pipeline(body, graph="max_visits=3;")) as second:
        handle = second.run(handle.id)
        await handle.answer("again")
        end = await ending(handle)
    assert end.code == "visit_limit"
    assert end.path == ["start", "p", "p", "p"]
