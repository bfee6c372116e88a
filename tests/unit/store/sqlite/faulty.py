"""A file system that fails when it is told to, as an SQLite VFS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

_names = itertools.count()


class FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: Faulty, filename: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", filename, flags)
        self._vfs = vfs
        self._name = filename.filename() if isinstance(filename, apsw.URIFilename) else filename or ""

    def xRead(self, amount: int, offset: int) -> bytes:
        self._vfs.perhaps_fail("read", self._name)
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._vfs.perhaps_fail("write", self._name)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._vfs.perhaps_fail("sync", self._name)
        super().xSync(flags)


class Faulty(apsw.VFS):
    """Register it by making one; give `name` to the store."""

    def __init__(self) -> None:
        self.name = f"faulty-{next(_names)}"
        self._faults: list[tuple[str, str, apsw.Error | OSError]] = []
        self._once = False
        self.failed = 0
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> FaultyFile:
        return FaultyFile(self, name, flags)

    @contextmanager
    def failing(
        self, operation: str, ending: str, error: apsw.Error | OSError, *, once: bool = False
    ) -> Iterator[None]:
        """Let an operation on files of this ending fail, always or once."""
        self._faults.append((operation, ending, error))
        self._once = once
        try:
            yield
        finally:
            self._faults.clear()

    def perhaps_fail(self, operation: str, name: str) -> None:
        for failing, ending, error in self._faults:
            if operation == failing and name.endswith(ending):
                self.failed += 1
                if self._once:
                    self._faults.clear()
                raise error


def io_error(extended: int) -> apsw.IOError:
    error = apsw.IOError("injected")
    error.extendedresult = extended  # type: ignore[attr-defined]
    return error
