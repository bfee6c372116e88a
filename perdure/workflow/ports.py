"""What the authoring forms need of a run: the part of `Run` that compiled nodes and effect kinds call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol


class StateWriter(Protocol):
    """The state of a run, as far as effects write to it."""

    def __setitem__(self, key: str, value: Any, /) -> None:
        """Set a key; journaled like a step."""


class ChildResult(Protocol):
    """A child run, as far as effects wait for it."""

    @property
    def result(self) -> Callable[[], Awaitable[Any]]:
        """Wait until the child has ended, and take its outcome."""


class ArtifactReference(Protocol):
    """An artifact, as far as effects refer to it."""

    @property
    def sha256(self) -> str:
        """Its name, in hex."""


class Run(Protocol):
    """The executor's `Run`, bound to the scope of one visit of one node.

    Members are given as loosely typed callables: the executor's own class types them for users.
    """

    @property
    def input(self) -> Mapping[str, Any]:
        """The run's decoded input, by parameter name."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The decoded outputs of nodes that have completed; `None` for a skipped one."""

    @property
    def state(self) -> StateWriter:
        """The run's key-value context."""

    @property
    def in_thread(self) -> Callable[[Callable[[Any], Any]], Awaitable[Any]]:
        """Call a synchronous function in a thread, with the blocking face of this run as its only argument."""

    @property
    def step(self) -> Callable[..., Awaitable[Any]]:
        """Call a step."""

    @property
    def ask(self) -> Callable[..., Awaitable[Any]]:
        """Ask a person."""

    @property
    def wait_for(self) -> Callable[..., Awaitable[Any]]:
        """Wait for a signal."""

    @property
    def sleep(self) -> Callable[..., Awaitable[None]]:
        """Sleep for a duration."""

    @property
    def sleep_until(self) -> Callable[..., Awaitable[None]]:
        """Sleep until an instant."""

    @property
    def spawn(self) -> Callable[..., Awaitable[ChildResult]]:
        """Start a child run."""

    @property
    def emit(self) -> Callable[..., None]:
        """Append a domain event."""

    @property
    def put(self) -> Callable[..., ArtifactReference]:
        """Keep an artifact."""
