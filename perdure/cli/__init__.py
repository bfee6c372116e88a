"""The command line. Nothing of the engine is imported before a command needs it, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; see `perdure.cli.exits` for the exit codes.

    Args:
        arguments: without the program's name; those of the process if omitted.
    """
    from perdure.cli.application import invoke

    sys.exit(invoke(list(sys.argv[1:] if arguments is None else arguments)))
