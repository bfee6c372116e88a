"""`validate`, `graph`, `fmt`: commands for pipelines and pictures. Their work is done in `perdure.cli.pipelines`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.loop import finish
from perdure.cli.options import JsonOption, NoServerOption, ServerOption, StoreOption, TokenFileOption
from perdure.cli.output import Output
from perdure.cli.place import Place


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE.dot...", help="Pipelines.")],
    server: NoServerOption = None,
    json: JsonOption = False,
) -> int:
    """Check pipelines by all rules of the dialect; nothing is executed.

    With --json: one JSON object a line, with the file. Exit code 1 if there is an error, 0 with warnings alone.
    """
    from perdure.cli.pipelines import validate_files

    return validate_files(Output(json=json), files)


def graph(
    what: Annotated[
        str, typer.Argument(metavar="FILE|RUN", help="A pipeline, FILE.py[:NAME] with a workflow, or the id of a run.")
    ],
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="FORMAT", help="text, svg, dot, mermaid or json.")
    ] = "text",
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="F", help="Write it to a file instead of standard output.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file", metavar="FILE", help="Of a run: the file of its workflow, to show what has not run yet."
        ),
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Draw a workflow, or a run: what ran, what runs, what waits, and how often each edge was taken."""
    from perdure.cli.pipelines import Drawing, draw

    drawing = Drawing(what, "json" if json else format, output_file, file)
    return finish(draw(Place.of(store, server, token_file), Output(json=json), drawing))


def fmt(
    files: Annotated[list[str], typer.Argument(metavar="FILE.dot...", help="Pipelines; '-' for standard input.")],
    check: Annotated[bool, typer.Option("--check", help="Only say which files would change.")] = False,
    server: NoServerOption = None,
    json: JsonOption = False,
) -> int:
    """Write pipelines in the canonical form; comments stay.

    Exit code 1 with --check if a file would change.
    """
    from perdure.cli.pipelines import format_files

    return format_files(Output(json=json), files, check=check)
