"""The DOT dialect: pipelines as files, executed by the engine that executes every workflow.

What users need stands here; what it takes to execute a pipeline is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.pipeline.definition import Pipeline as Pipeline
    from perdure.pipeline.diagnostics import Diagnostic as Diagnostic
    from perdure.pipeline.document import Document as Document
    from perdure.pipeline.handlers import Handlers as Handlers
    from perdure.pipeline.handlers import handler as handler
    from perdure.pipeline.outcome import Outcome as Outcome
    from perdure.pipeline.retries import RetryPolicy as RetryPolicy
    from perdure.pipeline.rules import rule as rule
    from perdure.pipeline.stage import Stage as Stage
    from perdure.pipeline.transforms import transform as transform
    from perdure.pipeline.validation import validate as validate
    from perdure.pipeline.validation import validate_text as validate_text

_HOMES = {
    "Diagnostic": "diagnostics",
    "Document": "document",
    "Handlers": "handlers",
    "Outcome": "outcome",
    "Pipeline": "definition",
    "RetryPolicy": "retries",
    "Stage": "stage",
    "handler": "handlers",
    "rule": "rules",
    "transform": "transforms",
    "validate": "validation",
    "validate_text": "validation",
}

__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(_HOMES)
