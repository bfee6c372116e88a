"""The fan-in: which branch came out best."""

from __future__ import annotations

import pytest

from perdure.model.request import ModelRequest
from perdure.pipeline.outcome import Outcome
from tests.unit.pipeline.execution.stories import FAIL, Script, ended
from tests.unit.pipeline.execution.test_parallel import fan


def scored(score: float, status: str = "success") -> dict[str, object]:
    return {"outcome": status, "context_updates": {"score": score}}


@pytest.mark.clause("fan-in-ranking")
@pytest.mark.parametrize(
    ("script", "best"),
    [
        (Script(), "a"),
        (Script(b=scored(1)), "b"),
        (Script(b=scored(1), c=scored(2)), "c"),
        (Script(a=scored(-1)), "b"),
        (Script(a=scored(9, "partial_success"), c=scored(1)), "c"),
        (Script(a=FAIL, b=scored(9, "fail"), c=Outcome("partial_success")), "c"),
        (Script(a=FAIL, b=Outcome("skipped"), c=FAIL), "b"),
    ],
)
async def test_branches_rank_by_status_then_score_then_id(script: Script, best: str) -> None:
    end = await ended(fan(), script)
    assert end.context["parallel"]["fan_in"]["best_id"] == best


@pytest.mark.clause("fan-in-sets")
async def test_the_best_branch_and_its_outcome_are_kept() -> None:
    end = await ended(fan(), Script(a=FAIL, b=Outcome("partial_success"), c=FAIL))
    assert end.context["parallel"]["fan_in"] == {"best_id": "b", "best_outcome": "partial_success"}


@pytest.mark.clause("fan-in-fails")
async def test_it_fails_only_when_every_branch_failed() -> None:
    body = fan().replace("j -> exit", 'j -> exit [condition="outcome=success"]')
    assert (await ended(body, Script(a=FAIL, b=FAIL))).output is not None
    end = await ended(body, Script(a=FAIL, b=FAIL, c=FAIL))
    assert end.code == "stage_failed"
    assert "every branch failed" in end.reason


@pytest.mark.clause("fan-in-model")
@pytest.mark.parametrize(
    ("answer", "best"), [("c", "c"), ("The best is b, before c.", "b"), ("I cannot say", "a"), ("abc", "a")]
)
async def test_with_a_prompt_the_model_ranks(answer: str, best: str) -> None:
    asked: list[ModelRequest] = []

    async def model(request: ModelRequest) -> str:
        if request.metadata["stage"] == "j":
            asked.append(request)
            return answer
        return f"work of {request.metadata['stage']}"

    body = fan().replace("shape=tripleoctagon", 'shape=tripleoctagon, prompt="Which is shortest?"')
    end = await ended(body, model=model)
    assert end.context["parallel"]["fan_in"]["best_id"] == best
    told = asked[0].messages[-1].content
    assert told.startswith("Which is shortest?")
    assert all(f"work of {name}" in told for name in "abc")
    assert {"j/visit-1/prompt.md", "j/visit-1/response.md"} <= set(end.files())


@pytest.mark.clause("fan-in-model", "fan-in-fails")
async def test_a_model_does_not_make_a_success_of_failures() -> None:
    async def model(request: ModelRequest) -> str:
        return "c" if request.metadata["stage"] == "j" else '{"outcome": "fail", "failure_reason": "no"}'

    body = fan().replace("shape=tripleoctagon", 'shape=tripleoctagon, prompt="Which?"')
    end = await ended(body.replace("j -> exit", 'j -> exit [condition="outcome=success"]'), model=model)
    assert end.code == "stage_failed"
