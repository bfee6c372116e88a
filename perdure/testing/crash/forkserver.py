"""A server that forks the processes of a crash matrix: what they all import is imported once.

It reads one request a line from its standard input and writes one answer a line to its standard output. It has one
thread, no event loop and no store of its own, so that a fork of it is as good as a new process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from perdure.testing.crash.process import Job, live
from perdure.testing.crash.reference import load_definition, load_function

PRELOADED = ("perdure.store.sqlite", "perdure.engine.portal", "perdure.engine.recovery", "perdure.workflow.flow")


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a workflow's file prints goes to standard error
    requests = sys.stdin.buffer
    hello = orjson.loads(requests.readline())
    sys.path[:] = hello["path"]
    _answer(answers, _prepare(hello))
    for line in requests:
        jobs = [Job(**fields) for fields in orjson.loads(line)]
        _answer(answers, {"endings": _processes(jobs)})


def _answer(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(orjson.dumps(answer) + b"\n")
    answers.flush()


def _prepare(hello: dict[str, Any]) -> dict[str, Any]:
    """Import whatever the processes are going to need."""
    try:
        for module in PRELOADED:
            importlib.import_module(module)
        for reference in hello["definitions"]:
            load_definition(reference)
        for reference in hello["functions"]:
            load_function(reference)
    except Exception:
        return {"error": traceback.format_exc()}
    gc.collect()
    gc.freeze()
    return {}


def _processes(jobs: list[Job]) -> list[int]:
    """Let one process live after the other, up to the first that reaches its end.

    Returns:
        How each ended: 0, a signal's negative number, or an exit status.
    """
    endings = []
    for job in jobs:
        endings.append(_process(job))
        if endings[-1] != -9:
            break
    return endings


def _process(job: Job) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        with contextlib.suppress(BaseException):
            _redirect(job.file("output.log"))
        live(job)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _redirect(path: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


if __name__ == "__main__":
    main()
