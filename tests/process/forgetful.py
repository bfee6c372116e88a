"""A file system that forgets at a power cut what was not synced: `python -m tests.process.forgetful MOUNT PLATTER …`.

Files live in this process. What is durable is decided strictly: the content of a file by a sync of that file, its name
by a sync of its directory, nothing else. At the cut every operation fails from that instant on, and what a disk would
hold then is written to the PLATTER directory, from which the next mount begins.

After MOUNT and PLATTER come: at which operation the power goes (`sync` or `write`, and its number; 0 for never), and
what becomes of writes that were not synced: `none` survive, or `some`, chosen by a seed, each whole or cut off at a
sector. It says `mounted`, and `cut` when the power is gone.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import mfusepy

SECTOR = 512
T = TypeVar("T")


class Node:
    """A file, or a directory: what it is now, and what of it is on the platter."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.data = bytearray()
        self.synced = b""
        self.pending: list[tuple[int, bytes] | int] = []  # writes, and lengths that it was truncated to
        self.names: dict[str, Node] = {}
        self.synced_names: dict[str, Node] = {}

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def directory() -> Node:
    """A new directory."""
    return Node(stat.S_IFDIR | 0o700)


def powered(operation: Callable[..., T]) -> Callable[..., T]:
    """An operation that fails when the power is gone."""

    @functools.wraps(operation)
    def perform(self: Forgetful, *args: Any, **options: Any) -> T:
        if self.is_cut:
            raise mfusepy.FuseOSError(errno.EIO)
        return operation(self, *args, **options)

    return perform


class Forgetful(mfusepy.Operations):  # type: ignore[misc]
    """The file system.

    Args:
        platter: where durable content is read from and written to.
        operation, number: the cut comes before this `sync` or `write`.
        survivors: `none` or `some` of the unsynced writes.
        seed: which.
    """

    use_ns = True

    def __init__(self, platter: Path, operation: str, number: int, survivors: str, seed: int) -> None:
        self._platter = platter
        self._operation = operation
        self._number = number
        self._some = survivors == "some"
        self._chance = random.Random(seed)
        self._counts = {"sync": 0, "write": 0}
        self.is_cut = False
        self._root = self._loaded(platter)

    # --- the power ----------------------------------------------------------------------------------------------------

    def _count(self, operation: str) -> None:
        self._counts[operation] += 1
        if operation == self._operation and self._counts[operation] == self._number:
            self.is_cut = True
            self._save(self._root, self._platter)
            print("cut", flush=True)
            raise mfusepy.FuseOSError(errno.EIO)

    def _loaded(self, place: Path) -> Node:
        node = directory()
        for entry in place.iterdir():
            child = self._loaded(entry) if entry.is_dir() else Node(stat.S_IFREG | 0o600)
            if not child.is_directory:
                child.synced = entry.read_bytes()
                child.data = bytearray(child.synced)
            node.names[entry.name] = node.synced_names[entry.name] = child
        return node

    def _save(self, node: Node, place: Path) -> None:
        for entry in list(place.iterdir()):
            if entry.name not in node.synced_names:
                _remove(entry)
        for name, child in node.synced_names.items():
            entry = place / name
            if child.is_directory:
                entry.mkdir(exist_ok=True)
                self._save(child, entry)
            else:
                entry.write_bytes(self._on_platter(child))

    def _on_platter(self, node: Node) -> bytes:
        data = bytearray(node.synced)
        for pending in node.pending if self._some else ():
            if self._chance.random() < 0.5:
                continue
            if isinstance(pending, int):
                _resize(data, pending)
                continue
            offset, written = pending
            if self._chance.random() < 0.3:
                written = written[: self._chance.randrange(len(written) // SECTOR + 1) * SECTOR]
            _put(data, offset, written)
        return bytes(data)

    # --- finding ------------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        node = self._root
        for name in path.split("/"):
            if name:
                try:
                    node = node.names[name]
                except KeyError:
                    raise mfusepy.FuseOSError(errno.ENOENT) from None
        return node

    def _parent(self, path: str) -> tuple[Node, str]:
        above, _, name = path.rpartition("/")
        return self._find(above), name

    # --- what SQLite and its neighbours ask for -----------------------------------------------------------------------

    @powered
    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._find(path)
        return {"st_mode": node.mode, "st_nlink": 2 if node.is_directory else 1, "st_size": len(node.data)}

    @powered
    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._find(path).names]

    @powered
    def mkdir(self, path: str, mode: int) -> None:
        parent, name = self._parent(path)
        parent.names[name] = directory()

    @powered
    def create(self, path: str, mode: int, fi: Any = None) -> int:
        parent, name = self._parent(path)
        parent.names[name] = Node(stat.S_IFREG | mode)
        return 0

    @powered
    def open(self, path: str, flags: int) -> int:
        self._find(path)
        return 0

    @powered
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._find(path).data[offset : offset + size])

    @powered
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._count("write")
        node = self._find(path)
        _put(node.data, offset, data)
        node.pending.append((offset, data))
        return len(data)

    @powered
    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        self._count("write")
        node = self._find(path)
        _resize(node.data, length)
        node.pending.append(length)

    @powered
    def fsync(self, path: str, datasync: int, fh: int) -> None:
        self._count("sync")
        node = self._find(path)
        node.synced = bytes(node.data)
        node.pending.clear()

    @powered
    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        self._count("sync")
        node = self._find(path)
        node.synced_names = dict(node.names)

    @powered
    def unlink(self, path: str) -> None:
        parent, name = self._parent(path)
        del parent.names[name]

    rmdir = unlink

    @powered
    def rename(self, old: str, new: str) -> None:
        parent, name = self._parent(old)
        into, new_name = self._parent(new)
        into.names[new_name] = parent.names.pop(name)

    @powered
    def chmod(self, path: str, mode: int) -> None:
        node = self._find(path)
        node.mode = stat.S_IFMT(node.mode) | mode

    @powered
    def chown(self, path: str, uid: int, gid: int) -> None: ...

    @powered
    def utimens(self, path: str, times: Any = None) -> None: ...

    @powered
    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20, "f_bfree": 1 << 20}


def _put(data: bytearray, offset: int, written: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


def _resize(data: bytearray, length: int) -> None:
    del data[length:]
    data.extend(bytes(length - len(data)))


def _remove(entry: Path) -> None:
    if entry.is_dir():
        for inner in entry.iterdir():
            _remove(inner)
        entry.rmdir()
    else:
        entry.unlink()


class Mounted(Forgetful):
    """Says when it is there."""

    def init(self, path: str) -> None:
        print("mounted", flush=True)


if __name__ == "__main__":
    mount, platter, operation, number, survivors, seed = sys.argv[1:]
    os.umask(0o077)
    system = Mounted(Path(platter), operation, int(number), survivors, int(seed))
    mfusepy.FUSE(system, mount, foreground=True, nothreads=True)
