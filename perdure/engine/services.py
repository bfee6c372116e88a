"""What every execution of a process shares: store, writer, clock, lease and the like, in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from perdure.core.durations import Duration, parse_duration
from perdure.core.events import Draft, IndexChange
from perdure.core.secrets import Redactor
from perdure.engine.hub import Hub
from perdure.engine.live import Live
from perdure.engine.logs import know
from perdure.engine.ports import Clock, Randomness

if TYPE_CHECKING:
    from perdure.engine.observing import Observer
    from perdure.engine.threads import ThreadPool
    from perdure.store.port import Lease, Store
    from perdure.store.writer import Writer
    from perdure.workflow.registry import Registry


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers that an operator may set; times in seconds.

    Args:
        lease_s: length of the worker's lease; it is renewed three times in it.
        concurrency: how many runs are executed at once. One that merely waits gives its place to one that is due.
        linger_s: how long a waiting run is kept in memory before it is let go.
        crash_budget: how many crashes in a row, without a new fact, a run may cause before it is parked.
        suspect_turn_s: runs in flight at a crash are resumed one at a time; how long one that neither dies nor makes
            progress may keep the others waiting.
        cancel_grace_s: how long a `once` step in flight may go on after a cancel.
        drain_grace_s: how long steps in flight may go on after SIGTERM.
        poll_s: how often a shared store is asked what other processes wrote.
        step_threads: how many synchronous steps run at once in threads, and how many in processes.
    """

    lease_s: float = 10.0
    concurrency: int = 1000
    linger_s: float = 10.0
    crash_budget: int = 5
    suspect_turn_s: float = 10.0
    cancel_grace_s: float = 5.0
    drain_grace_s: float = 10.0
    poll_s: float = 0.025
    step_threads: int = 32

    @classmethod
    def of(cls, **values: Duration | int) -> Limits:
        """Limits with durations in any accepted form."""
        return cls(
            **{  # type: ignore[arg-type]
                name: parse_duration(value, name=name) if name.endswith("_s") else value
                for name, value in values.items()
            }
        )


@dataclass(slots=True)
class Services:
    """Shared by all executions of a process."""

    store: Store
    writer: Writer
    clock: Clock
    random: Randomness
    registry: Registry
    hub: Hub
    threads: ThreadPool
    actor: str
    limits: Limits = field(default_factory=Limits)
    redactor: Redactor = field(default_factory=Redactor)
    environ: Mapping[str, str] = field(default_factory=dict)
    observers: tuple[Observer, ...] = ()
    live: Live = field(default_factory=Live)
    lease: Lease | None = None
    due: Callable[[], None] = lambda: None
    crowded: Callable[[], bool] = lambda: False
    start_child: Callable[..., Awaitable[None]] | None = None
    signal_run: Callable[[str, str, Any, str | None, str], Awaitable[bool]] | None = None
    cancel_run: Callable[..., Awaitable[None]] | None = None
    thread_places: asyncio.Semaphore = field(init=False)
    process_places: asyncio.Semaphore = field(init=False)
    running_threads: dict[tuple[str, str, str], asyncio.Future[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread_places = asyncio.Semaphore(self.limits.step_threads)
        know(self.redactor)
        self.process_places = asyncio.Semaphore(self.limits.step_threads)

    def draft(
        self,
        kind: str,
        payload: bytes,
        *,
        node: str | None = None,
        scope: str | None = None,
        key: str | None = None,
        change: IndexChange | None = None,
        actor: str | None = None,
    ) -> Draft:
        """A draft of an event, with salt and time drawn now and declared secrets redacted."""
        if self.redactor:
            payload = self.redactor.redact_bytes(payload)
        return Draft(
            kind,
            payload,
            self.random.salt(),
            self.clock.now_ms(),
            node=node,
            scope=scope,
            key=key,
            actor=self.actor if actor is None else actor,
            change=change,
        )


def payload_bytes(**fields: object) -> bytes:
    """The JSON bytes of a payload; fields that are `None` are left out."""
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})
