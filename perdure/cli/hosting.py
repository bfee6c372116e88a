"""`serve` and `dev`: commands that offer the HTTP service. Their work is done in `perdure.cli.hosted.service` and
`perdure.cli.hosted.development`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from perdure.cli.loop import finish
from perdure.cli.options import (
    DurabilityOption,
    JsonOption,
    LogFormatOption,
    LogLevelOption,
    NoServerOption,
    StoreOption,
)
from perdure.cli.output import Output
from perdure.cli.place import Place

HOST: Final = "127.0.0.1"
PORT: Final = 8181

FilesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[FILE...]", help="Python files with workflows, and pipelines.")
]
HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")]
PortOption = Annotated[
    int, typer.Option("--port", "-p", min=0, max=65535, metavar="N", help="The port; 0 for any that is free.")
]
AllowToolsOption = Annotated[
    bool, typer.Option("--allow-tools", help="Pipelines that come over HTTP may run any command.")
]
AllowToolOption = Annotated[
    list[str] | None,
    typer.Option("--allow-tool", metavar="PROGRAM", help="They may run this program (tool_argv); may be given again."),
]
NoAuthOption = Annotated[bool, typer.Option("--no-auth", help="Ask nobody for a key; on loopback alone.")]
PipelinesOption = Annotated[
    str | None, typer.Option("--pipelines", metavar="DIR", help="Where the files of their child pipelines lie.")
]


def serve(
    files: FilesArgument = None,
    host: HostOption = HOST,
    port: PortOption = PORT,
    expose: Annotated[bool, typer.Option("--expose", help="An address that other machines reach is meant.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A further name to be asked for under; may be given again."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", metavar="ORIGIN", help="A further origin browsers may send from; may be given again."
        ),
    ] = None,
    no_auth: NoAuthOption = False,
    allow_tools: AllowToolsOption = False,
    allow_tool: AllowToolOption = None,
    pipelines: PipelinesOption = None,
    max_runs: Annotated[
        int, typer.Option("--max-runs", min=1, metavar="N", help="How many runs are executed at once.")
    ] = 1000,
    fd: Annotated[
        int | None, typer.Option("--fd", min=0, metavar="N", help="A listening socket that was handed down.")
    ] = None,
    until_eof: Annotated[bool, typer.Option("--until-eof", help="Stop also when standard input ends.")] = False,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="RATE", help="How many requests a key without one of its own may send (10/s)."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.")] = False,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    durability: DurabilityOption = "full",
    store: StoreOption = None,
    server: NoServerOption = None,
    json: JsonOption = False,
) -> int:
    """Serve runs over HTTP, and execute them, until told to stop (SIGTERM or Ctrl-C).

    The first line on standard output is the URL, with the first token behind its '#'.
    """
    from perdure.cli.hosted.service import Offer, offer

    order = Offer(
        files=tuple(files or ()),
        host=host,
        port=port,
        expose=expose,
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        no_auth=no_auth,
        allow_tools=allow_tools,
        programs=tuple(allow_tool or ()),
        pipelines=pipelines,
        max_runs=max_runs,
        rate=rate,
        descriptor=fd,
        until_eof=until_eof,
        durability=durability,
        log_format=log_format,
        log_level=log_level,
    )
    return finish(offer(Place.of_store(store), Output(json=json, quiet=quiet), order))


def dev(
    files: FilesArgument = None,
    host: HostOption = HOST,
    port: PortOption = PORT,
    no_auth: NoAuthOption = False,
    allow_tools: AllowToolsOption = False,
    allow_tool: AllowToolOption = None,
    pipelines: PipelinesOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
    durability: DurabilityOption = "full",
    store: StoreOption = None,
    server: NoServerOption = None,
    json: JsonOption = False,
) -> int:
    """Serve as `serve` does, and read the files again whenever they change.

    A file that cannot be loaded leaves the old one serving until it is mended.
    """
    from perdure.cli.hosted.development import Development, develop

    options = [
        *(["--no-auth"] if no_auth else []),
        *(["--allow-tools"] if allow_tools else []),
        *(word for program in allow_tool or () for word in ("--allow-tool", program)),
        *([] if pipelines is None else ["--pipelines", pipelines]),
        *([] if log_format is None else ["--log-format", log_format]),
        *([] if log_level is None else ["--log-level", log_level]),
    ]
    order = Development(tuple(files or ()), host, port, durability, tuple(options))
    return finish(develop(Place.of_store(store), Output(json=json), order))
