"""Rules of section 4: what a probe says, and what it means when it says something else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest

from perdure import Done, NotDone, Run, step, workflow
from perdure.core.errors import RunFailed
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import check_journals, witnessed
from tests.unit.engine.staging import Ledger, die, events_of, kinds, opened, reaches, seen

pytestmark = pytest.mark.time_limit(20)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unequal:
    """Fails at whatever is done with it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    __hash__ = None  # type: ignore[assignment]


def raising(error: BaseException) -> Any:
    def probe() -> Any:
        raise error

    return probe


MISFITS: dict[str, Any] = {
    "a text": lambda: "done",
    "true": lambda: True,
    "false": lambda: False,
    "the bare value": lambda: 3,
    "the class": lambda: Done,
    "odd": Unequal,
    "done with a text": lambda: Done("three"),
    "done with nothing": lambda: Done(None),
    "done with what cannot be recorded": lambda: Done(object()),
    "done with what is not done": lambda: Done(NotDone),
    "done with a float": lambda: Done(float("nan")),
    "an error": raising(ValueError("the probe broke")),
    "an error that cannot be shown": raising(Mute()),
    "a group": raising(ExceptionGroup("both", [ValueError("x")])),
}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("misfit", MISFITS)
async def test_4_a_probe_that_answers_with_a_misfit_leaves_the_step_to_a_person(misfit: str, is_async: bool) -> None:
    """Whatever it is, the step is neither done by it nor tried again, and nothing breaks."""
    ledger = Ledger()

    async def later() -> Any:
        ledger.note("probe")
        return MISFITS[misfit]()

    def at_once() -> Any:
        ledger.note("probe")
        return MISFITS[misfit]()

    @step(kind="once", in_doubt="probe", probe=later if is_async else at_once, timeout="1h")
    async def pay() -> int:
        ledger.note("pay")
        await asyncio.get_running_loop().create_future()
        return 0

    @workflow
    async def main(run: Run) -> int:
        return await run.step(pay)

    store = MemoryStore()
    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("pay")
    await die(first)
    async with witnessed(store, main) as second:
        handle = second.run("r1")
        await seen(handle, "wait.opened")
        await reaches(handle, "waiting")
        (question,) = await second.questions("r1")
        assert question.kind == "doubt"
        found = await kinds(handle)
        assert not {"step.resolved", "step.completed", "step.failed", "step.retried"} & set(found)
        (note,) = await events_of(handle, "step.noted")
        assert note.data["note"].startswith("probe"), "why it was no answer stands in the journal"
        await second.resolve("r1", "done", value=3)
        assert await handle.result() == 3
    assert ledger.lines == ["pay", "probe"]


@dataclass
class Unreadable:
    """Can be recorded and not be read again."""

    number: int
    lines: int = 0

    def __init__(self, number: int) -> None:
        self.number = number
        self.lines = 1


async def test_4_a_probe_whose_value_cannot_be_read_again_is_asked_once() -> None:
    ledger = Ledger()

    async def probe() -> Done:
        ledger.note("probe")
        return Done(Unreadable(3))

    @step(kind="once", in_doubt="probe", probe=probe, timeout="1h", not_done=(ConnectionError,))
    async def pay() -> Unreadable:
        ledger.note("pay")
        raise TimeoutError("no answer")

    @workflow
    async def main(run: Run) -> Any:
        return await run.step(pay)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        assert ledger.lines == ["pay", "probe"]
        await runtime.resolve(handle.id, "fail")
        with pytest.raises(RunFailed):
            await handle.result()


@dataclass
class Receipt:
    number: int
    lines: tuple[str, ...]


class Colour(Enum):
    RED = "red"


FITTING: dict[str, tuple[Any, Any]] = {
    "a dataclass": (Receipt, Receipt(3, ("a", "b"))),
    "an enum": (Colour, Colour.RED),
    "a set": (set[int], {3, 1, 2}),
    "a tuple": (tuple[int, str], (1, "a")),
    "bytes": (bytes, b"\x00\xff"),
    "a decimal": (Decimal, Decimal("1.10")),
    "an instant": (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    "a large integer": (int, 2**70),
    "a large text": (str, "x" * 100_000),
    "nothing": (type(None), None),
    "anything": (Any, {"$int": "it is the user's own", "a": [1, None]}),
}


@pytest.mark.parametrize("what", FITTING)
async def test_4_a_probe_that_finds_it_done_gives_the_step_its_value_of_whatever_type(what: str) -> None:
    """As the step itself would have, also after another restart."""
    kind, value = FITTING[what]
    ledger = Ledger()
    results: list[Any] = []

    async def probe() -> Done:
        ledger.note("probe")
        return Done(value)

    async def pay() -> Any:
        ledger.note("pay")
        await asyncio.get_running_loop().create_future()

    pay.__annotations__["return"] = kind
    paying = step(kind="once", in_doubt="probe", probe=probe, timeout="1h")(pay)

    @workflow
    async def main(run: Run) -> str:
        results.append(await run.step(paying))
        await run.wait_for("go")
        return "paid"

    store = MemoryStore()
    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("pay")
    await die(first)
    second = await opened(store, main)
    await seen(second.run("r1"), "wait.opened")
    (opening,) = await events_of(second.run("r1"), "wait.opened")
    assert opening.key == "wait_for.go", "nobody is asked"
    await die(second)
    async with witnessed(store, main) as third:
        await third.signal("go", run_id="r1")
        assert await third.run("r1").result() == "paid"
    assert results == [value, value]
    assert ledger.lines == ["pay", "probe"]
    await check_journals(store)
