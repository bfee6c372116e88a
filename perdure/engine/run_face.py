"""What the faces of a run share: `Run` is put together of one class for each thing that one does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perdure.core.values import codec_for
from perdure.engine.context import Outputs, State
from perdure.engine.logs import RunLogger
from perdure.engine.scopes import Scope, current_scope

if TYPE_CHECKING:
    from perdure.engine.execution import Execution


class RunFace:
    """What a run is, and the scope in which its code runs."""

    def __init__(self, execution: Execution, scope: Scope) -> None:
        self._execution = execution
        self._root = scope
        self.state: State = State(self)
        self._log: RunLogger | None = None
        self.outputs: Mapping[str, Any] = Outputs(execution)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The run's id."""
        return self._execution.run_id

    @property
    def workflow(self) -> str:
        """The name of its workflow."""
        return self._execution.graph.name

    @property
    def generation(self) -> int:
        """How often it was continued by `continue_as`."""
        return self._execution.generation

    @property
    def node(self) -> str:
        """The node whose code this is."""
        return self._root.node.rpartition("#")[0]

    @property
    def visit(self) -> int:
        """Which visit of the node this is in this generation, from 1."""
        return int(self._root.node.rpartition("#")[2])

    @property
    def visits(self) -> Mapping[str, int]:
        """By node, how often it was entered in this generation."""
        return MappingProxyType(self._execution.visits)

    @property
    def previous_node(self) -> str | None:
        """The node that ended last in this generation."""
        last = self._execution.last
        return None if last is None else last.name

    @property
    def forgotten(self) -> Sequence[Mapping[str, Any]]:
        """The failures by which this visit of the node ended the run, as they were recorded, the oldest first; a retry
        has forgotten each."""
        return tuple(self._execution.log.state.forgotten.get(self._root.node, ()))

    @property
    def input(self) -> Mapping[str, Any]:
        """Its input by parameter name, decoded afresh."""
        return self._execution.graph.load_input(self._execution.input_tree)

    @property
    def log(self) -> RunLogger:
        """A logger of the standard library, `perdure.run.<workflow>`, with run, node and scope in each record.

        It is silent while the code is replayed: what was logged once is not logged again after a recovery or a wait.
        """
        if self._log is None:
            self._log = RunLogger(self.workflow, self._place, lambda: self._scope().replaying)
        return self._log

    def _place(self) -> dict[str, object]:
        return {"run_id": self.id, "workflow": self.workflow, "node": self.node, "scope": self._scope().path}

    def _scope(self) -> Scope:
        current = current_scope.get()
        if current is None or current is self._root:
            return self._root
        return current if current.execution is self._execution and current.within(self._root) else self._root

    def _refuse_open(self, scope: Scope, what: str) -> None:
        if scope.open:
            scope.enter(what)

    def _dump(self, value: Any, what: str) -> bytes:
        data = codec_for(Any).dump(value)
        self._execution.refuse_shape(data, what)
        return self._execution.redact(data)

    def _append(self, kind: str, payload: bytes, scope: Scope, key: str) -> None:
        execution = self._execution
        execution.log.add(execution.services.draft(kind, payload, node=scope.node, scope=scope.path, key=key))
