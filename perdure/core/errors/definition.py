"""A workflow, flow, plan or step is not well defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from perdure.core.errors.base import Category, PerdureError


class DefinitionError(PerdureError):
    """A workflow, flow, plan or step is declared wrongly; no event was written."""

    code = "invalid_definition"
    category: ClassVar[Category] = "definition"


class PolicyError(DefinitionError):
    """The policy of a step contradicts itself."""

    code = "invalid_policy"


class DefinitionLoadError(DefinitionError):
    """A file of workflows cannot be loaded."""

    code = "definition_load"


class DuplicateWorkflowError(DefinitionError):
    """Two different definitions have one name."""

    code = "workflow_duplicate"
    default_hint = "give one of them another name with name="


class Problem(NamedTuple):
    """One thing that is wrong with a definition.

    Args:
        code: stable; what programs match on.
        message: the cause, in one line.
        subject: the names it is about: a state, a node, a parameter, the states of a cycle in their order.
    """

    code: str
    message: str
    subject: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The problem as plain JSON data."""
        return {"code": self.code, "message": self.message, "subject": list(self.subject)}


class FormError(DefinitionError):
    """A definition has problems; all that were found are listed.

    Args:
        label: what has them, for example `plan 'release'`.
        problems: at least one.
        hint: what the reader can do about it.
        ids: the ids that matter.
    """

    def __init__(self, label: str, problems: Sequence[Problem] = (), *, hint: str | None = None, **ids: Any) -> None:
        count = "" if len(problems) == 1 else f" {len(problems)} problems:"
        message = f"{label}:{count} {'; '.join(problem.message for problem in problems)}"
        super().__init__(message, hint=hint, **ids)
        self.label = label
        self.problems = list(problems)

    @property
    def codes(self) -> list[str]:
        """The codes of the problems, in their order."""
        return [problem.code for problem in self.problems]

    def to_dict(self) -> dict[str, Any]:
        """As for every error, with the problems."""
        return super().to_dict() | {"problems": [problem.to_dict() for problem in self.problems]}

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), {"label": self.label, "problems": self.problems})


class SignatureError(FormError):
    """The signature of a workflow, node, state or effect function does not fit its use."""

    code = "invalid_signature"


class FlowError(FormError):
    """A flow is declared wrongly."""

    code = "invalid_flow"


class PlanError(FormError):
    """A plan is declared wrongly, or started with skip tags that it does not have."""

    code = "invalid_plan"


class EffectError(FormError):
    """An effect kind, or an effect of one, is declared wrongly."""

    code = "invalid_effect"
