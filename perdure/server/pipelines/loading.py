"""Pipelines that come over HTTP: each is a workflow of its own, which a run carries with it.

The text and the options stand in the input of the run, so they are durable in the very transaction that begins it, and
whoever takes the run up later (this server after a restart, another worker) makes the same workflow of them. Its name
is made of their hash: the same text is the same workflow, and no two texts can be confused.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from perdure.core.canonical import JSONValue, canonical, parse
from perdure.core.errors import CorruptRecordError, InputError
from perdure.engine.large import resolved
from perdure.engine.runtime import Runtime
from perdure.pipeline.commands import AllowedPrograms
from perdure.pipeline.definition import ContextInputs, Pipeline
from perdure.pipeline.document import TOP, Attribute, Document
from perdure.pipeline.settings import graph_settings
from perdure.pipeline.syntax import parse as parse_pipeline
from perdure.server.pipelines.confined import FIELD, read_below
from perdure.server.pipelines.names import workflow_name
from perdure.server.pipelines.options import PipelineOptions, read_options
from perdure.store.port import RunRow
from perdure.workflow.graph import Graph

SUBMITTED: Final = ".submitted"
"""The member of a run's input that holds text and options. No caller can give it: no part of a context's key is empty.
"""
_LARGE: Final = 4_000
"""Characters; a longer text is read in a thread, so that other requests need not wait for it."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What pipelines that come over HTTP may do.

    Args:
        allow_commands: `tool` stages run commands, or only the listed programs.
        directory: where the files of child pipelines lie; without it there are none.
    """

    allow_commands: bool | AllowedPrograms = False
    directory: Path | None = None


class Submission(str):
    """What tells one start from any other, also from one of the same text: by its type it is told from what a caller
    hands in."""

    __slots__ = ()


class SubmittedInputs(ContextInputs):
    """The input of a submitted pipeline: the context, and beside it the text and the options."""

    def __init__(self, owner: str, source: str, options: Mapping[str, JSONValue]) -> None:
        super().__init__(owner)
        self._carried: dict[str, JSONValue] = {"source": source, "options": dict(options)}

    def dump(self, raw: Mapping[str, Any]) -> bytes:
        """See `Inputs.dump`."""
        start = raw.get(SUBMITTED)
        known = isinstance(start, Submission)
        context = {name: value for name, value in raw.items() if not known or name != SUBMITTED}
        tree = parse(super().dump(context))
        assert isinstance(tree, dict)
        tree[SUBMITTED] = {**self._carried, "start": str(start)} if known else self._carried
        return canonical(tree)

    def load(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """See `Inputs.load`."""
        return super().load({name: value for name, value in tree.items() if name != SUBMITTED})


class ConfinedPipeline(Pipeline):
    """A pipeline whose children are files of the operator, below one directory.

    Args:
        document: as it was read.
        settings: what it may do.
        options: as for `Pipeline`.

    Raises:
        PipelineInvalidError: it breaks rules of the dialect.
        InputError: it, or a child of its, refers to files outside of what it may read.
    """

    def __init__(self, document: Document, settings: PipelineSettings, **options: Any) -> None:
        graph = graph_settings(document)
        if graph.child_workdir:
            raise InputError("stack.child_workdir is refused over HTTP", field="stack.child_workdir")
        if graph.child_dotfile and settings.directory is None:
            raise InputError(f"{FIELD} needs a server with --pipelines DIR", field=FIELD)
        super().__init__(document, allow_commands=settings.allow_commands, **options)
        self._settings = settings

    @cached_property
    def children(self) -> tuple[Pipeline, ...]:
        """See `Pipeline.children`; read when this one is made, so that what is wrong with them is told in time."""
        file, root = self.blueprint.settings.child_dotfile, self._settings.directory
        if not file or root is None:
            return ()
        where, text = read_below(root, (self.path or root / "submitted.dot").parent / file)
        above = self.above()
        if where in above:
            raise InputError(f"{FIELD} leads back to where it began", field=FIELD)
        child = ConfinedPipeline(
            parse_pipeline(text, file=where.name), self._settings, path=where, retry=self.retry, source=text
        )
        child.below(above)
        return (child,)


class SubmittedPipeline(ConfinedPipeline):
    """A pipeline that came over HTTP.

    Args:
        source: its text.
        options: what it is executed with.
        settings: what it may do.

    Raises:
        PipelineSyntaxError, PipelineInvalidError: it, or a child of its, is no valid pipeline.
        InputError: it refers to files outside of what it may read.
    """

    def __init__(self, source: str, options: PipelineOptions, settings: PipelineSettings) -> None:
        document = parse_pipeline(source)
        name = workflow_name(document.id, source, options.pinned)
        if options.max_steps is not None:
            document.attributes["max_steps"] = Attribute(options.max_steps, TOP)
        super().__init__(document, settings, name=name, retry=options.retry, source=source)
        self.options = options
        below: tuple[Pipeline, ...] = (self,)
        while below:  # all of them are read now
            below = below[0].children

    def _compiled(self) -> Graph:
        graph = super()._compiled()
        assert self.source is not None
        graph.inputs = SubmittedInputs(self.name, self.source, self.options.pinned)
        return graph


async def made(source: str, options: PipelineOptions, settings: PipelineSettings) -> SubmittedPipeline:
    """A submitted pipeline; a long text is read and checked in a thread.

    Raises:
        PipelineSyntaxError, PipelineInvalidError, InputError: see `SubmittedPipeline`.
    """

    def compiled() -> SubmittedPipeline:
        pipeline = SubmittedPipeline(source, options, settings)
        pipeline.compile()
        return pipeline

    return compiled() if len(source) < _LARGE else await asyncio.to_thread(compiled)


def submission() -> Submission:
    """A mark for one start: a second start under the same id is a conflict, however alike it is."""
    return Submission(secrets.token_hex(8))


async def carried_by(runtime: Runtime, row: RunRow, settings: PipelineSettings) -> SubmittedPipeline:
    """The pipeline that a run carries, made anew.

    Args:
        runtime: of the run.
        row: of the run.
        settings: what pipelines may do here.

    Raises:
        PerdureError: what the run carries cannot be read, or is no valid pipeline here.
    """
    events = await runtime.store.read(row.run_id, until=1)
    try:
        recorded = (events[0].data or {}).get("input") if events else None
    except ValueError as error:
        raise CorruptRecordError(f"the first record of run {row.run_id} cannot be read", run_id=row.run_id) from error
    tree = await resolved(runtime.store, (recorded or {}).get(SUBMITTED))
    if not isinstance(tree, dict) or not isinstance(tree.get("source"), str):
        raise CorruptRecordError(f"run {row.run_id} does not carry its pipeline", run_id=row.run_id)
    pipeline = await made(tree["source"], read_options(tree.get("options")), settings)
    if pipeline.name != row.workflow:
        raise CorruptRecordError(f"run {row.run_id} carries another pipeline than its own", run_id=row.run_id)
    return pipeline
