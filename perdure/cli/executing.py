"""`run` and `worker`: commands that execute. Their work is done in `perdure.cli.running` and `perdure.cli.serving`."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.completion import complete_unfinished
from perdure.cli.loop import finish
from perdure.cli.options import (
    DurabilityOption,
    JsonOption,
    LogFormatOption,
    LogLevelOption,
    NoServerOption,
    PatienceOption,
    ServerOption,
    StoreOption,
    TokenFileOption,
)
from perdure.cli.output import Output
from perdure.cli.place import Place


def run(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:NAME]",
            help="A Python file, and the workflow in it; or a pipeline, FILE.dot. With --server also NAME alone.",
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="K=V", help="An input; V is JSON if it parses as JSON, else text."),
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input-file", metavar="F", help="Inputs as a JSON object; '-' for standard input.")
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Id of the run; one that exists goes on.", autocompletion=complete_unfinished
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="To find it by; may be given again.")
    ] = None,
    skip_tag: Annotated[
        list[str] | None, typer.Option("--skip-tag", metavar="TAG", help="Skip states of a plan; may be given again.")
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", metavar="VALUE", help="Answers questions, in their order; may be given again."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Only start it, and print its id.")] = False,
    patience: PatienceOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, no progress.")] = False,
    durability: DurabilityOption = "full",
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Run a workflow to its end, or go on with a run that has not ended.

    The output goes to standard output. Kill it at any instant and call it again with the same --id: what is recorded is
    not done again. On a terminal it asks the workflow's questions; elsewhere a question takes its default at once.
    """
    from perdure.cli.orders import Order
    from perdure.cli.running import run_workflow

    order = Order(
        file=file,
        inputs=tuple(inputs or ()),
        input_file=input_file,
        run_id=run_id,
        tags=tuple(tag or ()),
        skip_tags=tuple(skip_tag or ()),
        answers=tuple(answer or ()),
        detach=detach,
        patience=patience,
        durability=durability,
    )
    return finish(run_workflow(Place.of(store, server, token_file), Output(json=json, quiet=quiet), order))


def worker(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Python files with workflows, and pipelines.")],
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, metavar="N", help="How many runs are executed at once.")
    ] = 1000,
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to do now.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    durability: DurabilityOption = "full",
    store: StoreOption = None,
    server: NoServerOption = None,
    json: JsonOption = False,
) -> int:
    """Execute the runs of these files' workflows until told to stop (SIGTERM or Ctrl-C).

    With --json: one JSON object a line for each run that is claimed, waits, is paused or ends.
    """
    from perdure.cli.serving import Service, serve

    service = Service(tuple(files), concurrency, once, durability, log_format, log_level)
    return finish(serve(Place.of_store(store), Output(json=json, quiet=quiet), service))
