"""`questions`, `answer`, `signal`, `cancel`, `pause`, `resume`, `retry`, `resolve`: people's commands to runs.

Their work is done in `perdure.cli.sending`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli.completion import complete_run
from perdure.cli.loop import finish
from perdure.cli.options import (
    AsOption,
    CommandIdOption,
    JsonOption,
    ReasonOption,
    RunArgument,
    ServerOption,
    StoreOption,
    TokenFileOption,
    UnfinishedArgument,
)
from perdure.cli.output import Output
from perdure.cli.place import Place


def questions(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Only of this run.", autocompletion=complete_run)
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> int:
    """List open questions, and how each is answered."""
    from perdure.cli.sending import list_questions

    return finish(list_questions(Place.of(store, server, token_file), Output(json=json), run))


def answer(
    run: UnfinishedArgument,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="A choice, yes or no, text; several choices with commas.")
    ],
    question: Annotated[
        str | None, typer.Option("--question", metavar="ID", help="Which one, when the run asks several.")
    ] = None,
    saw: Annotated[
        str | None,
        typer.Option("--saw", metavar="HASH", help="Hash of what you saw, when the question asks to approve it."),
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Answer a question of a run."""
    from perdure.cli.sending import Sender

    sender = Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id)
    return finish(sender.answer(value, question, saw))


def signal(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Id of the run; '-' for the one that waits for it.", autocompletion=complete_run
        ),
    ],
    signal_name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal.")],
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="What it carries; nothing if omitted.")
    ] = None,
    match: Annotated[
        str | None, typer.Option("--match", metavar="KEY", help="The key that a waiting run may ask for.")
    ] = None,
    sender_id: Annotated[
        str | None, typer.Option("--sender-id", metavar="ID", help="Your own id of it; the same again counts once.")
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Send a signal to a run; it is kept until the run reads it."""
    from perdure.cli.sending import Sender

    sender = Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id)
    return finish(sender.signal(signal_name, payload, match=match, sender_id=sender_id))


def cancel(
    run: UnfinishedArgument,
    reason: ReasonOption = "",
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Ask a run, and its children, to end."""
    from perdure.cli.sending import Sender

    return finish(Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id).cancel(reason))


def pause(
    run: UnfinishedArgument,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Pause a run: what is in flight ends, nothing new begins."""
    from perdure.cli.sending import Sender

    return finish(Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id).pause())


def resume(
    run: UnfinishedArgument,
    accept_definition: Annotated[
        bool,
        typer.Option("--accept-definition", help="Go on with the changed definition that the run was parked for."),
    ] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Let a paused or parked run go on."""
    from perdure.cli.sending import Sender

    sender = Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id)
    return finish(sender.resume(accept_definition=accept_definition))


def retry(
    run: RunArgument,
    reason: ReasonOption = "",
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Open a failed or cancelled run again; it forgets the failure that ended it, and nothing else."""
    from perdure.cli.sending import Sender

    return finish(Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id).retry(reason))


def resolve(
    run: RunArgument,
    step: Annotated[
        str | None, typer.Argument(metavar="[STEP]", help="Key of the step, when several are in doubt.")
    ] = None,
    done: Annotated[
        str | None, typer.Option("--done", metavar="VALUE", help="It happened, and returned this (JSON, or text).")
    ] = None,
    not_done: Annotated[bool, typer.Option("--not-done", help="It did not happen; it is tried again.")] = False,
    fail: Annotated[bool, typer.Option("--fail", help="It counts as failed.")] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    name: AsOption = None,
    command_id: CommandIdOption = None,
    json: JsonOption = False,
) -> int:
    """Say what became of a step in doubt: exactly one of --done, --not-done and --fail."""
    if (done is not None) + not_done + fail != 1:
        raise typer.BadParameter("give exactly one of --done VALUE, --not-done and --fail")
    from perdure.cli.sending import Sender

    resolution = "not_done" if not_done else "fail" if fail else "done"
    sender = Sender(Place.of(store, server, token_file), Output(json=json), run, name, command_id)
    return finish(sender.resolve(step, resolution, done))
