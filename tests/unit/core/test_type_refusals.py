"""Which declared types can be recorded at all, and why not."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import subprocess
import sys
import threading
import typing
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pydantic
import pytest
from typing_extensions import TypeAliasType

from perdure.core.errors import ValueRefusedError
from perdure.core.secrets import Secret
from perdure.core.values import codec_for

JSONAlias = TypeAliasType("JSONAlias", "dict[str, JSONAlias] | list[JSONAlias] | str | int | None")
Lost = TypeAliasType("Lost", "list[NotThere]")  # type: ignore[name-defined]  # noqa: F821


class Color(enum.Enum):
    RED = "red"


class Handler(enum.Enum):
    BUILT_IN = object()


@dataclasses.dataclass
class Tree:
    value: int
    left: Tree | None = None
    children: list[Tree] = dataclasses.field(default_factory=list)


class Movie(TypedDict):
    title: str


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Ids(pydantic.RootModel[set[int]]):
    pass


class Page(pydantic.BaseModel):
    text: str
    on_open: Callable[[], None] | None = None


@dataclasses.dataclass
class Job:
    """Contains itself, and a lock beside that."""

    parent: Job | None
    lock: threading.Event


class Unresolved(NamedTuple):
    item: NotThere  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class UnresolvedRecord:
    item: NotThere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "declared",
    [
        Any,
        inspect.Parameter.empty,
        None,
        int,
        Secret,
        datetime | None,
        dict[str, list[tuple[int, ...]]],
        Color,
        Literal["a", 1],
        Tree,
        Movie,
        JSONAlias,
        Numbers,
        Page,
        Annotated[int, pydantic.Field(ge=0)],
        typing.Pattern[str],
        threading.Event | None,
        Annotated[Callable[[], None], pydantic.PlainSerializer(str)],
    ],
)
def test_a_type_that_can_be_recorded_has_no_refusal(declared: object) -> None:
    assert codec_for(declared).refusal is None


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (threading.Event, "nothing says how a Event is recorded"),
        (list[threading.Event], "nothing says how a Event is recorded"),
        (dict[str, tuple[int, threading.Event]], "nothing says how a Event is recorded"),
        (threading.Event | threading.Thread, "nothing says how a Event is recorded"),
        (Job, "nothing says how a Event is recorded"),
        (Job | threading.Thread, "nothing says how a Event is recorded"),
        (Annotated[threading.Event, pydantic.Field()], "nothing says how a "),
        (Callable[[], None], "Callable[[], None] has no form in JSON"),
        (type[int], "type[int] has no form in JSON"),
        (Ids, "Ids has sets inside"),
        (Handler, "Handler cannot be recorded: "),
        ("Elsewhere", "the annotation 'Elsewhere' is not resolved"),
        (Lost, "the type alias Lost cannot be resolved: name 'NotThere' is not defined"),
        (Unresolved, "the annotations of Unresolved cannot be resolved: name 'NotThere' is not defined"),
        (UnresolvedRecord, "the annotations of UnresolvedRecord cannot be resolved: name 'NotThere' is not defined"),
    ],
)
def test_the_refusal_of_a_type_says_why_it_cannot_be_recorded(declared: object, reason: str) -> None:
    refusal = codec_for(declared).refusal
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize("declared", [threading.Event, type[int], Ids, Handler, "Elsewhere", Lost])
def test_a_type_with_a_refusal_still_refuses_each_value(declared: object) -> None:
    for value in (None, 1, threading.Event(), Handler.BUILT_IN, int):
        with pytest.raises(ValueRefusedError):
            codec_for(declared).dump(value)


def test_a_name_may_be_defined_after_the_refusal_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Letter:
        stamp: Later  # type: ignore[name-defined]  # noqa: F821

    class Parcel(pydantic.BaseModel):
        stamp: Later  # type: ignore[name-defined]  # noqa: F821

    for declared in (Letter, Parcel):
        refusal = codec_for(declared).refusal
        assert refusal is not None
        assert "cannot be resolved" in refusal
        assert "'Later'" in refusal
    monkeypatch.setitem(globals(), "Later", Color)
    for declared in (Letter, Parcel):
        codec = codec_for(declared)
        assert codec.refusal is None
        assert codec.dump(codec.load(b'{"stamp":"red"}')) == b'{"stamp":"red"}'


def test_a_model_that_names_a_later_class_is_read_before_it_has_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    class Order(pydantic.BaseModel):
        color: LaterColor  # type: ignore[name-defined]  # noqa: F821

    monkeypatch.setitem(globals(), "LaterColor", Color)
    loaded = codec_for(Order).load(b'{"color":"red"}')
    assert loaded == Order(color=Color.RED)


def test_named_tuples_whose_annotations_are_unresolved_are_refused_by_a_typed_error() -> None:
    with pytest.raises(ValueRefusedError, match="annotations of Unresolved cannot be resolved: name 'NotThere'"):
        codec_for(Unresolved).dump(Unresolved(1))


def test_the_refusal_of_a_plain_python_type_loads_no_pydantic() -> None:
    code = """
import sys, dataclasses
from perdure.core.values import codec_for
@dataclasses.dataclass
class Doc:
    name: str
    more: "dict[str, Doc] | None" = None
assert codec_for(Doc).refusal is None
assert codec_for("Elsewhere").refusal is not None
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
