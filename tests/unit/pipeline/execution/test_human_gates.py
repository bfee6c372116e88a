"""Gates for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from perdure import RunHandle, Runtime
from perdure.core.errors import AnswerRefusedError, PerdureError
from perdure.pipeline.definition import Pipeline
from perdure.pipeline.outcome import Outcome
from tests.unit.engine.evidence import witnessed
from tests.unit.engine.staging import StageClock, die, kinds, memory, opened, quick, seen
from tests.unit.pipeline.execution.stories import FAIL, Ending, Script, ended, ending, path_of, pipeline

YES_NO = 'p [shape=hexagon, label="Deploy?"]; start -> p; p -> a [label="[Y] Yes"]; p -> b [label="[N] No"]; '
ONWARD = "a -> exit; b -> exit;"


def questions(end: Ending) -> list[dict[str, Any]]:
    """The questions that were asked."""
    return [event.data["question"] for event in end.events if event.data.get("wait") == "question"]


async def asked(body: str, script: Script | None = None, **options: Any) -> dict[str, Any]:
    """The first question of a pipeline, which is answered by its first choice."""
    made = pipeline(body, script or Script())
    async with witnessed(memory(), made) as runtime:
        handle = await runtime.start(made, **options)
        opened_wait = await seen(handle, "wait.opened")
        question: dict[str, Any] = opened_wait.data["question"]
        return question


# --- the question -----------------------------------------------------------------------------------------------------


@pytest.mark.clause("human-question", "human-keys")
async def test_the_choices_are_the_edges_in_the_order_of_the_file() -> None:
    body = """p [shape=hexagon, label="Deploy?", prompt="Deploy $goal?"]; start -> p;
              p -> b [label="[N] Not now"]; p -> a [label="Yes, at once", weight=9]; p -> exit; a -> exit; b -> exit"""
    question = await asked(body)
    assert question["text"] == "Deploy ?"
    assert question["choices"] == ["[N] Not now", "Yes, at once", "exit"]
    assert question["keys"] == ["N", "Y", "E"]


@pytest.mark.clause("human-question")
async def test_without_a_prompt_the_label_is_asked() -> None:
    assert (await asked(YES_NO + ONWARD))["text"] == "Deploy?"
    assert (await asked("p [shape=hexagon]; start -> p -> exit"))["text"] == "p"


@pytest.mark.clause("human-keys")
@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (["Yes", "Yellow", "yonder"], ["Y", "Y2", "Y3"]),
        (["Yes", "[Y] Yellow"], ["Y2", "Y"]),
        (["[y] one", "Y) two"], ["y", "Y"]),
        (["q - quit", "Quiet"], ["q", "Q"]),
        (["[Y] one", "[Y] two"], ["Y", "Y2"]),
        (["Y", "Yes"], ["Y2", "Y3"]),
    ],
)
async def test_keys_are_accelerators_as_written_or_first_letters_and_unique(
    labels: Sequence[str], keys: Sequence[str]
) -> None:
    targets = ["a", "b", "c"][: len(labels)]
    edges = "".join(f'p -> {one} [label="{label}"]; {one} -> exit;' for one, label in zip(targets, labels, strict=True))
    question = await asked(f"p [shape=hexagon]; start -> p; {edges}")
    assert len({*question["keys"], *question["choices"]}) == 2 * len(labels)
    assert question["keys"] == keys


@pytest.mark.clause("human-question")
async def test_equal_labels_can_be_told_apart_by_their_targets() -> None:
    body = 'p [shape=hexagon]; start -> p; p -> a [label="Go"]; p -> b [label="Go"]; ' + ONWARD
    assert (await asked(body))["choices"] == ["Go (a)", "Go (b)"]
    end = await ended(body, Script(), answers=["Go (b)"])
    assert end.path == ["start", "p", "b", "exit"]
    assert end.context["human"]["gate"]["label"] == "Go"


@pytest.mark.clause("human-conditional")
async def test_an_edge_whose_condition_does_not_hold_is_no_choice() -> None:
    body = """p [shape=hexagon]; start -> s -> p; p -> a [label="Ship", condition="outcome=success"];
              p -> b [label="Fix", condition="outcome=fail"]; p -> c [label="Stop"];
              p -> d [label="Wait", condition="mood=calm"];
              a -> exit; b -> exit; c -> exit; d -> exit"""
    assert (await asked(body))["choices"] == ["Ship", "Stop"]
    assert (await asked(body, Script(s=FAIL)))["choices"] == ["Fix", "Stop"]
    assert (await asked(body, mood="calm"))["choices"] == ["Ship", "Stop", "Wait"]


@pytest.mark.clause("human-conditional")
async def test_a_chosen_conditional_edge_is_followed() -> None:
    body = """p [shape=hexagon]; start -> s -> p; p -> a [label="Ship"]; p -> b [label="Fix", condition="outcome=fail"];
              a -> exit; b -> exit"""
    assert (await ended(body, Script(s=FAIL), answers=["Fix"])).path[3] == "b"
    assert (await ended(body, Script(s=FAIL), answers=["Ship"])).path[3] == "a"


@pytest.mark.clause("human-conditional", "human-fail-closed")
async def test_a_gate_without_any_choice_fails() -> None:
    end = await ended('p [shape=hexagon]; start -> p; p -> exit [label="Ok", condition="mood=calm"]')
    assert end.code == "stage_failed"
    assert questions(end) == []


# --- the answer -------------------------------------------------------------------------------------------------------


@pytest.mark.clause("human-edge", "human-context")
@pytest.mark.parametrize("answer", ["[N] No", "N"])
async def test_the_chosen_edge_is_followed_and_the_choice_kept(answer: str) -> None:
    end = await ended(YES_NO + ONWARD, Script(), answers=[answer])
    assert end.path == ["start", "p", "b", "exit"]
    assert end.context["human"] == {
        "gate": {"selected": "N", "label": "[N] No"},
        "answers": {"p": "N"},
    }


@pytest.mark.clause("human-edge")
async def test_the_chosen_edge_is_followed_whatever_the_order_of_edges_says() -> None:
    body = """p [shape=hexagon]; start -> p; p -> a [label="A", condition="outcome=success", weight=9];
              p -> b [label="B"]; a -> exit; b -> exit"""
    assert (await ended(body, Script(), answers=["B"])).path == ["start", "p", "b", "exit"]


@pytest.mark.clause("human-edge")
async def test_of_two_edges_to_one_target_the_chosen_one_is_followed() -> None:
    body = 'p [shape=hexagon]; start -> p; p -> a [label="One"]; p -> a [label="Two", loop_restart=true]; a -> exit'
    one = await ended(body, Script(), answers=["One"])
    two = await ended(body, Script(), answers=["Two"])
    assert "run.continued" not in [event.kind for event in one.events]
    assert "run.continued" in [event.kind for event in two.events]


@pytest.mark.clause("human-context")
async def test_the_answers_of_all_gates_are_kept_by_node() -> None:
    body = """p [shape=hexagon]; q [shape=hexagon]; start -> p; p -> q [label="On"]; q -> exit [label="[D] Done"]"""
    end = await ended(body, answers=["On", "D"])
    assert end.context["human"]["answers"] == {"p": "O", "q": "D"}
    assert end.context["human"]["gate"] == {"selected": "D", "label": "[D] Done"}


@pytest.mark.clause("human-refused", "ruling-refused-answer")
@pytest.mark.parametrize("answer", ["yes", "", "y", 1, True, None, ["[Y] Yes"], "a"])
async def test_an_answer_that_is_no_choice_is_refused_and_the_question_stays_open(answer: Any) -> None:
    made = pipeline(YES_NO + ONWARD, Script())
    async with witnessed(memory(), made) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        with pytest.raises(PerdureError):
            await handle.answer(answer)
        assert len(await runtime.questions(handle.id)) == 1
        await handle.answer("Y")
        assert (await ending(handle)).path == ["start", "p", "a", "exit"]


@pytest.mark.clause("human-text")
async def test_a_gate_may_ask_for_text() -> None:
    body = 'p [shape=hexagon, human.input=text, prompt="Which tag?"]; start -> p -> exit'
    end = await ended(body, answers=["v1.2"])
    assert questions(end)[0]["kind"] == "text"
    assert end.context["human"] == {"gate": {"selected": "v1.2", "label": "v1.2"}, "answers": {"p": "v1.2"}}


@pytest.mark.clause("human-text")
async def test_text_that_is_the_label_of_an_edge_takes_it() -> None:
    body = 'p [shape=hexagon, human.input=text]; start -> p; p -> a [label="[S] Stop"]; p -> b [weight=1]; ' + ONWARD
    assert (await ended(body, Script(), answers=["stop"])).path[2] == "a"
    assert (await ended(body, Script(), answers=["something else"])).path[2] == "b"


@pytest.mark.clause("human-multiple")
async def test_several_choices_may_be_taken_and_the_first_in_the_file_is_followed() -> None:
    body = """p [shape=hexagon, human.multiple=true]; start -> p; p -> a [label="[X] Ex"]; p -> b [label="[W] Why"];
              p -> c [label="Zed"]; a -> exit; b -> exit; c -> exit"""
    end = await ended(body, Script(), answers=[["Zed", "[W] Why"]])
    assert questions(end)[0]["kind"] == "multiple"
    assert end.path == ["start", "p", "b", "exit"]
    assert end.context["human"]["gate"] == {"selected": ["W", "Z"], "label": ["[W] Why", "Zed"]}


@pytest.mark.clause("human-multiple", "human-fail-closed")
async def test_to_choose_nothing_approves_nothing() -> None:
    body = 'p [shape=hexagon, human.multiple=true]; start -> p; p -> exit [label="Ok", condition="outcome!=fail"]'
    made = pipeline(body)
    async with witnessed(memory(), made) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        try:
            await handle.answer([])
        except PerdureError:
            assert len(await runtime.questions(handle.id)) == 1
        else:
            assert (await ending(handle)).code == "stage_failed"


DECLINED = """p [shape=hexagon, max_retries=3]; start -> p; p -> a [label="[G] Go on"];
              p -> b [condition="outcome=fail"]; """


@pytest.mark.clause("human-declined", "human-fail-closed")
async def test_what_is_declined_fails_the_gate_and_is_not_asked_again() -> None:
    body = 'p [shape=hexagon, max_retries=3]; start -> p; p -> a [label="[G] Go on"]; a -> exit'
    end = await ended(body, Script(), answers=[False])
    assert end.code == "stage_failed"
    assert "declined" in end.reason
    assert [question["declinable"] for question in questions(end)] == [True]
    assert end.path == ["start", "p"]
    assert [event.data["answer"] for event in end.events if event.kind == "wait.answered"] == [False]


@pytest.mark.clause("human-declined", "human-context")
async def test_a_decline_is_kept_in_the_context_and_an_edge_that_was_no_choice_may_catch_it() -> None:
    body = DECLINED + ONWARD
    end = await ended(body, Script(), answers=[False])
    assert end.path == ["start", "p", "b", "exit"]
    assert end.context["human"] == {"gate": {"selected": False, "label": False}, "answers": {"p": False}}
    assert (await ended(body, Script(), answers=["G"])).path == ["start", "p", "a", "exit"]


@pytest.mark.clause("human-declined", "human-refused")
@pytest.mark.parametrize(
    "body",
    [
        'p [shape=hexagon]; start -> p; p -> a [label="One"]; p -> exit [label="Two"]; a -> exit',
        'p [shape=hexagon, human.multiple=true]; start -> p; p -> a [label="One"]; a -> exit',
        "p [shape=hexagon, human.input=text]; start -> p -> a -> exit",
    ],
)
async def test_only_a_single_choice_can_be_declined(body: str) -> None:
    made = pipeline(body, Script())
    async with witnessed(memory(), made) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        with pytest.raises(AnswerRefusedError):
            await handle.answer(False)
        assert len(await runtime.questions(handle.id)) == 1


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.clause("human-timeout")
@pytest.mark.parametrize("default", ["N", "[N] No", "no", "b"])
async def test_after_the_timeout_the_default_is_taken_by_key_label_or_target(default: str) -> None:
    body = YES_NO.replace("shape=hexagon", f'shape=hexagon, human.timeout=2d, human.default_choice="{default}"')
    clock = StageClock()
    end = await ended(body + ONWARD, Script(), clock=clock)
    assert end.path == ["start", "p", "b", "exit"]
    assert clock.passed_ms == pytest.approx(2 * 86_400_000, abs=5000)
    assert end.context["human"]["gate"] == {"selected": "N", "label": "[N] No"}


@pytest.mark.clause("human-timeout")
async def test_a_key_that_is_also_a_target_means_the_key() -> None:
    body = """p [shape=hexagon, human.timeout=1s, human.default_choice=b]; start -> p;
              p -> a [label="[b] first"]; p -> b [label="[a] second"]; """
    assert (await ended(body + ONWARD, Script())).path[2] == "a"


@pytest.mark.clause("human-timeout", "human-fail-closed", "ruling-refused-answer")
async def test_without_a_default_the_gate_fails_closed() -> None:
    body = 'p [shape=hexagon, human.timeout=1h]; start -> p; p -> exit [label="Ok", condition="outcome=success"]'
    end = await ended(body)
    assert end.code == "stage_failed"
    assert "nobody answered in time" in end.reason


@pytest.mark.clause("human-fail-closed", "ruling-refused-answer")
@pytest.mark.parametrize("condition", ["", ', condition="mood=calm"', ', condition="outcome!=skipped"'])
@pytest.mark.parametrize("gate", ["", ", retry_target=b", ", max_retries=1", ", human.multiple=true"])
async def test_what_nobody_chose_is_not_followed_when_the_gate_fails(condition: str, gate: str) -> None:
    body = f"""p [shape=hexagon, human.timeout=1h{gate}]; start -> p [weight=1]; start -> b;
               p -> a [label="Approve"{condition}]; {ONWARD}"""
    end = await ended(body, script := Script(), given={"mood": "calm"})
    assert "a" not in script.nodes()
    assert end.path == (["start", "p", "b", "exit"] if "retry_target" in gate else ["start", "p"])


@pytest.mark.clause("human-fail-closed", "failure-routing")
async def test_an_edge_that_was_no_choice_may_catch_the_failure_of_a_gate() -> None:
    body = """p [shape=hexagon, human.timeout=1h]; start -> p; p -> a [label="Approve"];
              p -> b [condition="outcome=fail"]; """
    assert (await ended(body + ONWARD, Script())).path == ["start", "p", "b", "exit"]


@pytest.mark.clause("human-timeout")
async def test_a_default_that_is_no_choice_fails_the_gate_at_once() -> None:
    body = YES_NO.replace("shape=hexagon", "shape=hexagon, human.timeout=2d, human.default_choice=Maybe")
    end = await ended(body.replace('"[Y] Yes"', '"[Y] Yes", condition="outcome=success"') + ONWARD, Script())
    assert questions(end) == []
    assert "Maybe" in str([event.data for event in end.events if event.kind == "node.completed"])


@pytest.mark.clause("human-timeout")
async def test_without_a_timeout_a_gate_waits_for_ever_and_a_default_changes_nothing() -> None:
    body = YES_NO.replace("shape=hexagon", "shape=hexagon, human.default_choice=N") + ONWARD
    made, clock = pipeline(body, Script()), StageClock()
    async with witnessed(memory(), made, clock=clock, limits=quick()) as runtime:
        handle = await runtime.start(made)
        await seen(handle, "wait.opened")
        await clock.advance("3000d")
        assert await handle.status() == "waiting"
        await handle.answer("Y")
        assert (await ending(handle, clock)).path == ["start", "p", "a", "exit"]


@pytest.mark.clause("human-wait")
async def test_a_gate_waits_over_a_restart_and_is_not_asked_again() -> None:
    store, clock, script = memory(), StageClock(), Script()
    body = YES_NO.replace("shape=hexagon", "shape=hexagon, human.timeout=10d, human.default_choice=N") + ONWARD

    async def alive() -> tuple[Runtime, Pipeline]:
        made = pipeline(body, script)
        return await opened(store, made, clock=clock, limits=quick()), made

    first, made = await alive()
    handle: RunHandle[Any] = await first.start(made)
    await seen(handle, "wait.opened")
    await clock.advance("4d")
    await die(first)
    second, _ = await alive()
    handle = second.run(handle.id)
    await handle.answer("Y")
    await seen(handle, "wait.answered")
    await die(second)
    async with witnessed(store, pipeline(body, script), clock=clock, limits=quick()) as third:
        handle = third.run(handle.id)
        end = await ending(handle, clock)
        assert (await kinds(handle)).count("wait.opened") == 1
    assert end.path == path_of(end.events) == ["start", "p", "a", "exit"]
    assert end.context["outcome"] == Outcome().status


@pytest.mark.clause("human-fail-closed", "context-conflict")
async def test_an_answer_that_cannot_be_written_does_not_approve_the_contrary() -> None:
    end = await ended(YES_NO + ONWARD, script := Script(), given={"human": "Ada"}, answers=["N"])
    assert script.nodes() == []
    assert end.code == "stage_failed"
    assert "'human.gate.selected'" in end.reason


@pytest.mark.clause("human-fail-closed")
async def test_a_gate_that_asks_for_text_fails_closed_too() -> None:
    body = "p [shape=hexagon, human.input=text, human.timeout=1h]; start -> p -> a -> exit"
    end = await ended(body, script := Script())
    assert script.nodes() == []
    assert end.code == "stage_failed"
