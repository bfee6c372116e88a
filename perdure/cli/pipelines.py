"""What `validate`, `graph` and `fmt` do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure.cli.definitions import definition_of, is_pipeline
from perdure.cli.output import Output, count
from perdure.cli.place import Place
from perdure.cli.portrait import sound_events
from perdure.core import kinds
from perdure.core.errors import InputError, RunNotFoundError, StoreWriteError
from perdure.core.events import Event
from perdure.core.pipeline_errors import PipelineSyntaxError
from perdure.engine.runtime import Runtime
from perdure.journal.fold import fold_all
from perdure.pipeline.definition import read_pipeline
from perdure.pipeline.diagnostics import Diagnostic, render
from perdure.pipeline.drawing import (
    Picture,
    of_document,
    of_graph,
    with_run,
    write_dot,
    write_json,
    write_mermaid,
    write_svg,
    write_text,
)
from perdure.pipeline.handlers import handler
from perdure.pipeline.syntax import format_tree, parse, parse_tree
from perdure.pipeline.top_level import SOURCE
from perdure.pipeline.transforms import prepare
from perdure.pipeline.validation import validate_text
from perdure.pipeline.views import has_failed

WRITERS: Final[Mapping[str, Callable[[Picture], str]]] = {
    "text": lambda picture: write_text(picture, ascii_only=_is_ascii()),
    "svg": write_svg,
    "dot": write_dot,
    "mermaid": write_mermaid,
    "json": write_json,
}


def _is_ascii() -> bool:
    return "utf" not in (sys.stdout.encoding or "").lower()


# --- validate ---------------------------------------------------------------------------------------------------------


def validate_files(output: Output, files: Sequence[str]) -> int:
    """Check files; see `perdure validate --help`."""
    errors = warnings = 0
    for file in files:
        text = _read(file)
        found = validate_text(text, registered=handler.types())
        for diagnostic in found:
            _tell(output, file, text, diagnostic)
        errors += sum(one.severity == "error" for one in found)
        warnings += sum(one.severity == "warning" for one in found)
    output.note(f"{count(len(files), 'file')}: {count(errors, 'error')}, {count(warnings, 'warning')}")
    return 1 if errors else 0


def _tell(output: Output, file: str, text: str, diagnostic: Diagnostic) -> None:
    if output.json:
        output.record({"file": file, **diagnostic.to_dict()})
    else:
        output.line(render(diagnostic, text, file))


# --- fmt --------------------------------------------------------------------------------------------------------------


def format_files(output: Output, files: Sequence[str], *, check: bool) -> int:
    """Write files in the canonical form; see `perdure fmt --help`."""
    changed = [file for file in files if _formatted(output, file, check=check)]
    for file in changed:
        if output.json:
            output.record({"file": file, "changed": not check})
        elif check:
            output.line(f"{file} would change")
    output.note(f"{count(len(changed), 'file')} {'would change' if check else 'changed'} of {len(files)}")
    return 1 if check and changed else 0


def _formatted(output: Output, file: str, *, check: bool) -> bool:
    """Format one file; whether it is not in the canonical form already."""
    before = sys.stdin.read() if file == "-" else _read(file)
    try:
        after = format_tree(parse_tree(before))
    except PipelineSyntaxError as error:
        error.file = file
        raise
    if file == "-":
        if not check:
            output.data(after.encode())
        return check and after != before
    if after != before and not check:
        _replace(Path(file), after)
    return after != before


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.chmod(path.stat().st_mode)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StoreWriteError(f"{path} cannot be written: {error.strerror}", path=str(path)) from error


def _read(file: str) -> str:
    return read_pipeline(Path(file))


# --- graph ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drawing:
    """What `perdure graph` was asked for; see its options."""

    what: str
    format: str
    output_file: Path | None
    file: str | None


async def draw(place: Place, output: Output, drawing: Drawing) -> int:
    """Draw a workflow or a run."""
    if drawing.format not in WRITERS:
        raise InputError(f"there is no format {drawing.format!r}", hint=f"it is one of: {', '.join(WRITERS)}")
    if is_pipeline(drawing.what) or ".py" in drawing.what:
        picture = _picture_of_file(drawing.what)
    else:
        picture = await _picture_of_run(place, drawing)
    text = WRITERS[drawing.format](picture)
    if drawing.output_file is None:
        output.data(text.encode() if text.endswith("\n") else f"{text}\n".encode())
        return 0
    try:
        drawing.output_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreWriteError(f"{drawing.output_file} cannot be written: {error.strerror}") from error
    output.note(f"written to {drawing.output_file}")
    return 0


def _picture_of_file(file: str) -> Picture:
    """A pipeline is drawn as it stands, valid or not."""
    if is_pipeline(file):
        return of_document(prepare(parse(_read(file), file=file)))
    return of_graph(definition_of(file).compile().describe())


async def _picture_of_run(place: Place, drawing: Drawing) -> Picture:
    async with place.reading() as runtime:
        row = await runtime.store.get_run(drawing.what)
        if row is None:
            raise RunNotFoundError(
                f"there is no run {drawing.what!r}",
                hint="give the id of a run ('perdure ps --all'), or a file that ends in .dot or .py",
                run_id=drawing.what,
            )
        events, _ = sound_events(drawing.what, await runtime.store.read(drawing.what))
        source = await _source(runtime, events)
    if drawing.file is not None:
        picture = _picture_of_file(drawing.file)
    elif source is not None:
        picture = of_document(prepare(parse(source)))
    else:
        picture = of_graph({"name": row.workflow, "nodes": [], "edges": []})
    return with_run(picture, events, fold_all(drawing.what, events), has_failed=has_failed)


async def _source(runtime: Runtime, events: Sequence[Event]) -> str | None:
    """The text of the pipeline that a run keeps."""
    for event in events:
        if event.kind == kinds.ARTIFACT_PUT and event.data.get("name") == SOURCE:
            return (await runtime.store.get_artifact(event.data["artifact"])).decode()
    return None
