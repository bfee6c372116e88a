"""Rules of section 3: what failing steps, waits, children and branches raise is the same live and replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure import Fail, Flow, Next, Run, StepFailed, step, workflow
from perdure.core.errors import ChildFailed, PerdureError, StepTimeout, WaitTimeout
from perdure.store.memory import MemoryStore
from tests.unit.engine.evidence import recovered, witnessed
from tests.unit.engine.staging import StageClock, events_of, kinds

pytestmark = pytest.mark.time_limit(20)


class OwnError(Exception):
    """Says what its own code and details are."""

    def __init__(self, message: str = "own") -> None:
        super().__init__(message)
        self.code = "own_code"
        self.details = {"parts": [1, "two"], "big": 2**60}


class TwoArguments(Exception):
    def __init__(self, path: str, line: int) -> None:
        super().__init__(path, line)
        self.path = path
        self.line = line

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class KeywordOnly(Exception):
    def __init__(self, *, number: int) -> None:
        super().__init__(f"number {number}")


def failing(make: Callable[[], BaseException], kind: str = "read", **options: Any) -> Any:
    @step(kind=kind, name="fail", **options)  # type: ignore[call-overload]
    async def fail() -> None:
        raise make()

    return fail


def told(error: BaseException) -> dict[str, Any]:
    """All that user code can see of an exception."""
    members = {
        name: getattr(error, name, None)
        for name in ("args", "code", "error_code", "error_type", "message", "details", "hint", "ids", "path", "line")
    }
    return {"class": type(error), "text": str(error)} | members


async def both_times(body: Callable[[Run], Any], *definitions: Any, clock: Any = None) -> list[dict[str, Any]]:
    """What a body raises, live and when its facts are replayed."""
    seen: list[dict[str, Any]] = []

    @workflow(name="main")
    async def main(run: Run) -> None:
        try:
            await body(run)
        except Exception as error:
            seen.append(told(error))
        await run.wait_for("go")

    options = {"clock": clock} if clock is not None else {}
    async with recovered(MemoryStore(), main, main, options=options) as (runtime, handle):
        for definition in definitions:
            runtime.register(definition)
        await handle.signal("go")
        await handle.result()
        assert "run.paused" not in await kinds(handle)
    assert len(seen) == 2
    return seen


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: ValueError("no"),
            {"error_type": "ValueError", "error_code": "exception", "text": "no", "details": None},
        ),
        (
            lambda: OwnError("mine"),
            {
                "error_type": "OwnError",
                "error_code": "own_code",
                "text": "mine",
                "details": {"parts": [1, "two"], "big": 2**60},
            },
        ),
        (lambda: KeyError("k"), {"error_type": "KeyError", "text": "'k'"}),
        (lambda: TwoArguments("f.py", 3), {"error_type": "TwoArguments", "text": "f.py:3"}),
        (lambda: ExceptionGroup("many", [ValueError("a")]), {"error_type": "ExceptionGroup"}),
        (lambda: StopAsyncIteration("odd"), {"error_type": "StopAsyncIteration"}),
        (lambda: ValueError("\ud800 is no text"), {"error_type": "ValueError", "text": "? is no text"}),
        (lambda: ValueError("x" * 100_000), {"error_type": "ValueError"}),
    ],
    ids=["plain", "own", "key", "two", "group", "stop", "surrogate", "long"],
)
@pytest.mark.parametrize("kind", ["pure", "read", "idempotent"])
async def test_3_a_failing_step_raises_step_failed_the_same_live_and_replayed(
    kind: str, make: Callable[[], BaseException], expected: dict[str, Any]
) -> None:
    called = failing(make, kind)
    live, replayed = await both_times(lambda run: run.step(called))
    assert live == replayed
    assert live["class"] is StepFailed
    assert {name: live[name] for name in expected} == expected
    assert live["ids"]["step"] == "fail"
    assert len(live["text"]) < 5_000


async def test_3_a_timeout_raises_step_timeout_the_same_live_and_replayed() -> None:
    clock = StageClock()

    @step(kind="read", timeout="1m")
    async def hangs() -> None:
        await asyncio.get_running_loop().create_future()

    async def body(run: Run) -> None:
        task = asyncio.ensure_future(run.step(hangs))
        if not live:
            live.append(1)
            await asyncio.sleep(0)
            advancing.append(asyncio.ensure_future(clock.advance("2m")))
        await task

    live: list[int] = []
    advancing: list[Any] = []
    first, second = await both_times(body, clock=clock)
    assert first == second
    assert first["class"] is StepTimeout
    assert (first["error_code"], first["error_type"]) == ("step_timeout", "TimeoutError")


@pytest.mark.parametrize(
    ("make", "declared", "cls"),
    [
        (lambda: ValueError("no", 5), ValueError, ValueError),
        (lambda: TwoArguments("f.py", 3), (KeyError, TwoArguments), TwoArguments),
        (lambda: FileNotFoundError(2, "gone", "f.py"), FileNotFoundError, FileNotFoundError),
    ],
    ids=["builtin", "own", "oserror"],
)
async def test_3_another_class_only_where_it_is_declared_in_raises(make: Any, declared: Any, cls: Any) -> None:
    as_itself = failing(make, raises=declared)
    live, replayed = await both_times(lambda run: run.step(as_itself))
    assert live == replayed
    assert live["class"] is cls
    assert (live["args"], live["text"]) == (make().args, str(make()))
    other = failing(make, raises=ZeroDivisionError)
    live, replayed = await both_times(lambda run: run.step(other))
    assert live == replayed
    assert live["class"] is StepFailed


async def test_3_a_subclass_of_what_is_declared_is_the_same_live_and_replayed() -> None:
    called = failing(lambda: KeyError("k"), raises=(OSError, LookupError))
    live, replayed = await both_times(lambda run: run.step(called))
    assert live == replayed
    assert live["class"] is LookupError
    called = failing(lambda: KeyError("k"), raises=(LookupError, KeyError))
    live, replayed = await both_times(lambda run: run.step(called))
    assert live == replayed
    assert live["class"] is KeyError


async def test_3_an_exception_that_cannot_be_made_again_is_the_same_live_and_replayed() -> None:
    for make in (lambda: KeywordOnly(number=3), lambda: ValueError(object())):
        called = failing(make, raises=(KeywordOnly, ValueError))
        live, replayed = await both_times(lambda run: run.step(called))  # noqa: B023
        if live["class"] is StepFailed:
            assert live == replayed
        assert live["class"] is replayed["class"] is StepFailed


async def test_3_a_step_that_fails_uncaught_fails_the_run_with_its_own_error() -> None:
    called = failing(lambda: OwnError("mine"))

    @workflow
    async def main(run: Run) -> None:
        await run.step(called)

    async with witnessed(MemoryStore(), main) as runtime:
        handle = await runtime.start(main)
        with pytest.raises(PerdureError, match="mine"):
            await handle.result()
        (failed,) = await events_of(handle, "run.failed")
    assert failed.data["error"]["type"] == "OwnError"
    assert failed.data["error"]["code"] == "own_code"


# --- waits and children -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        lambda run: run.ask("Well?", timeout="1ms"),
        lambda run: run.wait_for("never", timeout="1ms"),
    ],
    ids=["question", "signal"],
)
async def test_3_a_wait_that_times_out_raises_the_same_live_and_replayed(body: Any) -> None:
    live, replayed = await both_times(body)
    assert live == replayed
    assert live["class"] is WaitTimeout


async def test_3_a_childs_failure_raises_the_same_live_and_replayed() -> None:
    @workflow
    async def breaks(run: Run) -> None:
        raise OwnError("in the child")

    async def body(run: Run) -> None:
        await (await run.spawn(breaks)).result()

    live, replayed = await both_times(body)
    assert live == replayed
    assert live["class"] is ChildFailed
    assert (live["error_type"], live["error_code"]) == ("OwnError", "own_code")
    assert live["details"]["status"] == "failed"


async def test_3_a_cancelled_child_raises_the_same_live_and_replayed() -> None:
    @workflow
    async def sleeps(run: Run) -> None:
        await run.wait_for("never")

    async def body(run: Run) -> None:
        child = await run.spawn(sleeps)
        await child.cancel("not needed")
        await child.result()

    live, replayed = await both_times(body)
    assert live == replayed
    assert (live["class"], live["details"]["status"]) == (ChildFailed, "cancelled")


# --- branches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
async def test_3_a_join_raises_the_same_failure_live_and_replayed(first: int) -> None:
    """Both branches would fail; whichever was first is the one, also in a replay where both are quick."""
    go = asyncio.Event()

    @step(kind="read")
    async def fails(number: int) -> None:
        if number != first:
            await go.wait()
        raise ValueError(f"branch {number}")

    live, replayed = await both_times(lambda run: run.map(fails, [0, 1]))
    assert live == replayed
    assert live["text"] == f"branch {first}"
    go.set()


async def test_3_a_failure_in_a_deep_branch_is_the_same_live_and_replayed() -> None:
    called = failing(lambda: OwnError("deep"))

    async def body(run: Run) -> None:
        async def inner(_: int) -> None:
            await run.gather(run.step(called), run.wait_for("never"))

        await run.map(inner, [1, 2])

    live, replayed = await both_times(body)
    assert live == replayed
    assert live["text"] == "deep"


async def test_3_a_failure_of_the_branches_own_code_is_the_same_live_and_replayed() -> None:
    @step(kind="read")
    async def look(number: int) -> int:
        return number

    async def branch(run: Run, number: int) -> None:
        if await run.step(look, number) == 2:
            raise OwnError("from the branch")
        await run.wait_for("never")

    live, replayed = await both_times(lambda run: run.map(lambda number: branch(run, number), [1, 2, 3]))
    assert live == replayed
    assert live["class"] is OwnError


async def test_3_waits_of_branches_that_a_failure_ended_are_closed() -> None:
    """Nobody is asked what nobody waits for."""
    called = failing(lambda: OwnError("no need to ask"))

    @workflow
    async def main(run: Run) -> str:
        async def late() -> None:
            await run.wait_for("asked")
            await run.step(called)

        try:
            await run.gather(run.ask("Still there?"), run.sleep("1h"), late())
        except StepFailed:
            return await run.wait_for("go")
        return "nothing"

    async with recovered(MemoryStore(), main, main, key="wait_for.asked") as (runtime, handle):
        assert len(await runtime.questions()) == 1
        await handle.signal("asked")
        async for event in handle.events():
            if event.kind == "wait.opened" and event.key == "wait_for.go":
                break
        assert await runtime.questions() == []
        assert [place.wait.name for place in await runtime.store.open_waits(run_id=handle.id)] == ["go"]
        await handle.signal("go", "gone")
        assert await handle.result() == "gone"


# --- flows ------------------------------------------------------------------------------------------------------------


async def test_3_a_node_that_fails_by_what_it_returns_says_why() -> None:
    flow = Flow("flow")

    @flow.node(to=["second"])
    async def first(run: Run) -> Any:
        return Next("second")

    @flow.node
    async def second(run: Run) -> Any:
        return Fail("no more", code="enough", details={"n": 1})

    async with witnessed(MemoryStore(), flow) as runtime:
        handle: Any = await runtime.start(flow)
        with pytest.raises(PerdureError) as caught:
            await handle.result()
    error = caught.value.ids["error"]
    assert (error["code"], error["message"], error["details"]) == ("enough", "no more", {"n": 1})
