"""Rules of section 4: threads cannot be ended; and the lease is checked before an effect."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure import Backoff, Done, Run, StepFailed, current_step, step, workflow
from perdure.core.errors import RunFailed
from perdure.store.memory import MemoryStore
from perdure.store.sqlite import SQLiteStore
from tests.unit.engine.staging import (
    Ledger,
    StageClock,
    die,
    events_of,
    kinds,
    memory,
    on_disk,
    opened,
    quick,
    reaches,
    running,
    seen,
    until,
)
from tests.unit.store.sqlite.faulty import Faulty, io_error

pytestmark = pytest.mark.time_limit(20)
NO_DELAY = Backoff(initial_s=0.0)


class Gate:
    """Where threads of a test wait until they are let through, one after the other."""

    def __init__(self) -> None:
        self.arrived = 0
        self._place = threading.Condition()
        self._open = 0

    def pass_through(self) -> int:
        with self._place:
            self.arrived += 1
            number = self.arrived
            self._place.notify_all()
            self._place.wait_for(lambda: self._open >= number)
            return number

    def open(self, number: int) -> None:
        with self._place:
            self._open = max(self._open, number)
            self._place.notify_all()

    async def reached(self, number: int) -> None:
        def wait() -> None:
            with self._place:
                self._place.wait_for(lambda: self.arrived >= number)

        await asyncio.to_thread(wait)


@pytest.fixture
def gate() -> Any:
    gate = Gate()
    yield gate
    gate.open(1000)


async def the_threads_have_come_back() -> None:
    """Return when no thread is inside the gate any more, and what they posted to the loop was dealt with."""
    await until(
        lambda: not (any(thread.name == "perdure-step" and _is_busy(thread) for thread in threading.enumerate()))
    )


def _is_busy(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "pass_through":
            return True
        frame = frame.f_back
    return False


# --- abandoned threads ------------------------------------------------------------------------------------------------


async def test_a_thread_that_outlives_its_timeout_is_abandoned_and_its_late_result_is_a_note_only(gate: Gate) -> None:
    clock = StageClock()

    @step(kind="read", retries=1, timeout="5s", backoff=NO_DELAY)
    def look() -> int:
        return gate.pass_through()

    @workflow
    async def main(run: Run) -> int:
        seen = await run.step(look)
        await run.wait_for("go")
        return seen

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await clock.advance(5)
        await gate.reached(2)  # the second attempt
        assert [event.data for event in await events_of(handle, "step.abandoned")] == [
            {"attempt": 1, "cause": "timeout"}
        ]
        gate.open(1)
        note = await seen(handle, "step.noted")
        assert (note.key, note.data) == ("look", {"note": "late", "value": 1})
        gate.open(2)
        await reaches(handle, "waiting")
        await handle.signal("go")
        assert await handle.result() == 2


async def test_a_late_failure_is_a_note_only(gate: Gate) -> None:
    clock = StageClock()

    @step(kind="read", timeout="5s")
    def look() -> None:
        gate.pass_through()
        raise ValueError("too late")

    @workflow
    async def main(run: Run) -> str:
        try:
            await run.step(look)
        except StepFailed as error:
            await run.wait_for("go")
            return error.error_code
        return "seen"

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await clock.advance(5)
        gate.open(1)
        note = await seen(handle, "step.noted")
        assert note.data["error"]["message"] == "too late"
        await handle.signal("go")
        assert await handle.result() == "step_timeout"


async def test_a_late_result_after_the_end_of_the_run_changes_nothing(gate: Gate) -> None:
    clock = StageClock()

    @step(kind="read", timeout="5s")
    def look() -> int:
        return gate.pass_through()

    @workflow
    async def main(run: Run) -> None:
        await run.step(look)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await clock.advance(5)
        with pytest.raises(RunFailed):
            await handle.result()
        before = await kinds(handle)
        gate.open(1)
        await the_threads_have_come_back()
        await clock.settle()
        assert await kinds(handle) == before


async def test_an_abandoned_attempt_is_no_fact_after_a_restart(gate: Gate) -> None:
    clock, store = StageClock(), memory()

    @step(kind="idempotent", retries=1, timeout="5s", backoff=NO_DELAY)
    def send() -> int:
        return gate.pass_through()

    @workflow
    async def main(run: Run) -> int:
        return await run.step(send)

    first = await opened(store, main, clock=clock)
    handle = await first.start(main, id="r1")
    await gate.reached(1)
    await clock.advance(5)
    await gate.reached(2)
    gate.open(1)
    await seen(handle, "step.noted")
    await die(first)
    async with running(store, main, clock=clock) as second:
        await gate.reached(3)
        gate.open(3)
        assert await second.run("r1").result() == 3


async def test_an_abandoned_thread_gives_its_place_to_the_next_step(gate: Gate) -> None:
    clock = StageClock()

    @step(kind="read", timeout="5s")
    def hangs() -> None:
        gate.pass_through()

    @step(kind="read")
    def looks() -> str:
        return "seen"

    @workflow
    async def main(run: Run) -> str:
        for _ in range(3):
            try:
                await run.step(hangs)
            except StepFailed:
                continue
        return await run.step(looks)

    async with running(memory(), main, clock=clock, limits=quick(step_threads=1)) as runtime:
        handle = await runtime.start(main)
        for number in (1, 2, 3):
            await gate.reached(number)
            await clock.advance(5)
        assert await handle.result() == "seen"


async def test_a_timeout_counts_from_when_a_thread_begins_and_not_from_when_it_waits_for_its_place(gate: Gate) -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="once", timeout="5s")
    def first() -> int:
        return gate.pass_through()

    @step(kind="once", timeout="5s")
    def second() -> int:
        ledger.lines.append("second")
        return gate.pass_through()

    @workflow
    async def main(run: Run) -> list[Any]:
        return await run.gather(run.step(first), run.step(second))

    async with running(memory(), main, clock=clock, limits=quick(step_threads=1)) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await clock.advance(4)
        assert ledger.lines == []
        gate.open(1)
        await gate.reached(2)
        await clock.advance(4)  # 8 seconds after both were asked for
        gate.open(2)
        assert await handle.result() == [1, 2]


async def test_a_step_that_was_given_up_before_a_thread_was_free_is_never_called(gate: Gate) -> None:
    ledger = Ledger()

    @step(kind="idempotent")
    def blocks() -> None:
        gate.pass_through()

    @step(kind="idempotent")
    def sends() -> None:
        ledger.lines.append("sent")

    @workflow
    async def main(run: Run) -> None:
        await run.gather(run.step(blocks), run.step(sends))

    async with running(memory(), main, limits=quick(step_threads=1)) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await handle.cancel()
        await reaches(handle, "cancelled")
        gate.open(1)
        await the_threads_have_come_back()
    assert ledger.lines == []


async def test_synchronous_workflows_leave_their_steps_room(gate: Gate) -> None:
    """As many synchronous workflows as there are places for steps, each of them in the middle of one."""

    @step(kind="read")
    def look(number: int) -> int:
        return number

    @workflow
    def main(run: Any, number: int) -> int:
        gate.pass_through()
        return int(run.step(look, number))

    async with running(memory(), main, limits=quick(step_threads=2)) as runtime:
        handles = [await runtime.start(main, number) for number in range(8)]
        await gate.reached(8)
        gate.open(8)
        assert [await handle.result() for handle in handles] == list(range(8))


def test_an_abandoned_thread_never_delays_exit(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import asyncio, threading
            from perdure import Runtime, step, workflow

            @step(kind="read", timeout=0.05)
            def hangs():
                threading.Event().wait()

            @workflow
            async def main(run):
                try:
                    await run.step(hangs)
                except Exception as error:
                    return error.code

            async def program():
                async with Runtime("memory://") as runtime:
                    print(await (await runtime.start(main)).result(), flush=True)

            asyncio.run(program())
            """
        )
    )
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=15)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "step_timeout\n", "")
    assert time.monotonic() - begun < 10


# --- never beside one's own thread ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["retry", "probe"])
async def test_a_retry_or_probe_never_happens_while_this_processes_own_thread_still_runs_the_step(
    gate: Gate, policy: str
) -> None:
    clock, ledger = StageClock(), Ledger()

    async def probe() -> Done:
        ledger.note("probed")
        return Done(0)

    options: dict[str, Any] = {"in_doubt": "retry"} if policy == "retry" else {"probe": probe}

    @step(kind="once", timeout="5s", **options)
    def pay() -> int:
        ledger.lines.append("called")
        return gate.pass_through()

    @workflow
    async def main(run: Run) -> int:
        return await run.step(pay)

    async with running(memory(), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await clock.advance(3600)
        assert ledger.lines == ["called"]
        gate.open(1000)
        await seen(handle, "step.retried" if policy == "retry" else "step.resolved")
        await clock.advance(60)
        await handle.result()
        assert ledger.lines == ["called", "called" if policy == "retry" else "probed"]


async def test_after_a_failed_append_the_step_is_not_retried_beside_its_own_thread(
    gate: Gate, store_path: Path
) -> None:
    """The store fails under the run, and this process recovers it while the thread of before still runs."""
    ledger, faults = Ledger(), Faulty()

    @step(kind="once", timeout=0.05, in_doubt="retry")
    def pay() -> int:
        ledger.lines.append("called")
        return gate.pass_through()

    @step(kind="idempotent")
    async def send() -> None:
        ledger.note("sent")

    @workflow
    async def main(run: Run) -> list[Any]:
        async def other() -> None:
            await run.wait_for("go")
            await run.step(send)

        return await run.gather(run.step(pay.options(timeout="1h")), other())

    store = on_disk(store_path, vfs=faults.name)
    async with running(store, main, limits=quick()) as runtime:
        handle = await runtime.start(main)
        await gate.reached(1)
        await handle.signal("go")
        await ledger.reaches("sent")  # its fact is appended next
        with faults.failing("write", "-wal", io_error(apsw.SQLITE_IOERR_WRITE)):
            ledger_before = faults.failed
            await handle_lost(runtime, handle.id)
            assert faults.failed > ledger_before
        await seen(handle, "step.doubted")
        assert ledger.lines.count("called") == 1
        gate.open(1000)
        assert await handle.result() == [2, None]
    assert ledger.lines.count("called") == 2


async def handle_lost(runtime: Any, run_id: str) -> None:
    """Write something that fails, and return when the run's execution was given up for it."""
    execution = runtime.worker.executions[run_id]
    execution.log.add(execution.services.draft("app.noted", b"{}", node="main#1", scope="0/main#1", key="emit.app"))
    await until(lambda: execution.log.error is not None)


# --- the lease --------------------------------------------------------------------------------------------------------


async def test_directly_before_an_effects_call_the_worker_checks_its_lease(store_path: Path) -> None:
    """The lease ends while the intent is being committed: the step must not be called by this worker."""
    clock, ledger = StageClock(), Ledger()

    class Suspended(SQLiteStore):
        """The machine sleeps for a minute right after the commit of an intent."""

        armed = True

        def append(self, batch: Any, *, in_place: bool = True) -> Any:
            outcome = super().append(batch, in_place=in_place)
            if Suspended.armed and any(draft.kind == "step.intended" for one in batch for draft in one.drafts):
                Suspended.armed = False
                clock._now_ms += 60_000
            return outcome

    @step(kind="idempotent")
    async def send() -> int:
        ledger.note(f"called under epoch {current_step().epoch}")
        return current_step().epoch

    @workflow
    async def main(run: Run) -> int:
        return await run.step(send)

    store = Suspended(store_path, durability="process", boot_clock=clock.boot_ms)
    async with running(store, main, limits=quick(lease_s=0.5)) as runtime:
        handle = await runtime.start(main)
        epoch = await handle.result()  # of a later turn, when the lease was renewed
        assert epoch > 1
    assert ledger.lines == [f"called under epoch {epoch}"]


async def test_once_is_not_called_twice_by_a_worker_whose_lease_ended_before_the_call(store_path: Path) -> None:
    clock, ledger = StageClock(), Ledger()

    class Suspended(SQLiteStore):
        armed = True

        def append(self, batch: Any, *, in_place: bool = True) -> Any:
            outcome = super().append(batch, in_place=in_place)
            if Suspended.armed and any(draft.kind == "step.intended" for one in batch for draft in one.drafts):
                Suspended.armed = False
                clock._now_ms += 60_000
            return outcome

    @step(kind="once")
    async def pay() -> None:
        ledger.note("paid")

    @workflow
    async def main(run: Run) -> None:
        await run.step(pay)

    store = Suspended(store_path, durability="process", boot_clock=clock.boot_ms)
    async with running(store, main, limits=quick(lease_s=0.5)) as runtime:
        handle = await runtime.start(main)
        await seen(handle, "step.doubted")
        assert ledger.lines == []


async def test_in_memory_nobody_else_can_own_a_run_so_its_lease_never_ends(store_path: Path) -> None:
    clock, ledger = StageClock(), Ledger()

    @step(kind="once")
    async def pay() -> None:
        ledger.note("paid")

    @workflow
    async def main(run: Run) -> None:
        await run.sleep("30d")
        await run.step(pay)

    async with running(MemoryStore(boot_clock=clock.boot_ms), main, clock=clock) as runtime:
        handle = await runtime.start(main)
        await clock.advance("31d")
        await handle.result()
    assert ledger.lines == ["paid"]


@pytest.mark.parametrize("policy", ["retry", "probe"])
async def test_a_probe_or_retry_after_a_lost_lease_waits_for_its_end_plus_the_steps_timeout(
    store_path: Path, policy: str
) -> None:
    """The worker of before is not dead but stopped: it may still be inside the call."""
    clock, ledger = StageClock(), Ledger()

    async def probe() -> Done:
        ledger.note(f"probed at {clock.passed_ms}")
        return Done(None)

    options: dict[str, Any] = {"in_doubt": "retry"} if policy == "retry" else {"probe": probe}

    @step(kind="once", timeout="30s", **options)
    async def pay() -> None:
        ledger.note(f"called at {clock.passed_ms}")
        if len(ledger.lines) == 1:
            await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> None:
        await run.step(pay)

    stopped = SQLiteStore(store_path, durability="process", boot_clock=clock.boot_ms)
    first = await opened(stopped, main, clock=StageClock(), limits=quick(lease_s=10.0))  # time stands still in there
    assert first.worker._heartbeat is not None
    first.worker._heartbeat.stop()
    await first.start(main, id="r1")
    await ledger.reaches("called at 0")
    other = SQLiteStore(store_path, durability="process", boot_clock=clock.boot_ms)
    async with running(other, main, clock=clock, limits=quick(lease_s=1000.0)) as second:
        await clock.advance(9)
        assert (await second.run("r1").row()).owner == first.worker_id
        clock._now_ms += 1_500  # the lease of the first has ended
        handle = second.run("r1")
        interrupted = await seen(handle, "node.interrupted")
        assert interrupted.data["worker"] == first.worker_id
        await seen(handle, "step.doubted")
        taken_ms = clock.passed_ms
        await clock.advance(29)
        assert len(ledger.lines) == 1
        await clock.advance(2)
        await handle.result()
        assert taken_ms + 30_000 <= int(ledger.lines[1].split()[-1]) <= taken_ms + 30_010
    await die(first)


async def test_a_worker_whose_process_is_dead_is_not_waited_for() -> None:
    ledger, store = Ledger(), memory()

    async def probe() -> Done:
        return Done("probed")

    @step(kind="once", timeout="1h", probe=probe)
    async def pay() -> str:
        ledger.note("called")
        await asyncio.get_running_loop().create_future()
        return ""

    @workflow
    async def main(run: Run) -> str:
        return await run.step(pay)

    first = await opened(store, main)
    await first.start(main, id="r1")
    await ledger.reaches("called")
    await die(first)
    async with running(store, main) as second:
        assert await second.run("r1").result() == "probed"


def test_the_policies_that_wait_out_a_lost_lease_need_a_timeout() -> None:
    from perdure.core.errors import PolicyError

    async def probe() -> Done:
        return Done(None)

    with pytest.raises(PolicyError, match="timeout"):
        step(kind="once", in_doubt="retry")(probe)
    with pytest.raises(PolicyError, match="timeout"):
        step(kind="once", probe=probe)(probe)


async def test_epoch_attempt_and_key_are_given_to_the_step_so_that_the_other_side_can_refuse() -> None:
    found: list[Any] = []
    store = memory()

    @step(kind="idempotent")
    async def send() -> None:
        found.append(current_step())
        if len(found) == 1:
            await asyncio.get_running_loop().create_future()

    @workflow
    async def main(run: Run) -> None:
        await run.step(send)

    first = await opened(store, main)
    handle = await first.start(main, id="r1")
    await seen(handle, "step.intended")
    await until(lambda: found)
    await die(first)
    async with running(store, main) as second:
        await second.run("r1").result()
        (intent, _) = await events_of(second.run("r1"), "step.intended")
    assert [(info.epoch, info.attempt) for info in found] == [(1, 1), (2, 2)]
    assert {info.idempotency_key for info in found} == {intent.data["idempotency_key"]}
