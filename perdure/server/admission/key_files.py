"""The files in which a service keeps its keys: the first token, and the hashes of the others.

Both are replaced as a whole, so whoever reads them meets the old or the new one. Whoever changes them holds a lock, so
that the command line and a service that runs lose nothing of each other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from perdure.server.private_files import Version, locked, make_folder, read_file, replace_file, version_of

TOKEN_FILE: Final = "token"
KEYS_FILE: Final = "keys.json"
LOCK_FILE: Final = "keys.lock"


class KeyFiles:
    """The files.

    Args:
        directory: where they lie, or will.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self) -> None:
        """Make the directory; only its owner can enter it."""
        make_folder(self.directory)

    def version(self) -> tuple[Version, Version]:
        """What it is compared by whether they have changed: two looks at the file system, no reading."""
        return version_of(self.directory / TOKEN_FILE), version_of(self.directory / KEYS_FILE)

    def token(self) -> str | None:
        """The first token; `None` if there is none yet.

        Raises:
            PermissionError: others than its owner may read it.
            ValueError: it is empty.
        """
        path = self.directory / TOKEN_FILE
        try:
            text = read_file(path).decode().strip()
        except FileNotFoundError:
            return None
        if not text:
            raise ValueError(f"{path} is empty; remove it, and a new token is made")
        return text

    def keys(self) -> bytes:
        """The content of the file of the keys; of one that does not exist, that of an empty one."""
        try:
            return (self.directory / KEYS_FILE).read_bytes()
        except FileNotFoundError:
            return b"[]"

    def write_token(self, token: str) -> None:
        """Replace the first token."""
        replace_file(self.directory / TOKEN_FILE, token.encode())

    def write_keys(self, data: bytes) -> None:
        """Replace the file of the keys."""
        replace_file(self.directory / KEYS_FILE, data)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While entered, nobody else changes them."""
        with locked(self.directory / LOCK_FILE):
            yield
