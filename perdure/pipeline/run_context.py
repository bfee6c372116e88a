"""Where the context of a pipeline's run is kept: in the state of the run, one key for each name at its top.

A branch of a fan-out has a clone of it in memory: what it writes there is dropped where the branches meet, and comes
back by itself when the branch is executed again.

The state also holds what the pipeline keeps of itself, under keys that begin with a dot. No name at the top of a
context holds one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from perdure.core.canonical import JSONValue
from perdure.core.errors import InvalidIdError
from perdure.core.ids import check_key
from perdure.core.pipeline_errors import ContextKeyError
from perdure.core.values import codec_for
from perdure.engine.run import Run
from perdure.pipeline.context import Context, updated
from perdure.workflow.merge import same_value

OWN: Final = "."
"""How a key of the state begins that is no part of the context."""
LONGEST_NAME: Final = 180


class StageContext(Protocol):
    """The context, as a stage reads and changes it."""

    @property
    def view(self) -> Mapping[str, JSONValue]:
        """The context as it is now."""

    @property
    def written(self) -> Mapping[str, JSONValue]:
        """Of a clone: the updates of its stages, by dotted key."""

    def update(self, updates: Mapping[str, JSONValue]) -> None:
        """Write values by dotted key.

        Raises:
            ContextKeyError: one of them cannot be written; none is.
        """

    def clone(self) -> Context:
        """A copy of all of it."""

    def get_own(self, key: str) -> JSONValue:
        """What the pipeline keeps of itself under a key; `None` for nothing."""

    def set_own(self, key: str, value: JSONValue) -> None:
        """Keep something of the pipeline itself."""


def check_names(names: Mapping[str, JSONValue]) -> None:
    """Refuse names at the top of a context that the state of a run cannot hold.

    Raises:
        ContextKeyError: a name is longer than 180 characters, or holds `/` or what cannot be printed.
    """
    for name in names:
        try:
            check_key(name, field="context key")
        except InvalidIdError as error:
            raise ContextKeyError(f"the context key {name[:80]!r} cannot be kept: {error.hint}", key=name) from error
        if len(name) > LONGEST_NAME:
            raise ContextKeyError(f"the context key {name[:80]!r} is longer than {LONGEST_NAME} characters", key=name)


def check_values(context: Mapping[str, JSONValue]) -> None:
    """Refuse what cannot be recorded, also inside of the whole context.

    Raises:
        ValueRefusedError: a value is no JSON data, or nested too deep.
    """
    codec_for(Any).dump({"context": {"values": dict(context)}})


class _StateView(Mapping[str, JSONValue]):
    """The context in the state of a run; each name is read when it is asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, name: str) -> JSONValue:
        if name.startswith(OWN):
            raise KeyError(name)
        value: JSONValue = self._run.state[name]
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._run.state if not name.startswith(OWN))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class RunContext:
    """The context of the run itself."""

    written: Mapping[str, JSONValue] = MappingProxyType({})

    def __init__(self, run: Run) -> None:
        self._run = run
        self.view: Mapping[str, JSONValue] = _StateView(run)

    def update(self, updates: Mapping[str, JSONValue]) -> None:
        """See `StageContext.update`. What stays as it is is not written again."""
        touched = {key.partition(".")[0] for key in updates}
        before: Context = {name: self.view[name] for name in sorted(touched) if name in self.view}
        after = updated(before, updates)
        check_names(after)
        check_values(after)
        self._run.state.write(
            {name: value for name, value in after.items() if name not in before or not same_value(before[name], value)}
        )

    def clone(self) -> Context:
        """See `StageContext.clone`."""
        return dict(self.view)

    def get_own(self, key: str) -> JSONValue:
        """See `StageContext.get_own`."""
        value: JSONValue = self._run.state.get(OWN + key)
        return value

    def set_own(self, key: str, value: JSONValue) -> None:
        """See `StageContext.set_own`."""
        self._run.state[OWN + key] = value

    def start_afresh(self) -> None:
        """Drop all but `graph`, as a loop that restarts does."""
        for name in [name for name in self.view if name != "graph"]:
            del self._run.state[name]


class CloneContext:
    """The context of one branch.

    Args:
        base: of the stage that fans out; what the pipeline keeps of itself is read there.

    Attributes:
        written: the updates of the branch's stages, by dotted key.
    """

    def __init__(self, base: StageContext) -> None:
        self.view: Mapping[str, JSONValue] = base.clone()
        self.written: Context = {}
        self._base = base
        self._own: Context = {}

    def update(self, updates: Mapping[str, JSONValue]) -> None:
        """See `StageContext.update`."""
        after = updated(self.view, updates)
        check_names(after)
        check_values({name: after[name] for name in after if after[name] is not self.view.get(name)})
        self.view = after
        self.written = {**self.written, **updates}

    def clone(self) -> Context:
        """See `StageContext.clone`."""
        return dict(self.view)

    def get_own(self, key: str) -> JSONValue:
        """See `StageContext.get_own`."""
        return self._own[key] if key in self._own else self._base.get_own(key)

    def set_own(self, key: str, value: JSONValue) -> None:
        """See `StageContext.set_own`."""
        self._own[key] = value
