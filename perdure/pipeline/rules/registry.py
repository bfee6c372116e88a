"""Rules, by name: those of the dialect and those that users add."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from perdure.core.errors import DefinitionError
from perdure.pipeline.diagnostics import Diagnostic, Severity
from perdure.pipeline.document import DocumentEdge, DocumentNode, Position
from perdure.pipeline.rules.view import PipelineView


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule found. The rule's name and severity are added to it.

    Args:
        message: in one line.
        node: the id of the node it is about.
        edge: the ids of the nodes that the edge leaves and enters.
        position: in the file.
        fix: what to do.
    """

    message: str
    node: str | None = None
    edge: tuple[str, str] | None = None
    position: Position | None = None
    fix: str | None = None

    @classmethod
    def at_node(
        cls, node: DocumentNode, message: str, *, position: Position | None = None, fix: str | None = None
    ) -> Finding:
        """About a node; the position is the node's, if no other is given."""
        return cls(message=message, node=node.id, position=position or node.position, fix=fix)

    @classmethod
    def at_edge(
        cls,
        edge: DocumentEdge,
        message: str,
        *,
        node: str | None = None,
        position: Position | None = None,
        fix: str | None = None,
    ) -> Finding:
        """About an edge; the position is the edge's, if no other is given, and the node is the one that it leaves."""
        return cls(
            message=message,
            node=edge.start if node is None else node,
            edge=(edge.start, edge.end),
            position=position or edge.position,
            fix=fix,
        )


Check: TypeAlias = Callable[[PipelineView], Iterable[Finding]]
"""Looks at a pipeline and gives what it finds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Args:
        name: what its diagnostics bear.
        severity: an error refuses the run.
        check: what looks.
    """

    name: str
    severity: Severity
    check: Check

    def __call__(self, view: PipelineView) -> Iterator[Diagnostic]:
        """The diagnostics of a pipeline."""
        for found in self.check(view):
            yield Diagnostic(
                rule=self.name,
                severity=self.severity,
                message=found.message,
                node=found.node,
                edge=found.edge,
                position=found.position,
                fix=found.fix,
            )


class Rules:
    """Rules in the order in which they were registered."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = {rule.name: rule for rule in rules}

    def __call__(self, name: str, *, severity: Severity = "warning") -> Callable[[Check], Check]:
        """Register a rule; usable as a decorator.

        Args:
            name: of its own; the same function may be registered again.
            severity: of all that it finds.

        Raises:
            DefinitionError: another rule has this name.
        """

        def register(check: Check) -> Check:
            present = self._rules.get(name)
            if present is not None and present.check != check:
                raise DefinitionError(
                    f"there is already a rule {name!r}", hint="give the rule a name of its own", rule=name
                )
            self._rules[name] = Rule(name, severity, check)
            return check

        return register

    def remove(self, name: str) -> None:
        """Take a rule out again.

        Raises:
            KeyError: there is none.
        """
        del self._rules[name]

    def __iter__(self) -> Iterator[Rule]:
        return iter(tuple(self._rules.values()))


rule = Rules()
"""The rules that hold for every pipeline of this process: `@rule("name")` above a function adds one."""
