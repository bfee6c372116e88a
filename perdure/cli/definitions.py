"""Definitions by the file that holds them: Python files with workflows, and pipelines in DOT."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Final

from perdure.core.errors import DefinitionLoadError
from perdure.workflow.graph import Definition
from perdure.workflow.loading import load_definition, load_file, split_spec

PIPELINE_SUFFIXES: Final = (".dot", ".gv")


def is_pipeline(spec: str) -> bool:
    """Is it the name of a pipeline's file?"""
    return PurePath(spec).suffix.lower() in PIPELINE_SUFFIXES


def definitions_in(spec: str) -> Sequence[Definition]:
    """All definitions of a file, or the one that is named in it.

    Args:
        spec: `FILE.dot`, `FILE.py` or `FILE.py:NAME`.

    Raises:
        DefinitionLoadError, DefinitionError: the file cannot be loaded, or what it holds is refused.
    """
    if is_pipeline(spec):
        return [_pipeline(spec)]
    _, name = _split(spec)
    return [load_definition(spec)] if name is not None else definitions_beside(spec)


def definitions_of(specs: Iterable[str]) -> list[Definition]:
    """All that `definitions_in` finds in several files.

    Raises:
        DefinitionLoadError, DefinitionError: one of the files cannot be loaded, or what it holds is refused.
    """
    return [definition for spec in specs for definition in definitions_in(spec)]


def definitions_beside(spec: str) -> Sequence[Definition]:
    """All definitions of the file, whichever of them is named."""
    if is_pipeline(spec):
        return [_pipeline(spec)]
    path, _ = _split(spec)
    return load_file(path).definitions


def definition_of(spec: str) -> Definition:
    """The one definition that is meant.

    Raises:
        DefinitionLoadError, DefinitionError: as for `definitions_in`; or there are several to choose from.
    """
    return _pipeline(spec) if is_pipeline(spec) else load_definition(spec)


def named_in(spec: str) -> str | None:
    """The name that stands behind the file's, if there is one."""
    return None if is_pipeline(spec) else _split(spec)[1]


def _split(spec: str) -> tuple[str, str | None]:
    try:
        return split_spec(spec)
    except DefinitionLoadError as error:
        if error.hint is None or ".dot" not in error.hint:
            error.hint = "name a Python file, FILE.py or FILE.py:NAME, or a pipeline, FILE.dot"
        raise


def _pipeline(spec: str) -> Definition:
    from perdure.pipeline.definition import Pipeline

    return Pipeline.load(spec)
