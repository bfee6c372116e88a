"""One operation of one contestant in a process of its own; the outcome goes into a JSON file.

Arguments: contestant, operation, result file, directory, the operation's arguments as JSON, and perhaps the one core
that may be used.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.peers import CONTESTANTS, Outcome


def bytes_handed_to_write() -> int:
    """What this process has given to `write` and its kin so far (Linux counts it; elsewhere 0)."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar")), 0)


def write_result(file: Path, outcome: Outcome | None, **more: float) -> None:
    result: dict[str, Any] = {**(asdict(outcome) if outcome else {}), **more}
    file.write_text(json.dumps(result))


def main(arguments: list[str]) -> None:
    name, operation, result_file, directory, json_arguments, *core = arguments
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core[0])})
    peer = CONTESTANTS[name].open()
    keywords: dict[str, Any] = json.loads(json_arguments)
    if operation == "prepare_recovery":

        def die() -> NoReturn:
            write_result(Path(result_file), None)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("not reached")

        keywords["die"] = die
    wrote = bytes_handed_to_write()
    outcome: Outcome | None = asyncio.run(getattr(peer, operation)(Path(directory), **keywords))
    write_result(Path(result_file), outcome, written_bytes=bytes_handed_to_write() - wrote)


if __name__ == "__main__":
    main(sys.argv[1:])
