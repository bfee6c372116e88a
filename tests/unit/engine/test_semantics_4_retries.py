"""Rules of section 4: attempts, delays, and when a step gives up."""

from __future__ import annotations

import email.utils
from pathlib import Path
from types import SimpleNamespace

import pytest

from perdure import Backoff, RetryAfter, Run, StepFailed, step, workflow
from perdure.core.errors import RunFailed, StepTimeout
from tests.unit.engine.staging import (
    START_MS,
    Ledger,
    StageClock,
    die,
    events_of,
    memory,
    on_disk,
    opened,
    running,
    seen,
)

STEADY = Backoff(initial_s=1.0, factor=2.0, max_s=60.0, jitter=0.0)


class HttpError(Exception):
    """As HTTP clients raise it: with a response that has a status code and headers."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"status {status}")
        self.response = SimpleNamespace(status_code=status, headers=headers or {})


async def test_attempts_are_counted_and_the_last_failure_is_raised() -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="idempotent", retries=2, backoff=STEADY)
    async def send() -> None:
        ledger.note("send")
        raise ValueError(f"refusal {ledger.count('send')}")

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(send)
        except StepFailed as error:
            return f"{error.error_type}: {error.message}"
        return "sent"

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.advance(10)
        assert await handle.result() == "ValueError: refusal 3"
        assert ledger.count("send") == 3
        assert [event.data["attempt"] for event in await events_of(handle, "step.intended")] == [1, 2, 3]


async def test_the_delay_between_attempts_grows_by_the_backoff() -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="read", retries=4, backoff=Backoff(initial_s=1.0, factor=3.0, max_s=5.0, jitter=0.0))
    async def look() -> None:
        ledger.note(str(clock.passed_ms))
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.advance(60)
        with pytest.raises(RunFailed):
            await handle.result()
        assert ledger.lines == ["0", "1000", "4000", "9000", "14000"]


@pytest.mark.parametrize(("uniform", "delay_ms"), [(0.0, 500), (0.5, 1000), (1.0, 1500)])
def test_jitter_spreads_the_delay_around_its_mean(uniform: float, delay_ms: int) -> None:
    assert round(Backoff(initial_s=1.0, jitter=0.5).delay_s(1, uniform) * 1000) == delay_ms


async def test_only_listed_errors_are_worth_another_attempt() -> None:
    ledger = Ledger()

    @step(kind="read", retries=5, retry_on=(ConnectionError,))
    async def look() -> None:
        ledger.note("look")
        raise ValueError("not listed")

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)

    async with running(memory(), main) as runtime:
        with pytest.raises(RunFailed, match="not listed"):
            await (await runtime.start(main)).result()
    assert ledger.count("look") == 1


async def test_a_timeout_ends_an_attempt_and_the_next_one_begins() -> None:
    ledger = Ledger()

    @step(kind="read", retries=1, timeout=0.05, backoff=Backoff(initial_s=0.0))
    async def look() -> None:
        ledger.note("begun")
        try:
            await Ledger().reaches("never")
        finally:
            ledger.note("ended")

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(look)
        except StepTimeout as error:
            return error.error_code
        return "looked"

    async with running(memory(), main) as runtime:
        assert await (await runtime.start(main)).result() == "step_timeout"
    assert ledger.lines == ["begun", "ended", "begun", "ended"]


async def test_attempts_of_effects_hold_over_restarts() -> None:
    clock, ledger, store = StageClock(), Ledger(), memory()

    @step(kind="idempotent", retries=3, backoff=STEADY)
    async def send() -> None:
        ledger.note("send")
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    first = await opened(store, main, clock=clock)
    handle = await first.start(main, id="r1")
    await seen(handle, "step.retried")
    await clock.advance(1)
    await seen(handle, "step.retried", 2)
    await die(first)
    async with running(store, main, clock=clock) as second:
        handle = second.run("r1")
        await seen(handle, "node.interrupted")
        await clock.advance(60)
        with pytest.raises(RunFailed):
            await handle.result()
        assert [event.data["attempt"] for event in await events_of(handle, "step.intended")] == [1, 2, 3, 4]
    assert ledger.count("send") == 4


async def test_an_attempt_that_a_crash_cut_short_counts() -> None:
    ledger, store = Ledger(), memory()

    @step(kind="idempotent", retries=1, backoff=Backoff(initial_s=0.0))
    async def send() -> None:
        ledger.note("send")
        if ledger.count("send") == 1:
            await Ledger().reaches("never")
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("send")
    await die(first)
    async with running(store, main) as second:
        with pytest.raises(RunFailed):
            await second.run("r1").result()
    assert ledger.count("send") == 2


async def test_a_due_time_is_kept_over_a_restart_and_not_begun_anew() -> None:
    clock, ledger, store = StageClock(), Ledger(), memory()

    @step(kind="read", retries=1, backoff=Backoff(initial_s=100.0, max_s=100.0, jitter=0.0))
    async def look() -> str:
        ledger.note(str(clock.passed_ms))
        if len(ledger.lines) == 1:
            raise ValueError("no")
        return "seen"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(look)

    first = await opened(store, main, clock=clock)
    handle = await first.start(main, id="r1")
    due = (await seen(handle, "step.retried")).data["due_ms"]
    assert due == START_MS + 100_000
    await clock.advance(70)
    await die(first)
    async with running(store, main, clock=clock) as second:
        handle = second.run("r1")
        await seen(handle, "node.entered", 2)
        await clock.advance(29.9)
        assert ledger.lines == ["0"]
        await clock.advance(0.1)
        assert await handle.result() == "seen"
    assert ledger.lines == ["0", "100000"]


@pytest.mark.parametrize("kind", ["read", "idempotent"])
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_waits_as_asked_without_using_attempts(kind: str, status: int) -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind=kind, retries=1, backoff=STEADY)  # type: ignore[call-overload]
    async def send() -> str:
        ledger.note(str(clock.passed_ms))
        if len(ledger.lines) <= 4:
            raise HttpError(status, {"retry-after": "7"})
        if len(ledger.lines) == 5:
            raise ValueError("this one uses an attempt")
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.advance(60)
        assert await handle.result() == "sent"
    assert ledger.lines == ["0", "7000", "14000", "21000", "28000", "29000"]


async def test_retry_after_may_be_a_date() -> None:
    clock, ledger = StageClock(), Ledger()
    date = email.utils.formatdate((START_MS + 30_000) / 1000, usegmt=True)

    @step(kind="read")
    async def look() -> str:
        ledger.note(str(clock.passed_ms))
        if len(ledger.lines) == 1:
            raise HttpError(503, {"retry-after": date})
        return "seen"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.advance(60)
        assert await handle.result() == "seen"
    assert ledger.lines == ["0", "30000"]


@pytest.mark.parametrize("asked", ["0", "-5", "0.001", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_retry_after_has_a_floor_so_that_it_is_no_busy_loop(asked: str) -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="read")
    async def look() -> str:
        ledger.note(str(clock.passed_ms))
        if len(ledger.lines) == 1:
            raise HttpError(429, {"retry-after": asked})
        return "seen"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.settle()
        assert ledger.lines == ["0"]
        await clock.advance(1)
        assert await handle.result() == "seen"
    assert ledger.lines == ["0", "100"]


async def test_retry_after_is_bounded_by_give_up_after() -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="read", retries=9, give_up_after="20s")
    async def look() -> None:
        ledger.note(str(clock.passed_ms))
        raise RetryAfter(8.0)

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.advance(60)
        with pytest.raises(RunFailed):
            await handle.result()
    assert ledger.lines == ["0", "8000", "16000"]


async def test_waits_that_were_asked_for_use_no_attempts_after_a_restart_either() -> None:
    clock, ledger, store = StageClock(), Ledger(), memory()

    @step(kind="idempotent", retries=1, backoff=STEADY)
    async def send() -> str:
        ledger.note("send")
        if ledger.count("send") <= 3:
            raise RetryAfter(5.0)
        if ledger.count("send") == 4:
            raise ValueError("this one uses an attempt")
        return "sent"

    @workflow
    async def main(run: Run) -> str:
        return await run.step(send)

    first = await opened(store, main, clock=clock)
    handle = await first.start(main, id="r1")
    await seen(handle, "step.retried")
    await clock.advance(5)
    await seen(handle, "step.retried", 2)
    await die(first)
    async with running(store, main, clock=clock) as second:
        await seen(second.run("r1"), "node.entered", 2)
        await clock.advance(60)
        assert await second.run("r1").result() == "sent"
    assert ledger.count("send") == 5


async def test_give_up_after_bounds_all_attempts_together() -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="read", retries=1000, give_up_after="10s", backoff=Backoff(3.0, factor=1.0, jitter=0.0))
    async def look() -> None:
        ledger.note(str(clock.passed_ms))
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.retried")
        await clock.advance(60)
        with pytest.raises(RunFailed):
            await handle.result()
    assert ledger.lines == ["0", "3000", "6000", "9000"]


@pytest.mark.parametrize("kind", ["read", "idempotent"])
async def test_give_up_after_counts_from_the_first_attempt_also_over_restarts(kind: str) -> None:
    clock, ledger, store = StageClock(), Ledger(), memory()

    @step(kind=kind, retries=1000, give_up_after="10s", backoff=Backoff(3.0, factor=1.0, jitter=0.0))  # type: ignore[call-overload]
    async def send() -> None:
        ledger.note(str(clock.passed_ms))
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    first = await opened(store, main, clock=clock)
    handle = await first.start(main, id="r1")
    await seen(handle, "step.retried")
    await clock.advance(4)
    await die(first)
    async with running(store, main, clock=clock) as second:
        handle = second.run("r1")
        await seen(handle, "node.entered", 2)
        await clock.advance(60)
        with pytest.raises(RunFailed):
            await handle.result()
    assert ledger.lines == ["0", "3000", "6000", "9000"]


async def test_attempts_of_effects_hold_over_restarts_on_sqlite(store_path: Path) -> None:
    ledger = Ledger()

    @step(kind="idempotent", retries=2, backoff=Backoff(initial_s=0.0))
    async def send() -> None:
        ledger.note("send")
        if ledger.count("send") == 2:
            await Ledger().reaches("never")
        raise ValueError("no")

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    first = await opened(on_disk(store_path), main)
    await first.start(main, id="r1")
    await ledger.reaches("send", 2)
    await die(first)
    async with running(on_disk(store_path), main) as second:
        with pytest.raises(RunFailed):
            await second.run("r1").result()
    assert ledger.count("send") == 3
