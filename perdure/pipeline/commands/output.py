"""What a command prints: read to its end, kept in part."""

from __future__ import annotations

import asyncio
import codecs
import os
from typing import IO, Final

KEPT_BYTES: Final = 1024 * 1024
"""How much of one stream is kept."""

_CHUNK_BYTES: Final = 256 * 1024


class Output:
    """Reads a pipe as fast as it fills, so that the command never waits, and keeps the first `KEPT_BYTES`.

    Args:
        pipe: the reading end, which is closed by this.
        loop: the running loop.
    """

    def __init__(self, pipe: IO[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when nobody holds the other end any more."""
        self.size_bytes = 0
        self._kept = bytearray()
        self._pipe = pipe
        self._loop = loop
        os.set_blocking(pipe.fileno(), False)
        loop.add_reader(pipe.fileno(), self._read)

    def close(self) -> None:
        """Read no more, whoever holds the other end."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def text(self) -> tuple[str, int]:
        """What was kept, and how many bytes are not in it. A character that the bound cuts through is left out."""
        cut = self.size_bytes > len(self._kept)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(bytes(self._kept), final=not cut)
        begun = len(decoder.getstate()[0])
        return text.replace("\0", "\N{REPLACEMENT CHARACTER}"), self.size_bytes - len(self._kept) + begun

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # a pipe that cannot be read any more has ended
        if not data:
            self.close()
            return
        self.size_bytes += len(data)
        self._kept += data[: max(0, KEPT_BYTES - len(self._kept))]
