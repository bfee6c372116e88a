"""The application: all commands under their headings, and what becomes of errors."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from perdure.cli import checking, commanding, drafting, executing, hosting, keys, looking
from perdure.cli.exits import INTERRUPTED, USAGE, code_of
from perdure.cli.output import Output
from perdure.cli.signs import adapt
from perdure.core.errors import PerdureError, StoreWriteError
from perdure.core.version import VERSION

Command = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Group:
    """A command that has commands of its own.

    Args:
        name: the first word.
        summary: one line about it.
        commands: by the second word.
    """

    name: str
    summary: str
    commands: Mapping[str, Command]


HEADINGS: Final[dict[str, tuple[Command | Group, ...]]] = {
    "Execute": (executing.run, executing.worker),
    "Look": (looking.ps, looking.show, looking.events, looking.state, looking.artifacts),
    "Answer and steer": (
        commanding.questions,
        commanding.answer,
        commanding.signal,
        commanding.cancel,
        commanding.pause,
        commanding.resume,
        commanding.retry,
        commanding.resolve,
    ),
    "Serve over HTTP": (
        hosting.serve,
        hosting.dev,
        Group(
            "keys",
            "Make, list and revoke the keys of the HTTP service.",
            {"add": keys.add, "list": keys.list_, "revoke": keys.revoke},
        ),
    ),
    "Pipelines and pictures": (drafting.validate, drafting.graph, drafting.fmt),
    "Check": (checking.verify, checking.doctor, checking.version),
}
EPILOG: Final = (
    "Exit codes: 0 completed, 1 failed, 2 wrong use or refused, 3 waits for a person, 4 a step is in doubt, "
    "5 paused or parked, 6 cancelled, 7 waits for something else."
)


class _Headed(TyperGroup):
    """Lists commands under their headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See the base class."""
        width = max(len(name_of(command)) for commands in HEADINGS.values() for command in commands)
        for heading, commands in HEADINGS.items():
            with formatter.section(heading):
                formatter.write_dl([(name_of(one).ljust(width), _summary_of(one).rstrip(".")) for one in commands])


def name_of(command: Command | Group) -> str:
    """The word by which a command is called."""
    return command.name if isinstance(command, Group) else command.__name__


def _summary_of(command: Command | Group) -> str:
    return command.summary if isinstance(command, Group) else (command.__doc__ or "").partition("\n")[0]


def application(only: str | None = None) -> typer.Typer:
    """The application with all its commands.

    Args:
        only: the one command that is going to be used: reading the options of all takes longer than many a command.
    """
    # Plain help: `rich` alone would cost the time that `--help` may take.
    app = typer.Typer(cls=_Headed, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=EPILOG)
    app.callback()(_perdure)
    for commands in HEADINGS.values():
        for command in commands:
            if only is not None and name_of(command) != only:
                continue
            if isinstance(command, Group):
                app.add_typer(_grouped(command), name=command.name)
            else:
                app.command()(command)
    return app


def _grouped(group: Group) -> typer.Typer:
    """The application of a group's commands."""
    app = typer.Typer(help=group.summary, rich_markup_mode=None, pretty_exceptions_enable=False)
    for name, command in group.commands.items():
        app.command(name)(command)
    return app


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"perdure {VERSION}")
        raise typer.Exit(0)


def _perdure(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Durable runs for workflows and agents: crash at any instant, finish as if nothing had happened."""


def invoke(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        adapt(stream)
    output = Output(json="--json" in arguments)
    try:
        code = get_command(application(_command_in(arguments))).main(
            args=list(arguments) or ["--help"], prog_name="perdure", standalone_mode=False
        )
        return code if isinstance(code, int) else 0
    except PerdureError as error:
        output.failure(error)
        return code_of(error)
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        output.failure(StoreWriteError("the output cannot be written: no space left", hint="write it elsewhere"))
        return 1
    except Exception as error:
        return _wrong_use(output, error)


def _command_in(arguments: Sequence[str]) -> str | None:
    """The command that stands first, if there is one of that name."""
    names = {name_of(command) for commands in HEADINGS.values() for command in commands}
    return next((word for word in arguments[:1] if word in names), None)


def _wrong_use(output: Output, error: Exception) -> int:
    """Say what is wrong with the arguments; anything else is a defect and goes on as it is."""
    usage = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
    if not isinstance(error, usage):
        raise error
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "perdure"
    output.failed(
        {
            "code": "usage",
            "category": "input",
            "retryable": False,
            "message": error.format_message(),  # type: ignore[attr-defined]
            "hint": f"see '{path} --help'",
            "ids": {},
        }
    )
    return USAGE
