"""Checking a pipeline by all rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from perdure.core.pipeline_errors import PipelineInvalidError, PipelineSyntaxError
from perdure.pipeline.collection import paused_collection
from perdure.pipeline.diagnostics import Diagnostic
from perdure.pipeline.document import Document, Position
from perdure.pipeline.rules import PipelineView, Rule, rule
from perdure.pipeline.syntax import parse
from perdure.pipeline.transforms import Transform, prepare, transform

MANY: Final = 500
"""From so many nodes on it is worth it to keep garbage collection away."""


def validate_text(
    text: str,
    *,
    registered: Collection[str] = (),
    transforms: Iterable[Transform] = transform,
    rules: Iterable[Rule] = rule,
) -> list[Diagnostic]:
    """What is wrong with the text of a pipeline; a syntax error is the one diagnostic `parse_error`.

    Args:
        text: of the file.
        registered: handler types beside those of the dialect.
        transforms: that come before the rules; those registered by `@transform` if omitted.
        rules: to check by; those of the dialect and those added by `@rule` if omitted.

    Raises:
        DefinitionError: a transform returned something else than a whole document.
    """
    try:
        document = parse(text)
    except PipelineSyntaxError as error:
        return [parse_error(error)]
    return validate(prepare(document, transforms), registered=registered, rules=rules)


def parse_error(error: PipelineSyntaxError) -> Diagnostic:
    """A syntax error as a diagnostic."""
    position = Position(error.line, error.column)
    return Diagnostic(
        rule=error.code, severity="error", message=error.message, position=position, fix=error.hint or None
    )


def validate(document: Document, *, registered: Collection[str] = (), rules: Iterable[Rule] = rule) -> list[Diagnostic]:
    """What is wrong with a pipeline, in the order of the file; at one place errors come first.

    Args:
        document: after the transforms (`prepare`).
        registered: handler types beside those of the dialect.
        rules: to check by; those of the dialect and those added by `@rule` if omitted.
    """
    with paused_collection(when=len(document.nodes) > MANY):
        view = PipelineView(document, registered)
        return sorted((found for one in rules for found in one(view)), key=_place)


def require_valid(
    document: Document, *, registered: Collection[str] = (), rules: Iterable[Rule] = rule
) -> list[Diagnostic]:
    """Refuse a pipeline that has errors.

    Args:
        document: after the transforms (`prepare`).
        registered: handler types beside those of the dialect.
        rules: to check by; those of the dialect and those added by `@rule` if omitted.

    Returns:
        The warnings.

    Raises:
        PipelineInvalidError: with all errors and the warnings besides.
    """
    found = validate(document, registered=registered, rules=rules)
    if any(one.severity == "error" for one in found):
        raise PipelineInvalidError(document.id, [one.to_dict() for one in found])
    return found


def _place(found: Diagnostic) -> tuple[int, int, bool]:
    return (found.line or 0, found.column or 0, found.severity != "error")
