"""What happens between reading and validation: `$goal`, the stylesheet, then transforms of one's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from perdure.core.errors import DefinitionError
from perdure.pipeline.document import Attribute, Document, Position
from perdure.pipeline.goal import expand_goal
from perdure.pipeline.transforms import Transforms, prepare
from tests.unit.pipeline.documents import document

NONE = Transforms()


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("Reach $goal.", "Reach THE $goal."),
        ("$goal$goal", "THE $goalTHE $goal"),
        ("$goals and $goal_2 and $Goal", "$goals and $goal_2 and $Goal"),
        ("nothing", "nothing"),
    ],
)
def test_the_goal_is_put_in_once(text: str, expanded: str) -> None:
    assert expand_goal(text, "THE $goal") == expanded


@pytest.mark.clause("transform-order")
def test_the_goal_is_put_into_prompts_and_nothing_else() -> None:
    given = document({"n": {"prompt": "Do $goal", "tool_command": "echo $goal"}}, graph={"goal": "it"})
    node = prepare(given, NONE).nodes["n"]
    assert (node.get("prompt"), node.get("tool_command")) == ("Do it", "echo $goal")


def test_without_a_goal_nothing_is_put_in() -> None:
    assert prepare(document({"n": {"prompt": "Do $goal!"}}), NONE).nodes["n"].get("prompt") == "Do !"


def test_a_goal_that_is_a_number_is_put_in_as_it_is_written() -> None:
    given = document({"n": {"prompt": "Do $goal"}}, graph={"goal": 5})
    assert prepare(given, NONE).nodes["n"].get("prompt") == "Do 5"


@pytest.mark.clause("stylesheet-applied")
def test_the_stylesheet_is_applied() -> None:
    given = document({"n": {}, "m": {"llm_model": "own"}}, graph={"model_stylesheet": "* { llm_model: styled }"})
    prepared = prepare(given, NONE)
    assert [prepared.nodes[name].get("llm_model") for name in "nm"] == ["styled", "own"]
    assert prepared.nodes["n"].attributes["llm_model"].position == given.attributes["model_stylesheet"].position


def test_a_stylesheet_that_cannot_be_read_changes_nothing() -> None:
    given = document({"n": {}}, graph={"model_stylesheet": "* { llm_model: a } oops"})
    assert prepare(given, NONE) == given


def test_the_document_that_was_read_stays_as_it_is() -> None:
    def rename(changed: Document) -> Document:
        changed.id = "H"
        changed.attributes["label"] = Attribute("l", Position(1, 1))
        changed.nodes["n"].attributes.clear()
        changed.edges[0].attributes.clear()
        del changed.nodes["x"]
        return changed

    given = document(
        {"n": {"prompt": "$goal"}, "x": {}},
        [("n", "n", {"weight": 1})],
        {"goal": "g", "model_stylesheet": "* { llm_model: m }"},
    )
    before = copy.deepcopy(given)
    assert prepare(given, [rename]).id == "H"
    assert given == before


@pytest.mark.clause("transform-order")
def test_transforms_of_ones_own_come_last_and_in_their_order() -> None:
    transforms = Transforms()
    seen: list[tuple[str, object]] = []

    @transforms
    def first(changed: Document) -> Document:
        seen.append(("first", changed.nodes["n"].get("prompt")))
        changed.nodes["n"].attributes["prompt"] = Attribute("by first", Position(1, 1))
        return changed

    @transforms
    def second(changed: Document) -> Document:
        seen.append(("second", changed.nodes["n"].get("prompt")))
        return changed

    transforms(first)
    given = document({"n": {"prompt": "$goal"}}, graph={"goal": "g"})
    assert prepare(given, transforms).nodes["n"].get("prompt") == "by first"
    assert seen == [("first", "g"), ("second", "by first")]
    transforms.remove(first)
    assert list(transforms) == [second]


def test_preparing_twice_changes_nothing_more() -> None:
    given = document({"n": {"prompt": "$goal"}}, graph={"goal": "$g", "model_stylesheet": "* { llm_model: m }"})
    once = prepare(given, NONE)
    assert prepare(once, NONE) == once


def test_a_transform_that_returns_no_document_is_refused_by_its_name() -> None:
    def forgetful(changed: Document) -> Any:
        return None

    with pytest.raises(DefinitionError, match="the transform forgetful returned NoneType") as caught:
        prepare(document({}), [forgetful])
    assert caught.value.ids == {"transform": "forgetful"}


def test_a_transform_that_leaves_an_edge_to_nowhere_is_refused() -> None:
    def cut(changed: Document) -> Document:
        del changed.nodes["b"]
        return changed

    with pytest.raises(DefinitionError, match="a -> b, but there is no node 'b'"):
        prepare(document({"a": {}, "b": {}}, [("a", "b")]), [cut])
