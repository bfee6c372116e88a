"""Which edge is followed after a stage."""

from __future__ import annotations

import pytest

from perdure.core.canonical import JSONValue
from perdure.pipeline.outcome import Outcome
from tests.unit.pipeline.execution.stories import FAIL, Script, ended, writes_of


async def second_stage(edges: str, outcome: Outcome, **given: str) -> str:
    """Where the run goes after the stage `a`."""
    onward = "".join(f"{name} -> exit;" for name in "bcd" if f"-> {name}" in edges)
    end = await ended(f"start -> a; {edges} {onward}", Script(a=outcome), given=given)
    return end.path[2]


@pytest.mark.clause("edge-order-1")
async def test_an_edge_whose_condition_holds_comes_before_all_others() -> None:
    edges = 'a -> b [label="Go", weight=9]; a -> c [condition="outcome=success"]; a -> d;'
    assert await second_stage(edges, Outcome(preferred_label="Go", suggested_next_ids=("d",))) == "c"


@pytest.mark.clause("edge-order-1")
async def test_among_edges_whose_conditions_hold_the_heaviest_is_taken_then_the_first_target() -> None:
    held = 'condition="outcome=success"'
    assert (
        await second_stage(f"a -> b [{held}]; a -> d [{held}, weight=2]; a -> c [{held}, weight=1];", Outcome()) == "d"
    )
    assert await second_stage(f'a -> d [{held}]; a -> c [{held}]; a -> b [condition="outcome=fail"];', Outcome()) == "c"


@pytest.mark.clause("edge-order-2")
@pytest.mark.parametrize(
    ("label", "preferred"),
    [("[F] Fix it", "fix it"), ("F) Fix it", " FIX IT "), ("F - Fix it", "Fix it"), ("fix it", "[X] Fix it")],
)
async def test_the_preferred_label_is_compared_without_case_blanks_and_accelerator(label: str, preferred: str) -> None:
    edges = f'a -> b [weight=9]; a -> c [label="{label}"];'
    assert await second_stage(edges, Outcome(preferred_label=preferred, suggested_next_ids=("b",))) == "c"


@pytest.mark.clause("edge-order-2")
async def test_of_edges_with_the_preferred_label_the_first_in_the_file_is_taken() -> None:
    edges = 'a -> d [label="Go"]; a -> b [label="go", weight=5];'
    assert await second_stage(edges, Outcome(preferred_label="Go")) == "d"


@pytest.mark.clause("edge-order-2", "edge-false-never")
async def test_a_label_does_not_open_an_edge_whose_condition_is_false() -> None:
    edges = 'a -> b [label="Go", condition="outcome=fail"]; a -> c;'
    assert await second_stage(edges, Outcome(preferred_label="Go")) == "c"


@pytest.mark.clause("edge-order-3")
async def test_suggested_nodes_are_looked_for_in_their_order() -> None:
    edges = "a -> b [weight=9]; a -> c; a -> d;"
    assert await second_stage(edges, Outcome(suggested_next_ids=("nowhere", "d", "c"))) == "d"


@pytest.mark.clause("edge-order-3", "edge-false-never")
async def test_a_suggestion_does_not_open_an_edge_whose_condition_is_false() -> None:
    edges = 'a -> b [condition="outcome=fail"]; a -> c;'
    assert await second_stage(edges, Outcome(suggested_next_ids=("b",))) == "c"


@pytest.mark.clause("edge-order-4")
async def test_the_heaviest_unconditional_edge_is_taken() -> None:
    assert await second_stage("a -> b; a -> c [weight=0.5]; a -> d [weight=-1];", Outcome()) == "c"


@pytest.mark.clause("edge-order-5")
async def test_of_equal_edges_the_first_target_by_name_is_taken() -> None:
    assert await second_stage("a -> d; a -> c; a -> b [weight=-1];", Outcome()) == "c"


@pytest.mark.clause("edge-false-never", "ruling-no-eligible-edge")
async def test_without_an_eligible_edge_after_a_success_the_run_fails_and_says_so() -> None:
    end = await ended('start -> a; a -> exit [condition="outcome=fail"];', Script())
    assert end.code == "no_eligible_edge"
    assert "no eligible edge" in end.reason
    assert end.path == ["start", "a"]


@pytest.mark.clause("conditions-keys", "edge-order-1")
async def test_conditions_see_the_context_as_the_stage_left_it() -> None:
    updates: dict[str, JSONValue] = {"tests.failed": 0, "phase": "done"}
    edges = 'a -> b [condition="context.tests.failed=0 && phase=done && outcome!=fail"]; a -> c [weight=5];'
    assert await second_stage(edges, Outcome(context_updates=updates)) == "b"
    assert await second_stage(edges, Outcome(context_updates=updates | {"phase": "Done"})) == "c"


@pytest.mark.clause("conditions-keys")
async def test_conditions_see_what_the_run_was_given() -> None:
    edges = 'a -> b [condition="user.name=ada"]; a -> c [condition="user.name!=ada"];'
    assert await second_stage(edges, Outcome(), **{"user.name": "ada"}) == "b"
    assert await second_stage(edges, Outcome()) == "c"


@pytest.mark.clause("conditions-keys")
async def test_conditions_see_the_outcome_and_the_preferred_label_of_the_stage() -> None:
    edges = 'a -> b [condition="outcome=partial_success && preferred_label=Ship"]; a -> c;'
    assert await second_stage(edges, Outcome("partial_success", preferred_label="Ship")) == "b"
    assert await second_stage(edges, Outcome("partial_success", preferred_label="ship")) == "c"


@pytest.mark.clause("conditional-passes", "ruling-diamond")
async def test_a_diamond_routes_by_the_outcome_before_it() -> None:
    body = """start -> a -> check; check [shape=diamond, max_retries=3]
              check -> b [condition="outcome=fail"]; check -> c [condition="outcome=success"]; b -> exit; c -> exit;"""
    assert (await ended(body, Script(a=FAIL))).path == ["start", "a", "check", "b", "exit"]
    assert (await ended(body, Script())).path == ["start", "a", "check", "c", "exit"]


@pytest.mark.clause("conditional-passes")
async def test_a_diamond_passes_on_the_label_and_the_suggestions_and_repeats_no_updates() -> None:
    body = """start -> a -> check -> second; check [shape=diamond]; second [shape=diamond]
              second -> b; second -> c [label="[S] Ship"]; b -> exit; c -> exit;"""
    end = await ended(body, Script(a=Outcome(preferred_label="ship", context_updates={"count": 1})))
    assert end.path == ["start", "a", "check", "second", "c", "exit"]
    assert writes_of(end.events, "count") == [1]
