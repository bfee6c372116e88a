"""Values: what may be recorded, and that it comes back as it was."""

from __future__ import annotations

import base64
import collections
import dataclasses
import enum
import inspect
import math
import pathlib
import subprocess
import sys
import threading
import traceback
import typing
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Required, TypedDict, TypeVar
from uuid import UUID, uuid1, uuid4
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from perdure.core.canonical import SAFE_INTEGER, canonical, parse
from perdure.core.errors import InputTypeError, SecretError, ValueRefusedError, ValueTooLargeError
from perdure.core.secrets import Secret
from perdure.core.values import HARD_LIMIT_BYTES, MAX_DEPTH, Codec, codec_for, differing_path, is_scalar

T = TypeVar("T")
JSONAlias = TypeAliasType("JSONAlias", "dict[str, JSONAlias] | list[JSONAlias] | str | int | None")
ANY: Codec[object] = codec_for(Any)
BERLIN = ZoneInfo("Europe/Berlin")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Planet(enum.Enum):
    EARTH = (5.976e24, 6.37814e6)
    MARS = (6.421e23, 3.3972e6)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(enum.StrEnum):
    ADA = "ada"


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Handler(enum.Enum):
    BUILT_IN = object()


@dataclasses.dataclass
class Item:
    name: str
    price: float
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class SpecialItem(Item):
    extra: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    id: UUID
    items: list[Item]
    placed: datetime
    blob: bytes = b""
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str | None = None


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Trimmed:
    text: str

    def __post_init__(self) -> None:
        self.text = self.text.strip()


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError("must be positive")


@dataclasses.dataclass
class Counted:
    start: int
    total: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Seeded:
    seed: dataclasses.InitVar[int]
    value: int = 0

    def __post_init__(self, seed: int) -> None:
        self.value = seed


@dataclasses.dataclass(eq=False)
class Nameless:
    number: int


@dataclasses.dataclass(frozen=True, eq=False)
class Anonymous:
    number: int


@pydantic.dataclasses.dataclass
class Checked:
    number: Annotated[int, pydantic.Field(ge=0)]
    alias: str = pydantic.Field(default="", alias="other")


@pydantic.dataclasses.dataclass
class SwappedData:
    a: int = pydantic.Field(alias="b")
    b: int = pydantic.Field(alias="a")


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Partial(TypedDict, total=False):
    a: Required[int]
    b: str


Odd = TypedDict("Odd", {"$ref": int, "a b": str})


class Model(pydantic.BaseModel):
    name: str
    when: datetime | None = None
    tags: set[str] = pydantic.Field(default_factory=set)
    blob: bytes = b""
    big: int = 0
    data: Any = None
    price: Decimal = Decimal(0)


class SubModel(Model):
    extra: int = 0


class Aliased(pydantic.BaseModel):
    user_name: str = pydantic.Field(alias="userName")
    age: Annotated[int, pydantic.Field(ge=0)] = 0


class Swapped(pydantic.BaseModel):
    a: int = pydantic.Field(alias="b")
    b: int = pydantic.Field(alias="a")


class Open(pydantic.BaseModel, extra="allow"):
    known: int


class Closed(pydantic.BaseModel, extra="forbid"):
    known: int


class Shouting(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def loud(cls, value: str) -> str:
        return value + "!"


class Hidden(pydantic.BaseModel):
    shown: int
    _hidden: int = 0


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


class Wrapper(pydantic.BaseModel, Generic[T]):
    content: T


class Numbers(pydantic.RootModel[list[int]]):
    pass


class WithSecret(pydantic.BaseModel):
    token: Secret
    url: pydantic.HttpUrl | None = None


def same(a: object, b: object) -> bool:
    """Equal, and of equal types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, datetime) and isinstance(b, datetime):
        return a == b and a.tzinfo == b.tzinfo and a.utcoffset() == b.utcoffset()
    return a == b


def comes_back(declared: object, value: object) -> bytes:
    """Dump, check that the bytes are canonical and that the value comes back; give the bytes."""
    codec = codec_for(declared)
    data = codec.dump(value)
    assert canonical(parse(data)) == data
    assert same(codec.load(data), value)
    assert same(codec.load_json(codec.tree(value)), value)
    assert codec.dump(codec.load(data)) == data
    return data


def refused(declared: object, value: object, match: str | None = None) -> ValueRefusedError:
    with pytest.raises(ValueRefusedError, match=match) as caught:
        codec_for(declared).dump(value)
    assert type(caught.value) is ValueRefusedError
    assert str(caught.value.ids["path"]).startswith("$")
    return caught.value


# --- plain data and tagged text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"null"),
        (True, b"true"),
        (0, b"0"),
        (-7, b"-7"),
        ("", b'""'),
        ("é☃\U0001f600", '"é☃\U0001f600"'.encode()),
        (1.5, b"1.5"),
        ([], b"[]"),
        ({}, b"{}"),
        ({"b": [1, "x", None], "a": {"c": False}}, b'{"a":{"c":false},"b":[1,"x",null]}'),
        ({"\ufb33": 1, "\U0001f600": 2}, '{"\U0001f600":2,"\ufb33":1}'.encode()),
    ],
)
def test_plain_json_data_is_recorded_as_it_is(value: object, data: bytes) -> None:
    assert comes_back(Any, value) == data
    assert comes_back(inspect.Parameter.empty, value) == data
    assert comes_back(object, value) == data


@pytest.mark.parametrize(
    ("value", "tag", "text"),
    [
        (SAFE_INTEGER + 1, "$int", "9007199254740992"),
        (-SAFE_INTEGER - 1, "$int", "-9007199254740992"),
        (2**100, "$int", str(2**100)),
        (b"", "$bytes", ""),
        (b"\x00\xff", "$bytes", "AP8="),
        (datetime(2024, 2, 29, 12, 30, 0, 5), "$datetime", "2024-02-29T12:30:00.000005"),
        (datetime(2024, 2, 29, tzinfo=UTC), "$datetime", "2024-02-29T00:00:00+00:00"),
        (
            datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
            "$datetime",
            "2024-02-29T00:00:00-03:30",
        ),
        (datetime(2024, 7, 1, 9, tzinfo=BERLIN), "$datetime", "2024-07-01T09:00:00+02:00[Europe/Berlin]"),
        (date(2024, 2, 29), "$date", "2024-02-29"),
        (time(1, 2, 3), "$time", "01:02:03"),
        (time(1, 2, 3, 4, tzinfo=UTC), "$time", "01:02:03.000004+00:00"),
        (timedelta(hours=25, microseconds=1), "$timedelta", "P1DT3600.000001S"),
        (timedelta(seconds=-1), "$timedelta", "-P0DT1S"),
        (Decimal("1.10"), "$decimal", "1.10"),
        (Decimal("-0"), "$decimal", "-0"),
        (Decimal("1E+5"), "$decimal", "1E+5"),
        (UUID(int=5), "$uuid", "00000000-0000-0000-0000-000000000005"),
        (Secret("env:TOKEN"), "$secret", "env:TOKEN"),
    ],
)
def test_what_json_lacks_travels_as_tagged_text(value: object, tag: str, text: str) -> None:
    assert parse(comes_back(Any, value)) == {tag: text}
    assert parse(comes_back(type(value), value)) == {tag: text}
    comes_back(Any, {"k": [value, {"deep": value}]})
    comes_back(dict[str, Any], {"k": [value]})
    comes_back(list[type(value)], [value])  # type: ignore[misc]
    loaded = ANY.load(ANY.dump(value))
    assert str(loaded) == str(value)


def test_a_users_own_key_with_a_dollar_is_escaped_and_comes_back() -> None:
    assert comes_back(Any, {"$int": "5"}) == b'{"$$int":"5"}'
    assert comes_back(Any, {"$": 1, "$$": 2, "$a": 3, "a$": 4}) == b'{"$$":1,"$$$":2,"$$a":3,"a$":4}'
    assert comes_back(dict[str, int], {"$ref": 1}) == b'{"$$ref":1}'
    assert comes_back(dict[str, Any], {"k": {"$bytes": b"x"}}) == b'{"k":{"$$bytes":{"$bytes":"eA=="}}}'
    assert comes_back(Odd, {"$ref": 1, "a b": "x"}) == b'{"$$ref":1,"a b":"x"}'
    comes_back(Any, "$text")
    comes_back(Any, ["$int", {"a": "$int"}])


def test_whole_floats_are_written_as_integers() -> None:
    assert ANY.dump(1.0) == b"1"
    assert type(ANY.load(b"1")) is int
    assert codec_for(float).dump(1.0) == codec_for(float).dump(1) == b"1"
    assert type(codec_for(float).load(b"1")) is float
    assert comes_back(float, -2.0) == b"-2"
    assert comes_back(list[float], [1.0, 2.5, 1e300]) == b"[1,2.5,1e+300]"
    assert comes_back(Any, 1e17) == b"100000000000000000"
    assert comes_back(float, 1e17) == b"100000000000000000"


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: not number.is_integer() or abs(number) > 2**53
    ),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(["$", "$int", "$$", "\ufb33", "\U0001f600"]),
    st.binary(max_size=8),
    st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.timezones())),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
)
_plain = st.recursive(
    _scalars,
    lambda children: st.one_of(
        st.lists(children, max_size=4),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["$", "$int", "$bytes", "$$x", "\U0001f600", "\ufb33"]), st.text("ab$", max_size=3)
            ),
            children,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(_plain)
def test_undeclared_data_comes_back_as_it_was(value: object) -> None:
    comes_back(Any, value)


@settings(max_examples=200, deadline=None)
@given(_plain)
def test_the_quick_way_and_the_careful_way_write_the_same(value: object) -> None:
    assert ANY.dump(value) == ANY._dump_carefully(value, "$")
    codec = codec_for(list[dict[str, Any] | list[Any] | str | int | None])
    if type(value) in (dict, list, str, int, type(None)):
        assert codec.dump([value]) == codec._dump_carefully([value], "$") == b"[" + ANY.dump(value) + b"]"


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("ab$é", max_size=3), st.lists(_scalars, max_size=3), max_size=3))
def test_declared_containers_of_undeclared_data_come_back(value: dict[str, list[object]]) -> None:
    comes_back(dict[str, list[Any]], value)
    assert codec_for(dict[str, list[Any]]).dump(value) == ANY.dump(value)


# --- types that are declared ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (None, None),
        (type(None), None),
        (bool, True),
        (int, 5),
        (int, 2**70),
        (str, "x"),
        (float, 0.1),
        (list, [1, "a", None]),
        (list[int], [1, 2**60]),
        (Sequence[str], ["a"]),
        (dict, {"a": [1]}),
        (Mapping[str, int], {"a": 1}),
        (dict[str, list[float]], {"a": [0.5]}),
        (tuple, (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (tuple[int, str], (1, "a")),
        (tuple[()], ()),
        (tuple[tuple[int, ...], list[str]], ((1,), ["a"])),
        (typing.Tuple[int, str], (1, "a")),  # noqa: UP006
        (typing.List, [1]),  # noqa: UP006
        (set[int], {3, 1, 2}),
        (set, {1, "a"}),
        (frozenset[str], frozenset({"b", "a"})),
        (set[tuple[int, str]], {(1, "a"), (2, "b")}),
        (set[frozenset[int]], {frozenset({1, 2}), frozenset({3})}),
        (int | None, None),
        (int | None, 5),
        (typing.Optional[str], "x"),  # noqa: UP045
        (list[int] | dict[str, int] | None, {"a": 1}),
        (str | int, "5"),
        (str | int, 5),
        (int | float, 5),
        (int | float, 5.5),
        (float | int, 5),
        (bool | int, True),
        (datetime | str, "2024-01-01"),
        (datetime | str, datetime(2024, 1, 1)),
        (list[int] | list[str], ["a"]),
        (Item | Order | None, Item("a", 1.5)),
        (Cat | Dog, Dog(tricks=["sit"])),
        (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], Cat(lives=3)),
        (Any | None, {"a": None}),
        (Literal["a", 1, None, True], 1),
        (Literal["a", 1, None, True], True),
        (Literal["a", 1, None], None),
        (Literal[Color.RED, "x"], Color.RED),
        (Color, Color.BLUE),
        (Planet, Planet.MARS),
        (Level, Level.HIGH),
        (Name, Name.ADA),
        (Access, Access.READ | Access.WRITE),
        (Access, Access(0)),
        (list[Color], [Color.RED, Color.BLUE]),
        (Item, Item("a", 1.0, {"x", "y"})),
        (Order, Order(uuid4(), [Item("a", 2.0)], datetime.now(UTC), b"\xff", {"$k": b"x", "t": date(2024, 1, 1)}, "n")),
        (Tree, Tree(1, [Tree(2, [Tree(3)]), Tree(4)])),
        (Box[int], Box(1, [2])),
        (Box[Item], Box(Item("a", 1.5), [])),
        (Box[dict[str, Color]], Box({"a": Color.RED})),
        (Box, Box("anything")),
        (Trimmed, Trimmed("text")),
        (Positive, Positive(1)),
        (Point, Point(1, 2.0)),
        (list[Point], [Point(1)]),
        (collections.namedtuple("Pair", "a b"), None),
        (Movie, {"title": "x"}),
        (Movie, {"title": "x", "year": 1999}),
        (Partial, {"a": 1}),
        (Model, Model(name="x", when=datetime.now(UTC), tags={"b", "a"}, blob=b"\xff", big=2**80, data={"$a": b"x"})),
        (SubModel, SubModel(name="x", extra=5)),
        (Aliased, Aliased(userName="x", age=3)),
        (Swapped, Swapped(a=1, b=2)),
        (Open, Open(known=1, other=b"x")),  # type: ignore[call-arg]
        (Hidden, Hidden(shown=1)),
        (Wrapper[int], Wrapper[int](content=5)),
        (Wrapper[list[Item]], Wrapper[list[Item]](content=[Item("a", 1.5)])),
        (Numbers, Numbers([1, 2])),
        (WithSecret, WithSecret(token=Secret("env:TOKEN"), url="https://example.org/a")),  # type: ignore[arg-type]
        (dict[int, str], {1: "a", -2: "b"}),
        (dict[UUID, int], {UUID(int=1): 1}),
        (dict[date, int], {date(2024, 1, 1): 1}),
        (dict[Color, int], {Color.RED: 1}),
        (dict[Literal["$a", "b"], int], {"$a": 1}),
        (dict[bool, int], {True: 1, False: 0}),
        (dict[float, int], {1.0: 1, 2.5: 2}),
        (dict[tuple[int, str], int], {(1, "a"): 1}),
        (dict[int | UUID, int], {1: 1, UUID(int=1): 2}),
        (Annotated[int, pydantic.Field(ge=0)], 5),
        (Annotated[str, "only a remark"], "x"),
        (Annotated[list[bytes], pydantic.Field(max_length=2)], [b"\xff"]),
        (pathlib.PurePosixPath, pathlib.PurePosixPath("/a/b")),
        (collections.deque[int], collections.deque([1, 2])),
        (complex, 1j),
        (JSONAlias, {"a": [1, {"b": "c"}]}),
        (pydantic.JsonValue, {"a": [1.5]}),
        (typing.NewType("UserId", int), 5),
        (TypeVar("Bounded", bound=int), 5),
        (Secret, Secret("file:/run/secrets/x")),
        (dict[str, Secret], {"token": Secret("env:T")}),
    ],
)
def test_a_value_of_its_declared_type_comes_back(declared: object, value: object) -> None:
    if isinstance(declared, type) and declared.__name__ == "Pair":
        value = declared(1, ["x"])
    comes_back(declared, value)
    codec = codec_for(declared)
    assert codec is codec_for(declared)
    assert same(codec.check_input(value), value)
    if is_scalar(value) and codec.plain:
        assert same(codec.load(codec.dump(value)), value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (int, "5"),
        (int, True),
        (int, 5.0),
        (int, Level.LOW),
        (bool, 1),
        (float, "1.5"),
        (float, True),
        (float, Level.LOW),
        (float, 2**53 + 1),
        (float, 10**400),
        (str, 5),
        (str, b"x"),
        (str, Name.ADA),
        (None, 0),
        (bytes, bytearray(b"x")),
        (date, datetime(2024, 1, 1)),
        (datetime, date(2024, 1, 1)),
        (list[int], [1, "2"]),
        (list[int], (1, 2)),
        (list[bool], [1]),
        (Sequence[str], "abc"),
        (tuple[int, ...], [1, 2]),
        (tuple[int, str], (1, "a", 2)),
        (tuple[int, str], (1,)),
        (set[int], frozenset({1})),
        (frozenset[int], {1}),
        (set[int], {True}),
        (dict[str, int], collections.OrderedDict(a=1)),
        (dict[str, int], collections.defaultdict(int)),
        (dict[str, int], {"a": "1"}),
        (dict[str, int], {1: 1}),
        (dict[int, int], {"1": 1}),
        (dict[int, int], {True: 1}),
        (int | None, "5"),
        (int | str, True),
        (Literal["a", 1], True),
        (Literal["a", 1], 1.0),
        (Literal["a", 1], "b"),
        (Literal["a"], ["a"]),
        (Color, "red"),
        (Level, 1),
        (Access, 1),
        (Handler, Handler.BUILT_IN),
        (Item, SpecialItem("a", 1.5)),
        (Item, {"name": "a", "price": 1.5}),
        (Item, Item("a", "1.5")),  # type: ignore[arg-type]
        (list[Item], [SpecialItem("a", 1.5)]),
        (Box[int], Box("x")),
        (Trimmed, Trimmed.__new__(Trimmed)),
        (Seeded, Seeded(5)),
        (Point, (1, 2.0)),
        (tuple[int, float], Point(1, 2.0)),
        (Movie, {"year": 1999}),
        (Movie, {"title": "x", "director": "y"}),
        (Partial, {"b": "x"}),
        (Model, SubModel(name="x")),
        (Model, {"name": "x"}),
        (Model, Model.model_construct(name=5)),
        (Model, Model(name="x", data=object())),
        (Model, Model(name="x", data=(1, 2))),
        (Aliased, Aliased.model_construct(user_name="x", age=-1)),
        (Shouting, Shouting(text="x")),
        (Annotated[int, pydantic.Field(ge=0)], -5),
        (Annotated[int, pydantic.Field(ge=0)], "5"),
        (Annotated[str, pydantic.StringConstraints(to_lower=True)], "ABC"),
        (pydantic.SecretStr, pydantic.SecretStr("value")),
        (collections.deque[set[int]], collections.deque([{1}])),
        (collections.deque[int], [1]),
        (threading.Lock, threading.Lock()),
        (typing.Callable, print),
        (type[int], int),
        ("Item", Item("a", 1.5)),
    ],
)
def test_what_does_not_fit_its_declared_type_is_refused(declared: object, value: object) -> None:
    refused(declared, value)


def test_a_lost_subclass_is_named() -> None:
    error = refused(list[Item], [Item("a", 1.0), SpecialItem("b", 2.0)], "own fields would be lost")
    assert error.message.startswith("$[1]: expected Item, got SpecialItem")


@pytest.mark.parametrize(
    "value",
    [
        (1, 2), {1}, frozenset(), Color.RED, Level.LOW, Name.ADA, Access.READ, Item("a", 1.5), Point(1),
        Model(name="x"),
        collections.OrderedDict(a=1), collections.defaultdict(int), collections.Counter("a"), collections.deque([1]),
        bytearray(b"x"), memoryview(b"x"), object(), print, int, 1j, range(3), Ellipsis, iter([]), pathlib.Path("x"),
    ],
)  # fmt: skip
def test_types_that_nothing_declares_are_refused(value: object) -> None:
    name = type(value).__qualname__
    refused(Any, value, "which nothing declares")
    error = refused(Any, {"a": [1, {"b": value}]}, "which nothing declares")
    assert error.message.startswith(f"$.a[1].b: a value of type {name}")
    refused(list[Any], [value])
    refused(dict[str, Any], {"k": value})
    refused(inspect.Parameter.empty, value)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "é\ud800"])
def test_lone_surrogates_are_refused(text: str) -> None:
    for declared, value in ((Any, text), (str, text), (list[str], [text]), (Item, Item(text, 1.5)), (set[str], {text})):
        refused(declared, value, "surrogate")
    refused(Any, {"a": {text: 1}}, r"^\$\.a: a lone surrogate")
    refused(dict[str, int], {text: 1}, "surrogate")
    with pytest.raises(ValueRefusedError, match="surrogate"):
        codec_for(str).check_input(text)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_refused(number: float) -> None:
    error = refused(Any, {"items": [1, 2, 3, {"price": number}]})
    assert error.message == f"$.items[3].price: {number} is no JSON number"
    assert error.ids == {"path": "$.items[3].price"}
    for declared, value in ((float, number), (list[float], [0.5, number]), (Item, Item("a", number)), (Any, number)):
        refused(declared, value, "no JSON number")
    refused(Any, Decimal(number), "no number that can be recorded")
    refused(Decimal, Decimal(number))
    refused(Any, Decimal("sNaN"))


def test_keys_that_are_no_text_are_refused() -> None:
    error = refused(Any, {"a": {1: 2}}, "a key of type int is no text")
    assert error.ids == {"path": "$.a"}
    for key in (None, True, 1.5, (1,), b"a", Name.ADA, type("Text", (str,), {})("a")):
        refused(Any, {key: 1}, "is no text")
        refused(dict[str, int], {key: 1}, "is no text")


def test_key_collisions_are_refused() -> None:
    refused(dict[int | str, int], {1: 1, "1": 2})
    refused(dict[str | UUID, int], {UUID(int=1): 1, str(UUID(int=1)): 2})
    refused(dict[int | str, int], {1: 1})  # it would come back as text
    comes_back(dict[int | str, int], {"a": 1})

    class Half(enum.Enum):
        A = 0.5
        B = "0.5"

    refused(dict[Half, int], {Half.A: 1, Half.B: 2})


def test_values_deeper_than_the_limit_are_refused() -> None:
    def nested(levels: int, *, mapping: bool = False, leaf: object = 1) -> object:
        value = leaf
        for _ in range(levels):
            value = {"k": value} if mapping else [value]
        return value

    assert MAX_DEPTH == 64
    for leaf in (1, b"x", 2.0):
        comes_back(Any, nested(64, leaf=leaf, mapping=True)) if leaf != 2.0 else ANY.dump(nested(64, leaf=leaf))
        for mapping in (True, False):
            refused(Any, nested(65, leaf=leaf, mapping=mapping), "nested deeper than 64")
    refused(Any, nested(100_000), "nested deeper than 64")
    refused(list[Any], nested(65), "nested deeper than 64")
    refused(dict[str, Any], nested(65, mapping=True), "nested deeper than 64")
    comes_back(list[Any], nested(64))
    tree = Tree(1)
    for _ in range(40):
        tree = Tree(1, [tree])
    refused(Tree, tree, "nested deeper than 64")


def test_cyclic_values_are_refused() -> None:
    cyclic: list[Any] = [1]
    cyclic.append([cyclic, cyclic])
    refused(Any, cyclic, r"^\$\[1\]\[0\]\[1\]\[0\]…: it contains itself")
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    refused(dict[str, Any], mapping, "contains itself")
    tree = Tree(1)
    tree.children.append(tree)
    refused(Tree, tree, "contains itself")
    refused(Tree | None, tree, "contains itself")
    with pytest.raises(ValueRefusedError, match="contains itself"):
        ANY.check_input(cyclic)


def test_a_shared_value_is_no_cycle() -> None:
    shared = [1]
    comes_back(Any, [shared, shared, {"a": shared}])


def test_a_value_over_the_hard_limit_is_refused() -> None:
    text = "x" * (HARD_LIMIT_BYTES - 2)
    assert len(codec_for(str).dump(text)) == HARD_LIMIT_BYTES
    for codec, value in ((codec_for(str), text + "x"), (ANY, text + "x"), (ANY, b"x" * (HARD_LIMIT_BYTES // 4 * 3))):
        with pytest.raises(ValueTooLargeError, match=r"^\$\.text: 67,108,8") as caught:
            codec.dump(value, "$.text")
        assert caught.value.ids["path"] == "$.text"


def test_too_many_digits_are_refused() -> None:
    refused(Any, 10**5000, "too many digits")
    refused(int, 10**5000, "too many digits")


def test_sets_are_sorted_by_canonical_bytes() -> None:
    assert comes_back(set[int], {10, 9, 1}) == b"[1,10,9]"
    assert comes_back(set[str], {"b", "a", "é", "Z"}) == '["Z","a","b","é"]'.encode()
    assert comes_back(set[int | str], {1, "1"}) == b'["1",1]'
    assert comes_back(Item, Item("a", 0.5, {"y", "x"})) == b'{"name":"a","price":0.5,"tags":["x","y"]}'
    assert b'"tags":["x","y"]' in comes_back(Model, Model(name="a", tags={"y", "x"}))


def test_a_set_whose_items_are_recorded_alike_is_refused() -> None:
    refused(set[Anonymous], {Anonymous(1), Anonymous(1)}, "two of its items are recorded alike")
    assert codec_for(set[Anonymous]).dump({Anonymous(1), Anonymous(2)}) == b'[{"number":1},{"number":2}]'


def test_ambiguous_unions_are_refused_where_they_lose() -> None:
    comes_back(Color | str, Color.RED)
    refused(Color | str, "red", "come back as")
    comes_back(Color | str, "green")
    comes_back(str | Color, "red")
    refused(str | Color, Color.RED, "come back as")
    comes_back(set[int] | list[int], {1})
    refused(set[int] | list[int], [1], "come back as")
    refused(Item | Box[int] | Positive | Counted | Nameless, Nameless(1), "come back as")
    comes_back(Tree | Positive | None, Positive(1))


def test_equal_annotations_with_another_order_of_their_unions_are_apart() -> None:
    assert (Color | str) == (str | Color)
    assert codec_for(Color | str).load(b'"red"') is Color.RED
    assert codec_for(str | Color).load(b'"red"') == "red"
    assert codec_for(list[str | Color]).load(b'["red"]') == ["red"]
    assert codec_for(list[Color | str]).load(b'["red"]') == [Color.RED]


def test_time_zones_that_would_be_lost_are_refused() -> None:
    class Own(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta:
            return timedelta(hours=1)

        def dst(self, moment: datetime | None) -> None:
            return None

        def tzname(self, moment: datetime | None) -> None:
            return None

    refused(Any, datetime(2024, 1, 1, tzinfo=Own()), "time zone .* would be lost")
    refused(Any, time(1, tzinfo=BERLIN), "time zone .* would be lost")
    with pytest.raises(ValueRefusedError, match="time zone"):
        codec_for(datetime).check_input(datetime(2024, 1, 1, tzinfo=Own()))


def test_both_hours_of_a_clock_change_come_back() -> None:
    for fold in (0, 1):
        moment = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=fold)
        loaded = ANY.load(ANY.dump(moment))
        assert isinstance(loaded, datetime)
        assert (loaded.utcoffset(), loaded.fold, loaded.tzinfo) == (moment.utcoffset(), fold, BERLIN)
    for fold in (0, 1):  # an hour that there never was
        moment = datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN, fold=fold)
        loaded = ANY.load(ANY.dump(moment))
        assert isinstance(loaded, datetime)
        assert (loaded.hour, loaded.utcoffset(), loaded.fold) == (2, moment.utcoffset(), fold)


def test_the_instant_stays_when_a_zones_rules_have_changed() -> None:
    loaded = ANY.load(b'{"$datetime":"2024-07-01T09:00:00+05:00[Europe/Berlin]"}')
    assert loaded == datetime(2024, 7, 1, 4, tzinfo=UTC)
    assert isinstance(loaded, datetime)
    assert loaded.tzinfo is BERLIN


def test_a_fixed_offset_of_pydantic_comes_back_as_one_of_python() -> None:
    moment = pydantic.TypeAdapter(datetime).validate_python("2024-01-01T00:00:00+01:00")
    loaded = ANY.load(ANY.dump(moment))
    assert loaded == moment
    assert isinstance(loaded, datetime)
    assert type(loaded.tzinfo) is timezone


# --- records ----------------------------------------------------------------------------------------------------------


def test_errors_name_the_place_in_a_record() -> None:
    order = Order(uuid1(), [Item("a", 1.0), Item("b", "x")], datetime.now(UTC))  # type: ignore[arg-type]
    assert refused(Order, order).message == "$.items[1].price: expected float, got str"
    with pytest.raises(ValueRefusedError, match=r"^\$\.order\.items\[1\]\.price: "):
        codec_for(Order).dump(order, "$.order")
    assert refused(Any, {"a b": {"é": {"": object}}}).ids["path"] == '$["a b"].é[""]'
    assert refused(Point, Point("x")).ids["path"] == "$.x"  # type: ignore[arg-type]
    assert refused(Model, Model.model_construct(name=1)).ids["path"] == "$.name"


def test_a_field_that_a_class_rewrites_is_refused() -> None:
    item = Trimmed("x")
    item.text = " x "
    assert refused(Trimmed, item).message == "$.text: it would not come back as it was"
    assert refused(list[Trimmed], [Trimmed("a"), item]).message == "$[1].text: it would not come back as it was"
    assert "$.text" in refused(Shouting, Shouting(text="x")).message


def test_a_field_that_its_class_would_not_take_is_refused() -> None:
    item = Positive(1)
    item.number = -1
    refused(Positive, item, "could not be read back: Positive refuses it: ValueError: must be positive")


def test_fields_outside_init_come_back() -> None:
    counted = Counted(1)
    counted.total = 5
    assert comes_back(Counted, counted) == b'{"start":1,"total":5}'


def test_classes_without_equality_come_back() -> None:
    loaded = codec_for(Nameless).load(codec_for(Nameless).dump(Nameless(5)))
    assert type(loaded) is Nameless
    assert loaded.number == 5


def test_private_attributes_of_a_model_are_not_lost_silently() -> None:
    model = Hidden(shown=1)
    model._hidden = 5
    refused(Hidden, model, "private attribute _hidden")


def test_models_are_recorded_by_their_fields_names() -> None:
    assert codec_for(Aliased).dump(Aliased(userName="x")) == b'{"age":0,"user_name":"x"}'


def test_unresolved_annotations_are_refused_by_name() -> None:
    Lost = TypeAliasType("Lost", "list[NotThere]")  # type: ignore[name-defined]  # noqa: F821
    refused(Lost, [1], "type alias Lost cannot be resolved: name 'NotThere'")

    @dataclasses.dataclass
    class Local:
        item: NotThere  # type: ignore[name-defined] # noqa: F821

    refused(Local, Local(1), "annotations of .*Local cannot be resolved: name 'NotThere'")
    refused("Elsewhere", 1, "annotation 'Elsewhere' is not resolved")


def test_pydantic_dataclasses_come_back() -> None:
    comes_back(Checked, Checked(5, other="x"))
    comes_back(SwappedData, SwappedData(a=1, b=2))
    with pytest.raises(InputTypeError):
        codec_for(Checked).load(b'{"number":-1,"alias":""}')


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        (int, b'"5"'),
        (int, b"1.5"),
        (int, b"true"),
        (int, b'{"$int":"x"}'),
        (int, b'{"$bytes":""}'),
        (str, b"5"),
        (str, b"null"),
        (float, b'"1"'),
        (bool, b"1"),
        (None, b"0"),
        (list[int], b'["a"]'),
        (list[int], b"{}"),
        (tuple[int, str], b"[1]"),
        (set[int], b"[1,1]"),
        (set[list[int]], b"[[1]]"),
        (dict[str, int], b'{"a":"b"}'),
        (dict[str, int], b'{"$int":"99999999999999999"}'),
        (dict[int, int], b'{"a":1}'),
        (dict[int, int], b'{"01":1}'),
        (int | None, b'"x"'),
        (int | str, b"1.5"),
        (Literal["a"], b'"b"'),
        (Literal[1], b"true"),
        (Color, b'"green"'),
        (Access, b"64"),
        (Access, b"-1"),
        (Access, b'"x"'),
        (Item, b'{"name":"a"}'),
        (Item, b'{"name":"a","price":1,"other":2}'),
        (Item, b'{"name":5,"price":1}'),
        (Item, b"[]"),
        (Positive, b'{"number":-1}'),
        (Point, b"[1]"),
        (Point, b'["a",1]'),
        (Movie, b"{}"),
        (Model, b'{"name":5}'),
        (Model, b"{}"),
        (Closed, b'{"known":1,"unknown":2}'),
        (Aliased, b'{"userName":"x"}'),
        (Aliased, b'{"user_name":"x","age":-1}'),
        (Numbers, b'["x"]'),
        (datetime, b'"2024-01-01T00:00:00"'),
        (datetime, b'{"$datetime":"yesterday"}'),
        (datetime, b'{"$datetime":5}'),
        (datetime, b'{"$datetime":"2024-01-01T00:00:00+01:00[No/Zone]"}'),
        (date, b'{"$date":"20240101"}'),
        (bytes, b'{"$bytes":"A"}'),
        (bytes, b'{"$bytes":"AB=="}'),
        (Decimal, b'{"$decimal":"1_0"}'),
        (Decimal, b'{"$decimal":"x"}'),
        (UUID, b'{"$uuid":"{00000000-0000-0000-0000-000000000005}"}'),
        (timedelta, b'{"$timedelta":"PT1H"}'),
        (Annotated[int, pydantic.Field(ge=0)], b"-1"),
        (Secret, b'{"$secret":"value"}'),
        (Any, b'{"$int":"5"}'),
        (Any, b'{"a":{"$bytes":7}}'),
    ],
)
def test_a_recorded_value_that_no_longer_validates_is_refused(declared: object, data: bytes) -> None:
    with pytest.raises(InputTypeError, match=r"^\$"):
        codec_for(declared).load(data)
    with pytest.raises(InputTypeError, match=r"^\$"):
        codec_for(declared).load_json(parse(data))


@pytest.mark.parametrize("data", [b"", b"{", b"nope", b'{"$nope":1}', b'{"$int":"1","b":2}', b'[{"$":1}]'])
def test_bytes_that_are_no_recorded_value_are_refused(data: bytes) -> None:
    with pytest.raises(ValueRefusedError):
        ANY.load(data)
    with pytest.raises((ValueRefusedError, InputTypeError)):
        codec_for(list[dict[str, Any]]).load(b"[" + data + b"]" if data[:1] == b"{" else data)


def test_a_field_that_was_added_with_a_default_is_filled_in() -> None:
    assert codec_for(Item).load(b'{"name":"a","price":1}') == Item("a", 1.0)
    assert codec_for(Model).load(b'{"name":"a"}') == Model(name="a")


def test_what_is_loaded_is_fresh() -> None:
    value = {"a": [1, {"b": [2.5]}], "c": []}
    for codec in (ANY, codec_for(dict[str, Any]), codec_for(dict[str, list[Any]])):
        tree = codec.tree(value)
        loaded = typing.cast("dict[str, Any]", codec.load_json(tree))
        loaded["a"].append("changed")
        loaded["a"][1]["b"].append("changed")
        loaded["c"].append("changed")
        assert tree == value == {"a": [1, {"b": [2.5]}], "c": []}
    tree = codec_for(list[str]).tree(["a"])
    codec_for(list[str]).load_json(tree).append("b")
    assert tree == ["a"]


def test_deep_recorded_values_never_end_the_process() -> None:
    for declared in (Any, list[Any], Tree):
        with pytest.raises((ValueRefusedError, InputTypeError)):
            codec_for(declared).load(b'{"$$a":' * 900 + b"1" + b"}" * 900 if declared is not Any else b"[" * 5000)
    data = b'{"value":1,"children":[' * 450 + b"]}" * 450
    with pytest.raises(ValueRefusedError, match="nested too deep"):
        codec_for(Tree).load(data)


# --- inputs from outside ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "outside", "value"),
    [
        (int, 5, 5),
        (int, {"$int": str(2**60)}, 2**60),
        (float, 5, 5.0),
        (str, "x", "x"),
        (Any, {"$ref": [1, 2.5]}, {"$ref": [1, 2.5]}),
        (Any, {"$int": "5"}, {"$int": "5"}),
        (dict[str, int], {"$k": 1}, {"$k": 1}),
        (dict[int, int], {"1": 1}, {1: 1}),
        (dict[UUID, int], {str(UUID(int=5)): 1}, {UUID(int=5): 1}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 2, 1], {1, 2}),
        (frozenset[int], {1}, frozenset({1})),
        (Color, "red", Color.RED),
        (Color, Color.RED, Color.RED),
        (Planet, [5.976e24, 6378140], Planet.EARTH),
        (Access, 3, Access.READ | Access.WRITE),
        (Literal["a", 1], 1, 1),
        (datetime, "2024-01-01T00:00:00Z", datetime(2024, 1, 1, tzinfo=UTC)),
        (datetime, {"$datetime": "2024-01-01T00:00:00"}, datetime(2024, 1, 1)),
        (datetime | None, "2024-01-01T00:00:00", datetime(2024, 1, 1)),
        (datetime | str, "2024-01-01T00:00:00", "2024-01-01T00:00:00"),
        (date, "2024-01-01", date(2024, 1, 1)),
        (time, "12:30", time(12, 30)),
        (timedelta, "90s", timedelta(seconds=90)),
        (timedelta, "PT1H30M", timedelta(minutes=90)),
        (timedelta, 1.5, timedelta(seconds=1.5)),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, 1.1, Decimal("1.1")),
        (Decimal, 5, Decimal(5)),
        (UUID, "{00000000-0000-0000-0000-000000000005}", UUID(int=5)),
        (bytes, "é", "é".encode()),
        (bytes, {"$bytes": "/w=="}, b"\xff"),
        (Secret, "env:TOKEN", Secret("env:TOKEN")),
        (Secret, {"$secret": "env:TOKEN"}, Secret("env:TOKEN")),
        (Item, {"name": "a", "price": 2, "tags": ["x"]}, Item("a", 2.0, {"x"})),
        (list[Item], [Item("a", 1.5), {"name": "b", "price": 1}], [Item("a", 1.5), Item("b", 1.0)]),
        (Point, [1, 2], Point(1, 2.0)),
        (Movie, {"title": "x"}, {"title": "x"}),
        (Aliased, {"userName": "x", "age": 5}, Aliased(userName="x", age=5)),
        (Aliased, {"user_name": "x"}, Aliased(userName="x")),
        (Model, {"name": "x", "when": "2024-01-01T00:00:00Z"}, Model(name="x", when=datetime(2024, 1, 1, tzinfo=UTC))),
        (Model, {"name": "x", "when": datetime(2024, 1, 1)}, Model(name="x", when=datetime(2024, 1, 1))),
        (Model | None, {"name": "x"}, Model(name="x")),
        (Cat | Dog, {"kind": "dog"}, Dog()),
        (WithSecret, {"token": "env:T"}, WithSecret(token=Secret("env:T"))),
        (Annotated[int, pydantic.Field(ge=0)], 5, 5),
        (pathlib.PurePosixPath, "/a", pathlib.PurePosixPath("/a")),
        (Numbers, [1], Numbers([1])),
    ],
)
def test_inputs_from_outside_are_read_by_their_declared_type(declared: object, outside: object, value: object) -> None:
    codec = codec_for(declared)
    read = codec.check_input(outside)
    assert same(read, value)
    codec.dump(read)


@pytest.mark.parametrize(
    ("declared", "outside", "message"),
    [
        (int, "5", "$.n: expected int, got str"),
        (int, 5.5, "$.n: expected int, got float"),
        (int, True, "$.n: expected int, got bool"),
        (str, 5, "$.n: expected str, got int"),
        (bool, "true", "$.n: expected bool, got str"),
        (list[int], [1, "2"], "$.n[1]: expected int, got str"),
        (list[int], "12", "$.n: expected list[int], got str"),
        (dict[str, int], {"a": None}, "$.n.a: expected int, got None"),
        (dict[int, int], {"x": 1}, "$.n: expected a key of type int"),
        (dict[float, int], {"1": 1, "1.0": 2}, "$.n: two of its keys are equal"),
        (tuple[int, str], [1], "$.n: expected 2 items, got 1"),
        (int | None, "5", "$.n: expected int | None, got str"),
        (datetime, "soon", "$.n: expected datetime, got str"),
        (datetime, 5, "$.n: expected datetime, got int"),
        (timedelta, "soon", "$.n: expected timedelta, got str"),
        (timedelta, True, "$.n: expected timedelta, got bool"),
        (Decimal, "x", "$.n: expected Decimal, got str"),
        (UUID, "x", "$.n: expected UUID, got str"),
        (bytes, 5, "$.n: expected bytes, got int"),
        (Secret, "hunter22", "$.n: expected Secret, got str"),
        (Color, "green", "$.n: expected Color, got str"),
        (Literal["a", "b"], "c", "$.n: expected Literal['a', 'b'], got str"),
        (Item, {"name": "a"}, "$.n.price: it is missing"),
        (Item, {"name": "a", "price": 1, "colour": 2}, "$.n: Item declares no 'colour'"),
        (Item, {"name": "a", "price": 1, "tags": [1]}, "$.n.tags[0]: expected str, got int"),
        (Positive, {"number": -1}, "$.n: Positive refuses it: ValueError: must be positive"),
        (Movie, {"title": 5}, "$.n.title: expected str, got int"),
        (Aliased, {"userName": 5}, "$.n.userName: Input should be a valid string"),
        (Closed, {"known": 1, "b": 2}, "$.n.b: Extra inputs are not permitted"),
        (Model, 5, "$.n: expected Model, got int"),
        (Annotated[int, pydantic.Field(ge=0)], -1, "$.n: Input should be greater than or equal to 0"),
    ],
)
def test_inputs_that_do_not_validate_are_named_with_what_was_expected(
    declared: object, outside: object, message: str
) -> None:
    with pytest.raises(InputTypeError) as caught:
        codec_for(declared).check_input(outside, "$.n")
    assert caught.value.message == message
    assert str(caught.value.ids["path"]).startswith("$.n")


def test_no_error_shows_the_value() -> None:
    value = "hunter" + "22"
    with pytest.raises(InputTypeError) as caught:
        codec_for(Aliased).check_input({"userName": "x", "age": value})
    assert value not in "".join(traceback.format_exception(caught.value))
    for declared, refused_value in (
        (Model, Model.model_construct(name=[value])),
        (Aliased, Aliased.model_construct(user_name="x", age=value)),
        (pathlib.PurePath, [value]),
        (int, value),
        (Color, value),
        (list[bytes], [value]),
    ):
        error = refused(declared, refused_value)
        assert value not in "".join(traceback.format_exception(error))
    with pytest.raises(SecretError) as no_reference:
        Secret(value)
    assert value not in str(no_reference.value)


def test_inputs_that_can_never_be_recorded_are_refused() -> None:
    for declared, value in ((Any, (1, 2)), (Any, {"a": math.nan}), (float, math.inf), (Any, {1: 2})):
        with pytest.raises(ValueRefusedError):
            codec_for(declared).check_input(value)


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "scalar"),
    [
        ("x", True), (5, True), (SAFE_INTEGER, True), (-SAFE_INTEGER, True), (True, True), (None, True),
        (SAFE_INTEGER + 1, False), (1.5, False), ([], False), (Level.LOW, False), (Name.ADA, False), (b"", False),
    ],
)  # fmt: skip
def test_is_scalar(value: object, scalar: bool) -> None:
    assert is_scalar(value) is scalar


def test_plain_codecs_give_scalars_back_as_they_are() -> None:
    for declared in (Any, int, str, bool, None, int | None, str | int, Literal["a", 1], list[int], Item):
        assert codec_for(declared).plain
    for other in (float, float | None, Annotated[int, pydantic.Field(ge=0)], pathlib.PurePath):
        assert not codec_for(other).plain


def test_schemas() -> None:
    assert ANY.schema() == {}
    assert codec_for(int).schema() == {"type": "integer"}
    assert codec_for(list[str]).schema() == {"type": "array", "items": {"type": "string"}}
    assert codec_for(Item).schema()["required"] == ["name", "price"]
    assert codec_for(Secret).schema() == {"type": "string"}
    assert "properties" in codec_for(WithSecret).schema()
    for declared in (threading.Lock, "Unresolved"):
        with pytest.raises(ValueRefusedError, match="no JSON schema"):
            codec_for(declared).schema()


def test_a_codec_is_typed_by_its_class() -> None:
    codec: Codec[Item] = codec_for(Item)
    item: Item = codec.load(b'{"name":"a","price":1}')
    assert item.name == "a"
    assert repr(codec) == "<codec of Item>"


def test_annotations_that_cannot_be_hashed_have_a_codec() -> None:
    declared = Annotated[int, ["not hashable"]]
    assert codec_for(declared) is codec_for(declared)
    comes_back(declared, 5)


@pytest.mark.parametrize(
    ("a", "b", "path"),
    [
        (1, 1, ""),
        (1, 1.0, ""),
        (1, 2, "$"),
        (1, True, "$"),
        (0, False, "$"),
        (None, False, "$"),
        ({"topic": "a", "n": 1}, {"topic": "b", "n": 1}, "$.topic"),
        ({"a": 1}, {"a": 1, "b": 2}, "$.b"),
        ({"a": 1, "b": 2}, {"b": 2}, "$.a"),
        ({"a": [1, {"b": [1, 2]}]}, {"a": [1, {"b": [1, 3]}]}, "$.a[1].b[1]"),
        ([1, 2], [1], "$[1]"),
        ([], [None], "$[0]"),
        ({"a": []}, {"a": {}}, "$.a"),
        ({"a": {"$int": "1"}}, {"a": {"$int": "2"}}, "$.a"),
        ({"a": {"$int": "1"}}, {"a": 1}, "$.a"),
        ({"$$ref": 1}, {"$$ref": 2}, '$["$ref"]'),
        ({"a b": 1}, {}, '$["a b"]'),
        ([True], [1], "$[0]"),
    ],
)
def test_the_differing_path(a: Any, b: Any, path: str) -> None:
    assert differing_path(a, b) == path
    assert differing_path(b, a) == path


@settings(max_examples=150, deadline=None)
@given(_plain, _plain)
def test_there_is_a_differing_path_where_bytes_differ(a: object, b: object) -> None:
    assert (differing_path(ANY.tree(a), ANY.tree(b)) == "") == (ANY.dump(a) == ANY.dump(b))


def test_pydantic_is_loaded_only_for_types_that_need_it() -> None:
    code = """
import sys, dataclasses, enum, typing, datetime, decimal, uuid
from perdure.core.values import codec_for
from perdure.core.secrets import Secret, find_secret_shape
@dataclasses.dataclass
class Doc:
    name: str
    when: datetime.datetime | None = None
class Color(enum.Enum):
    RED = "red"
class Movie(typing.TypedDict):
    title: str
for declared, value in [
    (None, None), (bool, True), (int, 2**60), (float, 1.5), (str, "x"), (typing.Any, {"$a": [b"x", 1.0]}),
    (list[int], [1]), (dict[str, float], {"a": 1.5}), (tuple[int, ...], (1,)), (set[str], {"a"}), (int | None, None),
    (Doc, Doc("x")), (Color, Color.RED), (Movie, {"title": "x"}), (Secret, Secret("env:A")),
    (decimal.Decimal, decimal.Decimal(1)), (uuid.UUID, uuid.UUID(int=1)), (typing.Literal["a"], "a"),
]:
    codec = codec_for(declared)
    assert codec.load(codec.dump(value)) == codec.check_input(value) == value
loaded = {"pydantic", "pydantic_core", "asyncio", "rfc8785", "zoneinfo"} & set(sys.modules)
assert loaded <= {"rfc8785", "zoneinfo"}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_base64_of_large_bytes() -> None:
    blob = bytes(range(256)) * 4096
    assert parse(comes_back(bytes, blob)) == {"$bytes": base64.b64encode(blob).decode()}
