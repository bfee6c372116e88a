"""Files of the operator, below one directory: nothing else is read for who sends pipelines over HTTP."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from perdure.core.errors import InputError
from perdure.pipeline.definition import LARGEST_FILE

FIELD: Final = "stack.child_dotfile"


def read_below(root: Path, path: Path) -> tuple[Path, str]:
    """Read a text file below a directory.

    Links are followed first, and where they lead must lie below the directory. Then the file is opened folder by
    folder, from the directory on, and no link is followed any more: one that was put there in the meantime leads
    nowhere.

    Args:
        root: the directory.
        path: of the file; not absolute, it begins at the directory.

    Returns:
        Where the file lies, without links, and its text.

    Raises:
        InputError: it is no text file of at most 16 MiB below the directory. All refusals are the same, so that nobody
            learns what lies elsewhere.
    """
    try:
        base = root.resolve(strict=True)
        where = (base / path).resolve()
        with _opened(base, where.relative_to(base)) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
                raise OSError
            with open(descriptor, encoding="utf-8", closefd=False) as file:
                return where, file.read()
    except (OSError, ValueError, RuntimeError) as error:  # no such file, not below, not UTF-8; links in a circle
        raise InputError(f"{FIELD} must be a pipeline's file below --pipelines DIR", field=FIELD) from error


@contextmanager
def _opened(base: Path, relative: Path) -> Iterator[int]:
    *folders, name = relative.parts
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        # O_NONBLOCK: a FIFO must not wait for its writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = file
        yield descriptor
    finally:
        os.close(descriptor)
