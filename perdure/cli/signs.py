"""Signs for terminals that have only ASCII: each as wide as what it stands for, so that columns stay where they are."""

from __future__ import annotations

import codecs
from typing import Final, TextIO

HANDLER: Final = "perdure.signs"
"""Name of the error handler of text encodings that puts in the stand-ins."""

STAND_INS: Final = {
    "✓": "+",
    "✗": "x",
    "▸": ">",
    "↻": "~",
    "…": ".",
    "◷": "o",
    "–": "-",
    "⚡": "! ",  # it is two columns wide
    "•": "*",
    "×": "x",
}
SPINNER: Final = "|/-\\"
BRAILLE: Final = range(0x2800, 0x2900)
"""Of which a spinner on a terminal is made."""


def stand_in(sign: str) -> str:
    """What is shown instead of a sign; for one that is no sign of ours its number."""
    if ord(sign) in BRAILLE:
        return SPINNER[ord(sign) % len(SPINNER)]
    return STAND_INS.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")


def adapt(stream: TextIO) -> None:
    """Let a stream show what its encoding lacks in another way, instead of failing."""
    codecs.register_error(HANDLER, _replaced)
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=HANDLER)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(stand_in, error.object[error.start : error.end])), error.end
