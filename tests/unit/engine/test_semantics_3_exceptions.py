"""Rules of section 3: an exception of the author's may be as odd as it likes; it is recorded, and the worker lives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from perdure import Backoff, Run, StepFailed, step, workflow
from perdure.core.errors import RunFailed
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import recovered, witnessed
from tests.unit.engine.staging import events_of, kinds, reaches

pytestmark = pytest.mark.time_limit(20)


class Mute(Exception):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NoText(Exception):
    """Its text is none."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]


class Touchy(Exception):
    """Has members that fail when they are looked at, as those of some libraries do outside a request."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} here")


class HalfAnswer(Exception):
    """An HTTP error whose response was never read."""

    response = SimpleNamespace(status_code=503, headers=None)


class Unlike(Exception):
    """Has details that cannot be recorded, and an argument that fails when it is looked at."""

    def __init__(self, *args: Any) -> None:
        super().__init__(Mute(), object())
        self.details = {"self": self}
        self.code = ["no", "code"]


class Remade(Exception):
    """Cannot be made again, and the reason cannot be shown."""

    def __init__(self, *args: Any) -> None:
        if args:
            raise Mute
        super().__init__("made")
        self.args = ("made",)


class Sealed(Exception):
    """Takes no further members."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)


def surrogate() -> Exception:
    return ValueError("half of a pair: \ud800")


def looped() -> Exception:
    error = ValueError("its own cause")
    error.__cause__ = error
    return error


def grouped() -> BaseException:
    return ExceptionGroup("both", [Mute(), Touchy()])


ODD: dict[str, Callable[[], BaseException]] = {
    "mute": Mute,
    "no text": NoText,
    "touchy": Touchy,
    "half an answer": HalfAnswer,
    "unlike": Unlike,
    "remade": Remade,
    "sealed": Sealed,
    "surrogate": surrogate,
    "looped": looped,
    "grouped": grouped,
}


@pytest.mark.parametrize("declared", [False, True], ids=["plain", "declared"])
@pytest.mark.parametrize("kind", ["pure", "read", "idempotent"])
@pytest.mark.parametrize("odd", ODD)
async def test_3_an_exception_that_cannot_be_described_fails_its_step_the_same_live_and_replayed(
    odd: str, kind: Any, declared: bool
) -> None:
    caught: list[tuple[type, str]] = []
    calls: list[str] = []
    raises: Any = {"raises": type(ODD[odd]())} if declared else {}

    @step(kind=kind, retries=1, backoff=Backoff(initial_s=0.0), **raises)
    async def fail() -> None:
        calls.append(odd)
        raise ODD[odd]()

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(fail)
        except Exception as error:
            caught.append((type(error), text_of(error)))
        await run.wait_for("go")
        return "went on"

    async with recovered(MemoryStore(), main, main) as (_, handle):
        await handle.signal("go")
        assert await handle.result() == "went on"
        (failed,) = await events_of(handle, "step.failed")
        assert failed.data["error"]["type"] == type(ODD[odd]()).__name__
    assert len(calls) == 2, "it has its attempts like any other"
    assert len(caught) == 2
    assert caught[0] == caught[1]
    assert caught[0][0] in ((StepFailed, type(ODD[odd]())) if declared else (StepFailed,))


def text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as problem:
        return f"none: {problem}"


@pytest.mark.parametrize("where", ["step", "node", "branch"])
@pytest.mark.parametrize("odd", ODD)
async def test_3_an_exception_that_cannot_be_described_fails_its_run_and_no_other(odd: str, where: str) -> None:
    @step(kind="read")
    async def fail() -> None:
        raise ODD[odd]()

    @workflow
    async def main(run: Run) -> None:
        async def own() -> None:
            raise ODD[odd]()

        if where == "step":
            await run.step(fail)
        elif where == "branch":
            await run.gather(own())
        else:
            raise ODD[odd]()

    @workflow
    async def other(run: Run) -> str:
        await run.wait_for("go")
        return "well"

    async with witnessed(MemoryStore(), main, other) as runtime:
        beside = await runtime.start(other)
        handle = await runtime.start(main)
        with pytest.raises(RunFailed) as failed:
            await handle.result()
        assert failed.value.ids["error"]["type"] == type(ODD[odd]()).__name__
        await beside.signal("go")
        assert await beside.result() == "well"


@pytest.mark.parametrize("odd", ODD)
async def test_3_a_once_step_whose_exception_cannot_be_described_is_in_doubt(odd: str) -> None:
    @step(kind="once")
    async def pay() -> str:
        raise ODD[odd]()

    @workflow
    async def main(run: Run) -> str:
        return await run.step(pay)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        await reaches(handle, "waiting")
        assert (await kinds(handle)).count("step.doubted") == 1
        await runtime.resolve(handle.id, "done", value="paid")
        assert await handle.result() == "paid"


@pytest.mark.parametrize("odd", ODD)
async def test_3_a_late_failure_that_cannot_be_described_is_a_note_only(odd: str) -> None:
    """A thread that was given up comes back with it."""
    go = threading.Event()

    @step(kind="read", thread=True, timeout="20ms")
    def slow() -> None:
        go.wait(10)
        raise ODD[odd]()

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(slow)
        except StepFailed:
            go.set()
        await noted.wait()
        return "went on"

    noted = asyncio.Event()
    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        async for event in handle.events():
            if event.kind == "step.noted":
                noted.set()
                assert event.data["error"]["type"] == type(ODD[odd]()).__name__
        assert await handle.result() == "went on"
