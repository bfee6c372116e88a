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
from pathlib import Path
from typing import Any, Final

from perdure.core.canonical import JSONValue, canonical, parse
from perdure.core.errors import CorruptRecordError, InputError, PerdureError
from perdure.engine.large import resolved
from perdure.engine.runtime import Runtime
from perdure.pipeline.definition import ContextInputs, Pipeline
from perdure.pipeline.document import TOP, Attribute, Document
from perdure.pipeline.settings import graph_settings
from perdure.pipeline.syntax import parse as parse_pipeline
from perdure.server.pipelines.names import is_submitted, workflow_name
from perdure.server.pipelines.options import PipelineOptions, read_options
from perdure.store.port import RunFilter, RunRow
from perdure.workflow.graph import Graph

SUBMITTED: Final = ".submitted"
"""The member of a run's input that holds text and options. No caller can give it: no part of a context's key is empty.
"""
_PAGE: Final = 500
_LARGE: Final = 20_000
"""Characters; a longer text is read in a thread, so that other requests need not wait for it."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What pipelines that come over HTTP may do.

    Args:
        allow_commands: `tool` stages run commands.
        directory: where the files of child pipelines lie; without it there are none.
    """

    allow_commands: bool = False
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


class SubmittedPipeline(Pipeline):
    """A pipeline that came over HTTP.

    Args:
        source: its text.
        options: what it is executed with.
        settings: what it may do.

    Raises:
        PipelineSyntaxError, PipelineInvalidError: it is no valid pipeline.
        InputError: it refers to files outside of what it may read.
    """

    def __init__(self, source: str, options: PipelineOptions, settings: PipelineSettings) -> None:
        document = parse_pipeline(source)
        name = workflow_name(document.id, source, options.pinned)
        _check_children(document, settings)
        if options.max_steps is not None:
            document.attributes["max_steps"] = Attribute(options.max_steps, TOP)
        directory = settings.directory
        super().__init__(
            document,
            name=name,
            path=None if directory is None else directory.resolve() / "submitted.dot",
            retry=options.retry,
            allow_commands=settings.allow_commands,
            source=source,
        )
        self.options = options

    def _compiled(self) -> Graph:
        graph = super()._compiled()
        assert self.source is not None
        graph.inputs = SubmittedInputs(self.name, self.source, self.options.pinned)
        return graph


def _check_children(document: Document, settings: PipelineSettings) -> None:
    """Child pipelines are files of the operator, below one directory; links are followed before that is looked at."""
    graph = graph_settings(document)
    if graph.child_workdir:
        raise InputError("stack.child_workdir is refused over HTTP", field="stack.child_workdir")
    directory, file, seen = settings.directory, graph.child_dotfile, set[Path]()
    while file:
        if directory is None:
            raise InputError("stack.child_dotfile needs a server with --pipelines DIR", field="stack.child_dotfile")
        root = settings.directory.resolve() if settings.directory is not None else directory
        where = (directory / file).resolve()
        if not where.is_relative_to(root) or not where.is_file():
            raise InputError("stack.child_dotfile must be a file below --pipelines DIR", field="stack.child_dotfile")
        if where in seen:
            return
        seen.add(where)
        child = graph_settings(Pipeline.load(where).document)
        directory, file = where.parent, child.child_dotfile


async def made(source: str, options: PipelineOptions, settings: PipelineSettings) -> SubmittedPipeline:
    """A submitted pipeline; a long text is read and checked in a thread.

    Raises:
        PipelineSyntaxError, PipelineInvalidError, InputError: see `SubmittedPipeline`.
    """
    if len(source) < _LARGE:
        return SubmittedPipeline(source, options, settings)
    return await asyncio.to_thread(SubmittedPipeline, source, options, settings)


def submission() -> Submission:
    """A mark for one start: a second start under the same id is a conflict, however alike it is."""
    return Submission(secrets.token_hex(8))


async def load(runtime: Runtime, row: RunRow, settings: PipelineSettings) -> Pipeline | None:
    """The pipeline of a run, made anew from what the run carries where this process does not know it yet.

    Args:
        runtime: that the pipeline is added to.
        row: of the run.
        settings: what pipelines may do here.

    Returns:
        `None` if the run is of a workflow of another form, or of a pipeline whose file is not loaded here.

    Raises:
        PerdureError: what the run carries cannot be read.
    """
    if row.workflow not in runtime.registry:
        if not is_submitted(row.workflow):
            return None
        runtime.register(await _carried_by(runtime, row, settings))
    found = runtime.registry.definition(row.workflow)
    return found if isinstance(found, Pipeline) else None


async def _carried_by(runtime: Runtime, row: RunRow, settings: PipelineSettings) -> SubmittedPipeline:
    events = await runtime.store.read(row.run_id, until=1)
    recorded = (events[0].data or {}).get("input") if events else None
    tree = await resolved(runtime.store, (recorded or {}).get(SUBMITTED))
    if not isinstance(tree, dict) or not isinstance(tree.get("source"), str):
        raise CorruptRecordError(f"run {row.run_id} does not carry its pipeline", run_id=row.run_id)
    pipeline = await made(tree["source"], read_options(tree.get("options")), settings)
    if pipeline.name != row.workflow:
        raise CorruptRecordError(f"run {row.run_id} carries another pipeline than its own", run_id=row.run_id)
    return pipeline


async def load_unfinished(runtime: Runtime, settings: PipelineSettings) -> dict[str, PerdureError]:
    """Make known the pipeline of every run that has not ended: to be called before the first request is served.

    Args:
        runtime: open.
        settings: what pipelines may do here.

    Returns:
        By run id, why a run's pipeline cannot be made known; that run stays pending, the others are not concerned.
    """
    failed: dict[str, PerdureError] = {}
    before: tuple[int, str] | None = None
    while True:
        where = RunFilter(statuses=("pending", "running", "waiting", "paused"), before=before, limit=_PAGE)
        rows = await runtime.store.list_runs(where)
        for row in rows:
            if is_submitted(row.workflow) and row.workflow not in runtime.registry:
                try:
                    await load(runtime, row, settings)
                except PerdureError as error:
                    failed[row.run_id] = error
        if len(rows) < _PAGE:
            return failed
        before = (rows[-1].created_ms, rows[-1].run_id)
