"""`Pipeline`: a workflow that is written as a DOT file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from perdure.core.canonical import canonical, sha256_hex
from perdure.core.errors import DefinitionLoadError, InputTypeError
from perdure.core.ids import check_name
from perdure.core.pipeline_errors import ContextKeyError
from perdure.core.values import codec_for
from perdure.model.port import Backend
from perdure.pipeline.backends import Model, backend_of
from perdure.pipeline.blueprint import Blueprint
from perdure.pipeline.commands import AllowedPrograms
from perdure.pipeline.context import nested
from perdure.pipeline.diagnostics import Diagnostic
from perdure.pipeline.document import Document
from perdure.pipeline.handlers import Handlers, handler
from perdure.pipeline.retries import RETRY_PRESETS, RetryPolicy
from perdure.pipeline.run_context import check_names
from perdure.pipeline.syntax import parse
from perdure.pipeline.top_level import RESTART, Restarted, TopLevel, initial_context
from perdure.pipeline.transforms import Transform, prepare, transform
from perdure.pipeline.validation import require_valid
from perdure.workflow.graph import Enter, Graph, Node, Progress, Route
from perdure.workflow.inputs import Inputs
from perdure.workflow.signature import origin_of_caller
from perdure.workflow.topology import Walk

LARGEST_FILE: Final = 16 * 1024 * 1024


class Pipeline:
    """A workflow that is written as a DOT file.

    Args:
        document: as it was read.
        name: of the workflow; the graph's id if omitted.
        version: of the workflow.
        path: of the file; children are looked up beside it, or beside the working directory without one.
        model: who is asked at `codergen` stages: a backend, or an async function of a `ModelRequest`. If omitted, the
            backend that the environment names when the run begins; without one the answers are simulated.
        retry: how often a stage is executed that does not say so itself: a policy, or the name of a preset.
        directory: where commands run; that of the process in which the run begins, if omitted.
        allow_commands: whether `tool` stages may run commands, or which programs (`tool_argv` alone) they may run.
        handlers: by type.
        transforms: that come between reading and validation.
        source: the text of the file; each run keeps it, so that it can be drawn without the file.

    Attributes:
        module: the name of the module that made it.
        document: after the transforms.
        warnings: of the validation.

    Raises:
        PipelineInvalidError: it breaks rules of the dialect.
        DefinitionError: a transform returned something else than a document.
    """

    def __init__(
        self,
        document: Document,
        *,
        name: str | None = None,
        version: str = "1",
        path: Path | None = None,
        model: Model | None = None,
        retry: RetryPolicy | str = "none",
        directory: str | os.PathLike[str] | None = None,
        allow_commands: bool | AllowedPrograms = True,
        handlers: Handlers = handler,
        transforms: Iterable[Transform] = transform,
        source: str | None = None,
    ) -> None:
        self.module = origin_of_caller()[0]
        self.source = source
        self.name = check_name(name or document.id, field="pipeline name")
        self.version = version
        self.path = path
        self.retry = RETRY_PRESETS[retry] if isinstance(retry, str) else retry
        self.directory = None if directory is None else Path(directory)
        self.allow_commands = allow_commands
        self.handlers = handlers
        self.document = prepare(document, transforms)
        self.warnings: Sequence[Diagnostic] = require_valid(self.document, registered=handlers.types())
        self.blueprint = Blueprint(self.document, handlers.types())
        initial_context(self.document, {})  # what cannot be mirrored is refused now
        self._model: Backend | None = None if model is None else backend_of(model)
        self._graph: Graph | None = None
        self._above: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        return f"<pipeline {self.name} {self.version}>"

    @classmethod
    def parse(cls, text: str, **options: Any) -> Pipeline:
        """A pipeline from its text.

        Args:
            text: of a DOT file.
            options: as for `Pipeline`.

        Raises:
            PipelineSyntaxError, PipelineInvalidError: it is no valid pipeline.
        """
        made = cls(parse(text), source=text, **options)
        made.module = origin_of_caller()[0]
        return made

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Pipeline:
        """A pipeline from its file.

        Args:
            path: of a DOT file.
            options: as for `Pipeline`.

        Raises:
            DefinitionLoadError: the file cannot be read.
            PipelineSyntaxError, PipelineInvalidError: it is no valid pipeline.
        """
        where = Path(path).absolute()
        text = read_pipeline(where)
        made = cls(parse(text, file=str(path)), path=where, source=text, **options)
        made.module = origin_of_caller()[0]
        return made

    # --- as a workflow ------------------------------------------------------------------------------------------------

    def compile(self) -> Graph:
        """The graph, the same object each time: a node for each stage."""
        if self._graph is None:
            self._graph = self._compiled()
        return self._graph

    def _compiled(self) -> Graph:
        places = self.blueprint.places
        targets = {name: _targets(self.blueprint, name) for name in places}
        structure = _structure(self.document) | {"handlers": {name: place.type for name, place in places.items()}}
        text = canonical(structure)
        return Graph(
            name=self.name,
            version=self.version,
            form="pipeline",
            nodes=[
                Node(
                    name=name,
                    handler=TopLevel(self, place),  # type: ignore[arg-type]
                    effect=place.type,
                    description=place.settings.label,
                )
                for name, place in places.items()
            ],
            topology=PipelineWalk(self.blueprint.start, targets, structure),
            inputs=ContextInputs(self.name),
            output=codec_for(Any),
            code=sha256_hex(text),
            origin=(str(self.path or ""),),
            description=self.blueprint.settings.label or self.blueprint.settings.goal,
        )

    @cached_property
    def children(self) -> tuple[Pipeline, ...]:
        """The pipelines that `stack.manager_loop` stages start: a process that executes this one must know them.

        Raises:
            DefinitionLoadError: the file that `stack.child_dotfile` names cannot be read.
            PipelineSyntaxError, PipelineInvalidError: it is no valid pipeline.
        """
        file = self.blueprint.settings.child_dotfile
        if not file:
            return ()
        beside = self.path.parent if self.path is not None else Path.cwd()
        where = (beside / file).resolve()
        above = self.above()
        if where in above:
            raise DefinitionLoadError(
                f"{where}: it is its own child, or its child's", reason="child_cycle", path=str(where)
            )
        workdir = self.blueprint.settings.child_workdir
        child = Pipeline.load(
            where,
            model=self._model,
            retry=self.retry,
            directory=beside / workdir if workdir else self.directory,
            allow_commands=self.allow_commands,
            handlers=self.handlers,
        )
        child.below(above)
        return (child,)

    def above(self) -> tuple[Path, ...]:
        """The files above a child of this one, which it must not name as a child of its own."""
        return (*self._above, *(() if self.path is None else (self.path.resolve(),)))

    def below(self, above: tuple[Path, ...]) -> None:
        """Say which files are above this one."""
        self._above = above

    # --- what stages ask for ------------------------------------------------------------------------------------------

    def surroundings(self) -> tuple[str, bool]:
        """Where commands run, and whether the answers of models are simulated: found once, when the run begins."""
        directory = str(self.directory or Path.cwd())
        return directory, self.blueprint.asks_models and self._model is None and backend_of(None) is None

    def backend(self) -> Backend | None:
        """Who is asked at `codergen` stages."""
        return self._model or backend_of(None)


def read_pipeline(path: Path) -> str:
    """The text of a DOT file.

    Raises:
        DefinitionLoadError: there is no such file (`reason="file_missing"`), or it is no text file of at most 16 MiB
            (`reason="not_text"`).
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise _unreadable(path, "not_text", f"it is larger than {LARGEST_FILE} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(path, "not_text", f"it is not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise _unreadable(path, "file_missing", error.strerror or str(error)) from error


def _unreadable(path: Path, reason: str, message: str) -> DefinitionLoadError:
    return DefinitionLoadError(f"{path}: {message}", reason=reason, path=str(path))


def _targets(blueprint: Blueprint, name: str) -> list[str]:
    """Where a node leads: the ends of its edges; for a fan-out its join."""
    place = blueprint.places[name]
    return [place.join] if place.join is not None else list(dict.fromkeys(way.target for way in place.ways))


def _structure(document: Document) -> dict[str, Any]:
    """What a run must not see changed: everything but the order of attributes."""

    def told(attributes: Mapping[str, Any]) -> dict[str, Any]:
        return {key: attribute.value for key, attribute in attributes.items()}

    return {
        "graph": told(document.attributes),
        "nodes": {name: told(node.attributes) for name, node in document.nodes.items()},
        "edges": [[edge.start, edge.end, told(edge.attributes)] for edge in document.edges],
    }


class PipelineWalk(Walk):
    """From stage to stage as each says; a loop that restarts begins where its edge leads."""

    def __init__(self, entry: str, targets: Mapping[str, Sequence[str]], text: dict[str, Any]) -> None:
        super().__init__(entry, targets)
        self._text = text

    def _route(self, progress: Progress) -> Route:
        if progress.last is None and not progress.active and RESTART in progress.input:
            return Enter((progress.input[RESTART]["at"],))
        return super()._route(progress)

    def structure(self) -> dict[str, Any]:
        """The whole pipeline: a run goes on only with the file that it began with."""
        return self._text


class ContextInputs(Inputs):
    """The input of a pipeline: a context with any names."""

    def __init__(self, owner: str) -> None:
        super().__init__(owner, (), fill=False)
        self._codec = codec_for(Any)

    def dump(self, raw: Mapping[str, Any]) -> bytes:
        """See `Inputs.dump`."""
        self._check_names(raw)
        plain = {name: dict(value) if isinstance(value, Restarted) else value for name, value in raw.items()}
        return canonical({name: self._codec.tree(value, f"$.{name}") for name, value in plain.items()})

    def check(self, tree: object) -> dict[str, Any]:
        """See `Inputs.check`."""
        if tree is None:
            return {}
        if not isinstance(tree, dict):
            raise self._refuse(f"takes an object, not {type(tree).__name__}")
        self._check_names(tree)
        return {name: self._codec.check_input(value, f"$.{name}") for name, value in tree.items()}

    def load(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """See `Inputs.load`."""
        return {name: self._codec.load_json(value) for name, value in tree.items()}

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the input: any object."""
        return {"type": "object"}

    def _check_names(self, raw: Mapping[str, Any]) -> None:
        try:
            check_names(nested({name: value for name, value in raw.items() if not isinstance(value, Restarted)}))
        except ContextKeyError as error:
            raise InputTypeError(f"input of {self.owner!r}: {error.message}", workflow=self.owner) from error
