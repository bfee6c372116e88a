"""What a stage came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from perdure.core.canonical import JSONValue
from perdure.core.errors import InputTypeError
from perdure.pipeline.document import DocumentEdge

Status = Literal["success", "fail", "partial_success", "retry", "skipped"]
STATUSES: Final = frozenset(get_args(Status))
SATISFIED: Final = frozenset(("success", "partial_success"))
"""What a goal gate must have come to."""
Place = tuple[str, str]
"""Scope and key of a record."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage came to.

    Args:
        status: `retry` asks for another execution, and counts as `fail` when there is none left.
        preferred_label: the label of the edge to take.
        suggested_next_ids: nodes to go on with, the likeliest first.
        context_updates: values by dotted key.
        notes: for people.
        failure_reason: why it failed, in one line.
        retryable: another execution could come to something else. Only for the status `fail`.
        output: what the stage said or printed; for the results of a fan-out.
        edge: the edge to take, whatever the order of edges says.
        offered: edges that a person could choose: none of them is taken without having been chosen.
        origin: of a failure: scope and key of the step, question or child whose outcome it is, where that is known.
        raised: of a failure: the handler raised an exception.
        decided: of a failure: it follows from what other stages came to, and from nothing else.
    """

    status: Status = "success"
    preferred_label: str = ""
    suggested_next_ids: tuple[str, ...] = ()
    context_updates: Mapping[str, JSONValue] = field(default_factory=dict)
    notes: str = ""
    failure_reason: str = ""
    retryable: bool = True
    output: str = ""
    edge: DocumentEdge | None = None
    offered: tuple[DocumentEdge, ...] = ()
    origin: Place | None = None
    raised: bool = False
    decided: bool = False

    def __post_init__(self) -> None:
        """Refuse a status that there is not."""
        if self.status not in STATUSES:
            raise InputTypeError(f"the status {self.status!r} of an outcome is none of {', '.join(sorted(STATUSES))}")

    @property
    def failed(self) -> bool:
        """Has it failed, for now or for good?"""
        return self.status in ("fail", "retry")

    def with_updates(self, updates: Mapping[str, JSONValue]) -> Outcome:
        """The same with further context updates; its own win."""
        return replace(self, context_updates={**updates, **self.context_updates})

    def to_dict(self) -> dict[str, Any]:
        """As plain data, under both names that the status goes by; what is empty is left out."""
        told: dict[str, Any] = {"outcome": self.status, "status": self.status}
        for name in ("preferred_label", "notes", "failure_reason"):
            if value := getattr(self, name):
                told[name] = value
        if self.suggested_next_ids:
            told["suggested_next_ids"] = list(self.suggested_next_ids)
        if self.context_updates:
            told["context_updates"] = dict(self.context_updates)
        return told


def failure(reason: str, *, retryable: bool = True, **updates: JSONValue) -> Outcome:
    """An outcome that says why a stage failed."""
    return Outcome("fail", failure_reason=reason, retryable=retryable, context_updates=updates)
