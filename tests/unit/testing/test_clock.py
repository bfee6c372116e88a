"""The virtual clock: what fires, in which order, and when the engine counts as settled."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure import Backoff, Limits, Run, Runtime, step, workflow
from perdure.core.errors import NotSettledError, StepTimeout, WaitTimeout
from perdure.testing import VirtualClock

MIDNIGHT = datetime(2031, 5, 17, tzinfo=UTC)

# --- the clock alone --------------------------------------------------------------------------------------------------


async def test_time_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(MIDNIGHT)
    await asyncio.sleep(0.01)
    assert clock.now() == MIDNIGHT
    assert clock.monotonic_s() == 0
    await clock.advance("90s")
    assert clock.now() == MIDNIGHT + timedelta(seconds=90)
    assert clock.monotonic_s() == 90


async def test_timers_fire_in_the_order_of_their_instants() -> None:
    clock = VirtualClock(MIDNIGHT)
    start_ms = clock.now_ms()
    fired: list[tuple[str, int]] = []

    def timer(name: str, after_ms: int) -> None:
        clock.call_at(start_ms + after_ms, lambda: fired.append((name, clock.now_ms() - start_ms)))

    timer("third", 3000)
    timer("first", 1000)
    timer("second", 2000)
    timer("also second", 2000)
    timer("never", 9000)
    assert await clock.advance("5s") == 4
    assert fired == [("first", 1000), ("second", 2000), ("also second", 2000), ("third", 3000)]
    assert clock.now_ms() - start_ms == 5000
    assert clock.next_timer == MIDNIGHT + timedelta(seconds=9)


async def test_a_timer_that_is_due_already_fires_without_an_advance() -> None:
    clock = VirtualClock()
    fired: list[int] = []
    clock.call_at(clock.now_ms() - 1, lambda: fired.append(1))
    assert fired == []
    await clock.settle()
    assert fired == [1]


async def test_a_cancelled_timer_does_not_fire() -> None:
    clock = VirtualClock()
    timer = clock.call_at(clock.now_ms() + 1000, lambda: pytest.fail("it was cancelled"))
    timer.cancel()
    assert clock.next_timer is None
    assert await clock.advance("1h") == 0


async def test_a_timer_that_a_timer_sets_fires_in_the_same_advance() -> None:
    clock = VirtualClock()
    fired: list[int] = []

    def again() -> None:
        fired.append(clock.now_ms())
        if len(fired) < 4:
            clock.call_at(clock.now_ms() + 1000, again)

    clock.call_at(clock.now_ms() + 1000, again)
    assert await clock.advance("3s") == 3
    assert len(fired) == 3
    assert await clock.advance_to_next()
    assert len(fired) == 4
    assert not await clock.advance_to_next()


async def test_it_advances_to_an_instant() -> None:
    clock = VirtualClock(MIDNIGHT)
    assert await clock.advance_to(MIDNIGHT + timedelta(days=30)) == 0
    assert clock.now() == MIDNIGHT + timedelta(days=30)
    await clock.advance_to(MIDNIGHT)
    assert clock.now() == MIDNIGHT + timedelta(days=30)


async def test_a_deadline_ends_its_body_at_its_instant() -> None:
    clock = VirtualClock()

    async def wait() -> bool:
        deadline = clock.timeout(30)
        try:
            async with deadline:
                await asyncio.Event().wait()
        except TimeoutError:
            return deadline.expired()
        return False

    waiting = asyncio.ensure_future(wait())
    await clock.advance("29s")
    assert not waiting.done()
    await clock.advance("1s")
    assert await waiting


async def test_a_deadline_that_is_kept_leaves_no_timer() -> None:
    clock = VirtualClock()
    async with clock.timeout(30):
        await asyncio.sleep(0)
    assert clock.next_timer is None


# --- with an engine ---------------------------------------------------------------------------------------------------


@step(kind="read")
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return threading.current_thread().name


@workflow
async def report(run: Run) -> str:
    await run.sleep("1h")
    return await run.step(slow, 0.15)


@pytest.mark.parametrize("on_disk", [False, True])
async def test_thirty_days_pass_in_milliseconds(on_disk: bool, store_path: Path) -> None:
    clock = VirtualClock(MIDNIGHT)
    url = f"sqlite:///{store_path}" if on_disk else "memory://"
    async with Runtime(url, clock=clock) as runtime:
        handle = await runtime.start(monthly)
        began_s = time.monotonic()
        await clock.advance("29d")
        assert await handle.status() == "waiting"
        await clock.advance("1d")
        assert await handle.result() == (MIDNIGHT + timedelta(days=30)).isoformat()
        assert time.monotonic() - began_s < 5


@workflow
async def monthly(run: Run) -> str:
    await run.sleep("30d")
    return run.now().isoformat()


async def test_an_advance_waits_for_a_step_in_a_thread() -> None:
    clock = VirtualClock()
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(report)
        await clock.advance("1h")
        assert await handle.status() == "completed"
        assert (await handle.result()).startswith("perdure-step")


@step(kind="read", timeout="30s")
async def hang() -> None:
    await asyncio.Event().wait()


@workflow
async def hanging(run: Run) -> str:
    try:
        await run.step(hang)
    except StepTimeout as error:
        return error.error_code
    return "it came back"


async def test_a_step_that_hangs_times_out_in_virtual_time() -> None:
    clock = VirtualClock(patience="50ms")
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(hanging)
        await clock.advance("29s")
        assert await handle.status() == "running"
        await clock.advance("1s")
        assert await handle.result() == "step_timeout"


TRIES: list[datetime] = []


@step(kind="read", retries=2, backoff=Backoff(initial_s=60, factor=10, jitter=0, max_s=3600))
async def failing(clock_shows: str) -> str:
    TRIES.append(CLOCKS[clock_shows].now())
    raise ConnectionError("no")


CLOCKS: dict[str, VirtualClock] = {}


@workflow
async def retrying(run: Run, clock: str) -> str:
    try:
        return await run.step(failing, clock)
    except Exception as error:
        return str(error)


async def test_backoff_passes_in_virtual_time() -> None:
    clock = CLOCKS["retrying"] = VirtualClock(MIDNIGHT)
    TRIES.clear()
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(retrying, "retrying")
        assert await clock.until(handle.result()) == "no"
    assert [round((tried - MIDNIGHT).total_seconds()) for tried in TRIES] == [0, 60, 660]


@workflow
async def patient(run: Run) -> str:
    try:
        answer: str = await run.wait_for("news", timeout="7d")
    except WaitTimeout:
        return "no news"
    return answer


async def test_a_run_that_waits_long_is_let_go_of_and_taken_up_when_it_is_due() -> None:
    clock = VirtualClock()
    async with Runtime("memory://", clock=clock, limits=Limits(linger_s=10)) as runtime:
        handle = await runtime.start(patient)
        await clock.advance("9s")
        assert (await runtime.stats())["executing"] == 1
        await clock.advance("1s")
        assert (await runtime.stats())["executing"] == 0
        await clock.advance("7d")
        assert await handle.result() == "no news"


@step(kind="once")
async def never_answers() -> None:
    await asyncio.Event().wait()


@workflow
async def stuck(run: Run) -> None:
    await run.step(never_answers)


async def test_the_grace_of_a_cancel_passes_in_virtual_time() -> None:
    clock = VirtualClock(patience="50ms")
    async with Runtime("memory://", clock=clock, limits=Limits(cancel_grace_s=5)) as runtime:
        handle = await runtime.start(stuck)
        await clock.settle()
        await handle.cancel()
        await clock.advance("4s")
        assert await handle.status() == "running"
        await clock.advance("1s")
        assert await handle.status() == "cancelled"


async def test_until_goes_from_timer_to_timer() -> None:
    clock = VirtualClock(MIDNIGHT)
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(monthly)
        assert await clock.until(handle.result()) == (MIDNIGHT + timedelta(days=30)).isoformat()
        assert clock.now() == MIDNIGHT + timedelta(days=30)


async def test_until_says_so_when_nothing_more_can_happen() -> None:
    clock = VirtualClock()
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(asking)
        with pytest.raises(NotSettledError, match="no timer is left"):
            await clock.until(handle.result())
        await handle.answer("me")
        assert await clock.until(handle.result()) == "me"


async def test_until_says_so_when_it_takes_too_long() -> None:
    clock = VirtualClock()
    async with Runtime("memory://", clock=clock) as runtime:
        handle = await runtime.start(monthly)
        with pytest.raises(NotSettledError, match="takes longer"):
            await clock.until(handle.result(), at_most="7d")


@workflow
async def asking(run: Run) -> str:
    answer: str = await run.ask("Who?")
    return answer
