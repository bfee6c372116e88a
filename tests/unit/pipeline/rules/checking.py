"""Pipelines as text, checked."""

from __future__ import annotations

from collections.abc import Collection

from perdure.pipeline.diagnostics import Diagnostic
from perdure.pipeline.syntax import parse
from perdure.pipeline.transforms import prepare
from perdure.pipeline.validation import validate

ENDS = "start [shape=Mdiamond]; exit [shape=Msquare];"


def check(text: str, *, registered: Collection[str] = ()) -> list[Diagnostic]:
    """What all rules find in a pipeline of these statements."""
    return validate(prepare(parse(f"digraph G {{ {text} }}")), registered=registered)


def found(rule: str, text: str, *, registered: Collection[str] = ()) -> list[Diagnostic]:
    """What one rule finds in a pipeline of these statements, with `start` and `exit` declared before them."""
    return [one for one in check(f"{ENDS} {text}", registered=registered) if one.rule == rule]


def about(rule: str, text: str, *, registered: Collection[str] = ()) -> list[str | None]:
    """The nodes that one rule complains about."""
    return [one.node for one in found(rule, text, registered=registered)]
