"""Arguments and options that several commands have, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.completion import complete_run, complete_unfinished

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where runs are kept, as sqlite:///path/to/file.db. [env: PERDURE_STORE; default: sqlite:///.perdure/runs.db]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output; errors as JSON on standard error.")]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Who you are; stands for good in the run's journal.")
]
CommandIdOption = Annotated[
    str | None,
    typer.Option("--command-id", metavar="ID", help="Send it again under the same id, and it counts once."),
]
DurabilityOption = Annotated[
    str,
    typer.Option(
        "--durability",
        metavar="MODE",
        help="What is recorded survives a power cut (full) or the process (process).",
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; recorded with it.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.", autocompletion=complete_run)]
UnfinishedArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of the run.", autocompletion=complete_unfinished)
]
