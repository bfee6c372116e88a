"""Rules of section 3: what user code sees is what the journal holds, live and after a replay."""

from __future__ import annotations

import asyncio
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import pytest

from perdure import Run, RunHandle, step, workflow
from perdure.core.errors import PerdureError, StepResultError
from perdure.engine.large import INLINE_BYTES
from perdure.store.memory import MemoryStore
from perdure.store.port import Append
from tests.unit.engine.evidence import HeldStore, check_journals, recovered, witnessed
from tests.unit.engine.staging import Ledger, die, events_of, journal, kinds, on_disk, opened, reaches

pytestmark = pytest.mark.time_limit(20)


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: float
    tags: set[str] = field(default_factory=set)


@dataclass
class Point3(Point):
    z: float = 0.0


class Pair(NamedTuple):
    left: int
    right: str


class Model(pydantic.BaseModel):
    name: str
    when: datetime
    amounts: tuple[Decimal, ...] = ()


NOON = datetime(2030, 1, 2, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))

DECLARED: list[tuple[Any, Any]] = [
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (3, 2, 1)),
    (set[str], {"b", "a", "c"}),
    (frozenset[int], frozenset({3, 1, 2})),
    (list[tuple[int, int]], [(1, 2), (3, 4)]),
    (dict[int, str], {2: "b", 1: "a"}),
    (dict[Color, float], {Color.RED: 1.0}),
    (float, 4.0),
    (Color, Color.BLUE),
    (Level, Level.LOW),
    (Point, Point(1.5, {"q", "p"})),
    (Pair, Pair(1, "r")),
    (Model, Model(name="m", when=NOON, amounts=(Decimal("1.50"),))),
    (list[Point | Pair | None], [Point(1.0), None, Pair(2, "x")]),
    (datetime, NOON),
    (date, date(2030, 1, 2)),
    (timedelta, timedelta(days=1, microseconds=3)),
    (uuid.UUID, uuid.UUID(int=7)),
    (bytes, b"\x00\xff"),
    (Any, {"$int": "not a tag", "$": [{"$$x": None}], "plain": "$"}),
    (Any, [2**53 - 1, 2**53, -(2**53), 2**200]),
    (Any, {"at": NOON, "id": uuid.UUID(int=1), "cost": Decimal("0.10"), "raw": b"abc", "day": date(2030, 1, 2)}),
    (Any, [None, True, 1, -1, 0.5, 1e300, "ä\u2028\U0001f600\x00"]),
]
NAMES = [str(declared).removeprefix("<class '").split(".")[-1].rstrip("'>") for declared, _ in DECLARED]


def shown(value: Any) -> str:
    """A value in all its parts, with their types; the order of a set too."""
    if isinstance(value, dict):
        inside = ", ".join(f"{shown(key)}: {shown(child)}" for key, child in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        inside = ", ".join(map(shown, value))
    elif isinstance(value, Point | Model):
        inside = shown(vars(value))
    else:
        inside = repr(value)
    return f"{type(value).__name__}({inside})"


def giving(declared: Any, make: Callable[[], Any], kind: str = "read") -> Any:
    """A step that returns a value of a declared type."""

    async def give() -> Any:
        return make()

    give.__annotations__ = {"return": declared}
    return step(kind=kind, name="give")(give)  # type: ignore[call-overload]


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "value"), DECLARED, ids=NAMES)
async def test_3_a_live_result_is_decoded_afresh_from_what_is_recorded(declared: Any, value: Any) -> None:
    """A replay cannot see another value: the same types in the same order, and equal to what was returned."""
    seen: list[Any] = []
    called = giving(declared, lambda: value)

    @workflow
    async def main(run: Run) -> None:
        seen.append(await run.step(called))
        await run.wait_for("go")

    async with recovered(MemoryStore(), main, main) as (_, handle):
        await handle.signal("go")
        await handle.result()
    assert len(seen) == 2
    assert shown(seen[0]) == shown(seen[1])
    assert [type(one) for one in seen] == [type(value)] * 2
    assert seen == [value, value]


async def test_3_the_order_of_a_set_is_the_recorded_one() -> None:
    """Sets have an order of their own in each process: what is seen comes from the sorted recorded one."""
    names = {f"name{number}" for number in range(50)}
    seen: list[list[str]] = []
    called = giving(frozenset[str], lambda: frozenset(names))

    @workflow
    async def main(run: Run) -> None:
        seen.append(list(await run.step(called)))
        await run.wait_for("go")

    async with recovered(MemoryStore(), main, main) as (_, handle):
        (fact,) = await events_of(handle, "step.completed")
        await handle.signal("go")
        await handle.result()
    assert fact.data["result"] == sorted(names)
    assert seen[0] == seen[1] == list(frozenset(sorted(names)))


async def test_3_nothing_that_is_changed_afterwards_leaks_into_what_is_recorded_or_seen() -> None:
    kept: list[Any] = []
    seen: list[Any] = []

    def make() -> Any:
        kept.append({"names": ["a"]})
        return kept[-1]

    called = giving(Any, make)

    @step(kind="read")
    async def changes(argument: dict[str, Any]) -> None:
        argument["names"].append("changed by the step")

    @workflow
    async def main(run: Run) -> None:
        mine = await run.step(called)
        kept[0]["names"].append("changed by whoever returned it")
        seen.append(shown(mine))
        mine["names"].append("changed by the workflow")
        given = {"names": ["b"]}
        await run.step(changes, given)
        seen.append(shown(given))
        await run.wait_for("go")

    async with recovered(MemoryStore(), main, main) as (_, handle):
        facts = await events_of(handle, "step.completed")
        await handle.signal("go")
        await handle.result()
    assert facts[0].data["result"] == {"names": ["a"]}
    assert facts[1].data["input"] == {"argument": {"names": ["b"]}}
    assert seen[:2] == seen[2:] == [shown({"names": ["a"]}), shown({"names": ["b"]})]


async def test_3_an_argument_is_seen_as_it_is_recorded_live_and_in_a_repeat() -> None:
    """Its declared type decides: sets and tuples are sets and tuples again."""
    seen: list[str] = []

    @step(kind="idempotent")
    async def act(names: set[str], pair: tuple[int, int], point: Point) -> None:
        seen.append(shown((sorted(names), pair, point.x)))
        if len(seen) == 1:
            ledger.note("begun")
            await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> None:
        await run.step(act, {"b", "a"}, (1, 2), Point(4))

    ledger = Ledger()
    store = MemoryStore()
    first = await opened(store, main)
    handle: RunHandle[Any] = await first.start(main)
    await ledger.reaches("begun")
    await die(first)
    async with witnessed(store, main) as second:
        await second.run(handle.id).result()
    assert seen == [shown((["a", "b"], (1, 2), 4.0))] * 2


# --- tagged values everywhere -----------------------------------------------------------------------------------------

TAGGED: dict[str, Any] = {
    "wide": 2**60,
    "raw": b"\x00\x01",
    "at": NOON,
    "cost": Decimal("1.10"),
    "id": uuid.UUID(int=5),
    "$own": {"$bytes": "not a tag"},
    "list": [1, [b"x", {"$$": 2**90}]],
}


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "sqlite"])
async def test_3_what_json_lacks_travels_as_tagged_text_everywhere(disk: bool, tmp_path: Path) -> None:
    seen: dict[str, list[Any]] = {}

    def see(where: str, value: Any) -> None:
        seen.setdefault(where, []).append(value)

    @workflow
    async def child(run: Run, given: Any) -> Any:
        return given

    @step(kind="idempotent")
    async def act(given: Any) -> Any:
        see("in the step", given)
        return given

    @workflow
    async def main(run: Run, given: Any) -> Any:
        see("input", given)
        see("run.input", run.input["given"])
        see("result", await run.step(act, given))
        see("joined", (await run.gather(run.step(act, given)))[0])
        run.state["a"] = given
        see("state", run.state["a"])
        run.emit("told", given)
        put = run.put(given)
        assert put.media_type == "application/json"
        see("child", await (await run.spawn(child, given)).result())
        see("default", await run.wait_for("never", timeout=0, default=given))
        see("signal", await run.wait_for("go"))
        return given

    store = on_disk(tmp_path / "runs.db") if disk else MemoryStore()
    async with recovered(store, main, main, given=TAGGED) as (_, handle):
        await handle.signal("go", TAGGED)
        see("output", await handle.result())
        see("handle.state", (await handle.state())["a"])
        (told,) = await events_of(handle, "told")
    assert told.data["wide"] == {"$int": str(2**60)}
    assert told.data["$$own"] == {"$$bytes": "not a tag"}
    assert set(seen) >= {"input", "result", "joined", "state", "child", "default", "signal", "output", "handle.state"}
    for where, values in seen.items():
        for value in values:
            assert shown(dict(sorted(value.items()))) == shown(dict(sorted(TAGGED.items()))), where


# --- refused before the step starts -----------------------------------------------------------------------------------


class Unknown:
    """Nothing declares how to record it."""


def cyclic() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


REFUSED: dict[str, Callable[[], Any]] = {
    "NaN": lambda: [float("nan")],
    "infinity": lambda: {"a": float("-inf")},
    "a lone surrogate": lambda: "\ud800",
    "a lone surrogate in a key": lambda: {"\udfff": 1},
    "keys that are no text": lambda: {1: "a"},
    "keys that collide": lambda: {"1": "a", 1: "b"},
    "too deep": lambda: deep(65),
    "cyclic": cyclic,
    "of no known type": Unknown,
    "a tuple that nothing declares": lambda: (1, 2),
    "a set that nothing declares": lambda: {1, 2},
    "an enum that nothing declares": lambda: Color.RED,
    "a function": lambda: shown,
}


@pytest.mark.parametrize("what", REFUSED)
async def test_3_an_argument_that_cannot_be_recorded_is_refused_before_the_step_starts(what: str) -> None:
    called: list[int] = []

    @step(kind="idempotent")
    async def act(value: Any) -> None:
        called.append(1)

    @workflow
    async def main(run: Run) -> list[str]:
        value = REFUSED[what]()
        found = []
        for attempt in (
            lambda: run.step(act, value),
            lambda: run.step(act, {"inside": [value]}),
            lambda: run.state.__setitem__("a", value),
            lambda: run.emit("told", value),
            lambda: run.put([value]),
        ):
            try:
                await _awaited(attempt())
                found.append("nothing")
            except PerdureError as error:
                found.append(error.code)
        return found

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert set(await handle.result()) == {"value_refused"}
        assert await kinds(handle) == ["run.started", "node.entered", "node.completed", "run.completed"]
    assert called == []


async def _awaited(value: Any) -> Any:
    return await value if asyncio.iscoroutine(value) else value


@dataclass
class Sub(Point):
    extra: int = 0


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (int, "5"),
        (int, True),
        (int, 1.0),
        (str, 5),
        (list[int], (1, 2)),
        (Point, Sub(1.0)),
        (Point, {"x": 1.0}),
        (Color, "red"),
        (tuple[int, int], (1, 2, 3)),
        (set[int], [1]),
    ],
    ids=str,
)
async def test_3_a_lossy_conversion_fails_before_the_step_starts(declared: Any, value: Any) -> None:
    async def act(value: Any) -> None:
        raise AssertionError("it was called")

    act.__annotations__["value"] = declared
    called = step(kind="idempotent")(act)

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(called, value)
        except PerdureError as error:
            return error.category
        return "nothing"

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == "input"
        assert "step.intended" not in await kinds(handle)


async def test_3_a_wrong_call_is_refused_before_the_step_starts() -> None:
    @step(kind="idempotent")
    async def act(first: int, second: int = 0) -> None: ...

    @workflow
    async def main(run: Run) -> list[str]:
        found = []
        for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"first": 1}), ((1,), {"third": 1})):
            try:
                await run.step(act, *args, **kwargs)
            except PerdureError as error:
                found.append(error.code)
        return found

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        assert await handle.result() == ["input_type"] * 4
        assert "step.intended" not in await kinds(handle)


async def test_3_refused_arguments_use_up_no_key() -> None:
    """What was never recorded leaves no gap: the next call has the key that it has in a replay without it."""

    @step(kind="idempotent")
    async def act(value: Any) -> Any:
        return value

    @workflow
    async def main(run: Run) -> None:
        try:
            await run.step(act, float("nan"))
        except PerdureError:
            await run.step(act, 1)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        assert [event.key for event in await events_of(handle, "step.intended")] == ["act"]


# --- results that cannot be recorded ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pure", "read", "idempotent", "once"])
@pytest.mark.parametrize("what", ["NaN", "of no known type", "cyclic"])
async def test_3_a_result_that_cannot_be_recorded_is_still_a_fact(kind: Any, what: str) -> None:
    """Done, value lost: never retried, never in doubt, the same error live and replayed."""
    ledger = Ledger()
    caught: list[tuple[str, str, str]] = []

    @step(kind=kind, retries=3)
    async def act() -> Any:
        ledger.note("act")
        return REFUSED[what]()

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(act)
        except StepResultError as error:
            caught.append((type(error).__name__, error.code, str(error)))
        await run.wait_for("go")
        return "done"

    async with recovered(MemoryStore(), main, main) as (runtime, handle):
        assert await runtime.questions() == []
        await handle.signal("go")
        assert await handle.result() == "done"
        facts = await events_of(handle, "step.completed", "step.failed", "step.retried", "step.doubted")
    assert [(fact.kind, fact.data["result_refused"]) for fact in facts] == [("step.completed", True)]
    assert "result" not in facts[0].data
    assert ledger.lines == ["act"]
    assert caught[0] == caught[1]
    assert caught[0][:2] == ("StepResultError", "step_result_refused")


async def test_3_a_result_that_does_not_fit_its_declared_type_is_refused_too() -> None:
    @step(kind="read")
    async def wrong() -> list[int]:
        return ["text"]  # type: ignore[list-item]

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(wrong)
        except StepResultError as error:
            return error.message
        return "nothing"

    async with witnessed(MemoryStore(), main) as runtime:
        assert "[0]" in await (await runtime.start(main)).result()


async def test_3_a_result_that_is_refused_in_a_thread_or_inline_is_the_same() -> None:
    @step(kind="pure")
    def inline() -> Any:
        return {1, 2}

    @step(kind="idempotent")
    def in_thread() -> Any:
        return {1, 2}

    @workflow
    async def main(run: Run) -> list[str]:
        found = []
        for called in (inline, in_thread):
            try:
                await run.step(called)
            except StepResultError as error:
                found.append(error.code)
        return found

    async with witnessed(MemoryStore(), main) as runtime:
        assert await (await runtime.start(main)).result() == ["step_result_refused"] * 2


# --- large values -----------------------------------------------------------------------------------------------------


class ArtifactsFirst(HeldStore):
    """Fails when a commit names an artifact that neither it nor an earlier one holds."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.named: set[str] = set()
        self.late: list[str] = []

    def append(self, batch: Any, *, in_place: bool = True) -> Any:
        held = {row.sha256 for append in batch for row in append.artifacts}
        for append in batch:
            self._look(append, held)
        return super().append(batch, in_place=in_place)

    def _look(self, append: Append, held: set[str]) -> None:
        self.named |= held
        for draft in append.drafts:
            for part in draft.payload.decode().split('"$artifact":"')[1:]:
                if part[:64] not in self.named:
                    self.late.append(part[:64])


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "sqlite"])
async def test_3_a_value_over_64_kib_becomes_an_artifact_and_is_seen_unchanged(disk: bool, tmp_path: Path) -> None:
    text = "ä" * 50_000
    seen: dict[str, list[Any]] = {}

    def see(where: str, value: Any) -> None:
        seen.setdefault(where, []).append(value)

    @step(kind="idempotent")
    async def act(number: int, given: str) -> dict[str, Any]:
        see("argument", given)
        return {"number": number, "text": given}

    @step(kind="read")
    async def look() -> bytes:
        return text.encode()

    @workflow
    async def child(run: Run, given: str) -> str:
        see("child", given)
        return given

    @workflow
    async def main(run: Run, given: str) -> str:
        see("input", given)
        see("result", (await run.step(act, 1, given))["text"])
        see("read", (await run.step(look)).decode())
        run.state["a"] = given
        see("state", run.state["a"])
        see("outcome", await (await run.spawn(child, given)).result())
        await run.wait_for("go")
        return given

    inner = on_disk(tmp_path / "runs.db") if disk else MemoryStore()
    store = ArtifactsFirst(inner)
    async with recovered(store, main, main, given=text) as (_, handle):
        await handle.signal("go")
        see("output", await handle.result())
        see("handle.state", (await handle.state())["a"])
        sizes = {event.kind: len(event.payload or b"") for event in await journal(handle)}
    assert max(sizes.values()) < 8_000
    assert store.late == []
    for where, values in seen.items():
        assert all(value == text for value in values), where
    assert set(seen) == {"input", "argument", "result", "read", "state", "child", "outcome", "output", "handle.state"}
    await inner.close()


async def test_3_exactly_64_kib_stay_inline() -> None:
    @step(kind="read")
    async def look(size: int) -> str:
        return "x" * (size - 2)  # and two quotation marks

    @workflow
    async def main(run: Run) -> None:
        await run.step(look, INLINE_BYTES)
        await run.step(look, INLINE_BYTES + 1)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await handle.result()
        inline, referred = [event.data["result"] for event in await events_of(handle, "step.completed")]
    assert len(inline) == INLINE_BYTES - 2
    assert referred == {"$artifact": sha256(b'"' + b"x" * (INLINE_BYTES - 1) + b'"').hexdigest()}


async def test_3_a_users_own_artifact_key_is_no_reference() -> None:
    value = {"$artifact": "0" * 64}

    @step(kind="read")
    async def look(given: Any) -> Any:
        return given

    @workflow
    async def main(run: Run, given: Any) -> Any:
        run.state["a"] = given
        found = await run.step(look, given)
        await run.wait_for("go")
        return [given, found, run.state["a"]]

    async with recovered(MemoryStore(), main, main, given=value) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == [value, value, value]


async def test_3_an_artifact_that_is_not_what_was_written_parks_the_run() -> None:
    """Nobody acts on a record that lies, and nothing is lost: the bytes may be brought back."""

    @step(kind="read")
    async def look() -> str:
        return "x" * 100_000

    @workflow
    async def main(run: Run) -> int:
        found = await run.step(look)
        await run.wait_for("go")
        return len(found)

    store = MemoryStore()
    first = await opened(store, main)
    handle: RunHandle[Any] = await first.start(main)
    await reaches(handle, "waiting")
    await die(first)
    ((name, row),) = store._artifacts.items()
    store._artifacts[name] = row._replace(data=row.data.replace(b"x", b"y", 1))
    async with witnessed(store, main) as second:
        handle = second.run(handle.id)
        await handle.signal("go")
        await reaches(handle, "paused")
        assert (await handle.row()).reason == "corrupt_record"
        store._artifacts[name] = row
        await handle.resume()
        assert await handle.result() == 100_000
    await check_journals(store)
