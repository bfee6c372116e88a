"""Arguments and options that several commands have, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.completion import complete_run, complete_unfinished
from perdure.core.errors import LocalOnlyError

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where runs are kept, as sqlite:///path/to/file.db. [env: PERDURE_STORE; default: sqlite:///.perdure/runs.db]",
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Ask the HTTP service there, instead of a store. [env: PERDURE_SERVER; its token: PERDURE_TOKEN]",
    ),
]
TokenFileOption = Annotated[
    str | None, typer.Option("--token-file", metavar="F", help="A file with the token for the service.")
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
LogFormatOption = Annotated[
    str | None,
    typer.Option("--log-format", metavar="FORM", help="Logs on standard error: 'text', or 'json', an object a line."),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="'debug', 'info', 'warning' or 'error'; what is less is left out."
    ),
]
PatienceOption = Annotated[
    str | None,
    typer.Option(
        "--patience",
        metavar="TIME",
        help="How long to stay with a run that only waits (30s, 10m). "
        "If omitted: for ever on a terminal, else for timers that are due within a minute.",
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; recorded with it.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.", autocompletion=complete_run)]
UnfinishedArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of the run.", autocompletion=complete_unfinished)
]


def _refuse_server(context: typer.Context, value: str | None) -> str | None:
    if value is not None:
        command = context.command_path.removeprefix("perdure ")
        raise LocalOnlyError(
            f"{command} takes no --server: it needs {LOCAL.get(command, 'the store itself')}",
            hint="call it where that is, without --server",
            command=command,
        )
    return None


LOCAL = {"validate": "the files alone", "fmt": "the files alone"}
"""By command, what it works on that no service has."""
NoServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", hidden=True, callback=_refuse_server),
]
"""For commands that cannot work over HTTP, and say so."""
