"""Files for their owner alone: replaced as a whole, compared by their version, and changed under a lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o600
FOLDER_MODE: Final = 0o700

Version = tuple[int, int, int] | None
"""By which it is seen that a file is another one: its inode, its time and its size; `None` where there is none."""


def make_folder(directory: Path) -> None:
    """Make a directory that only its owner can enter, unless it exists."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=FOLDER_MODE, exist_ok=True)


def version_of(path: Path) -> Version:
    """The version of a file; of one that cannot be looked at, that of none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        PermissionError: others than its owner may read it.
        OSError: it cannot be read.
    """
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise PermissionError(f"{path} may be read by others than its owner; make it mode 0600, or remove it")
    return path.read_bytes()


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file as a whole, durably; nobody but its owner can ever read it.

    Raises:
        OSError: it cannot be written; it is as it was.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, OWNER_ONLY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """While entered, nobody else enters it with this file; waits for whoever is inside."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Claim:
    """The sole right of one process to do something, as long as it holds the lock of a file.

    The system takes it back when the process ends, however it ends.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is held, now; takes it if nobody else has it.

        Raises:
            OSError: there is no such file, and none can be made.
        """
        if self._descriptor is None:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, OWNER_ONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
        return True

    def give_back(self) -> None:
        """Not any more."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
