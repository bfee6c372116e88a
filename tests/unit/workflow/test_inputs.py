"""Parameters: bound, recorded, checked, read back, described."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.core.errors import InputTypeError, PerdureError
from perdure.workflow.inputs import Inputs, Parameter, parameters_of_function, parameters_of_type


@dataclass
class Line:
    start: int
    end: int


@dataclass
class Options:
    count: int
    label: str = "none"
    tags: list[str] = field(default_factory=list)
    computed: int = field(default=0, init=False)


def inputs(*parameters: Parameter, fill: bool = False) -> Inputs:
    return Inputs("example", parameters, fill=fill)


def test_a_raw_input_survives_the_journal() -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    some = inputs(Parameter("line", Line), Parameter("when"), Parameter("unused", int, 3))
    raw = some.bind((Line(1, 2),), {"when": when})
    recorded = some.dump(raw)
    assert recorded == b'{"line":{"end":2,"start":1},"when":{"$datetime":"2026-01-02T00:00:00+00:00"}}'
    assert some.load(json.loads(recorded)) == raw


def test_the_recorded_form_does_not_depend_on_the_order_of_arguments() -> None:
    some = inputs(Parameter("b"), Parameter("a"))
    assert some.dump(some.bind((), {"b": 1, "a": 2})) == some.dump(some.bind((1, 2), {})) == b'{"a":2,"b":1}'


def test_input_from_outside_is_validated_by_type() -> None:
    some = inputs(Parameter("line", Line), Parameter("count", int, 1))
    assert some.check({"line": {"start": 1, "end": 2}}) == {"line": Line(1, 2)}
    assert inputs().check(None) == {}


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (None, "'line' missing"),
        ([1], "takes an object of named values, not a list"),
        ({"line": {"start": 1, "end": 2}, "lines": 2}, "no parameter 'lines'"),
        ({"line": {"start": 1, "end": "2"}}, "$.line.end: expected int"),
    ],
)
def test_input_from_outside_that_does_not_fit_is_refused(tree: object, text: str) -> None:
    with pytest.raises(InputTypeError) as caught:
        inputs(Parameter("line", Line)).check(tree)
    assert text in caught.value.message


def test_a_recorded_input_that_no_longer_fits_is_refused() -> None:
    with pytest.raises(PerdureError, match=r"expected int"):
        inputs(Parameter("count", int)).load({"count": "1"})
    with pytest.raises(InputTypeError, match="no parameter 'gone'"):
        inputs(Parameter("count", int)).load({"count": 1, "gone": 2})


def test_a_dataclass_gives_parameters_with_defaults() -> None:
    parameters, problems = parameters_of_type(Options)
    assert problems == []
    some = inputs(*parameters, fill=True)
    assert some.names == ("count", "label", "tags")
    assert some.load({"count": 1}) == {"count": 1, "label": "none", "tags": []}
    assert some.load({"count": 1})["tags"] is not some.load({"count": 1})["tags"]
    assert some.bind((), {"count": 1}) == {"count": 1}, "a default is never recorded"


def test_a_mutable_default_is_not_given_away() -> None:
    default = {"list": [1]}
    some = inputs(Parameter("options", dict, default), fill=True)
    some.load({})["options"]["list"].append(2)
    assert default == {"list": [1]}
    assert some.load({}) == {"options": {"list": [1]}}


def test_types_by_name_are_all_required() -> None:
    parameters, problems = parameters_of_type({"n": int, "label": str})
    assert problems == []
    with pytest.raises(InputTypeError, match="'n', 'label' missing"):
        inputs(*parameters).bind((), {})


@pytest.mark.parametrize(
    ("declared", "code"),
    [
        ({"not a name": int}, "input_parameter_invalid"),
        ({1: int}, "input_parameter_invalid"),
        ([int], "input_type"),
        (int, "input_type"),
    ],
)
def test_declarations_that_are_none(declared: Any, code: str) -> None:
    assert [problem.code for problem in parameters_of_type(declared)[1]] == [code]


def test_parameters_of_a_function() -> None:
    def fn(run: Any, one: Line, two: int = 2, *, three: Any = None) -> None: ...

    assert parameters_of_function(fn, skip=1) == [
        Parameter("one", Line),
        Parameter("two", int, 2),
        Parameter("three", Any, None),
    ]


def test_the_schema_describes_all_parameters() -> None:
    sentinel = object()
    schema = inputs(
        Parameter("line", Line), Parameter("lines", list[Line], []), Parameter("any"), Parameter("odd", Any, sentinel)
    ).schema()
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["line", "any"]
    properties = schema["properties"]
    assert properties["any"] == {}
    assert properties["odd"] == {}, "a default that JSON cannot show is left out"
    assert properties["lines"]["default"] == []
    name = properties["lines"]["items"]["$ref"].removeprefix("#/$defs/")
    assert set(schema["$defs"][name]["properties"]) == {"start", "end"}


def test_two_classes_of_one_name_keep_their_own_schema() -> None:
    def other() -> type:
        @dataclass
        class Line:
            text: str

        return Line

    schema = inputs(Parameter("one", list[Line]), Parameter("two", list[other()])).schema()  # type: ignore[misc]
    shapes = [
        set(schema["$defs"][schema["properties"][name]["items"]["$ref"].removeprefix("#/$defs/")]["properties"])
        for name in ("one", "two")
    ]
    assert shapes == [{"start", "end"}, {"text"}]


def test_a_type_without_a_schema_leaves_the_others_described() -> None:
    class Opaque: ...

    schema = inputs(Parameter("opaque", Opaque), Parameter("count", int)).schema()
    assert schema["properties"]["opaque"] == {}
    assert schema["properties"]["count"]["type"] == "integer"
