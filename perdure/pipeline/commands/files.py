"""The files that a command left in its folder: regular files only, bounded in number and size."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

STATUS_FILE: Final = "status.json"
MOST_FILES: Final = 64
MOST_BYTES: Final = 16 * 1024 * 1024

_MOST_ENTRIES: Final = 10_000
"""So many entries of the folder are looked at."""

_MOST_TOLD: Final = 100
"""So many of those that were left out are named."""


class CollectedFiles(dict[str, bytes]):
    """Contents by relative POSIX path, in the order of the paths."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}
        """Why a path is not among them; the first of them. Characters that cannot be shown are escaped."""
        self.left_out_count = 0
        """How many there are in all."""

    def leave_out(self, path: str, reason: str) -> None:
        """Note a path that is not among them."""
        self.left_out_count += 1
        if len(self.left_out) < _MOST_TOLD:
            self.left_out[path if _is_plain(path) else path.encode("unicode_escape").decode()] = reason


def collect_files(stage_dir: Path, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> CollectedFiles:
    """Read what a command left. Blocks; nothing is opened that is not a regular file.

    `status.json` comes first, so that no other file crowds it out; the others are taken in the order of their paths,
    and one that is too large for what is left does not keep out the smaller ones behind it.

    Args:
        stage_dir: the folder; one that does not exist is empty.
        most_files: how many are read.
        most_bytes: of all that are read together.
    """
    collected = CollectedFiles()
    found: dict[str, bytes] = {}
    left_bytes = most_bytes
    for path in sorted(_regular_files(stage_dir, collected), key=lambda path: (path != STATUS_FILE, path)):
        if len(found) == most_files:
            collected.leave_out(path, f"more than {most_files} files")
            continue
        try:
            data = _content(stage_dir / path, left_bytes)
        except OSError as error:
            collected.leave_out(path, os.strerror(error.errno) if error.errno else str(error))
            continue
        if data is None:
            collected.leave_out(path, f"more than {most_bytes} bytes in all, or no regular file any more")
            continue
        found[path] = data
        left_bytes -= len(data)
    for path in sorted(found):
        collected[path] = found[path]
    return collected


def _regular_files(root: Path, collected: CollectedFiles) -> Iterator[str]:
    """Relative paths of regular files, in no order; everything else is noted."""
    pending = [""]
    seen = 0
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(root / folder)
        except OSError as error:
            if folder:
                collected.leave_out(folder, os.strerror(error.errno) if error.errno else str(error))
            continue
        with entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                seen += 1
                if seen > _MOST_ENTRIES:
                    collected.leave_out(path, f"more than {_MOST_ENTRIES} entries; there may be others")
                    return
                if not _is_plain(entry.name):
                    collected.leave_out(path, "its name has control characters")
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.is_file(follow_symlinks=False):
                    yield path
                else:
                    collected.leave_out(path, "a link" if entry.is_symlink() else "no regular file")


def _content(path: Path, most_bytes: int) -> bytes | None:
    """A file's bytes; `None` if they are too many, or it is no regular file any more."""
    # O_NONBLOCK: should a FIFO have taken its place, opening that must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
            return None
        parts = bytearray()
        while part := file.read(most_bytes + 1 - len(parts)):
            parts += part
        return bytes(parts) if len(parts) <= most_bytes else None


def _is_plain(name: str) -> bool:
    """Without control, format and undecodable characters."""
    return not any(unicodedata.category(one).startswith("C") for one in name)
