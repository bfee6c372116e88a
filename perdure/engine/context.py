"""What a run keeps for its author: its key-value state, the outputs of its nodes, and artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from perdure.core import kinds
from perdure.core.canonical import canonical
from perdure.core.errors import ValueRefusedError
from perdure.core.ids import check_key
from perdure.core.values import codec_for
from perdure.engine import drift
from perdure.engine.large import by_reference, is_mark
from perdure.journal.state import DELETED, Record

if TYPE_CHECKING:
    from perdure.engine.execution import Execution
    from perdure.engine.run_face import RunFace


@dataclass(frozen=True, slots=True)
class Artifact:
    """Immutable bytes, named by their SHA-256.

    Attributes:
        sha256: in hex.
        size: in bytes.
        media_type: what they are.
        name: what the author calls them.
    """

    sha256: str
    size: int
    media_type: str
    name: str | None = None


class Outputs(Mapping[str, Any]):
    """Outputs of nodes that have completed, decoded afresh."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __getitem__(self, name: str) -> Any:
        if name not in self._execution.results:
            raise KeyError(name)
        return self._execution.output_of(name)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._execution.results))

    def __len__(self) -> int:
        return len(self._execution.results)


class State(MutableMapping[str, Any]):
    """The key-value context of a run. Writes are journaled as deltas; what is read is a copy."""

    def __init__(self, run: RunFace) -> None:
        self._run = run

    def __getitem__(self, name: str) -> Any:
        tree = self._run._scope().lookup(name)
        if tree is DELETED:
            raise KeyError(name)
        return codec_for(Any).load_json(tree)

    def __setitem__(self, name: str, value: Any) -> None:
        run = self._run
        self._check(name)
        self._write(name, run._dump(value, f"state key {name!r}"))

    def __delitem__(self, name: str) -> None:
        self._check(name)
        if self._run._scope().lookup(name) is DELETED:
            raise KeyError(name)
        self._write(name, None)

    def write(self, values: Mapping[str, Any]) -> None:
        """Set several keys at once: one record of the journal, where a key each would make as many.

        Args:
            values: by key.
        """
        run = self._run
        written = {}
        for name, value in values.items():
            self._check(name)
            written[name] = run._dump(value, f"state key {name!r}")
        if len(written) < 2:
            for name, data in written.items():
                self._write(name, data)
            return
        told = canonical({name: sha256(data).hexdigest() for name, data in written.items()})
        self._record("state.write", told, lambda: {"values": {n: self._value(data) for n, data in written.items()}})
        run._scope().writes.update({name: orjson.loads(data) for name, data in written.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self._run._scope().names())

    def __len__(self) -> int:
        return len(self._run._scope().names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._run._scope().lookup(name) is not DELETED

    def _check(self, name: str) -> None:
        check_key(name, field="state key")
        if len(name) > 180:
            raise ValueRefusedError("a state key has at most 180 characters")
        self._run._execution.check()

    def _write(self, name: str, data: bytes | None) -> None:
        told = b"" if data is None else data  # a deletion is not the writing of null
        record = self._record(
            f"state.{name}",
            told,
            lambda: {"name": name} | ({"deleted": True} if data is None else {"value": self._value(data)}),
        )
        self._run._scope().writes[name] = DELETED if data is None else _recorded(record, data)

    def _value(self, data: bytes) -> orjson.Fragment:
        return orjson.Fragment(by_reference(data, self._run._execution.log.keep))

    def _record(self, name: str, told: bytes, payload: Callable[[], dict[str, Any]]) -> Record | None:
        """Record a write, unless it is recorded already; `told` is what is fingerprinted of it. Returns that record."""
        run = self._run
        scope = run._scope()
        run._refuse_open(scope, name)
        key = scope.key_for(name, None)
        record = scope.recall(key)
        if record is not None:
            drift.check_written(run._execution, scope, key, record, "state", told)
            return record
        run._append(
            kinds.STATE_WRITTEN, orjson.dumps({"fingerprint": sha256(told).hexdigest(), **payload()}), scope, key
        )
        return None


def _recorded(record: Record | None, data: bytes) -> Any:
    """The value that a write is recorded with, or the one that is written where none is, or a large one."""
    told = record.fact.data if record is not None and record.fact is not None else None
    if told and "value" in told and not is_mark(told["value"]):
        return told["value"]
    return orjson.loads(data)
