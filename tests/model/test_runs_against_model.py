"""Runs against a small model, by a hypothesis state machine: commands, time and crashes in any order, in memory and on
SQLite alike."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perdure import Limits, PerdureError, Runtime
from perdure.core.errors import NotSettledError
from perdure.engine.scopes import Scope
from perdure.journal import decide
from perdure.journal.fold import fold_all
from perdure.store.port import Store
from perdure.store.sqlite import SQLiteStore
from perdure.testing import ProcessDied, Simulation, SimulationLoop, loop
from perdure.testing.clock import START
from perdure.testing.crash.points import Moment
from perdure.testing.simulation import MakeStore, memory
from tests.model.script import DONE, GATES, Op, script
from tests.model.small_model import ModelRun

# A suspect that hangs would keep the others waiting; who waits for whom is not for the model to know.
LIMITS = Limits(crash_budget=1_000_000, suspect_turn_s=0, cancel_grace_s=5, linger_s=7)
SECONDS = st.sampled_from([1, 3, 5, 10, 30])

OPS = st.one_of(
    st.sampled_from([["compute"], ["charge"], ["post"], ["write"], ["lose"], ["hang"], ["hold"]]),
    st.tuples(st.sampled_from(["ask", "signal"]), st.sampled_from([0, 0, 10, 30])).map(list),
    st.tuples(st.just("sleep"), SECONDS).map(list),
    st.tuples(st.just("stutter"), st.integers(0, 3)).map(list),
    st.tuples(st.just("stumble"), st.integers(0, 2)).map(list),
)


Which = Callable[[ModelRun], bool]


def some(which: Which = lambda run: True) -> Callable[[Callable[..., None]], Any]:
    """Only while there is such a run."""
    return precondition(lambda machine: any(map(which, machine.runs.values())))


def asks(run: ModelRun) -> bool:
    return run.waiting == "question" and not run.ended


def is_in_doubt(run: ModelRun) -> bool:
    return run.waiting == "doubt" and not run.ended


def hangs(run: ModelRun) -> bool:
    return run.in_flight and run.cancel_by_s is None


def can_pause(run: ModelRun) -> bool:
    return not run.in_flight and run.cancel_by_s is None


class Died(Exception):
    """The process died of the command."""


class RunMachine(RuleBasedStateMachine):
    """Starts runs, commands them, moves time, kills the process; after each rule the runs are what the model says."""

    make_store: MakeStore

    def __init__(self) -> None:
        super().__init__()
        DONE.clear()
        GATES.clear()
        self.runs: dict[str, ModelRun] = {}
        self.now_s = 0
        self.numbers = itertools.count(1)
        self.armed: str | None = None

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.loop = SimulationLoop(seed)
        self.simulation = Simulation(self.loop, seed, type(self).make_store, START)
        self.do_outside(self.simulation.store.open())
        self.new_process()

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            try:
                self.process.crash()
                self.do_outside(self.simulation.store.close())
            finally:
                self.simulation.end()

    # --- the engine -----------------------------------------------------------------------------------------------

    def new_process(self) -> None:
        self.process = self.simulation.process(workflows=[script], limits=LIMITS)
        self.armed = None
        self.do(lambda runtime: runtime.stats())

    def do_outside(self, call: Awaitable[Any]) -> Any:
        task = self.loop.create_task(_awaited(call))
        self.loop.run_for()
        return task.result()

    def do(self, call: Callable[[Runtime], Awaitable[Any]]) -> Any:
        """Do something in the process, and let it settle.

        Raises:
            Died: of the crash point that was armed; a new process has begun.
        """
        task = self.loop.create_task(_done(self.process.run(lambda runtime: _awaited(call(runtime)))))
        self.loop.run_for()
        assert task.done(), "a command did not come back"
        self.survive()
        outcome = task.result()
        if isinstance(outcome, BaseException):
            raise Died if isinstance(outcome, ProcessDied) else outcome
        return outcome

    def survive(self) -> None:
        """If the process has died meanwhile, another one takes over."""
        if self.process.dead:
            for run in self.runs.values():
                run.crash()
            self.new_process()

    def command(self, call: Callable[[Runtime], Awaitable[Any]], apply: Callable[[], None]) -> None:
        """A command that must be accepted; `apply` does to the model what it does."""
        armed = self.armed
        try:
            self.do(call)
        except Died:
            if armed == "before":
                return self.settle()
            apply()
        else:
            apply()
        return self.settle()

    def refused(self, call: Callable[[Runtime], Awaitable[Any]], *codes: str) -> None:
        """A command that must be refused, and changes nothing."""
        try:
            self.do(call)
        except PerdureError as error:
            if error.code not in codes:
                raise
        else:
            raise AssertionError(f"it was accepted instead of refused with {codes}")

    def settle(self) -> None:
        for run in self.runs.values():
            run.settle(self.now_s)

    def chosen(self, data: st.DataObject, which: Which = lambda run: True) -> ModelRun:
        return data.draw(st.sampled_from([run for run in self.runs.values() if which(run)]), label="run")

    # --- rules ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.runs) < 3)
    @rule(ops=st.lists(OPS, max_size=6))
    def start(self, ops: list[Op]) -> None:
        run_id = f"run-{len(self.runs)}"
        # After a crash those in flight are resumed one at a time, each until it makes progress. So that the model need
        # not know, one run may hang, and then no other one may wait for its next attempt.
        before = {name for run in self.runs.values() for name, *_ in run.ops}
        if before & {"hang", "hold", "stutter"}:
            ops = [["charge"] if op[0] in ("hang", "hold") else op for op in ops]
        if before & {"hang", "hold"}:
            ops = [["post"] if op[0] == "stutter" else op for op in ops]

        def begun() -> None:
            self.runs[run_id] = ModelRun(run_id, ops)

        self.command(lambda runtime: runtime.start(script, ops, id=run_id), begun)

    @some()
    @rule(data=st.data())
    def start_again(self, data: st.DataObject) -> None:
        run = self.chosen(data)
        self.command(lambda runtime: runtime.start(script, run.ops, id=run.run_id), lambda: None)
        self.refused(lambda runtime: runtime.start(script, [["other", 1]], id=run.run_id), "run_conflict")

    @some(asks)
    @rule(data=st.data(), value=st.sampled_from(["a", "b"]))
    def answer(self, data: st.DataObject, value: str) -> None:
        run = self.chosen(data, asks)
        if self.is_too_late(run):
            self.refused(lambda runtime: runtime.answer(run.run_id, value), "question_expired")
        else:
            self.command(lambda runtime: runtime.answer(run.run_id, value), lambda: run.found(value))

    def is_too_late(self, run: ModelRun) -> bool:
        """A run that is paused times out when it goes on; its question is closed from its deadline on all the same."""
        return run.due_s is not None and run.due_s <= self.now_s

    @some()
    @rule(data=st.data())
    def answer_wrongly(self, data: st.DataObject) -> None:
        run = self.chosen(data)
        self.refused(
            lambda runtime: runtime.answer(run.run_id, "a", wait_id="q0123456789ab"), "wait_not_found", "run_ended"
        )
        if asks(run):
            refusal = "question_expired" if self.is_too_late(run) else "answer_refused"
            self.refused(lambda runtime: runtime.answer(run.run_id, "c"), refusal)
        elif run.waiting != "question":
            codes = ("wait_not_found", "wait_closed", "run_ended")
            self.refused(lambda runtime: runtime.answer(run.run_id, "a"), *codes)

    @some()
    @rule(data=st.data(), sender=st.sampled_from(["ada", "bob", None]))
    def signal(self, data: st.DataObject, sender: str | None) -> None:
        """Early, late, or again under a sender's id that was seen before."""
        run = self.chosen(data)
        payload = next(self.numbers)

        def send(runtime: Runtime) -> Awaitable[Any]:
            return runtime.signal("news", payload, run_id=run.run_id, sender_id=sender)

        def came() -> None:
            if sender is None or sender not in run.senders:
                run.signals.append(payload)
            if sender is not None:
                run.senders.add(sender)

        if run.ended and (sender is None or sender not in run.senders):
            self.refused(send, "run_ended")
        else:
            self.command(send, came)

    @some(is_in_doubt)
    @rule(data=st.data(), resolution=st.sampled_from(["done", "not_done", "fail"]))
    def resolve(self, data: st.DataObject, resolution: str) -> None:
        run = self.chosen(data, is_in_doubt)
        value = "said" if resolution == "done" else None
        self.command(
            lambda runtime: runtime.resolve(run.run_id, resolution, value=value), lambda: run.resolve(resolution)
        )

    @precondition(lambda self: self.armed is None)  # how much a batch holds is not for the model to know
    @some(hangs)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """The other side of a step that hangs answers at last."""
        run = self.chosen(data, hangs)
        GATES[run.run_id, run.place].set()
        self.loop.run_for()
        run.open_gates.add(run.place)
        run.found(run.place)
        self.settle()

    @some()
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = self.chosen(data)
        if run.status in ("completed", "failed"):
            self.refused(lambda runtime: runtime.cancel(run.run_id), "run_ended")
        elif run.status != "cancelled" and run.cancel_by_s is None:
            self.command(lambda runtime: runtime.cancel(run.run_id), lambda: run.cancel(self.now_s))

    @some()
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        run = self.chosen(data)
        if run.status in ("failed", "cancelled"):
            self.command(lambda runtime: runtime.retry(run.run_id), run.reopen)
        else:
            self.refused(lambda runtime: runtime.retry(run.run_id), "not_reopenable")

    @some(can_pause)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        run = self.chosen(data, can_pause)

        def paused() -> None:
            run.status = "paused"

        if run.ended:
            self.refused(lambda runtime: runtime.pause(run.run_id), "run_ended")
        else:
            self.command(lambda runtime: runtime.pause(run.run_id), paused)

    @some()
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        run = self.chosen(data)

        def resumed() -> None:
            run.status = "running"

        if run.status == "paused":
            self.command(lambda runtime: runtime.unpause(run.run_id), resumed)
        else:
            self.refused(lambda runtime: runtime.unpause(run.run_id), "wrong_state", "run_ended")

    @rule(seconds=SECONDS)
    def advance(self, seconds: int) -> None:
        """Time passes second by second, so that the model need not know what comes first within one."""
        for _ in range(seconds):
            self.now_s += 1
            self.loop.run_for(1.0)
            for run in self.runs.values():
                if run.cancel_by_s is not None and run.cancel_by_s <= self.now_s and not self.process.dead:
                    run.status, run.cancel_by_s, run.in_flight = "cancelled", None, False
                    run.waiting = "doubt" if run.waiting == "gate" else run.waiting
            self.survive()
            self.settle()

    @rule()
    def crash(self) -> None:
        self.process.crash()
        self.survive()
        self.settle()

    # An attempt that was begun and not called counts, too; that one the model does not know.
    @precondition(lambda self: self.armed is None and all(run.waiting != "backoff" for run in self.runs.values()))
    @rule(moment=st.sampled_from(("before", "after")))
    def die_at_the_next_commit(self, moment: Moment) -> None:
        self.armed = moment
        self.process.store.arm("commit", moment)

    # --- what must always hold --------------------------------------------------------------------------------------

    @invariant()
    def runs_are_what_the_model_says(self) -> None:
        for run in self.runs.values():
            row, events, waits = self.do_outside(self.read(run.run_id))
            state = fold_all(run.run_id, events)
            assert row.status == run.status, f"{run.run_id} is {row.status}; the model says {run.status}: {run}"
            assert (state.status, state.reason) == (row.status, row.reason)
            if run.status == "completed":
                assert state.outcome()["output"] == run.output
            if run.status != "cancelled":  # of which only the questions stay open, for whoever opens it again
                assert sorted(waits) == sorted(wait.wait_id for wait in state.open_waits())

    @invariant()
    def effects_are_what_the_model_says(self) -> None:
        for run in self.runs.values():
            done = {place: times for (run_id, place), times in DONE.items() if run_id == run.run_id}
            assert done == dict(run.done), f"{run.run_id} did {done}: {run}"

    @invariant()
    def chains_verify(self) -> None:
        if self.runs and hasattr(self, "process"):
            for run_id in self.runs:
                self.do_outside(self.check(run_id))

    async def read(self, run_id: str) -> Any:
        store = self.simulation.store
        row = await store.get_run(run_id)
        waits = await store.open_waits(run_id=run_id)
        return row, await store.read(run_id), [place.wait.wait_id for place in waits]

    async def check(self, run_id: str) -> None:
        from perdure.journal.chain import check

        check(run_id, await self.simulation.store.read(run_id))


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


async def _done(call: Awaitable[Any]) -> Any:
    """The result, or the error as a value: what a task raises that nobody awaits is printed."""
    try:
        return await call
    except (Exception, ProcessDied) as error:
        return error


# Explaining a failure traces every line, which takes longer than all else.
EXPLORING = tuple(phase for phase in Phase if phase is not Phase.explain)


def explore(
    make: MakeStore, examples: int, steps: int, phases: Collection[Phase] = EXPLORING, *, derandomize: bool = False
) -> None:
    machine = type("Machine", (RunMachine,), {"make_store": staticmethod(make)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=derandomize,
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.time_limit(150)
def test_runs_in_memory() -> None:
    explore(memory, examples=150, steps=40)


@pytest.mark.time_limit(150)
def test_runs_on_sqlite(tmp_path: Path) -> None:
    def make(boot_clock: Callable[[], int]) -> Store:
        folder = tempfile.mkdtemp(dir=tmp_path)
        return SQLiteStore(Path(folder) / "runs.db", durability="process", boot_clock=boot_clock)

    explore(make, examples=40, steps=30)


# --- it bites ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug may keep the engine busy for ever; that is said sooner than usual."""
    monkeypatch.setattr(loop, "MOST_CALLBACKS", 50_000)


def finds(complaint: str) -> None:
    """The machine finds something wrong, with the same examples each time; what it says of it, unshrunk."""
    with pytest.raises((AssertionError, PerdureError, NotSettledError), match=complaint):
        explore(memory, examples=1000, steps=40, phases=(Phase.generate,), derandomize=True)


@pytest.mark.usefixtures("impatient")
def test_a_signal_that_is_taken_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    really = decide.signal

    def signal(state: Any, name: str, match: Any, payload: Any, sender_id: Any, command_id: Any) -> Any:
        return really(state, name, match, payload, None, command_id)

    monkeypatch.setattr(decide, "signal", signal)
    finds("the model says|changes nothing|run-. did")


@pytest.mark.usefixtures("impatient")
def test_an_effect_that_is_done_again_after_a_crash_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    really = Scope.recall

    def recall(self: Scope, key: str) -> Any:
        record = really(self, key)
        return None if record is not None and record.what == "step" and record.doubt is None else record

    monkeypatch.setattr(Scope, "recall", recall)
    finds("did .*: ModelRun|the model says")


@pytest.mark.usefixtures("impatient")
def test_a_pause_that_is_forgotten_by_the_index_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    really = decide.pause

    def pause(*args: Any, **kwargs: Any) -> Any:
        return [decision._replace(change=None) for decision in really(*args, **kwargs)]

    monkeypatch.setattr(decide, "pause", pause)
    finds("the model says paused|never comes to rest")
