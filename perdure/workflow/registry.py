"""The workflows that a process has loaded."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.core.errors import DefinitionError, DuplicateWorkflowError, UnknownWorkflowError
from perdure.workflow.graph import Definition, Graph, is_definition
from perdure.workflow.signature import describe_object


class Registry:
    """Definitions by name, each compiled and found valid."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}
        self._graphs: dict[str, Graph] = {}

    def register(self, definition: Definition) -> Graph:
        """Add a workflow; to add it again, or its equal from another import of the same file, changes nothing.

        Args:
            definition: a `Workflow`, `Flow`, `Plan`, or anything with `name`, `version` and `compile() -> Graph`.

        Returns:
            Its graph.

        Raises:
            DefinitionError: it is invalid; or it is no definition.
            DuplicateWorkflowError: another definition has this name.
        """
        if not is_definition(definition):
            raise DefinitionError(
                f"a workflow is expected, not {describe_object(definition)}",
                hint="pass what @workflow made, a Flow or a Plan",
            )
        graph = definition.compile()
        known = self._graphs.setdefault(graph.name, graph)
        if known is not graph and _identity(known) != _identity(graph):
            raise DuplicateWorkflowError(
                f"two definitions are named {graph.name!r} ({_text(known)} and {_text(graph)})", workflow=graph.name
            )
        if graph.name not in self._definitions:
            self._definitions[graph.name] = definition
            for other in getattr(definition, "children", ()):  # it may be another process that takes them up
                self.register(other)
        return known

    def forget(self, name: str) -> None:
        """Remove a workflow, if it is there; its runs are not executed here any more. What it named as its children
        stays."""
        self._definitions.pop(name, None)
        self._graphs.pop(name, None)

    def get(self, name: str) -> Graph:
        """The graph of a workflow.

        Raises:
            UnknownWorkflowError: no workflow of that name was registered; names that are close stand in the hint.
        """
        graph = self._graphs.get(name)
        if graph is None:
            raise self._unknown(name)
        return graph

    def definition(self, name: str) -> Definition:
        """What was registered under a name.

        Raises:
            UnknownWorkflowError: no workflow of that name was registered.
        """
        if name not in self._definitions:
            raise self._unknown(name)
        return self._definitions[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._graphs)

    def __contains__(self, name: object) -> bool:
        return name in self._graphs

    def __len__(self) -> int:
        return len(self._graphs)

    def __iter__(self) -> Iterator[Graph]:
        return iter([self._graphs[name] for name in self.names()])

    def _unknown(self, name: str) -> UnknownWorkflowError:
        import difflib

        close = difflib.get_close_matches(str(name), self._graphs, n=3)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else None
        return UnknownWorkflowError(f"no workflow {name!r} is loaded", hint=hint, workflow=name, close=close or None)


def _identity(graph: Graph) -> tuple[object, ...]:
    return graph.fingerprint, graph.code, graph.origin


def _text(graph: Graph) -> str:
    return f"a {graph.form} of version {graph.version}"
