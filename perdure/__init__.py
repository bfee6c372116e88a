"""Perdure: a durable runtime for workflows and agents that must finish."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# The room `perdure.workflow` is imported before the name is given to the decorator: Python binds a package's name in
# its parent once, at its first import.
import perdure.workflow as _room

if TYPE_CHECKING:
    from perdure.core.errors import ChildFailed as ChildFailed
    from perdure.core.errors import MergeConflictError as MergeConflictError
    from perdure.core.errors import PerdureError as PerdureError
    from perdure.core.errors import RetryAfter as RetryAfter
    from perdure.core.errors import RunCancelled as RunCancelled
    from perdure.core.errors import RunFailed as RunFailed
    from perdure.core.errors import StepFailed as StepFailed
    from perdure.core.errors import StepTimeout as StepTimeout
    from perdure.core.errors import WaitTimeout as WaitTimeout
    from perdure.core.policies import Backoff as Backoff
    from perdure.core.policies import idempotent as idempotent
    from perdure.core.secrets import Secret as Secret
    from perdure.core.version import VERSION as __version__
    from perdure.engine.context import Artifact as Artifact
    from perdure.engine.current import current_step as current_step
    from perdure.engine.doubt import NotDone as NotDone
    from perdure.engine.doubt import Unknown as Unknown
    from perdure.engine.handle import RunHandle as RunHandle
    from perdure.engine.portal import BlockingRun as BlockingRun
    from perdure.engine.portal import Portal as Portal
    from perdure.engine.run import Run as Run
    from perdure.engine.runtime import Runtime as Runtime
    from perdure.engine.services import Limits as Limits
    from perdure.workflow.effects import Effect as Effect
    from perdure.workflow.effects import effect as effect
    from perdure.workflow.flow import Flow as Flow
    from perdure.workflow.function import Workflow as Workflow
    from perdure.workflow.function import workflow as workflow
    from perdure.workflow.graph import Done as Done
    from perdure.workflow.graph import Fail as Fail
    from perdure.workflow.graph import Next as Next
    from perdure.workflow.plan import Plan as Plan
    from perdure.workflow.steps import Step as Step
    from perdure.workflow.steps import step as step

_HOMES = {
    "perdure.core.errors": (
        "ChildFailed",
        "MergeConflictError",
        "PerdureError",
        "RetryAfter",
        "RunCancelled",
        "RunFailed",
        "StepFailed",
        "StepTimeout",
        "WaitTimeout",
    ),
    "perdure.core.policies": ("Backoff", "idempotent"),
    "perdure.core.secrets": ("Secret",),
    "perdure.engine.current": ("current_step",),
    "perdure.engine.doubt": ("NotDone", "Unknown"),
    "perdure.engine.handle": ("RunHandle",),
    "perdure.engine.portal": ("BlockingRun", "Portal"),
    "perdure.engine.context": ("Artifact",),
    "perdure.engine.run": ("Run",),
    "perdure.engine.runtime": ("Runtime",),
    "perdure.engine.services": ("Limits",),
    "perdure.workflow.effects": ("Effect", "effect"),
    "perdure.workflow.flow": ("Flow",),
    "perdure.workflow.function": ("Workflow",),
    "perdure.workflow.graph": ("Done", "Fail", "Next"),
    "perdure.workflow.plan": ("Plan",),
    "perdure.workflow.steps": ("Step", "step"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME_OF), "__version__", "workflow"]

if not TYPE_CHECKING:
    del _room

    def workflow(*args: Any, **options: Any) -> Any:
        """See `perdure.workflow.function.workflow`; loaded at its first use."""
        from perdure.workflow.function import workflow as decorate

        return decorate(*args, **options)


def __getattr__(name: str) -> Any:
    """Load a public name at its first use, so that `import perdure` stays quick."""
    if name == "__version__":
        from perdure.core.version import VERSION

        return VERSION
    if name not in _HOME_OF:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names."""
    return __all__
