"""The rules that a pipeline is checked by. Importing this package registers those of the dialect."""

from perdure.pipeline.rules import references, routing, structure, values
from perdure.pipeline.rules.registry import Check, Finding, Rule, Rules, rule
from perdure.pipeline.rules.view import PipelineView

__all__ = [
    "Check",
    "Finding",
    "PipelineView",
    "Rule",
    "Rules",
    "references",
    "routing",
    "rule",
    "structure",
    "values",
]
