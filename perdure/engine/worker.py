"""The worker: one process's hand on the store. It claims due runs, executes them, and lets them go.

Its lease is renewed by a thread of its own, so that a busy event loop does not lose it. Runs that were in flight when
another worker died are suspects: they are resumed one at a time, each until it makes progress, so that a run that kills
its process cannot take the others' crash budgets with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from perdure.core.errors import FencedError, OutcomeUnknownError, PerdureError, RunNotFoundError, StoreError
from perdure.core.events import Head
from perdure.engine.execution import Ending, Execution
from perdure.engine.log import RunLog
from perdure.engine.logs import logger
from perdure.engine.observing import run_changed
from perdure.engine.ports import Timer
from perdure.engine.recovery import recover
from perdure.engine.services import Services
from perdure.journal.state import RunState
from perdure.store.port import Claimed, Lease, RunFilter

CLAIM_POLL_S: Final = 0.25
"""How often a worker looks for runs whose owner has died: nobody announces a death."""
LONGEST_RETRY_S: Final = 5.0
GIVE_WAY: Final = 16
"""How many runs that merely wait are let go of at a time, when others are due and there is no place for them."""


class Heartbeat:
    """Renews a lease from a thread of its own.

    Args:
        lease: what is renewed.
        length_s: of the lease; it is renewed three times in it.
        lost: called in that thread when the lease has ended without being renewed.
    """

    def __init__(self, lease: Lease, length_s: float, lost: Callable[[], None]) -> None:
        self._lease = lease
        self._period_s = length_s * 0.3
        self._lost = lost
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="perdure-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for a renewal under way."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _beat(self) -> None:
        period_s = self._period_s
        while not self._stop.wait(period_s):
            valid = self._lease.valid()
            try:
                self._lease.renew()
                period_s = self._period_s
            except StoreError:
                period_s = self._period_s / 4  # sooner again: the lease still runs
            if not valid or not self._lease.valid():
                self._lost()


class Worker:
    """Executes runs of one process.

    Args:
        services: shared by its executions; its lease is set already.
        execute: whether runs are claimed; otherwise only runs whose caller owns the loop are executed here.
    """

    def __init__(self, services: Services, *, execute: bool = True) -> None:
        self._services = services
        self._execute = execute
        self.executions: dict[str, Execution] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._suspects_turn = asyncio.Lock()
        self._leaving: dict[str, asyncio.Future[None]] = {}
        self._release_task: asyncio.Task[None] | None = None
        self._in_line: set[str] = set()
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._poll_task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._closing = False
        self._position = 0
        self.recovered = 0
        self.claiming = False
        self._unconfirmed = False
        self._heartbeat: Heartbeat | None = None

    @property
    def lease(self) -> Lease:
        """The worker's lease."""
        assert self._services.lease is not None
        return self._services.lease

    async def start(self) -> None:
        """Begin to claim and execute."""
        loop = asyncio.get_running_loop()
        store = self._services.store

        def lost() -> None:
            loop.call_soon_threadsafe(self._lease_lost)

        self._heartbeat = Heartbeat(self.lease, self._services.limits.lease_s, lost)
        if store.shared:
            self._heartbeat.start()
            self._position = await store.feed_position()
            self._poll_task = asyncio.ensure_future(self._poll())
        self._services.due = self._wake.set
        self._services.crowded = lambda: len(self._tasks) >= self._services.limits.concurrency
        if self._execute:
            self._loop_task = asyncio.ensure_future(self._claim_loop())

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def _claim_loop(self) -> None:
        delay_s = 0.1
        while not self._closing:
            self._wake.clear()
            self.claiming = True
            try:
                if self._unconfirmed:
                    await self._take_up_unconfirmed()
                again = await self._claim_due()
                delay_s = 0.1
            except StoreError as error:
                again = False  # a store that cannot be read or written now; it is asked again
                self._unconfirmed |= isinstance(error, OutcomeUnknownError)
                delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            finally:
                self.claiming = False
            if not again:
                await self._sleep(delay_s if delay_s > 0.1 else None)

    async def _claim_due(self) -> bool:
        """Claim and begin what is due; whether there may be more."""
        services = self._services
        names = services.registry.names()
        room = services.limits.concurrency - len(self._tasks)
        if not names:
            return False
        now_ms = services.clock.now_ms()
        if not await self._is_due(names, now_ms):
            return False
        if room <= 0:
            await self._make_room()
            return False
        claims = await services.store.claim(self.lease, names, now_ms, limit=room)
        for claimed in claims:
            self.begin(claimed)
        if not claims:  # somebody else took it; what comes after it must still be heard of
            await self._is_due(names, now_ms)
        return bool(claims)

    async def _make_room(self) -> None:
        """Let go of some runs that merely wait, those first that were begun first. Each that has gone wakes this loop,
        as each does that begins to wait."""
        gone = 0
        for execution in list(self.executions.values()):
            if gone < GIVE_WAY and execution.suspended:
                gone += await execution.give_way()

    async def _is_due(self, names: Sequence[str], now_ms: int) -> bool:
        """Whether anything is due; if not yet, the clock is going to wake this worker."""
        due_ms = await self._services.store.next_due_ms(names)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due_ms is not None and due_ms > now_ms:
            self._timer = self._services.clock.call_at(due_ms, self._wake.set)
        return due_ms is not None and due_ms <= now_ms

    async def _take_up_unconfirmed(self) -> None:
        """A claim was not confirmed: take up the runs that this worker owns without knowing it."""
        where = RunFilter(statuses=("pending", "running", "waiting"), limit=1000)
        while rows := await self._services.store.list_runs(where):
            for row in rows:
                if row.owner == self.lease.worker_id and not row.caller_owned and row.run_id not in self._tasks:
                    self.recheck(row.run_id)
            where.before = (rows[-1].created_ms, rows[-1].run_id)
        self._unconfirmed = False

    async def _sleep(self, at_most_s: float | None) -> None:
        limit_s = at_most_s if at_most_s is not None else (CLAIM_POLL_S if self._services.store.shared else None)
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return

    # --- executing ----------------------------------------------------------------------------------------------------

    def begin(self, claimed: Claimed) -> None:
        """Execute a claimed run; a suspect waits for its turn."""
        self._spawn(claimed.row.run_id, self._recover_and_drive(claimed))

    def adopt(self, run_id: str, state: RunState, head: Head, epoch: int) -> Execution:
        """Execute a run that was started, and claimed, just now."""
        services = self._services
        log = RunLog(services.store, services.writer, run_id, epoch, self.lease.worker_id, state, head)
        execution = Execution(services, services.registry.get(state.workflow), log)
        self._spawn(run_id, self._drive(execution))
        return execution

    def recheck(self, run_id: str) -> None:
        """The commit that gives a run to this worker was not confirmed, or nobody awaits it now: take the run up if it
        is there, or comes yet."""
        self._spawn(run_id, self._retry_later(run_id))

    def held(self) -> list[str]:
        """Ids of the runs that are recovered, executed or given back here."""
        return [run_id for run_id in self._tasks if run_id not in self._in_line]

    def has_room(self) -> bool:
        """Whether another run may be executed now."""
        return self._execute and not self._closing and len(self._tasks) < self._services.limits.concurrency

    def _spawn(self, run_id: str, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(coroutine)
        self._tasks[run_id] = task

        def ended(done: asyncio.Task[None]) -> None:
            if len(self._tasks) >= self._services.limits.concurrency:
                self._wake.set()  # there is room again
            if self._tasks.get(run_id) is done:
                del self._tasks[run_id]
            if not done.cancelled() and done.exception() is not None:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"the execution of run {run_id} broke", "exception": done.exception(), "task": done}
                )

        task.add_done_callback(ended)
        return task

    async def _recover_and_drive(self, claimed: Claimed) -> None:
        run_id = claimed.row.run_id
        try:
            execution = await recover(self._services, claimed)
        except FencedError:
            return
        except PerdureError:
            await self._retry_later(run_id)
            return
        self.recovered += 1
        if claimed.orphaned:
            before = claimed.prior_worker
            if execution is not None:
                run_changed(self._services, execution.log.state, "running")
            logger.info("run %s: taken over from worker %s, which is gone", run_id, before, extra={"run_id": run_id})
        if execution is None:
            await self._let_go(run_id)
            return
        if execution.suspect:
            await self._drive_suspect(execution)
        else:
            await self._drive(execution)

    async def _drive_suspect(self, execution: Execution) -> None:
        """Wait for the turn, and keep it until there is progress, or it has lived long enough to be trusted: a step may
        take hours, and the others have a right to go on."""
        self._in_line.add(execution.run_id)
        async with self._suspects_turn:
            self._in_line.discard(execution.run_id)
            driving = asyncio.ensure_future(self._drive(execution))
            progress = asyncio.ensure_future(execution.log.progressed.wait())
            await asyncio.wait(
                {driving, progress},
                timeout=self._services.limits.suspect_turn_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            progress.cancel()
        await driving

    async def _drive(self, execution: Execution) -> None:
        run_id = execution.run_id
        if self._closing:  # a drain came before the first of its code
            await self._leave(execution)
            return
        self.executions[run_id] = execution
        try:
            ending: Ending = await execution.drive()
        finally:
            if self.executions.get(run_id) is execution:
                del self.executions[run_id]
        if ending == "lost":
            logger.warning("run %s: lost: %s", run_id, execution.log.error, extra={"run_id": run_id})
            await self._retry_later(run_id)
        elif ending != "ended":
            await self._let_go(run_id)

    async def _leave(self, execution: Execution) -> None:
        """Give a run back that was not begun; what its recovery found is kept."""
        try:
            await execution.log.barrier()
        except PerdureError:
            return  # nothing can be appended, so there is nothing to give back
        await self._let_go(execution.run_id)

    async def _let_go(self, run_id: str) -> None:
        """Give a run back. Those that are let go of while another release is on its way share the next one."""
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving[run_id] = released
        if self._release_task is None or self._release_task.done():
            self._release_task = asyncio.ensure_future(self._release())
        try:
            await released
            self._wake.set()
        except StoreError:
            await self._retry_later(run_id)

    async def _release(self) -> None:
        while self._leaving:
            batch, self._leaving = self._leaving, {}
            error: Exception | None = None
            try:
                await self._services.store.release(self.lease, list(batch))
            except Exception as problem:  # goes to whoever waits for it
                error = problem
            for released in batch.values():
                if released.done():  # whoever waited for it was cancelled
                    continue
                if error is None:
                    released.set_result(None)
                else:
                    released.set_exception(error)

    async def _retry_later(self, run_id: str) -> None:
        """The store failed under this run, or the lease ended for a while: recover it from the store, as soon as that
        answers again and unless another worker owns it now."""
        delay_s = 0.05
        while not self._closing:
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)
            if run_id in self.executions:
                return  # it was taken up in the meantime
            settled = not self._services.writer.busy
            try:
                claimed = await self._services.store.claim_run(self.lease, run_id)
            except RunNotFoundError:
                if settled:
                    return
                continue  # its start may still be on the way to the disk
            except StoreError:
                continue
            if claimed is not None:
                self._services.hub.changed(run_id)  # what was thought lost may have been committed
                asyncio.get_running_loop().call_soon(self.begin, claimed)
            return

    # --- hearing of others --------------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Ask a shared store what other processes wrote."""
        services = self._services
        period_s = services.limits.poll_s
        while not self._closing:
            await asyncio.sleep(period_s)
            try:
                self._position, changed = await services.store.changed_runs(after=self._position)
            except StoreError:
                continue  # it is asked again
            if changed:
                self._grown(changed)

    def _grown(self, changed: dict[str, int]) -> None:
        """Runs have grown; what was committed here is known here already."""
        hub = self._services.hub
        foreign = False
        for run_id, seq in changed.items():
            execution = self.executions.get(run_id)
            if execution is None or execution.log.head.seq < seq:
                foreign = True
                hub.touched(run_id)
                hub.settled(run_id)
        if foreign:
            hub.grown(changed)
            self._wake.set()

    def _lease_lost(self) -> None:
        """The lease ended: whatever is executed here may be executed elsewhere by now."""
        logger.warning("the lease of worker %s ended before it was renewed", self.lease.worker_id)
        for execution in list(self.executions.values()):
            execution.log.lost(FencedError("the worker's lease ended", run_id=execution.run_id))

    # --- ending -------------------------------------------------------------------------------------------------------

    async def drain(self, *, record: bool = True) -> None:
        """Stop claiming; let steps in flight end within their grace; let go of everything.

        Args:
            record: tell the store first, so that what dies from now on counts against nobody.
        """
        self._closing = True
        self._wake.set()
        if record:
            with contextlib.suppress(StoreError):  # a store that cannot be written now must not keep the process
                await asyncio.to_thread(self.lease.drain)
        for execution in list(self.executions.values()):
            execution.stop("drain")
        if self._loop_task is not None:
            await asyncio.wait({self._loop_task})
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    async def close(self) -> None:
        """Drain, and give the lease back."""
        if not self._closing:
            await self.drain(record=False)
        for task in (self._loop_task, self._poll_task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._heartbeat is not None and self._services.store.shared:
            await asyncio.to_thread(self._heartbeat.stop)
        await asyncio.to_thread(self.lease.close)
