"""`python -m perdure.cli.hosted.trial [--json] FILE...`: whether files can be loaded, found in a process of its own.

Loading runs the files. Whoever serves the old ones must not be touched by what the new ones do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from perdure.cli.definitions import definitions_of
from perdure.cli.exits import COMPLETED, code_of
from perdure.cli.output import Output
from perdure.core.errors import PerdureError
from perdure.workflow.registry import Registry


def attempt(files: Sequence[str], *, json: bool) -> int:
    """Load files, and say what is wrong with them; returns the exit code."""
    try:
        registry = Registry()
        for definition in definitions_of(files):
            registry.register(definition)
    except PerdureError as error:
        Output(json=json).failure(error)
        return code_of(error)
    return COMPLETED


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(attempt([word for word in words if word != "--json"], json="--json" in words))
