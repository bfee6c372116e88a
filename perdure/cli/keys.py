"""`keys add`, `keys list`, `keys revoke`: who may use the HTTP service of a store; done in `cli.hosted.keyring`."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.options import JsonOption, NoServerOption, StoreOption
from perdure.cli.output import Output
from perdure.cli.place import Place

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Who the key is for.")]


def add(
    name: NameArgument,
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What it is good for: runs:read, runs:write, questions:answer, workers or admin (everything); "
            "may be given again.",
        ),
    ],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="How long it is good (12h, 30d); if omitted, ever.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="How many requests it may send (10/s, 600/m).")
    ] = None,
    store: StoreOption = None,
    server: NoServerOption = None,
    json: JsonOption = False,
) -> int:
    """Make a key, and print its token; the token is shown this once and kept nowhere."""
    from perdure.cli.hosted.keyring import add_key

    return add_key(Place.of_store(store), Output(json=json), name, scope, expires, rate)


def list_(store: StoreOption = None, server: NoServerOption = None, json: JsonOption = False) -> int:
    """List the keys: for whom, what for, until when."""
    from perdure.cli.hosted.keyring import list_keys

    return list_keys(Place.of_store(store), Output(json=json))


def revoke(
    name: NameArgument, store: StoreOption = None, server: NoServerOption = None, json: JsonOption = False
) -> int:
    """Make a key good for nothing, at once and for ever; a service that runs takes notice by itself."""
    from perdure.cli.hosted.keyring import revoke_key

    return revoke_key(Place.of_store(store), Output(json=json), name)
