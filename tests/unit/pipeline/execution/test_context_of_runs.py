"""The context of a run, from its input to its result."""

from __future__ import annotations

import pytest

from perdure.core.errors import InputTypeError
from perdure.pipeline.outcome import Outcome
from tests.unit.pipeline.execution.stories import FAIL, Script, ended


@pytest.mark.clause("graph-mirrored")
async def test_the_graphs_attributes_stand_in_the_context() -> None:
    end = await ended("start -> exit", graph='goal="ship it"; label="Demo"; stack.child_workdir="sub"; max_steps=7;')
    assert end.context["graph"] == {
        "goal": "ship it",
        "label": "Demo",
        "stack": {"child_workdir": "sub"},
        "max_steps": 7,
    }


@pytest.mark.clause("graph-mirrored")
async def test_a_submitted_context_does_not_hide_the_graphs_attributes() -> None:
    end = await ended("start -> exit", graph='goal="ship it";', given={"graph.goal": "other", "graph.more": 1})
    assert end.context["graph"]["goal"] == "ship it"


@pytest.mark.clause("context-submitted")
async def test_dotted_keys_that_are_handed_in_are_nested() -> None:
    end = await ended("start -> exit", given={"a.b": 1, "a.c": {"d.e": 2}, "f": [1]})
    assert end.context["a"] == {"b": 1, "c": {"d.e": 2}}
    assert end.context["f"] == [1]


@pytest.mark.clause("context-submitted")
@pytest.mark.parametrize("given", [{"a": 1, "a.b": 2}, {"a..b": 1}, {".restart": {"at": "exit"}}, {"": 1}])
async def test_a_context_that_cannot_be_nested_is_refused_before_anything_is_written(given: dict[str, object]) -> None:
    with pytest.raises(InputTypeError):
        await ended("start -> exit", given=given)


@pytest.mark.clause("context-paths")
async def test_a_dotted_update_is_a_path_in_the_context() -> None:
    script = Script(a=Outcome(context_updates={"build.number": 7, "build.host": "h"}))
    end = await ended("start -> a -> b -> exit", script, given={"build": {"old": True}})
    assert end.context["build"] == {"old": True, "number": 7, "host": "h"}
    assert script.seen["b#1@1"]["build"] == end.context["build"]


@pytest.mark.clause("context-conflict")
async def test_an_update_through_a_value_fails_the_stage_and_names_the_key() -> None:
    script = Script(a=Outcome(context_updates={"first": 1, "name.first": "Ada"}))
    end = await ended("start -> a -> exit", script, given={"name": "Ada"})
    assert end.output is not None
    assert end.output["completed_with_failures"]
    assert end.context["name"] == "Ada"
    assert "first" not in end.context
    completed = next(event for event in end.events if event.kind == "node.completed" and event.node == "a#1")
    assert completed.data["output"]["status"] == "fail"
    assert "'name.first'" in completed.data["output"]["failure_reason"]


@pytest.mark.clause("context-conflict")
async def test_a_name_that_the_journal_cannot_hold_fails_the_stage_and_names_the_key() -> None:
    script = Script(a=Outcome(context_updates={"x" * 200: 1}), b=Outcome(context_updates={"a/b": 1}))
    end = await ended('start -> a; a -> b [condition="outcome=fail"]; b -> exit [condition="outcome=success"]', script)
    assert end.code == "stage_failed"
    assert "'a/b'" in end.reason


@pytest.mark.clause("context-outcome")
async def test_outcome_and_preferred_label_are_those_of_the_last_stage_the_exits_included() -> None:
    script = Script(a=Outcome("fail", preferred_label="Retry", failure_reason="no"), b=Outcome("partial_success"))
    end = await ended("start -> a -> b -> c -> exit", script)
    assert (script.seen["a#1@1"]["outcome"], script.seen["a#1@1"]["preferred_label"]) == ("success", "")
    assert (script.seen["b#1@1"]["outcome"], script.seen["b#1@1"]["preferred_label"]) == ("fail", "Retry")
    assert (script.seen["c#1@1"]["outcome"], script.seen["c#1@1"]["preferred_label"]) == ("partial_success", "")
    assert end.context["outcome"] == "success"


@pytest.mark.clause("context-outcome")
async def test_an_outcome_cannot_pretend_to_be_another_one_through_its_updates() -> None:
    end = await ended(
        'start -> a; a -> exit [condition="outcome=success"]; a -> b [condition="outcome=fail"]; b -> exit',
        script := Script(a=Outcome("fail", context_updates={"outcome": "success"}, failure_reason="no")),
    )
    assert end.path == ["start", "a", "b", "exit"]
    assert script.seen["b#1@1"]["outcome"] == "fail"


@pytest.mark.clause("stage-cycle", "start-exit-stages", "ruling-exit")
async def test_each_stage_is_entered_written_and_completed_before_the_next_one() -> None:
    end = await ended("start -> a -> exit", Script(a=Outcome(context_updates={"n": 1})))
    told = [(event.kind, event.node) for event in end.events if event.kind in ("node.entered", "node.completed")]
    assert told == [
        (kind, f"{node}#1") for node in ("start", "a", "exit") for kind in ("node.entered", "node.completed")
    ]
    kinds = [event.kind for event in end.events if event.node == "a#1"]
    assert kinds[0] == "node.entered"
    assert "state.written" in kinds[1:-1]
    assert kinds[-1] == "node.completed"


@pytest.mark.clause("outcome-fields")
async def test_a_handler_may_return_an_outcome_as_plain_data() -> None:
    told = {
        "outcome": "partial_success",
        "preferred_label": "Go",
        "suggested_next_ids": ["b"],
        "context_updates": {"n": 1},
        "notes": "fine",
    }
    end = await ended("start -> a -> exit", Script(a=told))
    completed = next(event for event in end.events if event.kind == "node.completed" and event.node == "a#1")
    recorded = completed.data["output"]
    assert {name: recorded[name] for name in ("status", "preferred_label", "suggested_next_ids", "notes")} == {
        "status": "partial_success",
        "preferred_label": "Go",
        "suggested_next_ids": ["b"],
        "notes": "fine",
    }
    assert end.context["n"] == 1


@pytest.mark.clause("outcome-fields")
@pytest.mark.parametrize(
    "told",
    [
        {"outcome": "great"},
        {"outcome": ["success"]},
        {"outcome": {}},
        {"context_updates": ["n"]},
        {"suggested_next_ids": "b"},
        {"suggested_next_ids": [1]},
        {"notes": 1},
    ],
)
async def test_an_outcome_of_the_wrong_shape_is_a_failed_outcome(told: dict[str, object]) -> None:
    end = await ended('start -> a; a -> exit [condition="outcome=success"]', Script(a=told))
    assert end.code == "stage_failed"


@pytest.mark.clause("outcome-fields")
async def test_a_skipped_stage_has_not_failed() -> None:
    end = await ended('start -> a; a -> exit [condition="outcome=skipped"]', Script(a=Outcome("skipped")))
    assert end.output is not None
    assert not end.output["completed_with_failures"]


@pytest.mark.clause("handler-exception")
async def test_an_exception_of_a_handler_is_a_failed_outcome() -> None:
    end = await ended('start -> a; a -> exit [condition="outcome=success"]', Script(a=ValueError("no such colour")))
    assert end.code == "stage_failed"
    assert "no such colour" in end.reason


@pytest.mark.clause("result-status")
async def test_the_result_says_how_the_run_ended() -> None:
    end = await ended("start -> a -> exit", Script())
    assert end.output is not None
    assert end.output["status"] == "success"
    assert end.output["completed_with_failures"] is False
    end = await ended('start -> a; a -> exit [condition="outcome=success"]', Script(a=FAIL))
    assert "told to fail" in end.reason
