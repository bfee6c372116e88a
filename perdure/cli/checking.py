"""`verify`, `doctor`, `version`: is everything as it should be? Their work is done in `perdure.cli.diagnosis`."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.completion import complete_run
from perdure.cli.loop import finish
from perdure.cli.options import JsonOption, ServerOption, StoreOption, TokenFileOption
from perdure.cli.output import Output
from perdure.cli.place import Place


def verify(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Id of the run.", autocompletion=complete_run)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All runs of the store.")] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Check the hash chain of a run's journal, and the artifacts that it names.

    With --all and --json: one JSON object a line. Exit code 1 if a record is not what was written.
    """
    if (run is None) != everything:
        raise typer.BadParameter("give a RUN, or --all")
    from perdure.cli.diagnosis import verify_all, verify_one

    if run is None:
        return finish(verify_all(Place.of(store, server, token_file), Output(json=json)))
    return finish(verify_one(Place.of(store, server, token_file), Output(json=json), run))


def doctor(
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also the runs that ended long ago, and every hash chain.")
    ] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """Examine the store, or the service: damage, index rows that disagree with journals, dead workers, parked runs,
    old questions.

    Exit code 1 if something is broken; what only needs attention is a note.
    """
    from perdure.cli.diagnosis import examine

    return finish(examine(Place.of(store, server, token_file), Output(json=json), everything=everything))


def version(server: ServerOption = None, token_file: TokenFileOption = None, json: JsonOption = False) -> int:
    """Show the versions of Perdure, Python and SQLite; with --server also that of the service."""
    if server is not None or token_file is not None:
        from perdure.cli.remote.diagnosis import show_versions

        return finish(show_versions(Place.of(None, server, token_file), Output(json=json)))
    from perdure.cli.diagnosis import versions

    output = Output(json=json)
    found = versions()
    if output.json:
        output.value(found)
    else:
        output.line(f"perdure {found['perdure']} (Python {found['python']}, SQLite {found['sqlite']})")
    return 0
