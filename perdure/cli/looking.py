"""`ps`, `show`, `events`, `state`, `artifacts`: commands that only look.

Their work is done in `perdure.cli.reading`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perdure.cli.loop import finish
from perdure.cli.options import JsonOption, RunArgument, ServerOption, StoreOption, TokenFileOption
from perdure.cli.output import Output
from perdure.cli.place import Place


def ps(
    status: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="STATUS", help="Only runs of this status; may be given again."),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="Only runs with this tag; may be given again.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also runs that have ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many, newest first.")] = 50,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """List runs, newest first: those that have not ended, unless told otherwise.

    With --json: one JSON object a line.
    """
    from perdure.cli.reading import Wanted, list_runs

    wanted = Wanted(tuple(status or ()), workflow, tuple(tag or ()), everything, limit)
    return finish(list_runs(Place.of(store, server, token_file), Output(json=json), wanted))


def show(
    run: RunArgument,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All steps, however many.")] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Show what a run did, why it waits, and what comes next."""
    from perdure.cli.reading import show_run

    return finish(show_run(Place.of(store, server, token_file), Output(json=json), run, everything=everything))


def events(
    run: RunArgument,
    after: Annotated[int, typer.Option("--after", min=0, metavar="SEQ", help="Only events behind this one.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Print the events of a run's journal.

    With --json: one JSON object a line.
    """
    from perdure.cli.reading import print_events

    return finish(print_events(Place.of(store, server, token_file), Output(json=json), run, after=after, follow=follow))


def state(
    run: RunArgument,
    at: Annotated[
        int | None, typer.Option("--at", min=1, metavar="SEQ", help="As it was after this event; now if omitted.")
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Print the key-value state of a run as JSON.

    With --json: the state of the whole run (status, nodes, waits, children) around it.
    """
    from perdure.cli.reading import print_state

    return finish(print_state(Place.of(store, server, token_file), Output(json=json), run, at=at))


def artifacts(
    run: RunArgument,
    get: Annotated[
        str | None,
        typer.Option(
            "--get", metavar="SHA", help="Give the bytes of this one (its beginning will do); base64 with --json."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the bytes go; standard output if omitted.")
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """List the artifacts that a run's journal names, or give the bytes of one."""
    from perdure.cli.reading import get_artifact, list_artifacts

    if get is None:
        if out is not None:
            raise typer.BadParameter("--out goes with --get")
        return finish(list_artifacts(Place.of(store, server, token_file), Output(json=json), run))
    return finish(get_artifact(Place.of(store, server, token_file), Output(json=json), run, get, out))
