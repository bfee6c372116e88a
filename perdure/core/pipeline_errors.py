"""Errors of pipelines: a file that is no pipeline, and what is wrong inside one.

They belong to the tree of `perdure.core.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from unicodedata import combining, east_asian_width

from perdure.core.errors import DefinitionError, InputError


class PipelineSyntaxError(DefinitionError):
    """A pipeline's text is outside the grammar of the dialect.

    Args:
        message: the cause, in one line, without the place.
        line: from 1.
        column: from 1, in characters; one past the end of the line where something is missing there.
        source_line: the whole line, without its line end.
        file: the name to show; `None` if the text has none.
        hint: what the reader can do about it.
        ids: further ids that matter.
    """

    code = "parse_error"

    _EXCERPT_WIDTH: ClassVar[int] = 100

    def __init__(
        self,
        message: str,
        *,
        line: int,
        column: int,
        source_line: str = "",
        file: str | None = None,
        hint: str | None = None,
        **ids: Any,
    ) -> None:
        super().__init__(message, hint=hint, file=file, **ids)
        self.line = line
        self.column = column
        self.source_line = source_line
        self.file = file

    @property
    def excerpt(self) -> str:
        """The part of the line around the column, and below it a caret; fit for a terminal."""
        at = self.column - 1
        begin = max(0, at - self._EXCERPT_WIDTH * 3 // 4)
        end = begin + self._EXCERPT_WIDTH
        before = ("…" if begin else "") + _shown(self.source_line[begin:at])
        after = _shown(self.source_line[at:end]) + ("…" if end < len(self.source_line) else "")
        return f"{before}{after}\n{' ' * _width(before)}^"

    def __str__(self) -> str:
        place = f"{self.file or 'pipeline'}:{self.line}:{self.column}"
        return f"{place}: {self.message}\n{self.excerpt}"

    def to_dict(self) -> dict[str, Any]:
        """As for every error, with `line`, `column` and `excerpt`."""
        return super().to_dict() | {"line": self.line, "column": self.column, "excerpt": self.excerpt}

    def __reduce__(self) -> tuple[Any, ...]:
        return (*super().__reduce__(), self.__dict__.copy())


def _shown(text: str) -> str:
    """Without what would move the caret or command a terminal: one character stays one."""
    return "".join(" " if one == "\t" else one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


class PipelineInvalidError(DefinitionError):
    """A pipeline breaks rules of the dialect; nothing was written.

    Args:
        pipeline: the graph's name.
        diagnostics: errors and warnings as plain data: `rule`, `severity`, `message`, and where it is.
        hint: what the reader can do about it.
        ids: the ids that matter.
    """

    code = "pipeline_invalid"
    default_hint = "see all diagnostics with 'perdure validate FILE.dot'"

    _SHOWN: ClassVar[int] = 3

    def __init__(
        self,
        pipeline: str,
        diagnostics: Sequence[Mapping[str, Any]] = (),
        *,
        hint: str | None = None,
        **ids: Any,
    ) -> None:
        errors = [str(one["message"]) for one in diagnostics if one["severity"] == "error"]
        told = "; ".join(errors[: self._SHOWN])
        count = "" if len(errors) == 1 else f" {len(errors)} errors:"
        more = "; …" if len(errors) > self._SHOWN else ""
        super().__init__(f"pipeline {pipeline!r}:{count} {told}{more}", hint=hint, **ids)
        self.pipeline = pipeline
        self.diagnostics = [dict(one) for one in diagnostics]

    @property
    def rules(self) -> list[str]:
        """The rules that are broken, one for each error, in their order."""
        return [str(one["rule"]) for one in self.diagnostics if one["severity"] == "error"]

    def to_dict(self) -> dict[str, Any]:
        """As for every error, with the diagnostics."""
        return super().to_dict() | {"diagnostics": [dict(one) for one in self.diagnostics]}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_invalid, (type(self), self.pipeline, self.diagnostics, self.hint, self.ids))


def _rebuild_invalid(
    cls: type[PipelineInvalidError],
    pipeline: str,
    diagnostics: list[dict[str, Any]],
    hint: str,
    ids: dict[str, Any],
) -> PipelineInvalidError:
    return cls(pipeline, diagnostics, hint=hint, **ids)


class ConditionSyntaxError(DefinitionError):
    """A condition is outside its grammar.

    Its ids give the `column`, from 1, in characters.
    """

    code = "condition_syntax"
    default_hint = "write clauses such as outcome=success or context.tests!=failed, joined by &&"


class StylesheetSyntaxError(DefinitionError):
    """A model stylesheet is outside its grammar.

    Its ids give `line` and `column` inside the stylesheet, from 1, in characters.
    """

    code = "stylesheet_syntax"
    default_hint = "write rules such as .fast { llm_model: small; }"


class AttributeValueError(DefinitionError):
    """The value of a pipeline's attribute does not fit the attribute."""

    code = "attribute_value"


class ContextKeyError(InputError):
    """A key of a pipeline's context cannot be written."""

    code = "context_key"
    default_hint = "a dotted key is a path: every part has a name, and all but the last lead to objects"
