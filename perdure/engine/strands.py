"""Strands: the tasks in which a run's code is executed, what they wait for, and what stops them.

A node visit is one strand, and so is each branch of a join. `busy` counts the strands that may go on by themselves:
when none may, the run waits, and says so in its journal. Whatever ends the turn (`stop`) ends each strand as its kind
and the reason allow: a `once` step in flight is let to end, within its grace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Literal

from perdure.core import kinds
from perdure.core.errors import PerdureError, RunAbandoned
from perdure.core.events import NEVER, Draft, Event, IndexChange
from perdure.engine.log import Redecide, RunLog
from perdure.engine.observing import run_changed
from perdure.engine.ports import Timer
from perdure.engine.scopes import Scope
from perdure.engine.services import Services
from perdure.engine.waiting import Waiter
from perdure.journal.state import RunState

Stop = Literal["cancel", "pause", "park", "drain", "evict", "lost", "failed"]
_RANK: Final[dict[Stop, int]] = {"evict": 0, "pause": 1, "park": 1, "failed": 1, "drain": 2, "cancel": 3, "lost": 4}
"""Which reason to stop takes the place of an earlier one: a cancel does not wait for what a pause would let end."""

SOON_MS: Final = 1000
"""A run whose timer is due within this keeps its place: to take it up again would cost more."""


class Strands:
    """The strands of one execution.

    Args:
        services: of the process.
        log: the run's journal.
        lost_until_s: on the monotonic clock, when the lease of a prior owner that was lost has certainly ended.

    Attributes:
        stopping: why this turn is over, once it is.
        in_step: the tasks that are inside a step's function, and whether the step is shielded.
        waiters: the waits that are open here, by id.
        permits: how many more steps the caller's loop admits; `None` for all.
        idle: set when every strand waits: for what it asked for, or for the caller's loop to admit another step.
        pausing: how many strands wait for the next attempt of a step.
    """

    def __init__(self, services: Services, log: RunLog, lost_until_s: float) -> None:
        self.services = services
        self.log = log
        self.run_id = log.run_id
        self.lost_until_s = lost_until_s
        self.stopping: Stop | None = None
        self.in_step: dict[asyncio.Task[Any], bool] = {}
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in order; a set has one that nobody can repeat
        self.waiters: dict[str, Waiter] = {}
        self.permits: int | None = None
        self.idle = asyncio.Event()
        self.busy = 0
        self.suspended = False
        self.pausing = 0
        self._permit_waiters: list[asyncio.Future[None]] = []
        self._woken = False
        self._due_ms = NEVER
        self._linger: Timer | None = None
        self._grace: asyncio.TimerHandle | Timer | None = None
        self._background: dict[asyncio.Task[Any], None] = {}
        self._changed = asyncio.Event()

    # --- tasks --------------------------------------------------------------------------------------------------------

    def start_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a strand of the run's code; it is cancelled when the execution stops."""
        task = asyncio.ensure_future(coroutine)
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task

    def background(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run something of the engine's own."""
        task = asyncio.ensure_future(coroutine)
        self._background[task] = None
        task.add_done_callback(self._background.pop)

    async def _end_tasks(self) -> None:
        while self.tasks:
            await asyncio.wait(set(self.tasks))
        for task in list(self._background):
            task.cancel()

    def cancel_task(self, task: asyncio.Task[Any]) -> None:
        """Cancel a strand, unless it is inside a `once` step: that is shielded from its siblings' failure."""
        if not self.in_step.get(task, False):
            task.cancel()

    def _cancel_timers(self) -> None:
        for handle in (self._linger, self._grace):
            if handle is not None:
                handle.cancel()

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stop(self, reason: Stop) -> None:
        """End this turn. What is in flight ends as its kind and the reason allow."""
        earlier = self.stopping
        if earlier is not None and _RANK[reason] <= _RANK[earlier]:
            return
        self.stopping = reason
        for task in list(self.tasks):
            shielded = self.in_step.get(task)
            patient = reason == "pause" or (reason == "drain" and shielded is not None)
            if shielded is None:
                if earlier in (None, "evict"):  # otherwise it was told before, and may be cleaning up
                    task.cancel()
            elif not patient and not (shielded and reason in ("cancel", "failed", "park")):
                task.cancel()
        if self.tasks:
            self._begin_grace(reason)
        self._changed.set()

    def _begin_grace(self, reason: Stop) -> None:
        """A cancel is part of the run's story and measured by its clock; a drain is about this process."""
        limits = self.services.limits
        if reason == "cancel":
            clock = self.services.clock
            self._grace = clock.call_at(clock.now_ms() + int(limits.cancel_grace_s * 1000), self._grace_over)
        elif reason == "drain":
            self._grace = asyncio.get_running_loop().call_later(limits.drain_grace_s, self._grace_over)

    def _grace_over(self) -> None:
        for task in list(self.tasks):
            task.cancel()

    def check(self) -> None:
        """Raise `RunAbandoned` if this turn is over."""
        if self.stopping is not None:
            raise RunAbandoned(self.stopping)
        if self.log.error is not None:
            raise RunAbandoned(self.log.error.message)

    def start_again(self, draft: Draft) -> Redecide:
        """How the start of something is decided again when a command came before it."""

        def again(state: RunState) -> Draft | None:
            return None if state.cancel_requested is not None or state.paused is not None else draft

        return again

    # --- waiting ------------------------------------------------------------------------------------------------------

    def settle(self, waiter: Waiter, event: Event) -> None:
        """Give a waiting task the event that settled its wait."""
        if not waiter.future.done():
            self._woken = True
            waiter.future.set_result(event)

    def fail_waiter(self, waiter: Waiter, error: BaseException) -> None:
        """End a waiting task with an error."""
        if not waiter.future.done():
            waiter.future.set_exception(error)
            waiter.future.exception()  # it may be that its task is gone, and nobody is left to be told

    def blocked(self, waiter: Waiter) -> None:
        """A strand waits. When all do, the run is waiting, and is let go of after a while."""
        self.busy -= 1
        if not waiter.future.done():
            self._perhaps_suspended()

    def strand_ended(self) -> None:
        """A strand is done while others of its join are not."""
        self.busy -= 1
        self.perhaps_all_wait()

    def perhaps_all_wait(self) -> None:
        """A strand has ended, and perhaps those that are left wait, all of them."""
        if self.waiters and not self.suspended and not any(waiter.future.done() for waiter in self.waiters.values()):
            self._perhaps_suspended()

    def _tell_waiting(self) -> None:
        if self.log.state.status == "waiting":  # else that was withdrawn
            run_changed(self.services, self.log.state, "waiting")

    def _perhaps_suspended(self) -> None:
        state = self.log.state
        if self.busy > 0 or self.stopping is not None or state.cancel_requested is not None or state.paused is not None:
            return
        if self.in_step or self.pausing or any(waiter.future.done() for waiter in self.waiters.values()):
            return  # a strand of the author's own tasks is at work, or one is about to go on
        self.idle.set()
        self.suspended = True
        self._woken = False
        due_ms = min((w.deadline_ms for w in self.waiters.values() if w.deadline_ms is not None), default=NEVER)
        self._due_ms = due_ms
        draft = self.services.draft(
            kinds.RUN_SUSPENDED,
            b'{"due_ms":%s}' % (b"null" if due_ms == NEVER else b"%d" % due_ms),
            change=IndexChange(status="waiting", due_ms=due_ms),
        )

        def again(state: RunState) -> Draft | None:
            withdrawn = self._woken or state.cancel_requested is not None or state.paused is not None
            return None if withdrawn else draft

        self.log.decide_later(draft, again)
        if self.services.observers:
            self.log.when_durable(self._tell_waiting)
        if self.permits is None:
            self._linger_from(due_ms)
        if self.services.crowded():
            self.services.due()  # this one's place is free

    async def give_way(self) -> bool:
        """Let go of a run that merely waits, and for longer than a moment, because others need its place; whether it
        did."""
        try:
            await self.log.barrier()
        except PerdureError:
            return False
        if self.suspended and self.stopping is None and self._due_ms - self.services.clock.now_ms() > SOON_MS:
            self._let_go()
        return self.stopping is not None

    def unblocked(self, waiter: Waiter) -> None:
        """A strand goes on."""
        self.busy += 1
        self.suspended = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _linger_from(self, due_ms: int) -> None:
        linger_s = self.services.limits.linger_s
        if self._linger is not None:
            self._linger.cancel()
        if due_ms - self.services.clock.now_ms() > linger_s * 1000:
            clock = self.services.clock
            self._linger = clock.call_at(clock.now_ms() + int(linger_s * 1000), self._let_go)

    def _let_go(self) -> None:
        if self.busy == 0 and not (self._woken or self.in_step or self.pausing) and self.log.backlog == 0:
            self.stop("evict")

    async def pause_until(self, scope: Scope, due_ms: int) -> None:
        """Wait for the next attempt of a step; the due time is in the journal, so a restart keeps it."""
        if due_ms <= self.services.clock.now_ms():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def due() -> None:
            if not future.done():
                future.set_result(None)

        timer = self.services.clock.call_at(due_ms, due)
        self.pausing += 1
        self.log.progressed.set()  # a suspect that only waits does not keep the others back
        try:
            await future
        finally:
            self.pausing -= 1
            timer.cancel()

    async def wait_out_lost_lease(self, scope: Scope, key: str, timeout_s: float) -> None:
        """Wait until nobody can be calling a step any more: neither a prior owner whose lease was lost, nor a thread of
        this process that an earlier execution abandoned."""
        thread = self.services.running_threads.get((self.run_id, scope.path, key))
        if thread is not None:
            await asyncio.wait((thread,))
        if self.lost_until_s:
            left_s = self.lost_until_s + timeout_s - self.services.clock.monotonic_s()
            await self.pause_until(scope, self.services.clock.now_ms() + int(left_s * 1000) + 1)

    # --- the caller's own loop ----------------------------------------------------------------------------------------

    async def permit(self) -> None:
        """Wait until the caller's loop admits another step."""
        while self.permits is not None and self.permits <= 0:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._permit_waiters.append(future)
            self.busy -= 1
            self._perhaps_idle()
            try:
                await future
            finally:
                self.busy += 1
        if self.permits is not None:
            self.permits -= 1

    def admit(self, steps: int | None) -> None:
        """Admit so many more steps (`None`: all)."""
        self.permits = steps
        self.idle.clear()
        waiters, self._permit_waiters = self._permit_waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)
        if not waiters:
            self._perhaps_idle()

    def _perhaps_idle(self) -> None:
        """Tell the caller's loop if every strand waits; one whose wait is settled only has not had its turn yet."""
        if self.busy == 0 and self.tasks and not any(waiter.future.done() for waiter in self.waiters.values()):
            self.idle.set()
