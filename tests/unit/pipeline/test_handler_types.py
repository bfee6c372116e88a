"""Which handler a node has: by its type, its shape or its name."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from perdure.pipeline.handler_types import BUILT_IN, handler_type
from tests.unit.pipeline.documents import Attributes, document


def type_of(
    name: str, given: Attributes, *, defaults: Attributes | None = None, registered: Collection[str] = ()
) -> str:
    return handler_type(document({name: given}, defaults=defaults).nodes[name], registered)


@pytest.mark.parametrize(
    ("shape", "handler"),
    [
        ("Mdiamond", "start"),
        ("Msquare", "exit"),
        ("box", "codergen"),
        ("hexagon", "wait.human"),
        ("diamond", "conditional"),
        ("component", "parallel"),
        ("tripleoctagon", "parallel.fan_in"),
        ("parallelogram", "tool"),
        ("house", "stack.manager_loop"),
        ("ellipse", "codergen"),
        ("mdiamond", "codergen"),
    ],
)
@pytest.mark.clause("types-shape")
def test_the_shape_says_the_handler(shape: str, handler: str) -> None:
    assert type_of("n", {"shape": shape}) == handler


def test_a_node_without_a_shape_is_a_box() -> None:
    assert type_of("n", {}) == "codergen"


@pytest.mark.parametrize(
    ("name", "handler"),
    [("start", "start"), ("Start", "start"), ("exit", "exit"), ("end", "exit")],
)
@pytest.mark.clause("types-shape")
def test_start_and_exit_go_by_their_ids(name: str, handler: str) -> None:
    assert type_of(name, {}) == handler
    assert type_of(name, {"shape": "box"}) == handler
    assert type_of(name, {"shape": "circle"}) == handler
    assert type_of(name, {}, defaults={"shape": "hexagon"}) == handler


@pytest.mark.parametrize("name", ["START", "Exit", "End", "starts", "finish"])
def test_no_other_id_means_anything(name: str) -> None:
    assert type_of(name, {}) == "codergen"


def test_a_shape_of_its_own_wins_over_the_id() -> None:
    assert type_of("start", {"shape": "hexagon"}) == "wait.human"
    assert type_of("end", {"shape": "Mdiamond"}) == "start"


@pytest.mark.clause("types-type")
def test_the_type_wins_over_shape_and_id() -> None:
    assert type_of("n", {"shape": "hexagon", "type": "tool"}) == "tool"
    assert type_of("start", {"shape": "Mdiamond", "type": "codergen"}) == "codergen"
    assert type_of("n", {"shape": "hexagon", "type": ""}) == "wait.human"


@pytest.mark.clause("types-type")
def test_an_unknown_type_falls_back_to_codergen() -> None:
    assert type_of("n", {"shape": "hexagon", "type": "unheard.of"}) == "codergen"
    assert type_of("n", {"shape": "hexagon", "type": "unheard.of"}, registered={"unheard.of"}) == "unheard.of"


def test_the_nine_handlers_of_the_dialect() -> None:
    assert len(BUILT_IN) == 9
