"""A file system that fails at the nth operation that changes a file, as an SQLite VFS; and many such runs, quickly.

`python -m tests.process.nth_fault DIRECTORY FAULT` executes the short run again and again, with the fault at its first
operation, at its second, and so on until no operation is left, and judges each. Every run is a fork of this process,
which has all modules loaded and neither a thread nor an open file of SQLite's. It prints one JSON line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import apsw

from perdure.engine import processes as _processes  # noqa: F401  loaded before the forks
from perdure.store.sqlite import SQLiteStore
from tests.process import short_run

FAULTS = ("kill", "torn", "error", "error_after", "full")
FULL_FOR = 3
"""How many operations fail until there is space again."""


class NthFault(apsw.VFS):
    """Register it by making one; its name is `nth-fault`.

    Args:
        fault: what happens at the nth write, sync or truncation: the process is killed before it (`kill`) or in the
            middle of it (`torn`; after it, where there is no middle); it fails with an IO error instead of being done
            (`error`) or although it is done (`error_after`); or the disk is full for a while (`full`).
        nth: from 1; 0 for none.
    """

    NAME = "nth-fault"

    def __init__(self, fault: str, nth: int) -> None:
        self.fault = fault
        self.nth = nth
        self.count = 0
        self.failed = 0
        self._lock = threading.Lock()
        super().__init__(self.NAME, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> NthFaultFile:
        return NthFaultFile(self, name, flags)

    def meets(self) -> bool:
        """Count an operation; whether the fault meets it."""
        with self._lock:
            self.count += 1
            if self.fault == "full":
                return self.nth > 0 and self.nth <= self.count < self.nth + FULL_FOR
            return self.count == self.nth

    def before(self) -> None:
        """The fault, before the operation."""
        if self.fault == "kill":
            die()
        if self.fault == "full":
            self.failed += 1
            raise apsw.FullError("injected")
        if self.fault == "error":
            self.failed += 1
            raise io_error()

    def after(self) -> None:
        """The fault, after the operation."""
        if self.fault == "torn":
            die()
        if self.fault == "error_after":
            self.failed += 1
            raise io_error()


class NthFaultFile(apsw.VFSFile):
    def __init__(self, vfs: NthFault, filename: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", filename, flags)
        self._vfs = vfs

    def xWrite(self, data: bytes, offset: int) -> None:
        met = self._vfs.meets()
        if met:
            self._vfs.before()
        super().xWrite(data[: len(data) // 2] if met and self._vfs.fault == "torn" else data, offset)
        if met:
            self._vfs.after()

    def xSync(self, flags: int) -> None:
        met = self._vfs.meets()
        if met:
            self._vfs.before()
        super().xSync(flags)
        if met:
            self._vfs.after()

    def xTruncate(self, newsize: int) -> None:
        met = self._vfs.meets()
        if met:
            self._vfs.before()
        super().xTruncate(newsize)
        if met:
            self._vfs.after()


def io_error() -> apsw.IOError:
    """As SQLite has it for a write that failed."""
    error = apsw.IOError("injected")
    error.extendedresult = apsw.SQLITE_IOERR_WRITE  # type: ignore[attr-defined]
    return error


def die() -> None:
    """The end of the process, at this instant."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


# --- run after run ----------------------------------------------------------------------------------------------------


def forked(work: Any) -> tuple[int, Any]:
    """Do something in a fork; gives its status and what it returned, if it came so far."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            data = json.dumps(work()).encode()
            os.write(write, data)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    return status, json.loads(data) if data else None


def attempt(directory: Path, fault: str, nth: int) -> dict[str, Any]:
    """Execute the run with a fault at the nth operation."""
    vfs = NthFault(fault, nth)
    total = asyncio.run(short_run.execute(directory, vfs=NthFault.NAME))
    return {"total": total, "operations": vfs.count, "failed": vfs.failed}


async def made(directory: Path) -> None:
    """Make the store without a fault."""
    store = SQLiteStore(short_run.store_path(directory))
    await store.open()
    await store.close()


def every(directory: Path, fault: str, start: int, stride: int) -> dict[str, Any]:
    """The run with the fault at operation `start`, `start + stride`, … until there is none."""
    report: dict[str, Any] = {"runs": 0, "met": 0, "wrong": []}
    nth = start
    while True:
        place = directory / f"{fault}-{nth}"
        place.mkdir(parents=True)
        if fault != "kill":  # the making of the file is left to that one; it is half of all operations
            forked(lambda place=place: asyncio.run(made(place)))
        status, told = forked(lambda place=place, nth=nth: attempt(place, fault, nth))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and told is None:
            report["wrong"].append(f"{fault} at {nth}: the process ended with {status}")
        met = killed or (told is not None and told["failed"] > 0)
        if not met:
            report["operations"] = None if told is None else told["operations"]
            shutil.rmtree(place)
            return report
        report["runs"] += 1
        report["met"] += met
        _, wrong = forked(lambda place=place, nth=nth: asyncio.run(short_run.judge(place, lost=f"{fault} at {nth}")))
        report["wrong"] += [f"{fault} at {nth}: it could not be judged"] if wrong is None else wrong
        if not wrong and wrong is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(place)
        nth += stride


if __name__ == "__main__":
    print(json.dumps(every(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
